"""A worker's descriptors in the event loop: whoever has the worker now is told what comes in on them.

The worker may pass from one attempt to the next; its descriptors stay watched all the while.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

from procstop import process
from procstop.messages.worker import Decoder
from procstop.process import Worker
from procstop.supervisor.loop import Loop, Timer

CHUNK = 64 * 1024
POLL_S = 0.01
REST_S = 0.02
"""How long a worker that talks too much is not listened to."""


class Owner(Protocol):
    """Who has a worker, and hears of it."""

    def on_report(self, data: bytes) -> None:
        """The worker said something; nothing more comes after empty data."""

    def on_output(self, stream: str) -> None:
        """There is output on "stdout" or "stderr", or its end."""

    def on_end(self) -> None:
        """The worker has ended, or it is time to ask whether it has."""


class Port:
    """One worker and its owner, None while it changes hands."""

    def __init__(self, loop: Loop, worker: Worker, left: int) -> None:
        self.worker = worker
        self.owner: Owner | None = None
        self.decoder: Decoder | None = Decoder()
        self.left = left
        """How many attempts the worker may still host, the present one included."""
        self._loop = loop
        self._rest: Timer | None = None
        loop.watch(worker.report, self._on_report)
        if worker.early:
            loop.post(self._on_report)
        self.watch_output("stdout")
        self.watch_output("stderr")
        if worker.pidfd is not None:
            loop.watch(worker.pidfd, self._on_end)
        else:
            self.ask_again()

    def read_report(self) -> bool:
        """Read what the worker says, and tell the owner; return whether there was anything."""
        data, self.worker.early = self.worker.early, b""
        try:
            data = data or os.read(self.worker.report, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self.unwatch_report()
        if self.owner is not None:
            self.owner.on_report(data)
        return bool(data)

    def rest(self) -> None:
        """Listen again only in a moment: left in its pipe, a flood holds up the worker and nobody else."""
        if self.worker.report >= 0 and self._loop.is_watched(self.worker.report):
            self._loop.unwatch(self.worker.report)
            self._rest = self._loop.call_in(REST_S, self._listen_again)

    def unwatch_report(self) -> None:
        """Hear no more of what the worker says, unless asked to read it."""
        self._loop.unwatch(self.worker.report)
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None

    def watch_output(self, stream: str) -> None:
        """Tell the owner of output from now on."""
        self._loop.watch(self.fd_of(stream), lambda: self._on_output(stream))

    def unwatch_output(self, stream: str) -> None:
        """Leave output in its pipe."""
        self._loop.unwatch(self.fd_of(stream))

    def fd_of(self, stream: str) -> int:
        """Return the reading end of "stdout" or "stderr"."""
        return self.worker.stdout if stream == "stdout" else self.worker.stderr

    def ask_again(self) -> None:
        """Have the owner asked soon whether the worker has ended, and whether all that it left has."""
        self._loop.call_at(self._loop.clock.now() + POLL_S, self._on_end)

    def unwatch_end(self) -> None:
        """The worker was reaped: its pidfd has no more to tell."""
        if self.worker.pidfd is not None:
            self._loop.unwatch(self.worker.pidfd)

    @property
    def has_report(self) -> bool:
        """Tell whether the worker has said something that was not read yet."""
        return bool(self.worker.early) or (self.worker.report >= 0 and process.readable(self.worker.report))

    def close(self) -> None:
        """Close everything; nobody is told of anything any more."""
        self.owner = None
        worker = self.worker
        self.unwatch_report()
        for fd in _open_of(worker):
            self._loop.unwatch(fd)
        worker.close()

    def _on_report(self) -> None:
        if self.worker.report >= 0:
            self.read_report()

    def _listen_again(self) -> None:
        self._rest = None
        self._loop.watch(self.worker.report, self._on_report)

    def _on_output(self, stream: str) -> None:
        if self.owner is not None:
            self.owner.on_output(stream)

    def _on_end(self) -> None:
        if self.owner is not None:
            self.owner.on_end()


def _open_of(worker: Worker) -> Sequence[int]:
    fds = (worker.report, worker.stdout, worker.stderr, worker.pidfd)
    return [fd for fd in fds if fd is not None and fd >= 0]
