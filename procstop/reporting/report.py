"""The JSON report of a run, for programs: the whole file or none.

Its shape is docs/report.md: a key is never left out, and what does not apply is null. It is written to
a file beside the target, made durable and renamed into place, so that a reader never sees half of one. What
cannot be renamed over (a FIFO, a device, an open descriptor as in /dev/stdout) is written straight through. Either way
it is written task by task, so that a run of many tasks is never held in memory as text.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from procstop import __version__
from procstop.errors import JobFileError, ProcstopError
from procstop.model import Value
from procstop.records import AttemptRecord, Contained, RunRecord, StreamRecord, TaskRecord, Tree
from procstop.reporting.text import printable

SCHEMA = "procstop.report/1"
_INDENT = 2

_SURROGATE = re.compile("[\ud800-\udfff]")
_DESCRIPTOR = re.compile(r"/dev/(?:fd/(?P<dev>\d+)|(?P<name>stdin|stdout|stderr))|/proc/self/fd/(?P<proc>\d+)")
_STANDARD = {"stdin": 0, "stdout": 1, "stderr": 2}


def run_to_json(record: RunRecord, *, version: str | None = None) -> dict[str, Any]:
    """Give a run as data that JSON holds exactly; `version` is procstop's, by default the installed one."""
    return {**_head(record, version), "tasks": [_task(task) for task in record.tasks]}


def _head(record: RunRecord, version: str | None) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "procstop": __version__ if version is None else version,
        "run": _text(record.run),
        "job": _text(record.job),
        "started_at": record.started_at,
        "duration_s": _seconds(record.duration_s),
        "exit_code": record.exit_code,
        "reason": None if record.reason is None else record.reason.value,
    }


def _task(record: TaskRecord) -> dict[str, Any]:
    return {
        "task": _text(record.task),
        "ok": record.ok,
        "outcome": record.outcome.value,
        "message": _text(record.message),
        "attempts": [_attempt(attempt) for attempt in record.attempts],
    }


def _attempt(record: AttemptRecord) -> dict[str, Any]:
    points, phases = record.stopping_points, record.phases
    return {
        "number": record.number,
        "engine": _text(record.engine),
        "engine_reason": _text(record.engine_reason),
        "outcome": record.outcome.value,
        "reason": None if record.reason is None else record.reason.value,
        "rung": None if record.rung is None else record.rung.value,
        "values": _values(record.values),
        "exit_code": record.exit_code,
        "message": _text(record.message),
        "partial": _values(record.partial),
        "pid": record.pid,
        "worker": record.worker,
        "wait": None if record.wait is None else {record.wait[0]: record.wait[1]},
        "stopping_points": {
            "passed": points.passed,
            "longest_gap_s": _seconds(points.longest_gap_s),
            "stopped_at": points.stopped_at,
        },
        "phases_s": {
            "start": _seconds(phases.start),
            "run": _seconds(phases.run),
            "interrupt": _seconds(phases.interrupt),
            "preempt": _seconds(phases.preempt),
            "terminate": _seconds(phases.terminate),
            "kill": _seconds(phases.kill),
            "reap": _seconds(phases.reap),
        },
        "peak_memory_bytes": record.peak_memory_bytes,
        "cpu_s": _seconds(record.cpu_s),
        "containment": _contained(record.contained),
        "tree": _tree(record.tree),
        "stdout": _stream(record.stdout),
        "stderr": _stream(record.stderr),
    }


def _tree(record: Tree | None) -> dict[str, Any] | None:
    if record is None:
        return None
    named = [{"pid": pid, "name": _text(name)} for pid, name in record.processes]
    return {"found": record.found, "killed": record.killed, "left": record.left, "processes": named}


def _contained(record: Contained | None) -> dict[str, Any] | None:
    if record is None:
        return None
    return {
        "level": record.level.value,
        "missing": [_text(sentence) for sentence in record.missing],
        "user": record.user,
        "allowed": list(record.allowed),
    }


def _stream(record: StreamRecord) -> dict[str, Any]:
    return {
        "bytes": record.bytes,
        "truncated": record.truncated,
        "path": _text(record.path),
        "error": _text(record.error),
    }


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _values(values: Sequence[Value] | None) -> list[Value] | None:
    return None if values is None else [_value(value) for value in values]


def _value(value: Value) -> Value:
    # A double, which is what many JSON readers make of a number, holds integers exactly up to 2^53.
    if isinstance(value, int) and abs(value) > 2**53:
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return _SURROGATE.sub("\ufffd", value) if isinstance(value, str) else value


def _text(text: str | None) -> str | None:
    # A file name that is not UTF-8 reaches us with lone surrogates, which strict JSON readers refuse.
    return None if text is None else _SURROGATE.sub("\ufffd", text)


def _pieces(record: RunRecord, version: str | None) -> Iterator[bytes]:
    """Give the text of the report, a task at a time."""
    empty = "[]\n}"
    before = " " * 2 * _INDENT
    # The tasks are the last key; one by one they are put where the empty list ends.
    head = _dumps({**_head(record, version), "tasks": []}).removesuffix(empty)
    start = f"{head}[\n{before}"
    for task in record.tasks:
        # No text of JSON holds a line break of its own.
        yield (start + _dumps(_task(task)).replace("\n", f"\n{before}")).encode()
        start = f",\n{before}"
    end = f"\n{' ' * _INDENT}]\n}}" if len(record.tasks) else head + empty
    yield f"{end}\n".encode()


def _dumps(data: dict[str, Any]) -> str:
    return json.dumps(data, allow_nan=False, indent=_INDENT)


@dataclass(frozen=True)
class SettledPath:
    """Where a path led when it was settled: `target` has no symbolic link in it."""

    name: str
    target: str


def settle_report_path(path: str | os.PathLike[str]) -> SettledPath | str:
    """Follow the links of a report's path before the run, for a guest that may write there could lay others in it.

    What cannot be replaced, such as a FIFO or an open descriptor, stays as it is named.
    """
    name = os.fspath(path)
    try:
        mode = _mode(Path(name))
    except (OSError, ValueError):
        return name
    if _descriptor(name) is not None or (mode is not None and not stat.S_ISREG(mode)):
        return name
    return SettledPath(name, os.path.realpath(name))


def write_report(path: str | os.PathLike[str] | SettledPath, record: RunRecord, *, version: str | None = None) -> None:
    """Write the report of a run to a file, whole or not at all; raise `ProcstopError` if it cannot be.

    A new file is the user's alone. One that is there is replaced and its permissions are kept; a symbolic link is
    followed, but in a path that was settled none that was laid since. Opening a FIFO waits for its reader.
    """
    data = _pieces(record, version)
    name = path.name if isinstance(path, SettledPath) else os.fspath(path)
    try:
        if isinstance(path, SettledPath):
            if os.path.realpath(path.target) != path.target:
                raise OSError(errno.ELOOP, "a symbolic link was laid there during the run")
            _replace(Path(path.target), data)
        elif (descriptor := _open_straight(name)) is not None:
            with os.fdopen(descriptor, "wb") as stream:
                stream.writelines(data)
        else:
            _replace(Path(os.path.realpath(name)), data)
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise ProcstopError(f'cannot write the report to "{printable(name)}": {cause}') from error


def check_report_path(path: str | os.PathLike[str], inputs: Iterable[tuple[str, str]] = ()) -> None:
    """Raise `JobFileError` if a report can be seen, before the run, not to be writable there.

    `inputs` are (path, what it is) of files that the run reads: a report must not take the place of one.
    """
    name = os.fspath(path)
    if problem := _problem(name):
        raise JobFileError([f'--report: cannot write to "{printable(name)}": {problem}'])
    if what := _input_there(name, inputs):
        raise JobFileError([f'--report: "{printable(name)}" is {what}; choose another name'])


def _input_there(name: str, inputs: Iterable[tuple[str, str]]) -> str | None:
    """Say which input a path leads to, by whatever name."""
    try:
        target = os.stat(name)
    except OSError:
        return None
    # A terminal or a null device may well be both read and written.
    if not stat.S_ISREG(target.st_mode):
        return None
    seen = set()
    for path, what in inputs:
        if path not in seen:
            seen.add(path)
            with contextlib.suppress(OSError, ValueError):
                if os.path.samestat(target, os.stat(path)):
                    return what
    return None


def _problem(name: str) -> str | None:
    if not name or "\0" in name:
        return "a file name is not empty and holds no NUL"
    try:
        if (number := _descriptor(name)) is not None:
            os.fstat(number)
            return None
        target = Path(os.path.realpath(name))
        mode = _mode(target)
        if mode is not None and stat.S_ISDIR(mode):
            return "it is a directory; name a file in it"
        if mode is not None and not os.access(target, os.W_OK):
            return "it may not be written"
        if mode is None or stat.S_ISREG(mode):
            if not stat.S_ISDIR(target.parent.stat().st_mode):
                return f'"{printable(str(target.parent))}" is not a directory'
            if not os.access(target.parent, os.W_OK | os.X_OK):
                return f'the directory "{printable(str(target.parent))}" may not be written'
    except FileNotFoundError:
        return f'there is no directory "{printable(os.path.dirname(name) or ".")}"; make it first'
    except OSError as error:
        return error.strerror or str(error)
    return None


def _mode(path: Path) -> int | None:
    """Give the mode of what is at a path, None when nothing is."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _descriptor(name: str) -> int | None:
    """Give the number when a path names an open descriptor of this process."""
    match = _DESCRIPTOR.fullmatch(name)
    if match is None:
        return None
    return _STANDARD[match["name"]] if match["name"] else int(match["dev"] or match["proc"])


def _open_straight(name: str) -> int | None:
    """Open what has to be written straight through; None for a file that can be replaced."""
    number = _descriptor(name)
    if number is not None:
        # Opening it anew would start at the top of a redirected file, over what the guests wrote.
        return os.dup(number)
    mode = _mode(Path(name))
    if mode is None or stat.S_ISREG(mode):
        return None
    # A directory fails here, with the kernel's own words for it.
    return os.open(name, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)


def _replace(target: Path, data: Iterable[bytes]) -> None:
    """Put a file in place in one step: readers see the old one or all of the new one."""
    mode = _mode(target)
    if mode is not None and not os.access(target, os.W_OK):
        # A rename needs no right to the file itself; write protection is meant all the same.
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    # A name of its own length, for the target's may be as long as names can be.
    temporary = target.with_name(f".procstop-{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            if mode is not None:
                os.fchmod(descriptor, stat.S_IMODE(mode) & 0o777)
            stream.writelines(data)
            stream.flush()
            os.fsync(descriptor)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_directory(target.parent)


def _sync_directory(path: Path) -> None:
    # The report is in place; that a file system cannot sync its directories is no reason to say otherwise.
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
