"""What crosses the pipes between supervisor and worker: encode, decode, bounds. No I/O.

A message is a length (4 bytes, big-endian) and that many bytes of JSON, at most `MAX_MESSAGE`: an object with
the format's version, a type, and the id of the attempt that it is about. The supervisor sends `Interrupt` on the
control pipe. The worker sends `Guarded`, `Ready`, `Beat` and one `Final` on the report pipe; those are untrusted, and
whatever is not exactly as described here raises `ProtocolError`.

The `Order` is not a message: the supervisor lays it ready in a file before it starts the worker.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Union

from procstop.errors import ProcstopError
from procstop.model import Outcome, Value
from procstop.records import Report, StoppingPoints

VERSION = 1
MAX_MESSAGE = 64 * 1024
MAX_TEXT = 8 * 1024
"""Longest text of a report, in characters; wasmer writes trap messages of 14.6 MB."""
MAX_VALUES = 1000
MAX_COUNT = 2**63
_LENGTH = struct.Struct(">I")


class ProtocolError(ProcstopError):
    """The other side broke the message format."""


@dataclass(frozen=True)
class Interrupt:
    """Leave at a stopping point, by the task's strategy."""

    attempt: str


@dataclass(frozen=True)
class Guarded:
    """The worker cannot outlive its supervisor any more; the first thing that it says."""

    attempt: str


@dataclass(frozen=True)
class Ready:
    """The guest is about to run; `interruptible` tells whether it can reach a stopping point."""

    attempt: str
    interruptible: bool = True


@dataclass(frozen=True)
class Beat:
    """Stopping points passed so far, and the guest's progress if it told any."""

    attempt: str
    passed: int
    done: int | None = None
    total: int | None = None


@dataclass(frozen=True)
class Final:
    """The one report of an attempt; nothing follows it."""

    attempt: str
    report: Report


Message = Union[Interrupt, Guarded, Ready, Beat, Final]


@dataclass(frozen=True)
class Order:
    """All that a worker needs to know to host one attempt. Paths are absolute.

    `args` are encoded values (see `encode_value`), or argv strings with `argv0` before them for "_start".
    `bindings` maps "module.name" to a function of procstop, `host_functions` to "module:qualname" references.
    """

    attempt: str
    engine: str
    module_name: str
    call: str
    args: list[Value] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    dirs: list[tuple[str, str, bool]] = field(default_factory=list)
    bindings: dict[str, str] = field(default_factory=dict)
    host: str | None = None
    host_functions: dict[str, str] = field(default_factory=dict)
    main_path: str | None = None
    strategy: str = "finish-current"
    strategy_n: int = 0
    check_every: int = 1
    sys_path: list[str] = field(default_factory=list)


def encode_order(order: Order) -> bytes:
    """Write an order as JSON."""
    return json.dumps(asdict(order)).encode()


def decode_order(data: bytes) -> Order:
    """Read what `encode_order` wrote; it comes from the supervisor and is trusted."""
    fields = json.loads(data)
    fields["dirs"] = [(guest, host, bool(write)) for guest, host, write in fields["dirs"]]
    return Order(**fields)


def encode(message: Message) -> bytes:
    """Frame one message; raise `ProtocolError` if it would be longer than `MAX_MESSAGE`."""
    body: dict[str, Any] = {"v": VERSION, "type": type(message).__name__.lower(), "attempt": message.attempt}
    if isinstance(message, Ready):
        body.update(interruptible=message.interruptible)
    elif isinstance(message, Beat):
        body.update(passed=message.passed, done=message.done, total=message.total)
    elif isinstance(message, Final):
        body["report"] = _report_fields(message.report)
    # Not as ASCII: its escapes would make a text of emoji three times as long, and too long for a message.
    text = json.dumps(body, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    data = text.encode("utf-8", "replace")
    if len(data) > MAX_MESSAGE:
        raise ProtocolError(f"a message of {len(data)} bytes; the most is {MAX_MESSAGE}")
    return _LENGTH.pack(len(data)) + data


class Decoder:
    """Cut a byte stream into messages; give it whatever was read, in pieces of any size."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take `data`; yield the messages that it completes, and raise `ProtocolError` at the first that is wrong.

        What came before a wrong one counts, in whatever pieces it was read.
        """
        self._buffer += data
        return self._messages()

    def _messages(self) -> Iterator[Message]:
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > MAX_MESSAGE:
                raise ProtocolError(f"a message of {length} bytes; the most is {MAX_MESSAGE}")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield decode(body)

    @property
    def pending(self) -> int:
        """Bytes of an unfinished message that are waiting."""
        return len(self._buffer)


def decode(body: bytes) -> Message:
    """Read the JSON of one message, without its length; raise `ProtocolError` for anything unexpected."""
    try:
        fields = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ProtocolError("a message that is not JSON") from None
    version = fields.pop("v", None) if isinstance(fields, dict) else None
    if type(version) is not int or version != VERSION:
        raise ProtocolError(f"a message that is not of version {VERSION}")
    kind, attempt = fields.pop("type", None), fields.pop("attempt", None)
    _expect(isinstance(attempt, str) and 0 < len(attempt) <= 200, "attempt")
    if kind == "interrupt" and not fields:
        return Interrupt(attempt)
    if kind == "guarded" and not fields:
        return Guarded(attempt)
    if kind == "ready" and set(fields) == {"interruptible"}:
        _expect(type(fields["interruptible"]) is bool, "interruptible")
        return Ready(attempt, fields["interruptible"])
    if kind == "beat" and set(fields) == {"passed", "done", "total"}:
        _expect(_is_count(fields["passed"]), "passed")
        for key in ("done", "total"):
            _expect(fields[key] is None or _is_i64(fields[key]), key)
        return Beat(attempt, fields["passed"], fields["done"], fields["total"])
    if kind == "final" and set(fields) == {"report"}:
        return Final(attempt, _read_report(fields["report"]))
    raise ProtocolError("a message of an unknown type or with unknown keys")


def cut_text(text: str, most: int = MAX_TEXT) -> str:
    """Shorten a text to `most` characters, saying so where it was cut."""
    if len(text) <= most:
        return text
    return f"{text[:most]} ... ({len(text) - most} characters more)"


def encode_value(value: Value) -> Value:
    """Make a value safe for JSON: integers beyond 2^53 and floats that are not finite become strings."""
    if isinstance(value, int) and abs(value) > 2**53:
        return str(value)
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        return str(value)
    return value


def _report_fields(report: Report) -> dict[str, Any]:
    fields = asdict(report)
    fields["outcome"] = report.outcome.value
    for key in ("values", "partial"):
        if fields[key] is not None:
            fields[key] = [encode_value(value) for value in fields[key]]
    return fields


_REPORT_KEYS = frozenset(Report.__dataclass_fields__)
_POINT_KEYS = frozenset(StoppingPoints.__dataclass_fields__)


def _read_report(fields: Any) -> Report:
    _expect(isinstance(fields, dict) and set(fields) == _REPORT_KEYS, "report")
    points = fields["stopping_points"]
    _expect(isinstance(points, dict) and set(points) == _POINT_KEYS, "stopping_points")
    gap = points["longest_gap_s"]
    _expect(_is_count(points["passed"]), "passed")
    _expect(gap is None or (type(gap) in (int, float) and 0 <= gap < 1e12), "longest_gap_s")
    _expect(points["stopped_at"] is None or _is_count(points["stopped_at"]), "stopped_at")
    code, text, peak = fields["exit_code"], fields["message"], fields["peak_memory_bytes"]
    _expect(code is None or (_is_count(code) and code < 2**32), "exit_code")
    _expect(text is None or isinstance(text, str), "message")
    _expect(peak is None or _is_count(peak), "peak_memory_bytes")
    try:
        outcome = Outcome(fields["outcome"])
    except ValueError:
        raise ProtocolError("a report with an unknown outcome") from None
    return Report(
        outcome=outcome,
        values=_read_values(fields["values"]),
        exit_code=code,
        # JSON can spell half a surrogate pair, which no terminal or file can take.
        message=None if text is None else cut_text(text.encode("utf-8", "replace").decode()),
        partial=_read_values(fields["partial"]),
        stopping_points=StoppingPoints(points["passed"], gap, points["stopped_at"]),
        peak_memory_bytes=peak,
    )


def _read_values(values: Any) -> tuple[Value, ...] | None:
    if values is None:
        return None
    _expect(isinstance(values, list) and len(values) <= MAX_VALUES, "values")
    for value in values:
        _expect(type(value) in (int, float, str), "values")
        # The rest comes as texts: see `encode_value`.
        _expect(type(value) is not int or abs(value) <= 2**53, "values")
        _expect(type(value) is not float or math.isfinite(value), "values")
    return tuple(v.encode("utf-8", "replace").decode()[:MAX_TEXT] if type(v) is str else v for v in values)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _is_i64(value: Any) -> bool:
    return type(value) is int and -MAX_COUNT <= value < MAX_COUNT


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < MAX_COUNT


def _expect(right: bool, key: str) -> None:
    if not right:
        raise ProtocolError(f'a message whose "{key}" is not as it must be')
