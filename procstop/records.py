"""What happened, as frozen data: the records of runs, tasks and attempts. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

from procstop.model import Outcome, Reason, Rung, Value

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
    `tail` holds the last bytes kept (at most 16 KiB); it is not part of the JSON report.
    """

    bytes: int = 0
    truncated: bool = False
    path: str | None = None
    tail: Tail = field(default=b"", repr=False)


@dataclass(frozen=True)
class AttemptRecord:
    """Everything that is known about one attempt once it is over.

    `wait` is ("exit", code) or ("signal", number), as the kernel told it; None when nothing ran. `engine_reason`
    says why this engine.
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
    """What became of a run. `reason` says why it was stopped as a whole, if it was."""

    run: str
    job: str
    started_at: str
    duration_s: float
    exit_code: int
    reason: Reason | None
    tasks: tuple[TaskRecord, ...]

    @property
    def ok(self) -> bool:
        """Tell whether every task ended as expected."""
        return all(task.ok for task in self.tasks)

    def __getitem__(self, name: str) -> TaskRecord:
        for task in self.tasks:
            if task.task == name:
                return task
        raise KeyError(name)


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
