"""Which task starts next: needs, concurrency, retries, and what a stop request does to the queue. Pure.

A `Schedule` knows tasks by name only. Its owner takes names from `next`, and says with `ended` what became of them.
Every task leaves it exactly once: as ended, or in the list of cancelled ones. What one event costs depends on the
tasks that it touches, never on how many there are; only the stop of a run touches all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from procstop.model import OnInterrupt, OnInterruptKind, Outcome
from procstop.records import AttemptRecord

STOPPED_RUN = "the run was stopped"
"""Why a task was cancelled that would have started otherwise."""
_NEVER_RETRIED = frozenset({Outcome.REJECTED, Outcome.CANCELLED, Outcome.LOST})


@dataclass(frozen=True)
class Cancelled:
    """A task that will never start, and why."""

    task: str
    why: str


def may_retry(record: AttemptRecord, made: int, retries: int) -> bool:
    """Tell whether an attempt that was not ok is followed by another: never after a stop that was asked for."""
    return made <= retries and record.reason is None and record.outcome not in _NEVER_RETRIED


def find_cycle(needs: Mapping[str, Sequence[str]]) -> list[str] | None:
    """Return the names along one cycle, the first repeated at the end; None where there is no cycle."""
    done: set[str] = set()
    for root in needs:
        if root in done:
            continue
        path: list[str] = []
        on_path: set[str] = set()
        stack: list[tuple[str, bool]] = [(root, False)]
        while stack:
            name, leaving = stack.pop()
            if leaving:
                path.pop()
                on_path.discard(name)
                done.add(name)
            elif name in on_path:
                return [*path[path.index(name) :], name]
            elif name not in done:
                path.append(name)
                on_path.add(name)
                stack.append((name, True))
                stack += [(need, False) for need in needs.get(name, ())]
    return None


class Schedule:
    """The queue of one run. `needs` maps every task to the tasks that must be ok before it; no cycles."""

    def __init__(self, needs: Mapping[str, Sequence[str]], concurrency: int) -> None:
        self._concurrency = concurrency
        self._missing = {task: len(set(needed)) for task, needed in needs.items()}
        # Each list in the order of the job.
        self._dependents: dict[str, list[str]] = {}
        for task, needed in needs.items():
            for name in dict.fromkeys(needed):
                self._dependents.setdefault(name, []).append(task)
        self._queue = deque(task for task, count in self._missing.items() if count == 0)
        self._waiting = set(needs)
        self._running: set[str] = set()
        self._budget: int | None = None

    @property
    def over(self) -> bool:
        """Tell whether nothing runs and nothing will start."""
        return not self._running and not self._waiting

    @property
    def halted(self) -> bool:
        """Tell whether no further task will start."""
        return self._budget == 0

    def next(self) -> str | None:
        """Take the next task to start now; None if there is none or no room for it."""
        if len(self._running) >= self._concurrency or self._budget == 0:
            return None
        if not self._queue:
            return None
        task = self._queue.popleft()
        self._waiting.discard(task)
        self._running.add(task)
        if self._budget is not None:
            self._budget -= 1
        return task

    def ended(self, task: str, ok: bool) -> list[Cancelled]:
        """A task that `next` gave is over; return those that can now never start."""
        self._running.discard(task)
        if not ok:
            return self._cancel_dependents(task)
        for dependent in self._dependents.get(task, ()):
            self._missing[dependent] -= 1
            if self._missing[dependent] == 0:
                self._queue.append(dependent)
        return self._spent()

    def interrupt(self, how: OnInterrupt) -> list[Cancelled]:
        """Apply a run's strategy to the queue; return the tasks that will not start any more."""
        if how.kind is OnInterruptKind.IGNORE:
            return []
        budget = how.n if how.kind is OnInterruptKind.NEXT else 0
        self._budget = budget if self._budget is None else min(self._budget, budget)
        return self._spent()

    def halt(self) -> list[Cancelled]:
        """Start no further task; return those that were waiting."""
        return self.interrupt(OnInterrupt(OnInterruptKind.STOP))

    def _spent(self) -> list[Cancelled]:
        """Once nothing may start any more, cancel all that waits."""
        if self._budget != 0 or not self._waiting:
            return []
        self._queue.clear()
        return self._cancel(self._missing, STOPPED_RUN)

    def _cancel(self, tasks: Iterable[str], why: str) -> list[Cancelled]:
        """Cancel those that wait, in the order in which they are given."""
        cancelled = [Cancelled(task, why) for task in tasks if task in self._waiting]
        self._waiting.difference_update(one.task for one in cancelled)
        return cancelled

    def _cancel_dependents(self, task: str) -> list[Cancelled]:
        cancelled: list[Cancelled] = []
        reached = deque([task])
        while reached:
            name = reached.popleft()
            found = self._cancel(
                self._dependents.get(name, ()), f'task "{name}", which it needs, did not end as expected'
            )
            cancelled += found
            reached += [one.task for one in found]
        return cancelled + self._spent()
