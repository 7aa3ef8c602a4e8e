"""What crosses the pipes between supervisor and worker: encode, decode, bounds. No I/O.

A message is a length (4 bytes, big-endian) and that many bytes of JSON, at most `MAX_MESSAGE`: an object with
the format's version, a type, and the id of the attempt that it is about. The supervisor sends `Interrupt` on the
control pipe, and `Assign` when a worker that is free gets another attempt. The worker sends `Guarded` unless it is
ready at once, and then `Ready`, `Beat` and one `Final` for each attempt on the report pipe; those are untrusted, and
whatever is not exactly as described here raises `ProtocolError`.

A `Start` is not a message: the supervisor lays it ready before it starts a worker. `ForkRequest` and `ForkAnswer` are
what it says to a fork server and hears from it, one to a packet.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
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
KEPT_ORDERS = 64
"""Orders that a fork server keeps; the supervisor knows which these are."""
_LENGTH = struct.Struct(">I")


class ProtocolError(ProcstopError):
    """The other side broke the message format."""


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
    """The guest is about to run; `interruptible` tells whether it can reach a stopping point."""

    attempt: str
    pid: int
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
    """The one report of an attempt. Nothing follows it, unless the worker says that it is free for another."""

    attempt: str
    report: Report
    free: bool = False


Message = Union[Interrupt, Assign, Guarded, Ready, Beat, Final]


@dataclass(frozen=True)
class Order:
    """All that a worker needs to know, but for the attempts that it hosts. Paths are absolute.

    `bindings` maps "module.name" to a function of procstop, `host_functions` to "module:qualname" references.
    `module_digest` is the SHA-256 of the module in hex; `hosts` is how many attempts the worker may host. `memory` and
    `file_size` in bytes, `cpu` in seconds, and `open_files` are caps that the worker puts on itself; None is none.
    `start` is how long the worker may be there until its guest is about to run, in seconds, and `life` how long from
    then on (None without a time limit), whatever becomes of its supervisor.
    `landlock` and `seccomp` say which layers of the sandbox to close (see `sandbox.Grants`), `allow` what host
    functions may do in it, `user` whom to be instead of root. `beats_asleep` asks for signs of life from a guest that
    sleeps.
    """

    engine: str
    module_name: str
    call: str
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
    module_digest: str = ""
    hosts: int = 1
    memory: int | None = None
    cpu: float | None = None
    open_files: int | None = None
    file_size: int | None = None
    start: float | None = None
    life: float | None = None
    landlock: int = 0
    seccomp: bool = False
    allow: list[str] = field(default_factory=list)
    user: int | None = None
    beats_asleep: bool = False


@dataclass(frozen=True)
class Start:
    """What a worker that is started anew finds laid ready: the order, and the first attempt.

    `args` are encoded values (see `encode_value`), or argv strings for "_start". `artifact` is the name under which the
    compiled module was sealed, None where there is none.
    """

    order: Order
    attempt: str
    args: tuple[Value, ...] = ()
    artifact: str | None = None


@dataclass(frozen=True)
class ForkRequest:
    """Start a worker. `order` is the order's JSON; None if it was sent before, as number `key`.

    With the request come these descriptors: standard input, output and error, control, report, module, the artifact
    where there is one, and a file with order and arguments if they are too long for a packet: then `filed` is true, and
    `join_request` puts them back.
    """

    number: int
    key: int
    order: str | None
    artifact: str | None
    attempt: str
    args: tuple[Value, ...]
    filed: bool = False


@dataclass(frozen=True)
class ForkAnswer:
    """What became of a request: the worker's pid, or why there is none. The first one, number 0, says: here I am.

    `spoilt` says that the artifact is what is wrong: with another one it may work. `short` says that it may work once
    others have ended.
    """

    number: int
    pid: int | None
    error: str | None = None
    spoilt: bool = False
    short: bool = False


def encode_request(request: ForkRequest) -> bytes:
    """Write a request as JSON."""
    return _TRUE_ENCODER.encode(list(vars(request).values())).encode()


def decode_request(data: bytes) -> ForkRequest:
    """Read what `encode_request` wrote; it comes from the supervisor and is trusted."""
    number, key, order, artifact, attempt, args, filed = json.loads(data)
    return ForkRequest(number, key, order, artifact, attempt, tuple(args), filed)


def split_request(request: ForkRequest, most: int) -> tuple[ForkRequest, bytes | None]:
    """Return a request that fits into a packet of `most` bytes, and what goes into its file; None if it needs none."""
    if len(encode_request(request)) <= most:
        return request, None
    return replace(request, order=None, args=(), filed=True), encode_request(request)


def join_request(request: ForkRequest, file: bytes) -> ForkRequest:
    """Return the request that was split."""
    whole = decode_request(file)
    return replace(request, order=whole.order, args=whole.args)


def encode_answer(answer: ForkAnswer) -> bytes:
    """Write an answer as JSON."""
    return _ENCODER.encode(list(vars(answer).values())).encode("utf-8", "replace")


def decode_answer(data: bytes) -> ForkAnswer:
    """Read a fork server's answer; raise `ProtocolError` for anything else."""
    try:
        number, pid, error, spoilt, short = json.loads(data)
    except (ValueError, TypeError, RecursionError):
        raise ProtocolError("an answer that is no answer") from None
    _expect(_is_count(number), "number")
    _expect(pid is None or _is_pid(pid), "pid")
    _expect(error is None or isinstance(error, str), "error")
    _expect(type(spoilt) is bool, "spoilt")
    _expect(type(short) is bool, "short")
    return ForkAnswer(number, pid, None if error is None else _clean(error), spoilt, short)


@dataclass(frozen=True)
class Compiled:
    """What a compiler says: whether the cache has the artifact, and why not; or why there is none."""

    stored: bool = False
    note: str | None = None
    error: str | None = None


def encode_compiled(compiled: Compiled) -> bytes:
    """Write a compiler's answer as JSON."""
    return _ENCODER.encode(list(vars(compiled).values())).encode("utf-8", "replace")


def decode_compiled(data: bytes) -> Compiled:
    """Read a compiler's answer, which a module may have taken over; raise `ProtocolError` for anything else."""
    try:
        stored, note, error = json.loads(data)
    except (ValueError, TypeError, RecursionError):
        raise ProtocolError("an answer that is no answer") from None
    _expect(type(stored) is bool, "stored")
    _expect(note is None or isinstance(note, str), "note")
    _expect(error is None or isinstance(error, str), "error")
    return Compiled(stored, None if note is None else _clean(note), None if error is None else _clean(error))


def encode_order(order: Order) -> bytes:
    """Write an order as JSON."""
    # Not by `asdict`, which copies everything deeply first; `vars` is every field, as it is.
    return json.dumps(vars(order)).encode()


def decode_order(data: bytes | str) -> Order:
    """Read what `encode_order` wrote; it comes from the supervisor and is trusted."""
    return _order_of(json.loads(data))


def encode_start(start: Start) -> bytes:
    """Write all that a new worker needs as JSON."""
    return json.dumps({**vars(start), "order": vars(start.order)}).encode()


def decode_start(data: bytes) -> Start:
    """Read what `encode_start` wrote; it comes from the supervisor and is trusted."""
    fields = json.loads(data)
    fields.update(order=_order_of(fields["order"]), args=tuple(fields["args"]))
    return Start(**fields)


def _order_of(fields: dict[str, Any]) -> Order:
    fields["dirs"] = [(guest, host, bool(write)) for guest, host, write in fields["dirs"]]
    return Order(**fields)


# Not as ASCII: its escapes would make a text of emoji three times as long, and too long for a message. Made once: what
# `json.dumps` makes for such options each time takes longer than most messages.
_ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))
_TRUE_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
"""Keeps what is no Unicode: an argument may be a path, and that any bytes."""


def encode(message: Message) -> bytes:
    """Frame one message; raise `ProtocolError` if it would be longer than `MAX_MESSAGE`."""
    body: dict[str, Any] = {"v": VERSION, "type": type(message).__name__.lower(), "attempt": message.attempt}
    if isinstance(message, Ready):
        body.update(pid=message.pid, interruptible=message.interruptible)
    elif isinstance(message, Guarded):
        body.update(pid=message.pid, note=message.note)
    elif isinstance(message, Assign):
        body.update(args=message.args, stdin=message.stdin)
    elif isinstance(message, Beat):
        body.update(passed=message.passed, done=message.done, total=message.total)
    elif isinstance(message, Final):
        body.update(report=_report_fields(message.report), free=message.free)
    encoder = _TRUE_ENCODER if isinstance(message, Assign) else _ENCODER
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
    _expect(isinstance(attempt, str) and 0 < len(attempt) <= 200, "attempt")
    if kind == "interrupt" and not fields:
        return Interrupt(attempt)
    if kind == "guarded" and set(fields) == {"pid", "note"}:
        note = fields["note"]
        _expect(_is_pid(fields["pid"]), "pid")
        _expect(note is None or isinstance(note, str), "note")
        return Guarded(attempt, fields["pid"], None if note is None else _clean(note))
    if kind == "ready" and set(fields) == {"pid", "interruptible"}:
        _expect(_is_pid(fields["pid"]), "pid")
        _expect(type(fields["interruptible"]) is bool, "interruptible")
        return Ready(attempt, fields["pid"], fields["interruptible"])
    if kind == "beat" and set(fields) == {"passed", "done", "total"}:
        _expect(_is_count(fields["passed"]), "passed")
        for key in ("done", "total"):
            _expect(fields[key] is None or _is_i64(fields[key]), key)
        return Beat(attempt, fields["passed"], fields["done"], fields["total"])
    if kind == "final" and set(fields) == {"report", "free"}:
        _expect(type(fields["free"]) is bool, "free")
        return Final(attempt, _read_report(fields["report"]), fields["free"])
    if kind == "assign" and set(fields) == {"args", "stdin"}:
        _expect(isinstance(fields["args"], list) and type(fields["stdin"]) is bool, "args")
        return Assign(attempt, tuple(fields["args"]), fields["stdin"])
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
    _expect(isinstance(fields, dict) and set(fields) == _REPORT_KEYS, "report")
    points = fields["stopping_points"]
    _expect(isinstance(points, dict) and set(points) == _POINT_KEYS, "stopping_points")
    gap = points["longest_gap_s"]
    _expect(_is_count(points["passed"]), "passed")
    _expect(gap is None or (type(gap) in (int, float) and 0 <= gap < 1e12), "longest_gap_s")
    _expect(points["stopped_at"] is None or _is_count(points["stopped_at"]), "stopped_at")
    code, text, peak = fields["exit_code"], fields["message"], fields["peak_memory_bytes"]
    cpu = fields["cpu_s"]
    _expect(type(fields["out_of_memory"]) is bool, "out_of_memory")
    _expect(cpu is None or (type(cpu) in (int, float) and 0 <= cpu < 1e12), "cpu_s")
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
        message=None if text is None else _clean(text),
        partial=_read_values(fields["partial"]),
        stopping_points=StoppingPoints(points["passed"], gap, points["stopped_at"]),
        peak_memory_bytes=peak,
        cpu_s=cpu,
        out_of_memory=fields["out_of_memory"],
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


def _clean(text: str) -> str:
    # JSON can spell half a surrogate pair, which no terminal or file can take.
    return cut_text(text.encode("utf-8", "replace").decode())


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _is_pid(value: Any) -> bool:
    return _is_count(value) and 1 < value < 1 << 31


def _is_i64(value: Any) -> bool:
    return type(value) is int and -MAX_COUNT <= value < MAX_COUNT


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < MAX_COUNT


def _expect(right: bool, key: str) -> None:
    if not right:
        raise ProtocolError(f'a message whose "{key}" is not as it must be')
