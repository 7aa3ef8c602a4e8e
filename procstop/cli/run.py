"""`procstop run`: from options to a run, its report, and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

from procstop.cli.complain import complain, complain_of_fault, say
from procstop.cli.signals import handle_signals
from procstop.errors import JobFileError, ProcstopError
from procstop.jobfile import load_job, single_job
from procstop.model import Dir, Job, Stdin
from procstop.preflight import load_plan
from procstop.records import RunRecord
from procstop.reporting import Reporter, check_report_path, make_reporter, write_report
from procstop.supervisor import Supervisor
from procstop.supervisor.verdict import FAULT, OK


@dataclass(frozen=True)
class RunOptions:
    """The command line of `procstop run`. `directories` are (text, may write)."""

    target: Path
    args: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    jobs: int | None = None
    engine: str | None = None
    settings: list[str] = field(default_factory=list)
    config: Path | None = None
    report: Path | None = None
    output_dir: Path | None = None
    quiet: bool = False
    call: str | None = None
    directories: list[tuple[str, bool]] = field(default_factory=list)
    env: list[str] = field(default_factory=list)
    host: Path | None = None


def run_command(options: RunOptions) -> int:
    """Run, report, return the exit code. Raise `ProcstopError` for what the user must mend first."""
    plan = load_plan(lambda: make_job(options))
    if options.report is not None:
        check_report_path(options.report)
    output_dir = None if options.output_dir is None else _make_directory(options.output_dir)
    reporter = make_reporter(
        quiet=options.quiet, stdout=sys.stdout, stderr=sys.stderr, show_output=options.output_dir is None
    )
    supervisor = Supervisor(plan.job, plan.assignments, observers=[reporter], output_dir=output_dir, owns_process=True)
    try:
        with supervisor, handle_signals(supervisor):
            record = supervisor.run()
        # From here on Ctrl-C is an ordinary one: nothing of the run is left to be stopped.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return _finish(record, supervisor, reporter, options.report)
    finally:
        reporter.close()


def make_job(options: RunOptions) -> Job:
    """Read the job file, or make a job of one module."""
    overrides = list(options.settings)
    if options.jobs is not None:
        overrides.append(f"concurrency={options.jobs}")
    if not is_module(options.target):
        _refuse_module_options(options)
        if options.engine is not None:
            overrides.append(f"engine={options.engine}")
        return load_job(options.target, config=options.config, overrides=overrides, tasks=options.tasks)
    if options.tasks:
        raise JobFileError([f'--task: "{options.target}" is a module, not a job file'])
    return single_job(
        options.target,
        call=options.call or "_start",
        args=options.args,
        config=options.config,
        overrides=overrides,
        dirs=[_directory(text, write) for text, write in options.directories],
        env=dict(_variable(text) for text in options.env),
        stdin=_own_stdin(),
        engine=options.engine,
        host=options.host,
    )


def is_module(path: Path) -> bool:
    """Tell a module from a job file, by its name or else by its first bytes."""
    if path.suffix in (".wasm", ".wat"):
        return True
    if path.suffix == ".toml" or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError:
        return False
    return start.startswith(b"\0asm") or start.lstrip().startswith((b"(module", b"(;"))


def _finish(record: RunRecord, supervisor: Supervisor, reporter: Reporter, report: Path | None) -> int:
    code = record.exit_code
    if report is not None:
        try:
            write_report(report, record)
        except ProcstopError as error:
            complain(error)
            code = code or FAULT
    for failure in supervisor.wait_for_observers():
        complain_of_fault(failure)
    reporter.close()
    if reporter.failed is not None and not isinstance(reporter.failed, BrokenPipeError):
        say(f"error: cannot write all output: {reporter.failed.strerror}")
        code = code if code != OK else FAULT
    return code


def _refuse_module_options(options: RunOptions) -> None:
    given = [
        ("arguments", options.args),
        ("--call", options.call),
        ("--dir and --write-dir", options.directories),
        ("--env", options.env),
        ("--host", options.host),
    ]
    wrong = [name for name, value in given if value]
    if wrong:
        raise JobFileError(
            [f'{", ".join(wrong)}: for a module only; "{options.target}" is a job file, where its tasks say this']
        )


def _directory(text: str, write: bool) -> Dir:
    host, separator, guest = text.rpartition("::")
    if not separator:
        host = guest = text
    if not host or not guest:
        raise JobFileError([f'--dir: "{text}": must be HOST or HOST::GUEST'])
    return Dir(guest, host, write)


def _variable(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise JobFileError([f'--env: "{text}": must be NAME=VALUE'])
    return name, value


def _own_stdin() -> Stdin | None:
    """Hand our standard input on, unless it is a terminal: that belongs to Ctrl-C."""
    try:
        if os.isatty(0):
            return None
        os.fstat(0)
    except OSError:
        return None
    return Stdin(path="/dev/stdin") if os.access("/dev/stdin", os.R_OK) else None


def _make_directory(path: Path) -> str:
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise JobFileError([f'--output-dir: cannot use "{path}": {error.strerror}']) from None
    return str(path.absolute())
