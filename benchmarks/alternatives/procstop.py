"""procstop itself, on one engine, in one of the ways to make workers.

Its figures come from its own report: the phases of an attempt say when what was asked and done.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from typing import Any

import procstop
from benchmarks.contender import CONCURRENCY, DEADLINE_S, LIMIT_S, Contender, NotMeasured, Place
from benchmarks.guests import PARTIAL
from procstop.preflight import engine_status

HOSTS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "hosts.py")
NO_GRACE = procstop.StopPolicy(interrupt=0, preempt=0, terminate=0)
REUSE = 500
_WARM_UP = 5

WAYS = {
    "": "as it comes: a worker of its own for each attempt",
    "reused": f"`Workers(reuse={REUSE})`: a worker hosts up to {REUSE} attempts of a group",
    "fresh": '`Workers(spawn="fresh")`: a new interpreter for each attempt, no fork server',
}


class Procstop(Contender):
    """Jobs run by `procstop.run`."""

    def __init__(self, engine: str, way: str = "") -> None:
        self.engine = engine
        self.way = way
        self.name = f"procstop, {engine}" + (f", {way}" if way else "")
        self.what = f"`procstop.run`, {WAYS[way]}; engine {engine}"

    def why_not(self) -> str | None:
        """See `Contender`."""
        why = engine_status()[self.engine].why_not
        if why is None and self.way and not hasattr(procstop, "Workers"):
            return "this version has no procstop.Workers"
        return why

    def task(self, place: Place, name: str, guest: str, **options: Any) -> procstop.Task:
        """Make a task of a guest."""
        if self.way == "reused":
            options["group"] = "g"
        if guest in ("blocks", "sleeps"):
            options["host"] = HOSTS
        return procstop.Task(name, place.guest(guest), "run", engine=self.engine, **options)

    def tasks(self, place: Place, count: int, guest: str, **options: Any) -> list[procstop.Task]:
        """Make many tasks of a guest."""
        return [self.task(place, f"t{number}", guest, **options) for number in range(count)]

    def job(self, tasks: Iterable[procstop.Task], concurrency: int) -> procstop.Job:
        """Make a job that gets its workers in this way."""
        options: dict[str, Any] = {}
        if hasattr(procstop, "Workers"):
            ways: dict[str, dict[str, Any]] = {
                "": {"spawn": "server"},
                "reused": {"spawn": "server", "reuse": REUSE},
                "fresh": {"spawn": "fresh"},
            }
            options["workers"] = procstop.Workers(**ways[self.way])
        return procstop.Job("bench", tuple(tasks), concurrency=concurrency, **options)

    def attempts(self, place: Place, count: int, guest: str, **options: Any) -> list[procstop.AttemptRecord]:
        """Run a guest many times, one attempt after the other; return the records of those that are warm."""
        record = procstop.run(self.job(self.tasks(place, count + _WARM_UP, guest, **options), 1))
        return [task.attempts[-1] for task in record.tasks][_WARM_UP:]

    def many(self, place: Place, count: int) -> float:
        """See `Contender`; the start and the end of the run are counted."""
        job = self.job(self.tasks(place, count, "trivial", limits=procstop.Limits(time=LIMIT_S)), CONCURRENCY)
        began = time.monotonic()
        record = procstop.run(job)
        took = time.monotonic() - began
        if not record.ok:
            raise NotMeasured("a trivial task failed")
        return took

    def starts(self, place: Place, count: int) -> list[float]:
        """See `Contender`."""
        records = self.attempts(place, count, "trivial", limits=procstop.Limits(time=LIMIT_S))
        return [record.phases.start or 0.0 for record in records]

    def lives(self, place: Place, count: int) -> list[float]:
        """See `Contender`; from the end of a task to the end of the next, as an observer sees it."""
        ends: list[float] = []

        def watch(event: object) -> None:
            if isinstance(event, procstop.events.TaskOver):
                ends.append(time.monotonic())

        tasks = self.tasks(place, count + _WARM_UP, "trivial", limits=procstop.Limits(time=LIMIT_S))
        procstop.run(self.job(tasks, 1), observers=[watch])
        return [later - earlier for earlier, later in zip(ends[_WARM_UP - 1 :], ends[_WARM_UP:])]

    def stop(self, place: Place, guest: str, *, grace: bool) -> float | None:
        """See `Contender`."""
        policy = None if grace else NO_GRACE
        task = self.task(place, "t", guest, limits=procstop.Limits(time=DEADLINE_S), stop=policy)
        return overrun(procstop.run(self.job([task], 1)).tasks[0].attempts[-1])

    def spin(self, place: Place, count: int) -> set[int]:
        """See `Contender`."""
        running = threading.Semaphore(0)

        def watch(event: object) -> None:
            if isinstance(event, procstop.events.AttemptMoved) and event.state == "running":
                running.release()

        procstop.start(self.job(self.tasks(place, count, "spins"), count), observers=[watch])
        for _ in range(count):
            if not running.acquire(timeout=place.patience_s):
                raise NotMeasured("its guests did not start")
        return {os.getpid()}

    def keeps_output(self, place: Place) -> tuple[bool | None, str]:
        """See `Contender`."""
        task = self.task(place, "t", "prints", limits=procstop.Limits(time=DEADLINE_S), stop=NO_GRACE)
        attempt = procstop.run(self.job([task], 1)).tasks[0].attempts[-1]
        return attempt.stdout.tail == PARTIAL, "in the task's record"


def overrun(attempt: procstop.AttemptRecord, deadline_s: float = DEADLINE_S) -> float:
    """Return seconds from the deadline of a stopped attempt until its worker was reaped."""
    if attempt.reason is not procstop.Reason.TIME_LIMIT:
        raise NotMeasured(f"an attempt that should run into its limit ended as {attempt.outcome.value}")
    phases = attempt.phases
    later = (phases.interrupt, phases.preempt, phases.terminate, phases.kill, phases.reap)
    return (phases.run or 0.0) - deadline_s + sum(seconds or 0.0 for seconds in later)
