"""What observers of a run are told, as frozen data. No I/O.

Observers watch and never decide. An observer is any callable that takes one `Event`; it is called in a thread
of its own, in the order in which things happened. Times are seconds of the run's clock, which stands still
while the run is paused; `deadline_in` is how long the new state may last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Union

from procstop.model import Job, Reason, Rung
from procstop.records import AttemptRecord, RunRecord, TaskRecord


@dataclass(frozen=True)
class RunStarted:
    """A run begins; `concurrency` attempts may run side by side."""

    run: str
    job: Job
    concurrency: int


@dataclass(frozen=True)
class AttemptCompiling:
    """An attempt waits for its module to be compiled; `pid` is the compiler's."""

    task: str
    number: int
    pid: int
    engine: str


@dataclass(frozen=True)
class AttemptStarted:
    """An attempt has its worker: one that was started for it, or that was free."""

    task: str
    number: int
    pid: int
    engine: str


@dataclass(frozen=True)
class AttemptMoved:
    """An attempt entered a state of its lifecycle; `rung` and `reason` are set once it is being stopped."""

    task: str
    number: int
    state: str
    deadline_in: float | None
    rung: Rung | None
    reason: Reason | None


@dataclass(frozen=True)
class AttemptProgress:
    """A heartbeat: stopping points passed, and what the guest says of its progress."""

    task: str
    number: int
    passed: int
    done: int | None
    total: int | None


@dataclass(frozen=True)
class Output:
    """Bytes that a guest wrote to "stdout" or "stderr", as they came."""

    task: str
    number: int
    stream: str
    data: bytes


@dataclass(frozen=True)
class AttemptOver:
    """An attempt is over; `retried` tells whether another follows."""

    task: str
    record: AttemptRecord
    retried: bool


@dataclass(frozen=True)
class TaskOver:
    """A task is over."""

    record: TaskRecord


@dataclass(frozen=True)
class RunStopping:
    """The run was asked to stop; `press` counts the requests, `following` says what the next one does."""

    press: int
    what: str
    following: str | None


@dataclass(frozen=True)
class RunPaused:
    """Guests and clocks stand still until `RunResumed`; but a worker's own timer goes on.

    `ends_in` is how long it takes until the first worker is ended by it, in seconds; None if none will be.
    """

    ends_in: float | None = None


@dataclass(frozen=True)
class RunResumed:
    """Guests and clocks go on."""


@dataclass(frozen=True)
class Notice:
    """Something that the user should know and that changes no outcome."""

    text: str


@dataclass(frozen=True)
class RunOver:
    """The run is over; nothing follows."""

    record: RunRecord


Event = Union[
    RunStarted,
    AttemptCompiling,
    AttemptStarted,
    AttemptMoved,
    AttemptProgress,
    Output,
    AttemptOver,
    TaskOver,
    RunStopping,
    RunPaused,
    RunResumed,
    Notice,
    RunOver,
]
Observer = Callable[[Event], None]
