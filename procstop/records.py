"""What happened, as frozen data: the records of runs, tasks and attempts. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from procstop.model import Level, Outcome, Reason, Rung, Value

Tail = bytes


@dataclass(frozen=True)
class StoppingPoints:
    """How often a guest passed a stopping point, the longest time between two, and where it left.

    `longest_gap_s` is exact to the clock, or to a tenth of a second while a guest passes many thousands
    a second; None when it passed none. `stopped_at` counts from 1.
    """

    passed: int = 0
    longest_gap_s: float | None = None
    stopped_at: int | None = None


@dataclass(frozen=True)
class Phases:
    """Seconds that each phase of an attempt took; None for a phase that it did not have."""

    start: float | None = None
    run: float | None = None
    interrupt: float | None = None
    preempt: float | None = None
    terminate: float | None = None
    kill: float | None = None
    reap: float | None = None


@dataclass(frozen=True)
class StreamRecord:
    """What came out of one standard stream: bytes kept, whether more was cut off, and where it is.

    `path` is the file under the output directory, when there is one and anything was written.
    `error` says why not all of `bytes` is in that file, as when the disk is full. `tail` holds the last bytes kept (at
    most 16 KiB); it is not part of the JSON report.
    """

    bytes: int = 0
    truncated: bool = False
    path: str | None = None
    tail: Tail = field(default=b"", repr=False)
    error: str | None = None


@dataclass(frozen=True)
class Contained:
    """What kept an attempt's guest inside: `missing` says in sentences what is not there of `Level.FULL`.

    `user` is the uid that the worker took in root's place, None where it kept its own. `allowed` is what its host
    functions asked for.
    """

    level: Level
    missing: tuple[str, ...] = ()
    user: int | None = None
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tree:
    """The receipt of a tree that was ended by force: how many processes there were below the worker, how many of all
    were sent SIGKILL, and how many are left. `processes` are the first 32 that were found below it, as (pid, name).
    """

    found: int = 0
    killed: int = 0
    left: int = 0
    processes: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class AttemptRecord:
    """Everything that is known about one attempt once it is over.

    `wait` is ("exit", code) or ("signal", number), as the kernel told it; None when nothing ran, or when its worker
    went on to another attempt. `worker` numbers the workers of a run: attempts with the same number shared one.
    `engine_reason` says why this engine. `contained` is None where nothing ran, `tree` unless force was used.
    """

    number: int
    engine: str | None
    outcome: Outcome
    reason: Reason | None = None
    rung: Rung | None = None
    values: tuple[Value, ...] | None = None
    exit_code: int | None = None
    message: str | None = None
    partial: tuple[Value, ...] | None = None
    pid: int | None = None
    wait: tuple[str, int] | None = None
    stopping_points: StoppingPoints = StoppingPoints()
    phases: Phases = Phases()
    peak_memory_bytes: int | None = None
    cpu_s: float | None = None
    stdout: StreamRecord = StreamRecord()
    stderr: StreamRecord = StreamRecord()
    engine_reason: str | None = None
    worker: int | None = None
    contained: Contained | None = None
    tree: Tree | None = None


@dataclass(frozen=True)
class TaskRecord:
    """What became of a task: the last attempt's outcome, and whether it was expected."""

    task: str
    ok: bool
    outcome: Outcome
    attempts: tuple[AttemptRecord, ...] = ()
    message: str | None = None
    """Why it never started, for a task without attempts."""
    group: str | None = None

    @property
    def last(self) -> AttemptRecord | None:
        """The attempt that decided, None when none was made."""
        return self.attempts[-1] if self.attempts else None

    @property
    def values(self) -> tuple[Value, ...] | None:
        """What the call returned, None when it did not return."""
        return self.attempts[-1].values if self.attempts else None


@dataclass(frozen=True)
class RunRecord:
    """What became of a run. `reason` says why it was stopped as a whole, if it was; `tasks` are in the job's order."""

    run: str
    job: str
    started_at: str
    duration_s: float
    exit_code: int
    reason: Reason | None
    tasks: Sequence[TaskRecord]

    @property
    def ok(self) -> bool:
        """Tell whether every task ended as expected."""
        return all(task.ok for task in self.tasks)

    def __getitem__(self, name: str) -> TaskRecord:
        return self.tasks[self._places[name]]

    @cached_property
    def _places(self) -> dict[str, int]:
        # Made only once somebody asks by name: of a big run it is big itself.
        places: dict[str, int] = {}
        for place, task in enumerate(self.tasks):
            places.setdefault(task.task, place)
        return places


@dataclass(frozen=True)
class Report:
    """What a worker says ended its guest; untrusted, and kept only if the lifecycle can believe it."""

    outcome: Outcome
    values: tuple[Value, ...] | None = None
    exit_code: int | None = None
    message: str | None = None
    partial: tuple[Value, ...] | None = None
    stopping_points: StoppingPoints = StoppingPoints()
    peak_memory_bytes: int | None = None
    cpu_s: float | None = None
    out_of_memory: bool = False
    """Whether its memory limit was in the guest's way when it ended."""
