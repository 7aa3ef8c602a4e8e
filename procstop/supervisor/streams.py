"""What the guest of one attempt writes: read from its worker's pipes, told, and kept in sinks."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from procstop.events import Output
from procstop.records import StreamRecord
from procstop.supervisor.announcer import Announcer
from procstop.supervisor.loop import Loop
from procstop.supervisor.outputs import Sink
from procstop.supervisor.port import CHUNK, Port

STREAMS = ("stdout", "stderr")
MOST_LEFT = 16 * CHUNK
"""No pipe holds more than this, so what is read beyond it was written by a survivor, and is not waited for."""
_CROWDED_S = 0.05


class Streams:
    """The streams of one attempt. `on_limit` is told the name of one that goes beyond its limit, maybe repeatedly."""

    def __init__(
        self,
        loop: Loop,
        announce: Announcer,
        task: str,
        number: int,
        sinks: Mapping[str, Sink],
        on_limit: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._announce = announce
        self._task = task
        self._number = number
        self._sinks = sinks
        self._on_limit = on_limit
        self._unheard: set[str] = set()
        self._over = False

    def take(self, port: Port, stream: str, *, may_wait: bool) -> None:
        """Take output that has come, or its end; where observers lag behind, later, if it `may_wait`, or far behind."""
        if self._announce.overrun or (may_wait and self._announce.crowded):
            # Left in the pipe, it slows down nobody but its guest.
            port.unwatch_output(stream)
            self._unheard.add(stream)
            self._loop.call_at(self._loop.clock.now() + _CROWDED_S, lambda: self._rewatch(port, stream))
        elif self._read(port, stream) == 0:
            port.unwatch_output(stream)

    def drain(self, port: Port) -> None:
        """Take what is left in the pipes of a worker that has ended, and no more: a survivor may hold them open."""
        self._over = True
        for name in STREAMS:
            port.unwatch_output(name)
            self._drain(port, name)

    def hand_over(self, port: Port) -> None:
        """Take what is in the pipes of a worker that lives on for others, who are to be heard from now on."""
        self._over = True
        for name in STREAMS:
            self._drain(port, name)
        for name in self._unheard:
            port.watch_output(name)

    def has_said(self, stream: str, text: bytes) -> bool:
        """Tell whether a text is among the last that was written there."""
        return self._sinks[stream].has_said(text)

    @property
    def over_limit(self) -> bool:
        """Tell whether more was written than may be, to any of them."""
        return any(sink.over_limit for sink in self._sinks.values())

    def close(self) -> tuple[StreamRecord, ...]:
        """Close the files and return the records, in the order of `STREAMS`."""
        self._over = True
        return tuple(self._sinks[name].close() for name in STREAMS)

    def _rewatch(self, port: Port, stream: str) -> None:
        # It may be over, and the number used again for another's pipe.
        if not self._over:
            self._unheard.discard(stream)
            port.watch_output(stream)

    def _drain(self, port: Port, stream: str) -> None:
        # By reads, not bytes: a survivor could have each give but one.
        for _ in range(MOST_LEFT // CHUNK):
            if not self._read(port, stream):
                break

    def _read(self, port: Port, stream: str) -> int | None:
        """Read one chunk of output; return its size, 0 at the end of the stream, None if there is none now."""
        try:
            data = os.read(port.fd_of(stream), CHUNK)
        except BlockingIOError:
            return None
        sink = self._sinks[stream]
        kept = sink.feed(data)
        if kept:
            self._announce(Output(self._task, self._number, stream, kept))
        if sink.over_limit:
            self._on_limit(stream)
        return len(data)
