"""Workers between two attempts of the same task: they wait, are taken again, or are let go.

A worker comes here only when it said that it is free after its guest returned by itself. While it waits it has nothing
to say: whatever it does but wait or end, it is killed.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Callable, Hashable

from procstop.messages import ProtocolError
from procstop.messages.worker import Assign, encode
from procstop.model import Value
from procstop.supervisor.family import Family
from procstop.supervisor.loop import Loop
from procstop.supervisor.port import Port

EXIT_S = 1.0
"""How long a worker that was let go may take to exit."""


class Pool:
    """The free workers of a run, at most `most` of them."""

    def __init__(self, loop: Loop, family: Family, most: int) -> None:
        self._loop = loop
        self._family = family
        self._most = most
        self._idle: dict[Port, Hashable] = {}
        self._leaving: set[Port] = set()

    def offer(self, port: Port, kin: Hashable) -> None:
        """Take a worker in; the one that waited longest goes if there are too many."""
        port.owner = _Waits(self, port)
        self._idle[port] = kin
        if len(self._idle) > self._most:
            self.let_go(next(iter(self._idle)))

    def take(self, kin: Hashable) -> Port | None:
        """Return a free worker of this kin; the caller is its owner from then on. None if there is none."""
        for port, its in self._idle.items():
            if its == kin:
                del self._idle[port]
                return port
        return None

    def retire(self, wanted: Callable[[Hashable], bool]) -> None:
        """Let go of those that nobody will want."""
        for port, kin in tuple(self._idle.items()):
            if not wanted(kin):
                self.let_go(port)

    def let_one_go(self) -> bool:
        """Have one exit, since what it holds is short; return whether one is on its way."""
        if not self._leaving and self._idle:
            self.let_go(next(iter(self._idle)))
        return bool(self._leaving)

    def let_go(self, port: Port) -> None:
        """Have a worker exit, and see to it that it does."""
        self._idle.pop(port, None)
        port.owner = _Waits(self, port)
        self._leaving.add(port)
        port.worker.let_go()
        self._loop.call_at(self._loop.clock.now() + EXIT_S, lambda: self._kill(port))

    def kill_all(self) -> None:
        """Kill all that is here."""
        for port in (*self._idle, *self._leaving):
            port.worker.kill()

    def reap(self) -> bool:
        """Reap outside of the loop, at the end of a run; return whether nothing is left here."""
        for port in (*self._idle, *self._leaving):
            self.on_end(port)
        return not self._idle and not self._leaving

    def on_end(self, port: Port) -> None:
        """A worker here has ended, or is to be asked whether it has."""
        if port not in self._idle and port not in self._leaving:
            return
        if port.worker.reap() is None:
            if port.worker.pidfd is None:
                port.ask_again()
            return
        self._idle.pop(port, None)
        self._leaving.discard(port)
        self._family.remove(port.worker.pid)
        port.close()

    def on_noise(self, port: Port) -> None:
        """A worker here did something else than wait."""
        port.worker.kill()

    def _kill(self, port: Port) -> None:
        if port in self._leaving:
            port.worker.kill()


class _Waits:
    """What a waiting worker's port tells."""

    def __init__(self, pool: Pool, port: Port) -> None:
        self._pool = pool
        self._port = port

    def on_report(self, data: bytes) -> None:
        if data:
            self._pool.on_noise(self._port)

    def on_output(self, stream: str) -> None:
        count = _read_some(self._port.fd_of(stream))
        if count is None:
            # It was ready in the turn in which the worker became free, and was read with the last of its attempt.
            return
        if count and self._port.worker.ended is None:
            self._pool.on_noise(self._port)
        self._port.unwatch_output(stream)

    def on_end(self) -> None:
        self._pool.on_end(self._port)


def assign(port: Port, attempt: str, args: tuple[Value, ...], stdin: int | None) -> bool:
    """Give a free worker another attempt; return whether it could be told of it, whole."""
    try:
        data = encode(Assign(attempt, args, stdin is not None))
    except ProtocolError:
        return False
    try:
        if stdin is None:
            return os.write(port.worker.control, data) == len(data)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [stdin]))
        with socket.socket(fileno=os.dup(port.worker.control)) as control:
            return control.sendmsg([data], [rights]) == len(data)
    except OSError:
        return False


def _read_some(fd: int) -> int | None:
    """Read a little of what is in a pipe; return how much it was, 0 at its end, None if there is nothing now."""
    try:
        return len(os.read(fd, 4096))
    except BlockingIOError:
        return None
