"""One thread's event loop: descriptors, timers, and a clock that can stand still.

asyncio is not used: its child watchers differ between Python versions, and a run must not depend on what else a
user's loop does. Callbacks run one at a time in the loop's thread; only `post` may be called from elsewhere.
"""

from __future__ import annotations

import heapq
import itertools
import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable

Callback = Callable[[], None]
_MOST_S = 3600.0
_MANY = 256


class Clock:
    """Monotonic seconds that do not pass while it is paused."""

    def __init__(self) -> None:
        self._lost = 0.0
        self._paused_at: float | None = None

    def now(self) -> float:
        """Return the time of the run."""
        return (time.monotonic() if self._paused_at is None else self._paused_at) - self._lost

    def pause(self) -> None:
        """Stand still."""
        if self._paused_at is None:
            self._paused_at = time.monotonic()

    def resume(self) -> None:
        """Go on from where it stood."""
        if self._paused_at is not None:
            self._lost += time.monotonic() - self._paused_at
            self._paused_at = None

    @property
    def paused(self) -> bool:
        """Tell whether it stands still."""
        return self._paused_at is not None


class Timer:
    """A call that is to come; cancel it, and it does not."""

    __slots__ = ("_callback", "_on_cancel")

    def __init__(self, callback: Callback, on_cancel: Callback | None = None) -> None:
        self._callback: Callback | None = callback
        self._on_cancel = on_cancel

    def cancel(self) -> None:
        """Forget the call."""
        if self._callback is not None:
            self._callback = None
            if self._on_cancel is not None:
                self._on_cancel()

    def run(self) -> None:
        """Make the call, once."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()

    @property
    def alive(self) -> bool:
        """Tell whether the call is still to come."""
        return self._callback is not None


class Loop:
    """Wait for descriptors and times, and call back. Close it at the end."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._real: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._cancelled = 0
        self._awake_in: int | None = None
        self._posted: deque[Callback] = deque()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._watched: dict[int, Callback] = {}
        self.watch(self._wake_read, self._woken)

    def watch(self, fd: int, callback: Callback) -> None:
        """Call back whenever `fd` can be read, its end included, until `unwatch`."""
        self._selector.register(fd, selectors.EVENT_READ, callback)
        self._watched[fd] = callback

    def unwatch(self, fd: int) -> None:
        """Watch it no more; nothing happens if it was not watched."""
        if self._watched.pop(fd, None) is not None:
            self._selector.unregister(fd)

    def is_watched(self, fd: int) -> bool:
        """Tell whether somebody is called when `fd` can be read."""
        return fd in self._watched

    def call_at(self, when: float, callback: Callback) -> Timer:
        """Call back once the clock shows `when`."""
        timer = Timer(callback, self._on_cancel)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def call_in(self, seconds: float, callback: Callback) -> Timer:
        """Call back after so many seconds of real time, also while the clock stands still."""
        timer = Timer(callback)
        heapq.heappush(self._real, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    def _on_cancel(self) -> None:
        """Throw the cancelled timers away once they are most: many deadlines are far off and never come."""
        self._cancelled += 1
        if self._cancelled > _MANY and self._cancelled * 2 > len(self._timers):
            self._timers = [entry for entry in self._timers if entry[2].alive]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def post(self, callback: Callback) -> None:
        """Have the loop make a call soon. Any thread and any signal handler may."""
        self._posted.append(callback)
        # From its own thread, and awake: it looks at what was posted before it sleeps again.
        if self._awake_in == threading.get_ident():
            return
        try:
            os.write(self._wake_write, b"!")
        except OSError:
            pass  # Full: the loop will wake anyway. Closed: the run is over.

    @property
    def wake_fd(self) -> int:
        """A descriptor that wakes the loop when a byte is written to it; for `signal.set_wakeup_fd`."""
        return self._wake_write

    def turn(self) -> None:
        """Wait for the next thing to happen, and make all calls that are due.

        Descriptors come before timers, so that an answer in time is not taken for a late one.
        """
        # Before the timeout is reckoned: a signal handler may post between that and the sleep.
        self._awake_in = None
        # After a SIGCONT the wait is over without a look; what is there already still comes before any timer.
        ready = self._selector.select(self._timeout()) or self._selector.select(0)
        self._awake_in = threading.get_ident()
        for key, _ in ready:
            # A callback may unwatch, close and even reopen a descriptor that is ready in this same turn.
            callback = self._watched.get(key.fd)
            if callback is not None and callback is key.data:
                callback()
        for _ in range(len(self._posted)):
            self._posted.popleft()()
        while self._timers and (not self._timers[0][2].alive or self._is_due(self._timers[0][0])):
            heapq.heappop(self._timers)[2].run()
        while self._real and (not self._real[0][2].alive or time.monotonic() >= self._real[0][0]):
            heapq.heappop(self._real)[2].run()

    def close(self) -> None:
        """Release the loop's own descriptors."""
        self._selector.close()
        os.close(self._wake_read)
        # The number may be used again: a late `post` must not write to somebody else's file.
        wake, self._wake_write = self._wake_write, -1
        os.close(wake)

    def _is_due(self, when: float) -> bool:
        return not self.clock.paused and self.clock.now() >= when

    def _timeout(self) -> float | None:
        for timers in (self._timers, self._real):
            while timers and not timers[0][2].alive:
                heapq.heappop(timers)
        if self._posted:
            return 0.0
        waits = [self._real[0][0] - time.monotonic()] if self._real else []
        if self._timers and not self.clock.paused:
            waits.append(self._timers[0][0] - self.clock.now())
        return min(_MOST_S, max(0.0, min(waits))) if waits else None

    def _woken(self) -> None:
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            pass
