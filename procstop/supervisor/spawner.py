"""Get each attempt a worker: forked by a fork server, or started anew.

There is at most one fork server for each engine, started at first need. It gets a few requests at a time, with the
worker's descriptors, and answers each with a pid; the worker is our child all the same. A fork server that ends, that
sends nonsense, or that does not answer in time (stopped, or hung) is killed and replaced, and what it had not answered
is asked of the next one, unless the worker was made all the same: then it says so itself, or holds its pipes open
until it does, and no guest runs twice. After `MOST_DEATHS` in a row without an answer, workers of that engine are
started anew.
"""

from __future__ import annotations

import collections
import itertools
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from procstop import linux, messages, process
from procstop.messages import Decoder, ForkAnswer, ForkRequest, Guarded, Order, ProtocolError, Ready, Start
from procstop.model import Spawn
from procstop.process import Ended, Pipes, SpawnError, Worker
from procstop.process.server import ForkServer, ServerGone
from procstop.supervisor.artifacts import Artifact
from procstop.supervisor.assignment import Assignment
from procstop.supervisor.family import Family
from procstop.supervisor.loop import Loop, Timer

DEPTH = 4
"""Requests that a fork server has at a time: enough to keep it busy, and few descriptors on their way."""
HELLO_S = 20.0
"""How long a fork server may take to import its engine."""
ANSWER_S = 5.0
"""How long it may be silent while it has requests."""
HURRY_S = 0.1
"""How long it may be silent when an attempt that is killed waits for its answer."""
MOST_DEATHS = 3
_SHORTAGE_S = 0.05
_POLL_S = 0.01


@dataclass
class Spawning:
    """Somebody wants a worker: one of the three is called, once, unless it was abandoned before.

    `spoilt` says that the artifact cannot be loaded, and why. `asked` tells that a fork server may be making the worker
    now; `unwanted`, that it is not to be asked for again if it was not made.
    """

    assignment: Assignment
    attempt: str
    artifact: Artifact | None
    secret: bytes
    made: Callable[[Worker], None]
    failed: Callable[[str], None]
    spoilt: Callable[[str], None]
    abandoned: bool = False
    asked: bool = False
    unwanted: bool = False

    def abandon(self) -> None:
        """Want it no more; a worker that comes all the same is killed."""
        self.abandoned = True

    @property
    def mark(self) -> str | None:
        """What marks the processes that its host functions start; None if they may start none."""
        return self.attempt if self.assignment.may_start_processes else None


@dataclass
class _Server:
    """A fork server, what it was asked and has not answered, and when it was last heard of.

    `orders` are the numbers of those orders that it keeps, by the order's identity, with the order.
    """

    process: ForkServer
    asked: dict[int, tuple[Spawning, Pipes]] = field(default_factory=dict)
    orders: dict[int, tuple[int, Order]] = field(default_factory=dict)
    engine: str = ""
    greeted: bool = False
    buried: bool = False
    heard_at: float = 0.0
    timer: Timer | None = None


class Spawner:
    """The workers of one run, and its fork servers. `notice` gets lines for the user.

    `others_run` tells whether workers are there whose end would free descriptors or processes. `on_settled` is called
    when it is known at last whether a worker was made.
    """

    def __init__(
        self,
        loop: Loop,
        family: Family,
        run: str,
        spawn: Spawn,
        lifeline: int,
        notice: Callable[[str], None],
        others_run: Callable[[], bool],
        on_settled: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._family = family
        self._run = run
        self._fresh = spawn is Spawn.FRESH or not linux.CAN_FORK_SIBLINGS
        self._lifeline = lifeline
        self._notice = notice
        self._others_run = others_run
        self._on_settled = on_settled
        self._servers: dict[str, _Server] = {}
        self._queues: dict[str, collections.deque[Spawning]] = {}
        self._deaths: collections.Counter[str] = collections.Counter()
        self._gone: list[_Server] = []
        self._strays: list[Worker] = []
        self._numbers = itertools.count(1)
        self._workers = itertools.count(1)
        self._orders = itertools.count(1)
        self._short: Timer | None = None

    def unanswered(self) -> frozenset[int]:
        """Return the numbers of the requests whose workers may exist without our knowing their pids."""
        servers = [*self._servers.values(), *self._gone]
        return frozenset(
            number for server in servers for number, (spawning, _) in server.asked.items() if not spawning.abandoned
        )

    def spawn(self, spawning: Spawning) -> None:
        """Get a worker; it comes, or the reason why not, now or later."""
        engine = spawning.assignment.engine or ""
        self._queues.setdefault(engine, collections.deque()).append(spawning)
        self._pump(engine)

    def hurry(self, spawning: Spawning) -> None:
        """Have it known soon whether a worker was made: a fork server that does not say so is killed for it."""

        def lose_patience() -> None:
            for engine, server in tuple(self._servers.items()):
                if any(asked is spawning for asked, _ in server.asked.values()):
                    self._on_gone(engine, server, f"it did not answer within {HURRY_S:g} s for an attempt to kill")

        self._loop.call_in(HURRY_S, lose_patience)

    def go_on(self) -> None:
        """Ask for what was wanted while the run stood still."""
        for engine in tuple(self._queues):
            self._pump(engine)

    def close_servers(self) -> None:
        """Kill the fork servers, and what they may have made that nobody wants."""
        for engine in tuple(self._servers):
            self._drop(engine, again=False)
        for server in self._gone:
            # Nobody waits for these: they are abandoned, or the run ends in a fault.
            for _, pipes in server.asked.values():
                self._loop.unwatch(pipes.ours["report"])
                pipes.close()
            server.asked.clear()

    def reap(self) -> bool:
        """Reap outside of the loop, at the end of a run; return whether nothing of ours is left."""
        for server in tuple(self._gone):
            self._bury(server)
        for stray in tuple(self._strays):
            self._bury_stray(stray)
        return all(server.buried for server in self._gone) and not self._strays

    # Asking

    def _pump(self, engine: str) -> None:
        """Ask for what is wanted, as far as the fork server has room for it."""
        queue = self._queues[engine]
        while queue and not self._loop.clock.paused and self._short is None:
            if queue[0].abandoned:
                queue.popleft()
                continue
            try:
                if self._fresh or self._deaths[engine] >= MOST_DEATHS:
                    self._start_anew(queue)
                elif not self._ask(engine, queue):
                    return None
            except SpawnError as error:
                if error.is_shortage and self._others_run():
                    return self._wait_out_shortage()
                queue.popleft().failed(str(error))

    def _wait_out_shortage(self) -> None:
        # Descriptors and processes come back when others end.
        if self._short is None:
            self._short = self._loop.call_at(self._loop.clock.now() + _SHORTAGE_S, self._after_shortage)

    def _after_shortage(self) -> None:
        self._short = None
        self.go_on()

    def _start_anew(self, queue: collections.deque[Spawning]) -> None:
        spawning = queue[0]
        assignment, artifact = spawning.assignment, spawning.artifact
        start = Start(assignment.order, spawning.attempt, assignment.args)
        if artifact is not None:
            start = replace(start, artifact=artifact.name)
        with _Opened(spawning) as opened:
            worker = process.spawn_worker(
                spawning.attempt,
                # The secret as it is, before the rest: it is to leave no trace in what reads the rest.
                spawning.secret + messages.encode_start(start),
                module=opened.module,
                artifact=-1 if artifact is None else artifact.fd,
                stdin=opened.stdin,
                lifeline=self._lifeline,
                with_socket=assignment.order.hosts > 1,
            )
        queue.popleft()
        self._family.add_worker(worker.pid, spawning.mark)
        self._hand_over(spawning, worker)

    def _ask(self, engine: str, queue: collections.deque[Spawning]) -> bool:
        """Ask the fork server for the first in the queue; return whether there was room."""
        server = self._servers.get(engine)
        if server is None:
            server = self._start_server(engine, queue[0])
        if len(server.asked) >= DEPTH:
            return False
        spawning = queue[0]
        number = next(self._numbers)
        try:
            with _Opened(spawning) as opened:
                pipes = self._send(server, spawning, number, opened)
        except ServerGone as error:
            self._on_gone(engine, server, str(error))
            return bool(self._queues[engine])
        if pipes is None:
            return False
        queue.popleft().asked = True
        if not server.asked:
            server.heard_at = time.monotonic()
        server.asked[number] = (spawning, pipes)
        return True

    def _send(self, server: _Server, spawning: Spawning, number: int, opened: _Opened) -> Pipes | None:
        order, artifact = spawning.assignment.order, spawning.artifact
        key, text = self._number_of(server, order)
        try:
            pipes = Pipes.open(with_socket=order.hosts > 1)
        except OSError as error:
            raise SpawnError(f"cannot start a worker: {error.strerror}", error) from error
        try:
            theirs = pipes.theirs
            fds = [opened.stdin, *(theirs[name] for name in ("stdout", "stderr", "control", "report")), opened.module]
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
            if len(server.orders) > messages.KEPT_ORDERS:
                del server.orders[next(iter(server.orders))]
        return pipes

    def _number_of(self, server: _Server, order: Order) -> tuple[int, str | None]:
        """Return the number of an order, and its text if the fork server does not have it."""
        known = server.orders.get(id(order))
        if known is not None:
            return known[0], None
        return next(self._orders), messages.encode_order(order).decode()

    # Servers

    def _start_server(self, engine: str, first: Spawning) -> _Server:
        child = ForkServer(
            engine, first.assignment.order.sys_path, first.secret, run=self._run, lifeline=self._lifeline
        )
        server = self._servers[engine] = _Server(child, engine=engine)
        self._family.add(child.pid)
        self._family.add_session(child.pid)
        self._loop.watch(child.fd, lambda: self._on_answers(engine, server))
        server.heard_at = time.monotonic()
        self._watch_over(engine, server)
        return server

    def _watch_over(self, engine: str, server: _Server) -> None:
        """Replace it if it owes an answer and has been silent for too long; else look again when that could be so."""
        if self._servers.get(engine) is not server:
            return None
        # In real time: a pause waits for the workers that are on their way.
        now, patience = time.monotonic(), ANSWER_S if server.greeted else HELLO_S
        owes = bool(server.asked) or not server.greeted
        if owes and now >= server.heard_at + patience:
            return self._on_gone(engine, server, f"it has said nothing for {patience:g} s")
        due = server.heard_at + patience if owes else now + patience
        server.timer = self._loop.call_in(due - now, lambda: self._watch_over(engine, server))

    def _on_answers(self, engine: str, server: _Server) -> None:
        if self._servers.get(engine) is not server:
            return None
        try:
            for answer in server.process.answers():
                self._on_answer(engine, server, answer)
        except ServerGone as error:
            return self._on_gone(engine, server, str(error))
        server.heard_at = time.monotonic()
        if self._family.has_suspects:
            self._clear_orphans()
        self._pump(engine)

    def _on_answer(self, engine: str, server: _Server, answer: ForkAnswer) -> None:
        if answer.number == 0 and not server.greeted:
            if answer.error is not None:
                # Workers that import it themselves will say the same, each for its own attempt.
                self._deaths[engine] = MOST_DEATHS
                raise ServerGone(answer.error)
            server.greeted = True
            # From now on it has less time for each answer.
            if server.timer is not None:
                server.timer.cancel()
            server.heard_at = time.monotonic()
            self._watch_over(engine, server)
            return
        if answer.number not in server.asked:
            raise ServerGone("it answered what it was not asked")
        if answer.pid is not None and (answer.pid == server.process.pid or process.is_stranger(answer.pid)):
            # Believed, we would signal a process that is none of our business.
            raise ServerGone(f"it named {answer.pid}, which is no worker of ours")
        spawning, pipes = server.asked.pop(answer.number)
        self._deaths[engine] = 0
        if answer.pid is None:
            pipes.close()
            if answer.short and not spawning.unwanted and self._others_run():
                spawning.asked = False
                self._queues[engine].appendleft(spawning)
                self._wait_out_shortage()
                self._on_settled()
            elif not spawning.abandoned:
                tell = spawning.spoilt if answer.spoilt else spawning.failed
                tell(answer.error or "the fork server could not start a worker")
            return
        self._take_in(spawning, pipes, answer.pid)

    def _take_in(self, spawning: Spawning, pipes: Pipes, pid: int, early: bytes = b"") -> None:
        """Have a worker that was made by a fork server; `early` is what it has said already."""
        self._family.add_worker(pid, spawning.mark)
        worker = Worker.at(pipes, pid, None, None, spawning.attempt)
        worker.early = early
        try:
            worker.pidfd = process.open_pidfd(pid)
        except ProcessLookupError:
            # It has ended, and the kernel has reaped it, as it does where SIGCHLD is ignored: its pipes tell the rest.
            worker.ended = Ended(None, None, None)
        except OSError as error:
            # It is our child, whoever forked it, so the pid is its own; but what cannot be watched must not run.
            self._remove_stray(worker)
            if not spawning.abandoned:
                spawning.failed(f"cannot watch a worker: {error.strerror}")
            return
        self._hand_over(spawning, worker)

    def _on_gone(self, engine: str, server: _Server, why: str) -> None:
        if self._servers.get(engine) is not server:
            return
        self._deaths[engine] += 1
        words = server.process.last_words()
        self._notice(
            f"the fork server for {engine} is gone: {why}{f' ({words})' if words else ''}; "
            + ("workers are started without one" if self._deaths[engine] >= MOST_DEATHS else "another takes its place")
        )
        self._drop(engine, again=True)
        # Not from here: this may stand deep inside a request.
        self._loop.post(lambda: self._pump(engine))

    def _drop(self, engine: str, *, again: bool) -> None:
        """Kill a fork server; what it had not answered is wanted again, or given up."""
        server = self._servers.pop(engine)
        if server.timer is not None:
            server.timer.cancel()
        self._loop.unwatch(server.process.fd)
        if not again:
            for _, pipes in server.asked.values():
                pipes.close()
            server.asked.clear()
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

    def _listen(self, server: _Server, number: int, report: int) -> None:
        self._loop.watch(report, lambda: self._on_unknown(server, number, report))

    def _on_unknown(self, server: _Server, number: int, report: int) -> None:
        """A worker that we were not told of has said something, or there is none any more."""
        self._loop.unwatch(report)
        spawning, pipes = server.asked[number]
        data = os.read(report, messages.MAX_MESSAGE)
        pid = _pid_in(data)
        if pid is not None and not process.is_stranger(pid):
            del server.asked[number]
            self._take_in(spawning, pipes, pid, data)
        else:
            # No guest ran: whoever runs one has told its pid before.
            del server.asked[number]
            pipes.close()
            spawning.asked = False
            if spawning.unwanted:
                spawning.failed("it had no worker yet")
            elif not spawning.abandoned:
                self._queues[server.engine].appendleft(spawning)
        self._forget(server)
        self._clear_orphans()
        self._pump(server.engine)
        self._on_settled()

    def _forget(self, server: _Server) -> None:
        if server.buried and not server.asked and server in self._gone:
            self._gone.remove(server)

    def _clear_orphans(self) -> None:
        if self._family.clear_orphans():
            self._loop.call_at(self._loop.clock.now() + _POLL_S, self._clear_orphans)

    # Workers

    def _hand_over(self, spawning: Spawning, worker: Worker) -> None:
        worker.number = next(self._workers)
        if spawning.abandoned:
            self._remove_stray(worker)
        else:
            spawning.made(worker)

    def _remove_stray(self, worker: Worker) -> None:
        """Kill a worker that nobody wants any more, and reap it in time."""
        worker.signal(signal.SIGKILL)
        self._strays.append(worker)
        self._loop.call_at(self._loop.clock.now() + _POLL_S, lambda: self._bury_stray(worker))

    def _bury_stray(self, worker: Worker) -> None:
        if worker not in self._strays:
            return
        if worker.reap() is None:
            self._loop.call_at(self._loop.clock.now() + _POLL_S, lambda: self._bury_stray(worker))
            return
        self._strays.remove(worker)
        self._family.remove(worker.pid)
        worker.close()


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


class _Opened:
    """The files that a worker begins with, open for as long as it takes to hand them over."""

    def __init__(self, spawning: Spawning) -> None:
        self._assignment = spawning.assignment
        self.module = -1
        self.stdin = -1

    def __enter__(self) -> _Opened:
        try:
            self.module = self._assignment.open_module()
            self.stdin = self._assignment.open_stdin()
        except OSError as error:
            self.__exit__()
            raise SpawnError(f'cannot open "{error.filename}": {error.strerror}', error) from error
        return self

    def __exit__(self, *_: object) -> None:
        for fd in (self.module, self.stdin):
            if fd >= 0:
                os.close(fd)
