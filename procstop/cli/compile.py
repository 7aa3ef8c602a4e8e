"""`procstop compile`: fill the cache ahead of any run."""

from __future__ import annotations

import dataclasses
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import typer

from procstop.cli.complain import say
from procstop.cli.signals import handled
from procstop.errors import JobFileError
from procstop.jobfile import single_job
from procstop.model import Job
from procstop.places import cache_directory
from procstop.preflight import prepare_modules
from procstop.reporting.text import printable
from procstop.reporting.words import duration, size
from procstop.supervisor import usable_cpus
from procstop.supervisor.assignment import Assignment
from procstop.supervisor.precompile import Compiled, Precompiler

OK, FAILED, STOPPED = 0, 1, 130


def compile_command(modules: list[Path], engine: str | None, settings: list[str], config: Path | None) -> int:
    """Compile what is not in the cache, say what became of each, return the exit code.

    Raise `ProcstopError` for what the user must mend first: nothing is compiled then.
    """
    plan = prepare_modules(_job_of(modules, engine, settings, config)).check()
    failed = False

    def on_start(assignment: Assignment) -> None:
        # A large module takes a minute, and a person would wonder.
        if sys.stderr.isatty():
            say(f"{assignment.task.name}: compiling for {assignment.engine}")

    def on_end(compiled: Compiled) -> None:
        nonlocal failed
        failed = failed or compiled.problem is not None
        _tell(compiled)

    precompiler = Precompiler(
        plan.assignments,
        cache_directory(),
        side_by_side=usable_cpus(),
        on_start=on_start,
        on_end=on_end,
        notice=lambda text: say(f"notice: {text}"),
    )
    try:
        with _signals(precompiler):
            whole = precompiler.run()
    finally:
        precompiler.close()
    if not whole:
        say("stopped; what was compiled before is kept")
        return STOPPED
    return FAILED if failed else OK


def _job_of(modules: list[Path], engine: str | None, settings: list[str], config: Path | None) -> Job:
    """Make a job of the modules, a task for each, named as they were given."""
    tasks, problems = [], dict[str, None]()
    job = Job("compile")
    for module in modules:
        try:
            job = single_job(module, config=config, overrides=settings, engine=engine)
        except JobFileError as error:
            problems.update(dict.fromkeys(error.problems))
        else:
            tasks.append(dataclasses.replace(job.tasks[0], name=str(module)))
    if problems:
        raise JobFileError(problems)
    if not job.workers.cache:
        raise JobFileError(["workers.cache is false, so there is no cache to fill; add --set workers.cache=true"])
    return dataclasses.replace(job, tasks=tasks)


def _tell(compiled: Compiled) -> None:
    assignment = compiled.assignment
    where = f"{assignment.task.name}: "
    if compiled.problem is not None:
        return say(f"error: {where}not compiled for {assignment.engine}: {compiled.problem}")
    kept = size(compiled.size or 0)
    if compiled.seconds is None:
        typer.echo(printable(f"{where}already there for {assignment.engine}, {kept}"))
    else:
        typer.echo(printable(f"{where}compiled for {assignment.engine} in {duration(compiled.seconds)}, {kept}"))
    sys.stdout.flush()


@contextmanager
def _signals(precompiler: Precompiler) -> Iterator[None]:
    """Have the signals that end a command stop the compilers first; only in the main thread."""
    asked = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            # The loop does not hear us: it may be in a write to a full pipe.
            raise KeyboardInterrupt
        asked = True
        precompiler.stop()

    with handled(dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), stop), precompiler.wake_fd):
        yield
