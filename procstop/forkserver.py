"""A process that has imported an engine and loaded modules, and forks a worker for each request.

Theory of operation. The supervisor starts one for each engine at first need, as `python -I -S` with this module's
`main`, the descriptor of a packet socket, the lifeline, and its own pid. The first packet is the setup; the answer to
it, number 0, says that the engine is imported. Every further packet is a `ForkRequest` with the worker's descriptors,
and is answered with the worker's pid or with the reason why there is none.

A worker is forked as a sibling: its parent is the supervisor (see `linux.make_fork_sibling`), which waits for it, is
told of its end by the kernel, and whose death ends it, just as if it had started it itself. The death of a fork server
so costs no worker anything. It compiles nothing, since a child of a process that has compiled hangs when it compiles
too, and it runs no guest. The modules that it loads come from sealed artifacts; the most recently used are kept.
"""

from __future__ import annotations

import array
import collections
import gc
import json
import os
import resource
import socket
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from procstop import containment, linux
from procstop.cache import SECRET_BYTES, read_whole
from procstop.engines import Engine, load
from procstop.errors import SHORTAGES, EngineError, GuestError
from procstop.messages import Order
from procstop.messages.forkserver import (
    KEPT_ORDERS,
    ForkAnswer,
    ForkRequest,
    decode_request,
    encode_answer,
    join_request,
)
from procstop.messages.orders import decode_order
from procstop.worker import serve
from procstop.worker.channel import Channel
from procstop.worker.confine import Confiner
from procstop.worker.prepare import Prepared, prepare

Key = tuple[str, str | None]
"""A module's digest, and the name of its artifact."""
KEPT = 16
"""Loaded modules that are kept, and"""
KEPT_BYTES = 512 * 1024 * 1024
"""the most that their artifacts may have together."""
_MAX_PACKET = 256 * 1024
_MAX_FDS = 10


def main() -> NoReturn:
    """Serve until the supervisor hangs up; `containment.guard` was called before."""
    fd, _, supervisor = map(int, sys.argv[1:4])
    server = socket.socket(fileno=fd)
    secret, setup = _read_setup(server)
    sys.path.extend(path for path in setup["sys_path"] if path not in sys.path)
    try:
        engine = load(setup["engine"])
    except EngineError as error:
        server.send(encode_answer(ForkAnswer(0, None, str(error))))
        os._exit(1)
    Server(server, supervisor, engine, secret).run()


def _read_setup(server: socket.socket) -> tuple[bytearray, dict[str, Any]]:
    """Return the cache's secret and the rest of the setup, with no other copy of the secret in this process."""
    packet = bytearray(_MAX_PACKET)
    size = server.recv_into(packet)
    secret = packet[:SECRET_BYTES]
    packet[:SECRET_BYTES] = bytes(SECRET_BYTES)
    return secret, json.loads(packet[SECRET_BYTES:size])


class Server:
    """Answer requests, one after another."""

    def __init__(self, server: socket.socket, supervisor: int, engine: Engine, secret: bytearray) -> None:
        self._socket = server
        self._engine = engine
        self._secret = secret
        self._modules = Modules(self._load)
        self._orders: dict[int, Order] = {}
        self._fork = linux.make_fork_sibling()
        self._guard = containment.make_forked_guard(supervisor)
        self._confiner = Confiner()

    def run(self) -> NoReturn:
        """Answer requests until there are no more."""
        # What is there now stays: looking through it again and again would copy its pages in every child.
        gc.collect()
        gc.freeze()
        gc.disable()
        self._answer(ForkAnswer(0, os.getpid()))
        while True:
            data, fds = self._receive()
            if not data:
                os._exit(0)
            try:
                self._serve(decode_request(data), fds)
            finally:
                for fd in fds:
                    os.close(fd)

    def _receive(self) -> tuple[bytes, list[int]]:
        size = array.array("i").itemsize
        try:
            data, ancillary, _, _ = self._socket.recvmsg(_MAX_PACKET, socket.CMSG_SPACE(_MAX_FDS * size), _CLOEXEC)
        except ConnectionError:
            return b"", []
        fds = array.array("i")
        for _, _, content in ancillary:
            fds.frombytes(content[: len(content) // size * size])
        return data, fds.tolist()

    def _answer(self, answer: ForkAnswer) -> None:
        try:
            self._socket.send(encode_answer(answer))
        except OSError:
            os._exit(0)  # The supervisor is gone.

    def _serve(self, request: ForkRequest, fds: list[int]) -> None:
        if request.filed:
            request = join_request(request, read_whole(fds[-1]))
        try:
            order = self._order(request)
            prepared = self._modules.get((order.module_digest, request.artifact), fds)
            if prepared.note is not None:
                return self._answer(ForkAnswer(request.number, None, prepared.note, spoilt=True))
            pid = self._fork()
        except GuestError as error:
            return self._answer(ForkAnswer(request.number, None, str(error)))
        except OSError as error:
            text = f"cannot start a worker: {error.strerror}"
            return self._answer(ForkAnswer(request.number, None, text, short=error.errno in SHORTAGES))
        if pid == 0:
            self._become_worker(request, order, fds, prepared)
        self._answer(ForkAnswer(request.number, pid))

    def _order(self, request: ForkRequest) -> Order:
        if request.order is not None:
            order = self._orders[request.key] = decode_order(request.order)
            self._confiner.lay_ready(order)
            # The supervisor forgets them in the same order, and sends one again that it has forgotten.
            if len(self._orders) > KEPT_ORDERS:
                del self._orders[next(iter(self._orders))]
        return self._orders[request.key]

    def _load(self, key: Key, fds: list[int]) -> tuple[Prepared, int]:
        digest, name = key
        artifact = read_whole(fds[7]) if name is not None else None
        made = prepare(self._engine.again(), read_whole(fds[6]), digest, name, artifact, self._secret)
        return made, len(artifact or b"") + len(made.data or b"")

    def _become_worker(self, request: ForkRequest, order: Order, fds: list[int], prepared: Prepared) -> NoReturn:
        """Be a worker from here on, and never return into the server's frames."""
        try:
            self._guard(fds[5])
            self._confiner.begin(order)
            # Detached, or its destructor would one day close a number that is something else by then.
            os.close(self._socket.detach())
            # A guest that breaks out of its engine must not be able to seal artifacts for others.
            self._secret[:] = bytes(len(self._secret))
            for number, fd in enumerate(fds[:3]):
                os.dup2(fd, number)
            for fd in (*fds[:3], *fds[6:]):
                os.close(fd)
            gc.enable()
            # It leaves the fork server's session only once the supervisor knows of it: until then, that is how one
            # that nobody was told of is found.
            counter = linux.make_thread_counter() if order.hosts > 1 else lambda: None
            channel = Channel(request.attempt, fds[3], fds[4], os.setsid, counter)
            # What comes before `ready` may take its time: a module to compile, a host module to import.
            if prepared.data is not None or order.host is not None or order.host_functions:
                channel.say_guarded()
            serve(order, request.args, channel, lambda: prepared, _peak_memory_bytes, self._confiner)
        finally:
            # Only a fault of our own leads here. It must not make this a second server.
            os._exit(70)


class Modules:
    """The modules that were loaded, most recently used last, within bounds of number and size."""

    def __init__(self, make: Callable[[Key, list[int]], tuple[Prepared, int]]) -> None:
        self._make = make
        self._kept: collections.OrderedDict[Key, tuple[Prepared, int]] = collections.OrderedDict()
        self._bytes = 0

    def get(self, key: Key, fds: list[int]) -> Prepared:
        """Return a module, loaded now if it is not kept; raise `GuestError` if it is none."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][0]
        made, size = self._make(key, fds)
        # One whose artifact was no good is not kept: the next may come with a better one.
        if made.note is None:
            self._kept[key] = (made, size)
            self._bytes += size
            while len(self._kept) > 1 and (len(self._kept) > KEPT or self._bytes > KEPT_BYTES):
                _, (_, least) = self._kept.popitem(last=False)
                self._bytes -= least
        return made


def _peak_memory_bytes() -> int | None:
    # Right for a child that was forked and has executed nothing since, and cheaper than /proc.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

if __name__ == "__main__":
    main()
