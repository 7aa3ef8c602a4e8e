"""Tell observers what happens, in a thread of their own.

An observer may be slow, block on a full pipe, or raise: none of that reaches the run. One that raises is told
nothing more. While observers lag behind by more than `CROWDED` bytes of guest output, other events counted as
`EVENT` bytes each, `crowded` is true: the supervisor then leaves the output of running guests in their pipes, and
starts tasks more slowly. Beyond `OVERRUN` bytes it leaves that of guests that are to stop there, too.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence

from procstop.events import Event, Observer, Output

CROWDED = 4 * 1024 * 1024
OVERRUN = 32 * 1024 * 1024
EVENT = 1024


class Announcer:
    """Hand events to observers, in order."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = list(observers)
        self._queue: queue.SimpleQueue[Event | threading.Event | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._backlog = 0
        self.failures: list[BaseException] = []
        self._thread: threading.Thread | None = None
        if self._observers:
            self._thread = threading.Thread(target=self._work, name="procstop-observers", daemon=True)
            self._thread.start()

    @property
    def is_heard(self) -> bool:
        """Tell whether there is anybody to tell: what nobody hears need not be put into words."""
        return self._thread is not None

    @property
    def crowded(self) -> bool:
        """Tell whether observers are far behind."""
        return self._backlog > CROWDED

    @property
    def overrun(self) -> bool:
        """Tell whether observers are so far behind that memory has to be minded."""
        return self._backlog > OVERRUN

    def __call__(self, event: Event) -> None:
        """Tell all observers, soon."""
        if self._thread is not None:
            with self._lock:
                self._backlog += _weight(event)
            self._queue.put(event)

    def settle(self, timeout: float) -> None:
        """Wait until all that was said before was told, at most `timeout` seconds."""
        if self._thread is not None:
            told = threading.Event()
            self._queue.put(told)
            told.wait(timeout)

    def close(self, timeout: float | None = None) -> bool:
        """Wait until everything was told, at most `timeout` seconds; return whether it was."""
        if self._thread is None:
            return True
        self._queue.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (event := self._queue.get()) is not None:
            if isinstance(event, threading.Event):
                event.set()
                continue
            for observer in tuple(self._observers):
                try:
                    observer(event)
                except BaseException as error:
                    self.failures.append(error)
                    self._observers.remove(observer)
            with self._lock:
                self._backlog -= _weight(event)


def _weight(event: Event) -> int:
    return len(event.data) if isinstance(event, Output) else EVENT
