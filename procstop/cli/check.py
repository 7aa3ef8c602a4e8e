"""`procstop check`: everything that is wrong with a job, and what would run where."""

from __future__ import annotations

from pathlib import Path

import typer

from procstop.jobfile import load_job
from procstop.preflight import load_plan
from procstop.reporting.text import printable


def check_command(path: Path, tasks: list[str], engine: str | None, settings: list[str], config: Path | None) -> int:
    """Print what would run, and what has no effect; or raise `JobFileError` with all problems."""
    overrides = [*settings, *([f"engine={engine}"] if engine else [])]
    plan = load_plan(lambda: load_job(path, config=config, overrides=overrides, tasks=tasks))
    count = len(plan.assignments)
    typer.echo(printable(f"{path}: {count} {'task' if count == 1 else 'tasks'}, nothing wrong"))
    width = max(len(printable(one.task.name)) for one in plan.assignments)
    for one in plan.assignments:
        runs = one.rejected is None
        what = f"{one.engine}: {one.engine_reason}" if runs else f"rejected, as expected: {one.rejected}"
        typer.echo(printable(f"  {one.task.name.ljust(width)}  {what}"))
    for note in plan.notes:
        typer.echo(printable(f"notice: {note}"))
    return 0
