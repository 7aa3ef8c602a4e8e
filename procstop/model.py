"""The words of procstop as frozen data: jobs, tasks, limits, outcomes. No I/O.

Durations are seconds as floats, sizes are bytes as ints; the units of a job file are read in `jobfile`.
Values check themselves when they are made and raise `InvalidValue`, which names the key at fault.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Union

from procstop.errors import InvalidValue

if TYPE_CHECKING:
    from os import PathLike

    StrPath = Union[str, PathLike[str]]

Value = Union[int, float, str]
"""An argument or a returned value; v128 and values that JSON cannot hold exactly are strings."""


def _check_seconds(key: str, value: float, *, zero: bool) -> None:
    # An integer that is too long to be a float is none of seconds either.
    if type(value) is int and value.bit_length() > 64:
        raise InvalidValue(key, f"must be a number of seconds, got an integer of {value.bit_length()} bits")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InvalidValue(key, f"must be a number of seconds, got {value!r}")
    if value < 0 or (value == 0 and not zero):
        raise InvalidValue(key, f"must be {'0 or more' if zero else 'above 0'}, got {value:g} s")


def _check_count(key: str, value: int, *, least: int) -> None:
    if type(value) is not int or value < least:
        raise InvalidValue(key, f"must be a whole number of at least {least}, got {value!r}")


def _path_text(key: str, value: StrPath) -> str:
    """Return a path as a text; refuse what is neither a text nor a path object."""
    try:
        text: Any = value if isinstance(value, str) else getattr(value, "__fspath__", lambda: value)()
    except TypeError:
        # The class itself, as in Path for Path("x").
        text = value
    _check_text(key, text)
    return str(text)


def _check_text(key: str, value: str) -> None:
    if not isinstance(value, str) or not value or "\0" in value:
        raise InvalidValue(key, f"must be a text that is not empty and holds no NUL, got {value!r}")


def _check_kind(key: str, value: object, kind: type[Any], hint: str, *, or_none: bool = False) -> None:
    """Refuse what is not of a class; `hint` spells a value that would do."""
    if not isinstance(value, kind) and not (or_none and value is None):
        what = f"{_a(kind.__name__)}{' or None' if or_none else ''}"
        raise InvalidValue(key, f"must be {what}, got {value!r}; write {hint}")


def _member(value: object, default: enum.Enum) -> str:
    """Name the member of an enum that a job file's word stands for."""
    return next((one.name for one in type(default) if one.value == value), default.name)


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'AEIO' else 'a'} {noun}"


def _items(key: str, value: Any, example: str) -> tuple[Any, ...]:
    """Return a sequence as a tuple; refuse one item where several may stand, or a mapping."""
    # A text is a sequence too, of its letters, which nobody ever means.
    if isinstance(value, (str, bytes)):
        raise InvalidValue(key, f"must be a sequence, got {value!r}; write [{value!r}]")
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        raise InvalidValue(key, f"must be a sequence, got {value!r}; write {example}")
    return tuple(value)


def _texts(key: str, value: Any) -> dict[str, str]:
    """Return a mapping of text to text as a copy of its own."""
    if not isinstance(value, Mapping):
        raise InvalidValue(key, f"must be a mapping of texts to texts, got {value!r}")
    for name, text in value.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise InvalidValue(key, f"names and values must be texts, got {name!r} = {text!r}")
    return dict(value)


class Outcome(str, enum.Enum):
    """How an attempt ended, judged from facts. Why we asked it to stop is `Reason`."""

    COMPLETED = "completed"
    EXITED = "exited"
    TRAPPED = "trapped"
    HOST_ERROR = "host_error"
    INTERRUPTED = "interrupted"
    PREEMPTED = "preempted"
    TERMINATED = "terminated"
    KILLED = "killed"
    CRASHED = "crashed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    LOST = "lost"


class Reason(str, enum.Enum):
    """Why an attempt was asked to stop."""

    USER = "user"
    TIME_LIMIT = "time_limit"
    START_LIMIT = "start_limit"
    CPU_LIMIT = "cpu_limit"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    STALL = "stall"
    FUEL = "fuel"
    STOP_COMMAND = "stop_command"
    SHUTDOWN = "shutdown"
    PROTOCOL = "protocol"

    @property
    def is_limit(self) -> bool:
        """Tell whether a limit of the task asked, rather than a person or procstop."""
        return self in LIMIT_REASONS


LIMIT_REASONS = frozenset(
    {
        Reason.TIME_LIMIT,
        Reason.START_LIMIT,
        Reason.CPU_LIMIT,
        Reason.MEMORY_LIMIT,
        Reason.OUTPUT_LIMIT,
        Reason.STALL,
        Reason.FUEL,
    }
)


class Rung(str, enum.Enum):
    """A step of the ladder; later ones are harder. Compare by `height`."""

    INTERRUPT = "interrupt"
    PREEMPT = "preempt"
    TERMINATE = "terminate"
    KILL = "kill"

    @property
    def height(self) -> int:
        """Position on the ladder, from 1."""
        return _HEIGHTS[self]


_HEIGHTS = {rung: height for height, rung in enumerate(Rung, start=1)}


@dataclass(frozen=True)
class StopPolicy:
    """The graces of the ladder in seconds; 0 skips the rung. `kill_wait` ends in `lost`."""

    interrupt: float = 2.0
    preempt: float = 0.5
    terminate: float = 1.0
    kill_wait: float = 5.0

    def __post_init__(self) -> None:
        for key in ("interrupt", "preempt", "terminate"):
            _check_seconds(f"stop.{key}", getattr(self, key), zero=True)
        _check_seconds("stop.kill_wait", self.kill_wait, zero=False)


@dataclass(frozen=True)
class Limits:
    """Caps on a guest; None is no cap. `start`, `time`, `cpu` and `stall` in seconds, `output` in bytes per stream.

    `cpu` is the CPU time of guest code, `stall` the longest time between two stopping points of a guest that has some.
    `memory` is what a guest's memories and tables may have, in bytes, `file_size` what a file may that it writes;
    `open_files` is how many files and directories it may have open at a time. `compile_memory` is what a compiler of
    its module may use, in bytes.

    There is always a cap on starting, or a compiler that hangs could not be stopped. Starting counts until the guest
    is ready to run, compiling included; all guest code counts as time.
    """

    start: float = 300.0
    time: float | None = None
    cpu: float | None = None
    stall: float | None = None
    memory: int | None = None
    output: int | None = 100 * 1024 * 1024
    open_files: int | None = None
    file_size: int | None = None
    compile_memory: int | None = 4 * 1024 * 1024 * 1024

    def __post_init__(self) -> None:
        _check_seconds("limits.start", self.start, zero=False)
        for key in ("time", "cpu", "stall"):
            seconds = getattr(self, key)
            if seconds is not None:
                _check_seconds(f"limits.{key}", seconds, zero=False)
        for key in ("memory", "output", "file_size", "compile_memory"):
            size = getattr(self, key)
            if size is not None and (type(size) is not int or not 0 < size < 1 << 62):
                raise InvalidValue(f"limits.{key}", f"must be a number of bytes above 0, got {size!r}")
        if self.open_files is not None:
            _check_count("limits.open_files", self.open_files, least=1)


class Level(str, enum.Enum):
    """How much of what could keep a hostile guest inside is in force; later ones have less."""

    FULL = "full"
    BASIC = "basic"
    NONE = "none"


@dataclass(frozen=True)
class Containment:
    """What workers put on. `require` refuses to run with less; None is what each engine needs at least.

    `sandbox` False leaves the sandbox open, for those who want to know whether it is to blame for something.
    """

    require: Level | None = None
    sandbox: bool = True

    def __post_init__(self) -> None:
        if self.require is not None:
            try:
                object.__setattr__(self, "require", Level(self.require))
            except ValueError:
                choices = ", ".join(one.value for one in Level)
                raise InvalidValue("containment.require", f"must be one of {choices}, got {self.require!r}") from None
        if not isinstance(self.sandbox, bool):
            raise InvalidValue("containment.sandbox", f"must be True or False, got {self.sandbox!r}")


class Spawn(str, enum.Enum):
    """How a worker comes into being."""

    SERVER = "server"
    FRESH = "fresh"


@dataclass(frozen=True)
class Workers:
    """How a job's workers are made.

    `spawn` has them forked by a fork server, or each started anew. `reuse` is how many attempts of one task one worker
    may host. `cache` keeps compiled modules on this machine.
    """

    spawn: Spawn = Spawn.SERVER
    reuse: int = 1
    cache: bool = True

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "spawn", Spawn(self.spawn))
        except ValueError:
            choices = ", ".join(one.value for one in Spawn)
            raise InvalidValue("workers.spawn", f"must be one of {choices}, got {self.spawn!r}") from None
        _check_count("workers.reuse", self.reuse, least=1)
        if not isinstance(self.cache, bool):
            raise InvalidValue("workers.cache", f"must be True or False, got {self.cache!r}")


class StrategyKind(str, enum.Enum):
    """What an attempt does at its stopping points once it was interrupted."""

    FINISH_CURRENT = "finish-current"
    NEXT_N = "next-n"
    IGNORE = "ignore"


@dataclass(frozen=True)
class Strategy:
    """When an interrupted guest leaves: at the next stopping point, `n` points later, or never.

    The stopping point that learns of the interrupt is not counted, so n = 0 is finish-current.
    """

    kind: StrategyKind = StrategyKind.FINISH_CURRENT
    n: int = 0

    def __post_init__(self) -> None:
        _check_kind("strategy", self.kind, StrategyKind, f"StrategyKind.{_member(self.kind, StrategyKind.IGNORE)}")
        _check_count("strategy.next", self.n, least=0)

    def __str__(self) -> str:
        return f"next {self.n}" if self.kind is StrategyKind.NEXT_N else self.kind.value


class OnInterruptKind(str, enum.Enum):
    """What a run does with its queue of tasks at the first Ctrl-C."""

    STOP = "stop"
    FINISH_CURRENT = "finish-current"
    NEXT = "next"
    IGNORE = "ignore"


@dataclass(frozen=True)
class OnInterrupt:
    """A run's strategy: stop the running tasks too, let them finish, start `n` more, or carry on."""

    kind: OnInterruptKind = OnInterruptKind.STOP
    n: int = 0

    def __post_init__(self) -> None:
        hint = f"OnInterruptKind.{_member(self.kind, OnInterruptKind.IGNORE)}"
        _check_kind("on_interrupt", self.kind, OnInterruptKind, hint)
        _check_count("on_interrupt.next", self.n, least=0)


@dataclass(frozen=True)
class Stdin:
    """What the guest reads from descriptor 0: a host file, or a text of its own."""

    path: StrPath | None = None
    text: str | None = None

    def __post_init__(self) -> None:
        if self.path is not None:
            object.__setattr__(self, "path", _path_text("stdin", self.path))
        if (self.path is None) == (self.text is None):
            raise InvalidValue("stdin", "give a path or a text, one of the two")
        if self.text is not None and not isinstance(self.text, str):
            raise InvalidValue("stdin", f"text: must be a text, got {self.text!r}")


@dataclass(frozen=True)
class Dir:
    """A host directory that the guest sees as `guest`; read-only unless `write`."""

    guest: str
    host: StrPath
    write: bool = False

    def __post_init__(self) -> None:
        _check_text("dirs", self.guest)
        object.__setattr__(self, "host", _path_text("dirs", self.host))
        if not isinstance(self.write, bool):
            raise InvalidValue("dirs", f"{self.guest!r}: write must be True or False, got {self.write!r}")


def same_places(dirs: Iterable[Dir]) -> list[tuple[str, str]]:
    """Return the guest paths that lead to the same place, in pairs: one, and another that comes later."""
    first: dict[str, str] = {}
    pairs = []
    for directory in dirs:
        guest = directory.guest
        parts = [part for part in guest.split("/") if part not in ("", ".")]
        place = ("/" if guest.startswith("/") else "") + "/".join(parts)
        if place in first:
            pairs.append((first[place], guest))
        first.setdefault(place, guest)
    return pairs


ENGINES = ("auto", "wasmer", "wasmtime")
HOST_ALLOWABLE = ("network", "processes", "files")
"""What host functions may ask for beyond the directories of their task."""

HostFunction = Callable[..., Any]


@dataclass(frozen=True)
class Task:
    """One entry of a job: a module, what to call, with what.

    `module` and the other paths are host paths. `args` are numbers typed by the export's signature, or
    argv strings for "_start". `host` is the path of a Python file with a mapping `imports`, or such a mapping
    of "module.name" to importable callables; both run in the worker, inside its sandbox but for what `host_allow`
    names: "network", "processes" (they start some), "files" (beyond `dirs`). `limits` and `stop` replace the job's.
    """

    name: str
    module: StrPath
    call: str = "_start"
    args: Sequence[Value] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: Stdin | None = None
    dirs: Sequence[Dir] = ()
    engine: str = "auto"
    strategy: Strategy = Strategy()
    check_every: int = 1
    imports: Mapping[str, str] = field(default_factory=dict)
    host: StrPath | Mapping[str, HostFunction] | None = None
    host_allow: Sequence[str] = ()
    needs: Sequence[str] = ()
    limits: Limits | None = None
    stop: StopPolicy | None = None
    retries: int = 0
    expect: Sequence[Outcome] = (Outcome.COMPLETED,)
    group: str | None = None
    """The name that `needs` and `--task` know it by when `each` made several tasks of one entry."""
    reuse: int | None = None
    """How many attempts of its group one worker may host; None is what the job says."""

    def __post_init__(self) -> None:
        _check_text("name", self.name)
        _check_text("call", self.call)
        object.__setattr__(self, "module", _path_text("module", self.module))
        if self.group is not None:
            _check_text("group", self.group)
        self._check_host()
        self._check_expect()
        self._check_sequences()
        self._check_environment()
        object.__setattr__(self, "imports", _texts("imports", self.imports))
        _check_kind("stdin", self.stdin, Stdin, 'procstop.Stdin(path="in.txt")', or_none=True)
        kind = "NEXT_N, 3" if isinstance(self.strategy, Mapping) else _member(self.strategy, StrategyKind.IGNORE)
        _check_kind("strategy", self.strategy, Strategy, f"procstop.Strategy(procstop.StrategyKind.{kind})")
        _check_kind("limits", self.limits, Limits, "procstop.Limits(time=10)", or_none=True)
        _check_kind("stop", self.stop, StopPolicy, "procstop.StopPolicy(interrupt=2)", or_none=True)
        if self.engine not in ENGINES:
            raise InvalidValue("engine", f"must be one of {', '.join(ENGINES)}, got {self.engine!r}")
        _check_count("check_every", self.check_every, least=1)
        _check_count("retries", self.retries, least=0)
        if self.reuse is not None:
            _check_count("workers.reuse", self.reuse, least=1)

    def _check_host(self) -> None:
        if isinstance(self.host, Mapping):
            for name in self.host:
                if not isinstance(name, str):
                    raise InvalidValue("host", f'names must be texts such as "env.log", got {name!r}')
        elif self.host is not None:
            object.__setattr__(self, "host", _path_text("host", self.host))

    def _check_expect(self) -> None:
        # An Outcome is a str, so a lone one must be caught before it is taken for a sequence of letters.
        given = (self.expect,) if isinstance(self.expect, str) else _items("expect", self.expect, '["completed"]')
        try:
            expect = tuple(Outcome(one) for one in given)
        except ValueError as error:
            raise InvalidValue("expect", str(error)) from None
        if not expect:
            raise InvalidValue("expect", "names no outcome, so nothing could be ok")
        object.__setattr__(self, "expect", expect)

    def _check_sequences(self) -> None:
        for key, example in (
            ("args", "[1, 7]"),
            ("dirs", '[procstop.Dir("/data", "data")]'),
            ("needs", '["other"]'),
            ("host_allow", '["network"]'),
        ):
            object.__setattr__(self, key, _items(key, getattr(self, key), example))
        for value in self.args:
            if isinstance(value, bool) or not isinstance(value, (int, float, str)):
                hint = "; write 1 or 0" if isinstance(value, bool) else ""
                raise InvalidValue("args", f"must be numbers and texts, got {value!r}{hint}")
        for need in self.needs:
            _check_text("needs", need)
        for allowed in self.host_allow:
            if allowed not in HOST_ALLOWABLE:
                raise InvalidValue("host_allow", f"must be of {', '.join(HOST_ALLOWABLE)}, got {allowed!r}")
        if self.host_allow and self.host is None:
            raise InvalidValue(
                "host_allow", "is for host functions, and the task has no host; name it or leave this out"
            )
        for directory in self.dirs:
            _check_kind("dirs", directory, Dir, 'procstop.Dir("/data", "data")')
        for one, other in same_places(self.dirs):
            what = "is given twice" if one == other else f"is the same path as {one!r}; keep one of them"
            raise InvalidValue("dirs", f"{other!r} {what}")

    def _check_environment(self) -> None:
        object.__setattr__(self, "env", _texts("env", self.env))
        for name, value in self.env.items():
            if not name or "=" in name or "\0" in name or "\0" in value:
                raise InvalidValue("env", f"{name!r}: a name may not be empty or hold '=', neither part a NUL")


@dataclass(frozen=True)
class Job:
    """Tasks, and the policies that they share. `concurrency` None is the CPUs this process may use."""

    name: str
    tasks: Sequence[Task] = ()
    concurrency: int | None = None
    on_interrupt: OnInterrupt = OnInterrupt()
    stop: StopPolicy = StopPolicy()
    limits: Limits = Limits()
    workers: Workers = Workers()
    containment: Containment = Containment()
    source: str | None = None
    """The job file that it came from, for messages."""

    def __post_init__(self) -> None:
        _check_text("name", self.name)
        if isinstance(self.tasks, Task):
            raise InvalidValue("tasks", f"must be a sequence of tasks, got the task {self.tasks.name!r}; write [task]")
        tasks = _items("tasks", self.tasks, '[procstop.Task("add", "add.wat")]')
        for task in tasks:
            _check_kind("tasks", task, Task, 'procstop.Task("add", "add.wat")')
        object.__setattr__(self, "tasks", tasks)
        if self.source is not None:
            _check_text("source", self.source)
        given = self.on_interrupt
        kind = "NEXT, 3" if isinstance(given, Mapping) else _member(given, OnInterruptKind.IGNORE)
        _check_kind("on_interrupt", given, OnInterrupt, f"procstop.OnInterrupt(procstop.OnInterruptKind.{kind})")
        _check_kind("stop", self.stop, StopPolicy, "procstop.StopPolicy(interrupt=2)")
        _check_kind("limits", self.limits, Limits, "procstop.Limits(time=10)")
        _check_kind("workers", self.workers, Workers, "procstop.Workers(reuse=500)")
        _check_kind("containment", self.containment, Containment, 'procstop.Containment(require="full")')
        if self.concurrency is not None:
            _check_count("concurrency", self.concurrency, least=1)
