"""Limits that nobody tells of when they are reached: the supervisor looks when they could be.

CPU time is read from the kernel's clock of the worker, at the earliest instant at which the rest could be used up. A
stall is seen by the signs of life that a worker sends while its guest passes stopping points, or sleeps.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from procstop.model import Limits, Reason
from procstop.process import Worker
from procstop.stopping import TICK_S
from procstop.supervisor.loop import Loop, Timer

_LOOK_S = 0.01
"""How soon at most a clock is read again."""


class Meters:
    """The CPU time and the stalls of one attempt.

    `stop` is called once for each that reaches its limit; `listen` takes in what the worker has said and nobody heard.
    """

    def __init__(
        self,
        loop: Loop,
        worker: Worker,
        limits: Limits,
        stop: Callable[[Reason], None],
        listen: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = loop
        self._worker = worker
        self._limits = limits
        self._stop = stop
        self._listen = listen
        self._cpus = os.cpu_count() or 1
        self._cpu_before = 0.0
        self._heard_at = 0.0
        self._ended = False
        self._timers: dict[Reason, Timer] = {}

    def begin(self, *, has_points: bool) -> None:
        """The guest is about to run; a stall is only looked for if it `has_points`."""
        if self._limits.cpu is not None:
            self._cpu_before = self._worker.cpu_s() or 0.0
            self._look_at_cpu()
        if self._limits.stall is not None and has_points:
            self.heard()
            self._look_for_stall()

    def heard(self) -> None:
        """The guest has passed a stopping point, or sleeps."""
        self._heard_at = self._loop.clock.now()

    def end(self) -> None:
        """Look no more."""
        self._ended = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _look_at_cpu(self) -> None:
        limit, now = self._limits.cpu, self._worker.cpu_s()
        assert limit is not None
        if now is None:
            return  # It has ended.
        left = limit - (now - self._cpu_before)
        if left <= 0:
            self._stop(Reason.CPU_LIMIT)
        else:
            # Threads may use that of several processors in one second.
            self._again(Reason.CPU_LIMIT, max(left / self._cpus, _LOOK_S), self._look_at_cpu)

    def _look_for_stall(self) -> None:
        limit = self._limits.stall
        assert limit is not None
        # This process may have stood still itself: what was said meanwhile counts.
        self._listen()
        if self._ended:
            return
        # Signs of life come once in a tick: the last point may have been passed almost one later than the last sign.
        left = self._heard_at + limit + TICK_S - self._loop.clock.now()
        if left <= 0:
            self._stop(Reason.STALL)
        else:
            self._again(Reason.STALL, left, self._look_for_stall)

    def _again(self, which: Reason, seconds: float, look: Callable[[], None]) -> None:
        self._timers[which] = self._loop.call_at(self._loop.clock.now() + seconds, look)
