"""`procstop run`: from options to a run, its report, and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from procstop.cli.complain import complain, complain_of_fault, say
from procstop.cli.signals import handle_signals
from procstop.errors import JobFileError, ProcstopError
from procstop.events import Observer
from procstop.jobfile import load_job, single_job
from procstop.model import Dir, Job, Stdin
from procstop.places import cache_directory
from procstop.preflight import load_plan
from procstop.records import RunRecord
from procstop.reporting import RawOutput, Reporter, check_report_path, make_reporter, settle_report_path, write_report
from procstop.reporting.report import SettledPath
from procstop.reporting.text import printable
from procstop.supervisor import Supervisor
from procstop.supervisor.outputs import make_directory
from procstop.supervisor.verdict import FAULT, STOPPED


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
    host_allow: list[str] = field(default_factory=list)
    cache: bool = True
    spawn: str | None = None


def run_command(options: RunOptions) -> int:
    """Run, report, return the exit code. Raise `ProcstopError` for what the user must mend first."""
    plan = load_plan(lambda: make_job(options))
    for note in () if options.quiet else plan.notes:
        say(f"notice: {note}")
    if options.report is not None:
        check_report_path(options.report, _inputs(options, plan.job))
    settled = None if options.report is None else settle_report_path(options.report)
    output_dir = None if options.output_dir is None else _make_directory(options.output_dir)
    raw = _raw_output(options)
    reporter = make_reporter(
        quiet=options.quiet,
        stdout=sys.stdout,
        stderr=sys.stderr,
        show_output=options.output_dir is None and raw is None,
        plain=raw is not None,
    )
    # What the guest wrote comes before what is said of its end.
    observers: list[Observer] = [reporter] if raw is None else [raw, reporter]
    supervisor = Supervisor(
        plan.job,
        plan.assignments,
        observers=observers,
        output_dir=output_dir,
        owns_process=True,
        cache_directory=cache_directory(),
    )
    try:
        with supervisor, handle_signals(supervisor):
            record = supervisor.run()
        # From here on Ctrl-C is an ordinary one: nothing of the run is left to be stopped.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # Those that it would not say otherwise.
        for line in supervisor.not_kept if options.quiet else ():
            say(f"error: {line}")
        return _finish(record, supervisor, reporter, raw, settled)
    finally:
        reporter.close()


def make_job(options: RunOptions) -> Job:
    """Read the job file, or make a job of one module."""
    overrides = list(options.settings)
    if options.jobs is not None:
        overrides.append(f"concurrency={options.jobs}")
    if not options.cache:
        overrides.append("workers.cache=false")
    if options.spawn is not None:
        overrides.append(f"workers.spawn={options.spawn}")
    if not is_module(options.target):
        _refuse_module_options(options)
        if options.engine is not None:
            overrides.append(f"engine={options.engine}")
        return load_job(options.target, config=options.config, overrides=overrides, tasks=options.tasks)
    if options.tasks:
        raise JobFileError([f'--task: "{options.target}" is a module, not a job file'])
    if options.host_allow and options.host is None:
        raise JobFileError(
            ["--host-allow: is for host functions, and there are none; add their file, as --host FILE.py"]
        )
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
        host_allow=options.host_allow,
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


def _raw_output(options: RunOptions) -> RawOutput | None:
    """Make a filter of a lone module whose output is piped on or kept in a file; None where people read it."""
    if not is_module(options.target) or options.output_dir is not None or sys.stdout.isatty():
        return None
    values = options.call is not None and not _is_stdout(options.report)
    return RawOutput(stdout=sys.stdout, stderr=sys.stderr, values=values)


def _is_stdout(report: Path | None) -> bool:
    """Tell whether the report goes to standard output, where it has the values and should stand alone."""
    try:
        return report is not None and os.path.samestat(os.stat(report), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):
        return False


def _inputs(options: RunOptions, job: Job) -> Iterator[tuple[str, str]]:
    """Give the files that a run reads, each with what it is."""
    lone = is_module(options.target)
    yield str(options.target), "the module" if lone else "the job file"
    if options.config is not None:
        yield str(options.config), "the configuration file"
    for task in job.tasks:
        of_task = "" if lone else f' of task "{printable(task.name)}"'
        yield str(task.module), f"the module{of_task}"
        if task.stdin is not None and task.stdin.path is not None:
            yield str(task.stdin.path), f"the standard input{of_task}"
        if task.host is not None and not isinstance(task.host, Mapping):
            yield str(task.host), f"the host file{of_task}"


def _finish(
    record: RunRecord,
    supervisor: Supervisor,
    reporter: Reporter,
    raw: RawOutput | None,
    report: SettledPath | str | None,
) -> int:
    code = record.exit_code
    if report is not None:
        try:
            write_report(report, record)
        except ProcstopError as error:
            complain(error)
            code = _with_a_fault(code)
    for failure in supervisor.wait_for_observers():
        complain_of_fault(failure)
        code = _with_a_fault(code)
    reporter.close()
    failed = reporter.failed or (raw.failed if raw is not None else None)
    if failed is not None and not isinstance(failed, BrokenPipeError):
        say(f"error: cannot write all output: {failed.strerror}")
        code = _with_a_fault(code)
    return code


def _with_a_fault(code: int) -> int:
    """Return the exit code of a run of which something is missing that was asked for.

    No other code says so: with 1 or 124 a script would look for the reason in a report that is not there, or is an
    old one. Only who stopped the run knows already that it is not whole.
    """
    return code if code == STOPPED else FAULT


def _refuse_module_options(options: RunOptions) -> None:
    given = [
        ("arguments", options.args),
        ("--call", options.call),
        ("--dir and --write-dir", options.directories),
        ("--env", options.env),
        ("--host", options.host),
        ("--host-allow", options.host_allow),
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
    """Hand our standard input on, whatever it is, unless it is a terminal: that belongs to Ctrl-C.

    The supervisor takes this path for descriptor 0 itself, so it need not be possible to open it anew.
    """
    try:
        if os.isatty(0):
            return None
        os.fstat(0)
    except OSError:
        return None
    return Stdin(path="/dev/stdin")


def _make_directory(path: Path) -> str:
    try:
        make_directory(os.fspath(path))
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise JobFileError([f'--output-dir: cannot use "{path}": {error.strerror}']) from None
    return str(path.absolute())
