"""The commands and their options. What each does is in the module of its name."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from procstop import __version__

app = typer.Typer(
    name="procstop",
    help="""Run WebAssembly jobs that always stop: politely when the guest can, by force when it cannot.

    Examples:

        procstop run job.toml
        procstop run add.wasm --call run 1 7
        procstop check job.toml
        procstop inspect program.wasm
    """,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


class EngineName(str, Enum):
    """What --engine takes."""

    AUTO = "auto"
    WASMER = "wasmer"
    WASMTIME = "wasmtime"


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


_Engine = Annotated[Optional[EngineName], typer.Option("--engine", help="Engine for every task.")]
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
) -> None:
    """Run a job, or one module, and always come to an end.

    Ctrl-C asks the guests to leave at their next stopping point; a second one terminates them, a third kills them.

    Examples:

        procstop run job.toml
        procstop run job.toml --task thumbs --set limits.time=5s
        procstop run job.toml --report report.json
        procstop run add.wasm --call run 1 7
        procstop run program.wasm --dir data::/data -- -v /data/in.txt
    """
    from procstop.cli.run import RunOptions, run_command

    options = RunOptions(
        target=target,
        args=args or [],
        tasks=task or [],
        jobs=jobs,
        engine=engine.value if engine else None,
        settings=settings or [],
        config=config,
        report=report,
        output_dir=output_dir,
        quiet=quiet,
        call=call,
        directories=[(text, False) for text in directories or []] + [(text, True) for text in write_directories or []],
        env=env or [],
        host=host,
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

        procstop check job.toml
    """
    from procstop.cli.check import check_command

    raise typer.Exit(check_command(job, task or [], engine.value if engine else None, settings or [], config))


@app.command()
def inspect(
    module: Annotated[Path, typer.Argument(metavar="MODULE", help="A .wasm or .wat module.")],
) -> None:
    """Show what a module imports, exports and needs, and which engines can run it. Nothing of it is compiled.

    Examples:

        procstop inspect program.wasm
    """
    from procstop.cli.inspect import inspect_command

    raise typer.Exit(inspect_command(module))


@app.command()
def engines() -> None:
    """Show which engines are here, what they can do, and what to do about one that is not.

    Examples:

        procstop engines
    """
    from procstop.cli.engines import engines_command

    raise typer.Exit(engines_command())
