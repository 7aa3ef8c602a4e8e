"""Thousands of tasks in one run, and many at once: nothing is left of those that are over."""

from __future__ import annotations

import itertools
import os
import time

import psutil
import pytest

from procstop import Job, Outcome, Task, Workers
from procstop.events import Output
from procstop.preflight import prepare
from procstop.records import RunRecord
from procstop.supervisor import Supervisor
from support.guests import Guests
from support.running import PATIENT, task
from support.watching import Watcher, is_gone

pytestmark = pytest.mark.slow
COUNT = 2000
SETTLED = 500
"""By then everything is there that is made once: fork server, workers, the first blocks of records."""


class Measured:
    """A run that takes stock of the supervisor in the midst of it, in its own thread."""

    def __init__(self, tasks: list[Task], **options: object) -> None:
        self.stock: list[tuple[int, int, int, int, int]] = []
        job = Job("test", tasks, **options)  # type: ignore[arg-type]
        before = descriptors()
        with Supervisor(job, prepare(job).check().assignments) as supervisor:
            start_attempt = supervisor._start_attempt

            def look_and_start(name: str) -> None:
                crew = supervisor._crew_of()
                self.stock.append(
                    (
                        descriptors(),
                        len(supervisor._loop._timers),
                        len(crew.family._known),
                        len(crew.family._suspects),
                        psutil.Process().memory_info().rss,
                    )
                )
                start_attempt(name)

            supervisor._start_attempt = look_and_start  # type: ignore[method-assign]
            self.record: RunRecord = supervisor.run()
            assert not supervisor._live and not supervisor._made and not supervisor._lost
        self.descriptors_left = descriptors() - before

    def most(self, what: int) -> tuple[int, int]:
        """Return the most there was of something until things settled, and in the second half."""
        values = [one[what] for one in self.stock]
        return max(values[:SETTLED]), max(values[len(values) // 2 :])


def descriptors() -> int:
    """Count what this process has open."""
    return len(os.listdir("/proc/self/fd"))


def adds(guests: Guests, engine: str, count: int, **options: object) -> list[Task]:
    """Make small tasks of one group."""
    return [
        task(guests["returns"], "run", number, 1, name=f"t{number}", engine=engine, group="all", **options)
        for number in range(count)
    ]


@pytest.mark.parametrize("reuse", [200, 1], ids=["reused workers", "a worker each"])
def test_thousands_of_tasks_leave_nothing_behind(engine: str, guests: Guests, reuse: int) -> None:
    run = Measured(adds(guests, engine, COUNT), workers=Workers(reuse=reuse), concurrency=4)
    assert [one.values for one in run.record.tasks] == [(number + 1,) for number in range(COUNT)]
    assert run.descriptors_left == 0
    for what, slack in ((0, 30), (1, 300), (2, 8), (3, 8), (4, 8 * 1024 * 1024)):
        before, after = run.most(what)
        # Timers that were cancelled are thrown away some hundreds at a time; the rest is noise, not a task's worth.
        assert after <= before + slack, (what, before, after)


def test_retried_and_failing_tasks_leave_nothing_behind(engine: str, guests: Guests) -> None:
    tasks = [
        task(guests["traps"], name=f"t{number}", engine=engine, group="all", retries=1, expect=Outcome.COMPLETED)
        for number in range(SETTLED)
    ]
    run = Measured(tasks, workers=Workers(reuse=50), concurrency=4)
    assert {(one.outcome, len(one.attempts)) for one in run.record.tasks} == {(Outcome.TRAPPED, 2)}
    assert len({attempt.worker for one in run.record.tasks for attempt in one.attempts}) == 2 * SETTLED
    assert run.descriptors_left == 0
    for what in (0, 2, 3):
        values = [one[what] for one in run.stock]
        assert max(values[SETTLED:]) <= max(values[:SETTLED]) + 20


def test_hundred_sleeping_guests_are_interrupted_together(engine: str, guests: Guests) -> None:
    count = 100
    watcher = Watcher()
    tasks = [task(guests["sleeps"], name=f"t{number}", engine=engine) for number in range(count)]
    job = Job("test", tasks, concurrency=count, stop=PATIENT)
    stopped_at: list[float] = []
    asleep = itertools.count(1)

    def stop_when_all_sleep(event: object) -> None:
        if isinstance(event, Output) and event.data == b"sleeping\n" and next(asleep) == count:
            stopped_at.append(time.monotonic())
            supervisor.stop()

    before = descriptors()
    assignments = prepare(job).check().assignments
    with Supervisor(job, assignments, observers=[watcher, stop_when_all_sleep]) as supervisor:
        record = supervisor.run()
        took = time.monotonic() - stopped_at[0]
        supervisor.wait_for_observers()
    assert {one.outcome for one in record.tasks} == {Outcome.INTERRUPTED}
    assert watcher.most_side_by_side() == count
    # All that slept were asked before many had left: one after another, each would be over before the next is asked.
    states = watcher.states()
    asked = [number for number, state in enumerate(states) if state == "interrupting"]
    left = [number for number, state in enumerate(states) if state == "over"]
    assert len(asked) == len(left) == count
    assert asked[-1] < left[0]
    assert all(one.attempts[0].wait == ("exit", 0) for one in record.tasks)
    assert all(is_gone(pid) for pid in watcher.pids())
    # They sleep for 1000 s.
    assert took < 60
    assert descriptors() == before
