"""The commands and their options. What each does is in the module of its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from procstop import __version__
from procstop.cli.cache import cache_app
from procstop.model import ENGINES, Spawn

app = typer.Typer(
    name="procstop",
    help="""Run WebAssembly jobs that always stop: politely when the guest can, by force when it cannot.

    Examples:

    ```
    procstop run job.toml
    procstop run add.wasm --call run 1 7
    procstop check job.toml
    procstop inspect program.wasm
    procstop compile program.wasm
    procstop selftest
    ```
    """,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cache_app)


def _choice(option: str, words: Sequence[str], help: str) -> Any:
    """An option that takes one of a few words."""

    def check(word: str | None) -> str | None:
        if word is None or word in words:
            return word
        from procstop.jobfile.wording import did_you_mean, listed, quoted

        guess = did_you_mean(word, words, ())
        raise typer.BadParameter(f"must be {listed(words, 'or')}, got {quoted(word)}{guess}")

    return typer.Option(option, metavar="|".join(words), help=help, callback=check, autocompletion=lambda: list(words))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"procstop {__version__}")
        raise typer.Exit


@app.callback()
def _procstop(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Run WebAssembly jobs that always stop."""


_Engine = Annotated[Optional[str], _choice("--engine", ENGINES, "Engine for every task.")]
_Set = Annotated[
    Optional[list[str]],
    typer.Option("--set", metavar="KEY=VALUE", help="Set a key for the whole job, as in limits.time=5s. Repeatable."),
]
_Config = Annotated[Optional[Path], typer.Option("--config", metavar="FILE", help="A file with settings, in TOML.")]
_Task = Annotated[
    Optional[list[str]],
    typer.Option("--task", metavar="NAME", help="Only this task and those that it needs. Repeatable."),
]


@app.command()
def run(
    target: Annotated[Path, typer.Argument(metavar="JOB.toml|MODULE", help="A job file, or a .wasm or .wat module.")],
    args: Annotated[
        Optional[list[str]], typer.Argument(metavar="[ARG]...", help="Arguments for a module; after -- if any has a -.")
    ] = None,
    task: _Task = None,
    jobs: Annotated[Optional[int], typer.Option("--jobs", "-j", min=1, help="Attempts side by side.")] = None,
    engine: _Engine = None,
    settings: _Set = None,
    config: _Config = None,
    report: Annotated[
        Optional[Path], typer.Option("--report", metavar="FILE.json", help="Write what happened, as JSON.")
    ] = None,
    output_dir: Annotated[
        Optional[Path],
        typer.Option("--output-dir", metavar="DIR", help="Keep what guests write in files here, and do not show it."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show only what did not end as expected.")] = False,
    call: Annotated[
        Optional[str], typer.Option("--call", metavar="NAME", help="For a module: the function to call. [_start]")
    ] = None,
    directories: Annotated[
        Optional[list[str]],
        typer.Option("--dir", metavar="HOST[::GUEST]", help="For a module: a directory that it may read. Repeatable."),
    ] = None,
    write_directories: Annotated[
        Optional[list[str]],
        typer.Option(
            "--write-dir", metavar="HOST[::GUEST]", help="For a module: a directory that it may change. Repeatable."
        ),
    ] = None,
    env: Annotated[
        Optional[list[str]],
        typer.Option("--env", metavar="NAME=VALUE", help="For a module: an environment variable. Repeatable."),
    ] = None,
    host: Annotated[
        Optional[Path], typer.Option("--host", metavar="FILE.py", help="For a module: its Python host functions.")
    ] = None,
    host_allow: Annotated[
        Optional[list[str]],
        typer.Option(
            "--host-allow",
            metavar="NAME",
            help="For a module: what its host functions may do besides: network, processes, files. Repeatable.",
        ),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Do not keep compiled modules for later runs.")] = False,
    spawn: Annotated[
        Optional[str],
        _choice("--spawn", [one.value for one in Spawn], "Have workers forked by a server, or each started fresh."),
    ] = None,
) -> None:
    """Run a job, or one module, and always come to an end.

    Ctrl-C asks the guests to leave at their next stopping point; a second one terminates them, a third kills them.

    Examples:

    ```
    procstop run job.toml
    procstop run job.toml --task thumbs --set limits.time=5s
    procstop run job.toml --report report.json
    procstop run add.wasm --call run 1 7
    procstop run program.wasm --dir data::/data -- -v /data/in.txt
    ```
    """
    from procstop.cli.run import RunOptions, run_command

    options = RunOptions(
        target=target,
        args=args or [],
        tasks=task or [],
        jobs=jobs,
        engine=engine,
        settings=settings or [],
        config=config,
        report=report,
        output_dir=output_dir,
        quiet=quiet,
        call=call,
        directories=[(text, False) for text in directories or []] + [(text, True) for text in write_directories or []],
        env=env or [],
        host=host,
        host_allow=host_allow or [],
        cache=not no_cache,
        spawn=spawn,
    )
    raise typer.Exit(run_command(options))


@app.command()
def check(
    job: Annotated[Path, typer.Argument(metavar="JOB.toml", help="A job file.")],
    task: _Task = None,
    engine: _Engine = None,
    settings: _Set = None,
    config: _Config = None,
) -> None:
    """Find everything that is wrong with a job, without running anything of it.

    Examples:

    ```
    procstop check job.toml
    ```
    """
    from procstop.cli.check import check_command

    raise typer.Exit(check_command(job, task or [], engine, settings or [], config))


@app.command()
def inspect(
    module: Annotated[Path, typer.Argument(metavar="MODULE", help="A .wasm or .wat module.")],
) -> None:
    """Show what a module imports, exports and needs, and which engines can run it. Nothing of it is compiled.

    Examples:

    ```
    procstop inspect program.wasm
    ```
    """
    from procstop.cli.inspect import inspect_command

    raise typer.Exit(inspect_command(module))


@app.command()
def engines() -> None:
    """Show which engines are here, what they can do, and what to do about one that is not.

    Examples:

    ```
    procstop engines
    ```
    """
    from procstop.cli.engines import engines_command

    raise typer.Exit(engines_command())


@app.command()
def selftest(
    trials: Annotated[int, typer.Option("--trials", min=1, max=100_000, help="How often each row is tried.")] = 10,
    engine: Annotated[Optional[str], _choice("--engine", ENGINES, "Try this engine only.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Prove the promises on this machine: run hostile guests, kill every process of ours, and count the survivors.

    It takes a minute or two. Exit code 0 says that every promise held that could be tried; the last line counts the
    rows that were left out.

    Examples:

    ```
    procstop selftest
    procstop selftest --engine wasmtime --trials 100 --json
    ```
    """
    from procstop.cli.selftest import selftest_command

    # "auto" takes what is here, which is all of it.
    only = None if engine == "auto" else engine
    raise typer.Exit(selftest_command(trials, only, json))


@app.command("compile")
def compile_modules(
    modules: Annotated[list[Path], typer.Argument(metavar="MODULE", help=".wasm or .wat modules.")],
    engine: Annotated[Optional[str], _choice("--engine", ENGINES, "What to compile them for.")] = None,
    settings: _Set = None,
    config: _Config = None,
) -> None:
    """Compile modules ahead of any run, into the cache; several side by side.

    limits.start is how long each may take, limits.compile_memory what its compiler may use.

    Examples:

    ```
    procstop compile program.wasm
    procstop compile --engine wasmtime --set limits.start=10m a.wasm b.wat
    ```
    """
    from procstop.cli.compile import compile_command

    raise typer.Exit(compile_command(modules, engine, settings or [], config))
