"""Between supervisor and worker, on its control and report pipes: encode, decode, bounds.

A message is a length (4 bytes, big-endian) and that many bytes of JSON, at most `MAX_MESSAGE`: an object with
the format's version, a type, and the id of the attempt that it is about. The supervisor sends `Interrupt` on the
control pipe, and `Assign` when a worker that is free gets another attempt. The worker sends `Guarded` unless it is
ready at once, and then `Ready`, `Beat` and one `Final` for each attempt on the report pipe; those are untrusted, and
whatever is not exactly as described here raises `ProtocolError`.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Union

from procstop.messages.bounds import (
    ENCODER,
    MAX_TEXT,
    TRUE_ENCODER,
    ProtocolError,
    encode_value,
    expect,
    is_count,
    is_i64,
    is_pid,
    is_seconds,
    text_of,
)
from procstop.model import Outcome, Value
from procstop.records import Report, StoppingPoints

VERSION = 1
MAX_MESSAGE = 64 * 1024
MAX_VALUES = 1000
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True)
class Interrupt:
    """Leave at a stopping point, by the task's strategy."""

    attempt: str


@dataclass(frozen=True)
class Assign:
    """Host another attempt of the same task, with these arguments; its standard input comes along where it has one."""

    attempt: str
    args: tuple[Value, ...] = ()
    stdin: bool = False


@dataclass(frozen=True)
class Guarded:
    """The worker cannot outlive its supervisor any more. `Ready` says so as well.

    `pid` is the worker's, for a supervisor whose fork server ended before it could say. `note` says why the worker
    cannot load its artifact, and ends: another one has to be made.
    """

    attempt: str
    pid: int
    note: str | None = None


@dataclass(frozen=True)
class Ready:
    """The guest is about to run; `interruptible` tells whether it can reach a stopping point.

    `since` is when its worker's own timer began to run, by the monotonic clock.
    """

    attempt: str
    pid: int
    interruptible: bool = True
    since: float = 0.0


@dataclass(frozen=True)
class Beat:
    """Stopping points passed so far, and the guest's progress if it told any."""

    attempt: str
    passed: int
    done: int | None = None
    total: int | None = None


@dataclass(frozen=True)
class Final:
    """The one report of an attempt. Nothing follows it, unless the worker says that it is free for another."""

    attempt: str
    report: Report
    free: bool = False


Message = Union[Interrupt, Assign, Guarded, Ready, Beat, Final]


def encode(message: Message) -> bytes:
    """Frame one message; raise `ProtocolError` if it would be longer than `MAX_MESSAGE`."""
    body: dict[str, Any] = {"v": VERSION, "type": type(message).__name__.lower(), "attempt": message.attempt}
    if isinstance(message, Ready):
        body.update(pid=message.pid, interruptible=message.interruptible, since=message.since)
    elif isinstance(message, Guarded):
        body.update(pid=message.pid, note=message.note)
    elif isinstance(message, Assign):
        body.update(args=message.args, stdin=message.stdin)
    elif isinstance(message, Beat):
        body.update(passed=message.passed, done=message.done, total=message.total)
    elif isinstance(message, Final):
        body.update(report=_report_fields(message.report), free=message.free)
    encoder = TRUE_ENCODER if isinstance(message, Assign) else ENCODER
    data = encoder.encode(body).encode("utf-8", "replace")
    if len(data) > MAX_MESSAGE:
        raise ProtocolError(f"a message of {len(data)} bytes; the most is {MAX_MESSAGE}")
    return _LENGTH.pack(len(data)) + data


class Decoder:
    """Cut a byte stream into messages; give it whatever was read, in pieces of any size.

    After the first thing that is wrong nothing more is believed, or kept: every feed raises that error again.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._wrong: str | None = None

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take `data`; yield the messages that it completes, and raise `ProtocolError` at the first that is wrong.

        What came before a wrong one counts, in whatever pieces it was read.
        """
        if self._wrong is None:
            self._buffer += data
        return self._messages()

    def _messages(self) -> Iterator[Message]:
        if self._wrong is not None:
            raise ProtocolError(self._wrong)
        while (message := self._next()) is not None:
            yield message

    def _next(self) -> Message | None:
        """Take the first message out of the buffer, None while it is not whole."""
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        try:
            if length > MAX_MESSAGE:
                raise ProtocolError(f"a message of {length} bytes; the most is {MAX_MESSAGE}")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return None
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            return decode(body)
        except ProtocolError as error:
            # Where the next message begins is not known any more: what follows may be made to look like one.
            self._wrong = str(error)
            self._buffer.clear()
            raise

    @property
    def pending(self) -> int:
        """Bytes of an unfinished message that are waiting."""
        return len(self._buffer)


def decode(body: bytes) -> Message:
    """Read the JSON of one message, without its length; raise `ProtocolError` for anything unexpected."""
    try:
        fields = _DECODER.decode(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ProtocolError("a message that is not JSON") from None
    version = fields.pop("v", None) if isinstance(fields, dict) else None
    if type(version) is not int or version != VERSION:
        raise ProtocolError(f"a message that is not of version {VERSION}")
    kind, attempt = fields.pop("type", None), fields.pop("attempt", None)
    expect(isinstance(attempt, str) and 0 < len(attempt) <= 200, "attempt")
    if kind == "interrupt" and not fields:
        return Interrupt(attempt)
    if kind == "guarded" and set(fields) == {"pid", "note"}:
        expect(is_pid(fields["pid"]), "pid")
        return Guarded(attempt, fields["pid"], text_of(fields["note"], "note"))
    if kind == "ready" and set(fields) == {"pid", "interruptible", "since"}:
        expect(is_pid(fields["pid"]), "pid")
        expect(type(fields["interruptible"]) is bool, "interruptible")
        expect(is_seconds(fields["since"]), "since")
        return Ready(attempt, fields["pid"], fields["interruptible"], fields["since"])
    if kind == "beat" and set(fields) == {"passed", "done", "total"}:
        expect(is_count(fields["passed"]), "passed")
        for key in ("done", "total"):
            expect(fields[key] is None or is_i64(fields[key]), key)
        return Beat(attempt, fields["passed"], fields["done"], fields["total"])
    if kind == "final" and set(fields) == {"report", "free"}:
        expect(type(fields["free"]) is bool, "free")
        return Final(attempt, _read_report(fields["report"]), fields["free"])
    if kind == "assign" and set(fields) == {"args", "stdin"}:
        expect(isinstance(fields["args"], list) and type(fields["stdin"]) is bool, "args")
        return Assign(attempt, tuple(fields["args"]), fields["stdin"])
    raise ProtocolError("a message of an unknown type or with unknown keys")


def _report_fields(report: Report) -> dict[str, Any]:
    fields: dict[str, Any] = dict(vars(report))
    fields["outcome"] = report.outcome.value
    fields["stopping_points"] = vars(report.stopping_points)
    for key in ("values", "partial"):
        if fields[key] is not None:
            fields[key] = [encode_value(value) for value in fields[key]]
    return fields


_REPORT_KEYS = frozenset(Report.__dataclass_fields__)
_POINT_KEYS = frozenset(StoppingPoints.__dataclass_fields__)


def _read_report(fields: Any) -> Report:
    expect(isinstance(fields, dict) and set(fields) == _REPORT_KEYS, "report")
    points = fields["stopping_points"]
    expect(isinstance(points, dict) and set(points) == _POINT_KEYS, "stopping_points")
    gap = points["longest_gap_s"]
    expect(is_count(points["passed"]), "passed")
    expect(gap is None or is_seconds(gap), "longest_gap_s")
    expect(points["stopped_at"] is None or is_count(points["stopped_at"]), "stopped_at")
    code, peak, cpu = fields["exit_code"], fields["peak_memory_bytes"], fields["cpu_s"]
    expect(type(fields["out_of_memory"]) is bool, "out_of_memory")
    expect(cpu is None or is_seconds(cpu), "cpu_s")
    expect(code is None or (is_count(code) and code < 2**32), "exit_code")
    message = text_of(fields["message"], "message")
    expect(peak is None or is_count(peak), "peak_memory_bytes")
    try:
        outcome = Outcome(fields["outcome"])
    except ValueError:
        raise ProtocolError("a report with an unknown outcome") from None
    return Report(
        outcome=outcome,
        values=_read_values(fields["values"]),
        exit_code=code,
        message=message,
        partial=_read_values(fields["partial"]),
        stopping_points=StoppingPoints(points["passed"], gap, points["stopped_at"]),
        peak_memory_bytes=peak,
        cpu_s=cpu,
        out_of_memory=fields["out_of_memory"],
    )


def _read_values(values: Any) -> tuple[Value, ...] | None:
    if values is None:
        return None
    expect(isinstance(values, list) and len(values) <= MAX_VALUES, "values")
    for value in values:
        expect(type(value) in (int, float, str), "values")
        # The rest comes as texts: see `encode_value`.
        expect(type(value) is not int or abs(value) <= 2**53, "values")
        expect(type(value) is not float or math.isfinite(value), "values")
    return tuple(v.encode("utf-8", "replace").decode()[:MAX_TEXT] if type(v) is str else v for v in values)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
