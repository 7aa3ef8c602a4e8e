"""What a live view shows, without a terminal: the running attempts, the counts, and what Ctrl-C does next.

Events come in by `take`, in the observer's thread; rich's refresh thread reads with `rows` and the rest, a
few times a second, and works out from the clock what has elapsed and what is left. A lock of its own keeps
the two apart; rich is never called while it is held, so the two locks cannot deadlock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from procstop import events
from procstop.model import Rung
from procstop.reporting.facts import STOPPING_STATES, JobFacts
from procstop.reporting.plain import stopping_lines
from procstop.reporting.words import count


@dataclass(frozen=True)
class Running:
    """An attempt that runs: its state since `entered`, which may last until `deadline` (run clock, seconds).

    `rung` is set while it is being stopped, and `following` names what comes when the grace is over.
    """

    task: str
    state: str
    entered: float
    deadline: float | None = None
    rung: Rung | None = None
    following: str | None = None
    passed: int = 0
    done: int | None = None
    total: int | None = None

    def interest(self, now: float) -> tuple[int, float]:
        """Rank it, the most interesting highest: being stopped, then close to its limit, then long at it."""
        height = self.rung.height if self.rung is not None else 0
        if self.deadline is None or self.state != "running":
            return height, 0.0
        return height, (now - self.entered) / max(self.deadline - self.entered, 1e-9)


class RunView:
    """The state of a run as events tell it; `clock` is monotonic and is read at every look."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.facts = JobFacts()
        self._running: dict[str, Running] = {}
        self._done = 0
        self._not_ok = 0
        self._stopping: tuple[str, ...] = ()
        self._paused_at: float | None = None
        self._stood_still = 0.0

    def take(self, event: events.Event) -> None:
        """Take note of one event."""
        with self._lock:
            self._take(event)

    def _take(self, event: events.Event) -> None:
        now = self._now()
        if isinstance(event, events.RunStarted):
            self.facts = JobFacts(event.job)
        elif isinstance(event, events.AttemptCompiling):
            self._running[event.task] = Running(event.task, "compiling", now)
        elif isinstance(event, events.AttemptStarted):
            self._running[event.task] = Running(event.task, "starting", now)
        elif isinstance(event, events.AttemptMoved):
            self._move(event, now)
        elif isinstance(event, events.AttemptProgress):
            if event.task in self._running:
                self._running[event.task] = replace(
                    self._running[event.task], passed=event.passed, done=event.done, total=event.total
                )
        elif isinstance(event, events.AttemptOver):
            self._running.pop(event.task, None)
        elif isinstance(event, events.TaskOver):
            self._running.pop(event.record.task, None)
            self._done += 1
            self._not_ok += not event.record.ok
        elif isinstance(event, events.RunStopping):
            self._stopping = tuple(stopping_lines(event))
        elif isinstance(event, events.RunPaused):
            self._paused_at = self._clock() if self._paused_at is None else self._paused_at
        elif isinstance(event, events.RunResumed) and self._paused_at is not None:
            self._stood_still += self._clock() - self._paused_at
            self._paused_at = None

    def _move(self, event: events.AttemptMoved, now: float) -> None:
        if event.state in ("pending", "over"):
            return
        # The first move may be told before the start is.
        before = self._running.get(event.task) or Running(event.task, event.state, now)
        rung = event.rung if event.state in STOPPING_STATES else None
        self._running[event.task] = replace(
            before,
            state=event.state,
            entered=now,
            deadline=None if event.deadline_in is None else now + event.deadline_in,
            rung=rung,
            following=None if rung is None else self.facts.following(event.task, rung),
        )

    def _now(self) -> float:
        return (self._clock() if self._paused_at is None else self._paused_at) - self._stood_still

    def rows(self, most: int) -> tuple[list[Running], int, float]:
        """Give at most so many attempts, in the order they started, how many are left out, and the time.

        The most interesting stay when not all fit.
        """
        with self._lock:
            running, now = list(self._running.values()), self._now()
        if len(running) <= most:
            return running, 0, now
        ranked = sorted(running, key=lambda row: row.interest(now), reverse=True)
        chosen = {row.task for row in ranked[:most]}
        return [row for row in running if row.task in chosen], len(running) - most, now

    @property
    def running(self) -> int:
        """How many attempts run."""
        with self._lock:
            return len(self._running)

    def counts(self) -> str:
        """Say how many tasks are done, running and waiting."""
        with self._lock:
            running = len(self._running)
            waiting = max(0, self.facts.count - self._done - running)
            done = f"{self._done:,} done"
            if self._not_ok:
                done += f" ({self._not_ok:,} not ok)"
            return f"{count(self.facts.count, 'task')}: {done}, {running:,} running, {waiting:,} waiting"

    def stopping(self) -> tuple[str, ...]:
        """Say what the last stop request did and what the next will do; empty while nobody asked."""
        with self._lock:
            return self._stopping
