"""The fork servers of a run: started at first need, asked for workers, replaced when they fail.

There is at most one for each engine. It gets a few requests at a time, with the worker's descriptors, and answers each
with a pid. One that ends, that sends nonsense, or that does not answer in time (stopped, or hung) is killed, and the
next request starts another; after `MOST_DEATHS` in a row without an answer, that engine's are given up.

What becomes of every request is told once, whatever becomes of the fork server: a worker was made, or was not. Of one
that had not answered, that is known only when its worker says so itself, or nobody holds the worker's pipes open any
more; so no guest runs twice. Only `spawner` calls this.
"""

from __future__ import annotations

import collections
import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from procstop import process
from procstop.messages import Order, ProtocolError
from procstop.messages.forkserver import KEPT_ORDERS, ForkAnswer, ForkRequest
from procstop.messages.orders import encode_order
from procstop.messages.worker import MAX_MESSAGE, Decoder, Guarded, Ready
from procstop.process import Pipes, SpawnError
from procstop.process.server import ForkServer, ServerGone
from procstop.supervisor.family import Family
from procstop.supervisor.loop import Loop, Timer
from procstop.supervisor.spawning import Opened, Spawning

DEPTH = 4
"""Requests that a fork server has at a time: enough to keep it busy, and few descriptors on their way."""
HELLO_S = 20.0
"""How long a fork server may take to import its engine."""
ANSWER_S = 5.0
"""How long it may be silent while it has requests."""
HURRY_S = 0.1
"""How long it may be silent when an attempt that is killed waits for its answer."""
MOST_DEATHS = 3
_POLL_S = 0.01


class Asker(Protocol):
    """Who asks for workers, and hears what becomes of each request."""

    def on_made(self, spawning: Spawning, pipes: Pipes, pid: int, early: bytes) -> None:
        """A worker was made; `early` is what it has said already."""

    def on_refused(self, spawning: Spawning, answer: ForkAnswer) -> None:
        """No worker was made, and the fork server says why."""

    def on_unmade(self, spawning: Spawning) -> None:
        """No worker was made, and nobody is left to say why."""

    def on_settled(self) -> None:
        """A request is settled whose fork server is gone."""

    def on_room(self, engine: str) -> None:
        """There may be room for another request."""


@dataclass
class _Server:
    """A fork server, what it was asked and has not answered, and when it was last heard of.

    `orders` are the numbers of those orders that it keeps, by the order's identity, with the order.
    """

    process: ForkServer
    engine: str
    heard_at: float
    asked: dict[int, tuple[Spawning, Pipes]] = field(default_factory=dict)
    orders: dict[int, tuple[int, Order]] = field(default_factory=dict)
    greeted: bool = False
    buried: bool = False
    timer: Timer | None = None


class ForkServers:
    """The fork servers of one run. `notice` gets lines for the user."""

    def __init__(self, loop: Loop, family: Family, run: str, notice: Callable[[str], None], asker: Asker) -> None:
        self._loop = loop
        self._family = family
        self._run = run
        self._notice = notice
        self._asker = asker
        self._servers: dict[str, _Server] = {}
        self._gone: list[_Server] = []
        self._deaths: collections.Counter[str] = collections.Counter()
        self._numbers = itertools.count(1)
        self._orders = itertools.count(1)

    def given_up(self, engine: str) -> bool:
        """Tell whether workers of an engine are to be started without a fork server."""
        return self._deaths[engine] >= MOST_DEATHS

    def unanswered(self) -> frozenset[int]:
        """Return the numbers of the requests whose workers may exist without our knowing their pids."""
        servers = [*self._servers.values(), *self._gone]
        return frozenset(
            number for server in servers for number, (spawning, _) in server.asked.items() if not spawning.abandoned
        )

    def ask(self, spawning: Spawning) -> bool:
        """Ask for a worker; return False where there is no room for it now: `on_room` tells when to ask again.

        Raise `SpawnError` if it cannot be asked for at all.
        """
        server = self._servers.get(spawning.engine) or self._start(spawning)
        if len(server.asked) >= DEPTH:
            return False
        number = next(self._numbers)
        try:
            with Opened(spawning) as opened:
                pipes = self._send(server, spawning, number, opened)
        except ServerGone as error:
            self._replace(server, self._last_word(server) or str(error))
            return False
        if pipes is None:
            return False
        spawning.asked = True
        if not server.asked:
            server.heard_at = time.monotonic()
        server.asked[number] = (spawning, pipes)
        return True

    def hurry(self, spawning: Spawning) -> None:
        """Have it known soon whether a worker was made: a fork server that does not say so is killed for it."""

        def lose_patience() -> None:
            for server in tuple(self._servers.values()):
                if any(asked is spawning for asked, _ in server.asked.values()):
                    self._replace(server, f"it did not answer within {HURRY_S:g} s for an attempt to kill")

        self._loop.call_in(HURRY_S, lose_patience)

    def close(self) -> None:
        """Kill the fork servers, and what they may have made that nobody wants."""
        for server in tuple(self._servers.values()):
            for _, pipes in server.asked.values():
                pipes.close()
            server.asked.clear()
            self._kill(server)
        for server in self._gone:
            # Nobody waits for these: they are abandoned, or the run ends in a fault.
            for _, pipes in server.asked.values():
                self._loop.unwatch(pipes.ours["report"])
                pipes.close()
            server.asked.clear()

    def reap(self) -> bool:
        """Reap outside of the loop, at the end of a run; return whether none is left."""
        for server in tuple(self._gone):
            self._bury(server)
        return all(server.buried for server in self._gone)

    # Requests

    def _send(self, server: _Server, spawning: Spawning, number: int, opened: Opened) -> Pipes | None:
        order, artifact = spawning.assignment.order, spawning.artifact
        key, text = self._number_of(server, order)
        try:
            pipes = Pipes.open(with_socket=order.hosts > 1)
        except OSError as error:
            raise SpawnError(f"cannot start a worker: {error.strerror}", error) from error
        try:
            theirs = pipes.theirs
            names = ("stdout", "stderr", "control", "report", "lifeline")
            fds = [opened.stdin, *(theirs[name] for name in names), opened.module]
            if artifact is not None:
                fds.append(artifact.fd)
            name = None if artifact is None else artifact.name
            request = ForkRequest(number, key, text, name, spawning.attempt, spawning.assignment.args)
            sent = server.process.request(request, fds)
        except BaseException:
            pipes.close()
            raise
        if not sent:
            pipes.close()
            return None
        pipes.close_theirs()
        if text is not None:
            server.orders[id(order)] = (key, order)
            if len(server.orders) > KEPT_ORDERS:
                del server.orders[next(iter(server.orders))]
        return pipes

    def _number_of(self, server: _Server, order: Order) -> tuple[int, str | None]:
        """Return the number of an order, and its text if the fork server does not have it."""
        known = server.orders.get(id(order))
        if known is not None:
            return known[0], None
        return next(self._orders), encode_order(order).decode()

    def _on_answers(self, server: _Server) -> None:
        if not self._is_there(server):
            return None
        try:
            for answer in server.process.answers():
                self._on_answer(server, answer)
        except ServerGone as error:
            return self._replace(server, str(error))
        server.heard_at = time.monotonic()
        if self._family.has_suspects:
            self._clear_orphans()
        self._asker.on_room(server.engine)

    def _on_answer(self, server: _Server, answer: ForkAnswer) -> None:
        if answer.number == 0 and not server.greeted:
            return self._on_hello(server, answer)
        if answer.number not in server.asked:
            raise ServerGone("it answered what it was not asked")
        if answer.pid is not None and (answer.pid == server.process.pid or process.is_stranger(answer.pid)):
            # Believed, we would signal a process that is none of our business.
            raise ServerGone(f"it named {answer.pid}, which is no worker of ours")
        spawning, pipes = server.asked.pop(answer.number)
        self._deaths[server.engine] = 0
        if answer.pid is not None:
            return self._asker.on_made(spawning, pipes, answer.pid, b"")
        pipes.close()
        spawning.asked = False
        self._asker.on_refused(spawning, answer)

    # Their life

    def _start(self, first: Spawning) -> _Server:
        engine = first.engine
        child = ForkServer(engine, first.assignment.order.sys_path, first.secret, run=self._run)
        server = self._servers[engine] = _Server(child, engine, heard_at=time.monotonic())
        self._family.add(child.pid)
        self._family.add_session(child.pid)
        self._loop.watch(child.fd, lambda: self._on_answers(server))
        self._watch_over(server)
        return server

    def _is_there(self, server: _Server) -> bool:
        return self._servers.get(server.engine) is server

    def _last_word(self, server: _Server) -> str | None:
        """Return what a fork server that is gone already gave as the reason, instead of a greeting."""
        if not server.greeted:
            try:
                for answer in server.process.answers():
                    self._on_answer(server, answer)
            except ServerGone as error:
                return str(error)
        return None

    def _on_hello(self, server: _Server, answer: ForkAnswer) -> None:
        if answer.error is not None:
            # Workers that import it themselves will say the same, each for its own attempt.
            self._deaths[server.engine] = MOST_DEATHS
            raise ServerGone(answer.error)
        server.greeted = True
        # From now on it has less time for each answer.
        if server.timer is not None:
            server.timer.cancel()
        server.heard_at = time.monotonic()
        self._watch_over(server)

    def _watch_over(self, server: _Server) -> None:
        """Replace it if it owes an answer and has been silent for too long; else look again when that could be so."""
        if not self._is_there(server):
            return None
        # In real time: a pause waits for the workers that are on their way.
        now, patience = time.monotonic(), ANSWER_S if server.greeted else HELLO_S
        owes = bool(server.asked) or not server.greeted
        if owes and now >= server.heard_at + patience:
            return self._replace(server, f"it has said nothing for {patience:g} s")
        due = server.heard_at + patience if owes else now + patience
        server.timer = self._loop.call_in(due - now, lambda: self._watch_over(server))

    def _replace(self, server: _Server, why: str) -> None:
        """Kill a fork server that is of no use, and say so; another takes its place when the next is asked."""
        if not self._is_there(server):
            return
        engine = server.engine
        self._deaths[engine] += 1
        words = server.process.last_words()
        self._notice(
            f"the fork server for {engine} is gone: {why}{f' ({words})' if words else ''}; "
            + ("workers are started without one" if self.given_up(engine) else "another takes its place")
        )
        self._kill(server)
        # Not from here: this may stand deep inside a request.
        self._loop.post(lambda: self._asker.on_room(engine))

    def _kill(self, server: _Server) -> None:
        """Kill a fork server; what it has not answered is settled once it is reaped."""
        del self._servers[server.engine]
        if server.timer is not None:
            server.timer.cancel()
        self._loop.unwatch(server.process.fd)
        server.process.kill()
        self._gone.append(server)
        if server.process.pidfd is not None:
            self._loop.watch(server.process.pidfd, lambda: self._bury(server))
        else:
            self._loop.call_in(_POLL_S, lambda: self._bury(server))

    def _bury(self, server: _Server) -> None:
        """Reap a fork server that was killed; from then on it makes no more workers."""
        child = server.process
        if server.buried:
            return
        if child.reap() is None:
            if child.pidfd is None:
                self._loop.call_in(_POLL_S, lambda: self._bury(server))
            return
        server.buried = True
        if child.pidfd is not None:
            self._loop.unwatch(child.pidfd)
        self._family.remove(child.pid)
        child.close()
        for number, (_, pipes) in tuple(server.asked.items()):
            # Nobody but a worker of ours can hold the other end now: it says who it is, or its end is seen here.
            self._listen(server, number, pipes.ours["report"])
        self._forget(server)
        self._clear_orphans()

    # What the dead had not answered

    def _listen(self, server: _Server, number: int, report: int) -> None:
        self._loop.watch(report, lambda: self._on_unknown(server, number, report))

    def _on_unknown(self, server: _Server, number: int, report: int) -> None:
        """A worker that we were not told of has said something, or there is none any more."""
        self._loop.unwatch(report)
        spawning, pipes = server.asked.pop(number)
        data = os.read(report, MAX_MESSAGE)
        pid = _pid_in(data)
        if pid is not None and not process.is_stranger(pid):
            self._asker.on_made(spawning, pipes, pid, data)
        else:
            # No guest ran: whoever runs one has told its pid before.
            pipes.close()
            spawning.asked = False
            self._asker.on_unmade(spawning)
        self._forget(server)
        self._clear_orphans()
        self._asker.on_room(server.engine)
        self._asker.on_settled()

    def _forget(self, server: _Server) -> None:
        if server.buried and not server.asked and server in self._gone:
            self._gone.remove(server)

    def _clear_orphans(self) -> None:
        if self._family.clear_orphans():
            self._loop.call_at(self._loop.clock.now() + _POLL_S, self._clear_orphans)


def _pid_in(data: bytes) -> int | None:
    """Return the pid that a worker tells of itself in the first that it says; None where it says none."""
    try:
        for message in Decoder().feed(data):
            if isinstance(message, (Guarded, Ready)):
                return message.pid
            return None
    except ProtocolError:
        pass
    return None
