"""Limits that the supervisor looks at by itself, with a clock and a worker of the tests' own."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from procstop.model import Limits, Reason
from procstop.stopping import TICK_S
from procstop.supervisor.meters import Meters


class Timer:
    """A call that is due."""

    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at = at
        self.call = call
        self.cancelled = False

    def __lt__(self, other: Timer) -> bool:
        return self.at < other.at

    def cancel(self) -> None:
        self.cancelled = True


class World:
    """A loop whose time passes when it is told to, and a worker that uses the CPU all that time, or a part of it."""

    def __init__(self, busy: float = 1.0) -> None:
        self.clock = self
        self.time = 100.0
        self.busy = busy
        self.used = 5.0
        self.gone = False
        self.looks = 0
        self._timers: list[Timer] = []

    def now(self) -> float:
        return self.time

    def call_at(self, at: float, call: Callable[[], None]) -> Timer:
        timer = Timer(at, call)
        heapq.heappush(self._timers, timer)
        return timer

    def cpu_s(self) -> float | None:
        self.looks += 1
        return None if self.gone else self.used

    def pass_time(self, seconds: float) -> None:
        """Let time pass, with all that is due in it."""
        until = self.time + seconds
        while self._timers and self._timers[0].at <= until:
            timer = heapq.heappop(self._timers)
            self._go_to(max(self.time, timer.at))
            if not timer.cancelled:
                timer.call()
        self._go_to(until)

    def _go_to(self, time: float) -> None:
        self.used += (time - self.time) * self.busy
        self.time = time


def meters(world: World, stopped: list[tuple[float, Reason]], **limits: Any) -> Meters:
    """Make meters that note when they stop, and why."""
    made: Any = world
    return Meters(made, made, Limits(**limits), lambda reason: stopped.append((round(world.time, 6), reason)))


def test_cpu_time_counts_from_the_guest_on() -> None:
    world, stopped = World(), list[tuple[float, Reason]]()
    meters(world, stopped, cpu=2.0).begin(has_points=True)
    world.pass_time(1.9)
    assert stopped == []
    world.pass_time(0.2)
    ((at, reason),) = stopped
    assert reason is Reason.CPU_LIMIT and 102.0 <= at <= 102.02


def test_guest_that_sleeps_is_looked_at_seldom() -> None:
    world, stopped = World(busy=0.0), list[tuple[float, Reason]]()
    meters(world, stopped, cpu=2.0).begin(has_points=True)
    world.pass_time(1000.0)
    assert stopped == [] and world.looks <= 2 + 1000 / (2.0 / 1024)


def test_worker_that_is_gone_is_not_looked_at_again() -> None:
    world, stopped = World(), list[tuple[float, Reason]]()
    meters(world, stopped, cpu=2.0).begin(has_points=True)
    world.gone = True
    world.pass_time(10.0)
    looks = world.looks
    world.pass_time(10.0)
    assert stopped == [] and world.looks == looks


def test_stall_counts_from_the_last_sign_of_life() -> None:
    world, stopped = World(), list[tuple[float, Reason]]()
    one = meters(world, stopped, stall=1.0)
    one.begin(has_points=True)
    for _ in range(20):
        world.pass_time(0.9)
        one.heard()
    assert stopped == []
    last = world.time
    world.pass_time(5.0)
    # Signs come once in a tick, so the last point may have been passed that much later.
    assert stopped == [(round(last + 1.0 + TICK_S, 6), Reason.STALL)]


def test_guest_without_stopping_points_does_not_stall() -> None:
    world, stopped = World(), list[tuple[float, Reason]]()
    meters(world, stopped, stall=1.0).begin(has_points=False)
    world.pass_time(100.0)
    assert stopped == []


def test_nothing_is_stopped_after_the_end() -> None:
    world, stopped = World(), list[tuple[float, Reason]]()
    one = meters(world, stopped, stall=1.0, cpu=1.0)
    one.begin(has_points=True)
    one.end()
    world.pass_time(100.0)
    assert stopped == []
