"""Get each attempt a worker: forked by a fork server (`forkservers`), or started anew.

Each `Spawning` that is handed in is told once: a worker that is our child, watched by its pidfd, or why there is none.
They wait in a queue for each engine, in the order they came in, while a fork server has no room, the run stands still,
or the system is short of descriptors or processes. What a fork server had not made when it ended is asked for again;
where fork servers are given up, workers are started anew. `hiring` hands them in; the supervisor ends it.
"""

from __future__ import annotations

import collections
import itertools
import signal
from collections.abc import Callable
from dataclasses import replace

from procstop import linux, process
from procstop.messages.forkserver import ForkAnswer
from procstop.messages.orders import Start, encode_start
from procstop.model import Spawn
from procstop.process import Ended, Pipes, SpawnError, Worker
from procstop.supervisor.family import Family
from procstop.supervisor.forkservers import ForkServers
from procstop.supervisor.loop import Loop, Timer
from procstop.supervisor.spawning import Opened, Spawning

_SHORTAGE_S = 0.05
_POLL_S = 0.01
_LOOK_S = 0.2
"""How often to look at what is below workers whose host functions may start processes, as guardians do."""


class Spawner:
    """The workers of one run, as they are made. `notice` gets lines for the user.

    `others_run` tells whether workers are there whose end would free descriptors or processes. `when_settled` is called
    when it is known at last whether a worker was made.
    """

    def __init__(
        self,
        loop: Loop,
        family: Family,
        run: str,
        spawn: Spawn,
        notice: Callable[[str], None],
        others_run: Callable[[], bool],
        when_settled: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._family = family
        self._fresh = spawn is Spawn.FRESH or not linux.CAN_FORK_SIBLINGS
        self._others_run = others_run
        self._when_settled = when_settled
        self._servers = ForkServers(loop, family, run, notice, self)
        self._queues: dict[str, collections.deque[Spawning]] = {}
        self._strays: list[Worker] = []
        self._workers = itertools.count(1)
        self._short: Timer | None = None

    def spawn(self, spawning: Spawning) -> None:
        """Get a worker; it comes, or the reason why not, now or later."""
        self._queues.setdefault(spawning.engine, collections.deque()).append(spawning)
        self._pump(spawning.engine)

    def hurry(self, spawning: Spawning) -> None:
        """Have it known soon whether a worker was made: a fork server that does not say so is killed for it."""
        self._servers.hurry(spawning)

    def unanswered(self) -> frozenset[int]:
        """Return the numbers of the requests whose workers may exist without our knowing their pids."""
        return self._servers.unanswered()

    def go_on(self) -> None:
        """Ask for what was wanted while the run stood still."""
        for engine in tuple(self._queues):
            self._pump(engine)

    def close_servers(self) -> None:
        """Kill the fork servers, and what they may have made that nobody wants."""
        self._servers.close()

    def reap(self) -> bool:
        """Reap outside of the loop, at the end of a run; return whether nothing of ours is left."""
        no_server = self._servers.reap()
        for stray in tuple(self._strays):
            self._bury_stray(stray)
        return no_server and not self._strays

    # Asking

    def _pump(self, engine: str) -> None:
        """Ask for what is wanted, as far as there is room for it."""
        queue = self._queues[engine]
        while queue and not self._loop.clock.paused and self._short is None:
            if queue[0].abandoned:
                queue.popleft()
                continue
            try:
                if self._fresh or self._servers.given_up(engine):
                    self._start_anew(queue)
                elif self._servers.ask(queue[0]):
                    queue.popleft()
                else:
                    return None
            except SpawnError as error:
                if error.is_shortage and self._others_run():
                    return self._wait_out_shortage()
                queue.popleft().failed(str(error))

    def _start_anew(self, queue: collections.deque[Spawning]) -> None:
        spawning = queue[0]
        assignment, artifact = spawning.assignment, spawning.artifact
        start = Start(assignment.order, spawning.attempt, assignment.args)
        if artifact is not None:
            start = replace(start, artifact=artifact.name)
        with Opened(spawning) as opened:
            worker = process.spawn_worker(
                spawning.attempt,
                # The secret as it is, before the rest: it is to leave no trace in what reads the rest.
                spawning.secret + encode_start(start),
                module=opened.module,
                artifact=-1 if artifact is None else artifact.fd,
                stdin=opened.stdin,
                with_socket=assignment.order.hosts > 1,
            )
        queue.popleft()
        self._family.add_worker(worker.pid, spawning.mark)
        self._hand_over(spawning, worker)

    def _want_again(self, spawning: Spawning) -> None:
        self._queues[spawning.engine].appendleft(spawning)

    def _wait_out_shortage(self) -> None:
        # Descriptors and processes come back when others end.
        if self._short is None:
            self._short = self._loop.call_at(self._loop.clock.now() + _SHORTAGE_S, self._after_shortage)

    def _after_shortage(self) -> None:
        self._short = None
        self.go_on()

    # What becomes of a request (`forkservers.Asker`)

    def on_made(self, spawning: Spawning, pipes: Pipes, pid: int, early: bytes) -> None:
        """Have a worker that was made by a fork server."""
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

    def on_refused(self, spawning: Spawning, answer: ForkAnswer) -> None:
        """Say why there is no worker; where others have to end first, wait for that."""
        if answer.short and not spawning.unwanted and self._others_run():
            self._want_again(spawning)
            self._wait_out_shortage()
            self._when_settled()
        elif not spawning.abandoned:
            tell = spawning.spoilt if answer.spoilt else spawning.failed
            tell(answer.error or "the fork server could not start a worker")

    def on_unmade(self, spawning: Spawning) -> None:
        """Want it again, unless nobody does."""
        if spawning.unwanted:
            spawning.failed("it had no worker yet")
        elif not spawning.abandoned:
            self._want_again(spawning)

    def on_settled(self) -> None:
        """Pass it on."""
        self._when_settled()

    def on_room(self, engine: str) -> None:
        """Ask for more."""
        self._pump(engine)

    # Workers

    def _hand_over(self, spawning: Spawning, worker: Worker) -> None:
        worker.number = next(self._workers)
        if spawning.abandoned:
            self._remove_stray(worker)
            return
        if spawning.assignment.may_start_processes:
            self._look_later(worker)
        spawning.made(worker)

    def _look_later(self, worker: Worker) -> None:
        """Remember what host functions start, now and then: an orphan may bear no sign of whose it was."""

        def look() -> None:
            if worker.ended is None:
                worker.descendants()
                self._look_later(worker)

        self._loop.call_in(_LOOK_S, look)

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
