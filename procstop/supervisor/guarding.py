"""The run's guardian: started, told what it must know, and replaced when it dies.

Nothing depends on it while the supervisor lives. It is told only of processes that may leave others behind, so that
tasks without host functions cost nothing here, and it is never waited for but at the end of the run, when it is killed.
It starts with the run if any host function may run, so that it is there before them; else with the first worker, when
nothing else waits for a processor any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from procstop import linux
from procstop.process import SpawnError
from procstop.process.guardian import MOST_OWED, Guardian
from procstop.supervisor.loop import Loop

MOST_DEATHS = 3
"""Deaths in a row after which a run goes on without a guardian."""
LASTING_S = 10.0
"""One that lived longer than this was no failure from the start: its death begins a new row."""
_AGAIN_S = 0.1
_WITHOUT = "the run goes on without one: what host functions started may outlive a procstop that is killed"


class Guarding:
    """One run's guardian. `born` and `buried` are told its pid; `notice` gets lines for the user."""

    def __init__(
        self,
        loop: Loop,
        run: str,
        notice: Callable[[str], None],
        born: Callable[[int], None],
        buried: Callable[[int], None],
    ) -> None:
        self._loop = loop
        self._run = run
        self._notice = notice
        self._born = born
        self._buried = buried
        self._told: dict[int, str] = {}
        self._guardian: Guardian | None = None
        self._started_at = 0.0
        self._deaths = 0
        self._flushing = False
        self._begun = False

    def start(self) -> None:
        """Start a guardian; where there can be none, say so and go on. Without /proc there is none."""
        self._begun = True
        if not linux.ON_LINUX:
            return
        try:
            guardian = Guardian(self._run, self._told)
        except SpawnError as error:
            self._notice(f"{error}; {_WITHOUT}")
            return
        self._guardian = guardian
        self._started_at = time.monotonic()
        self._born(guardian.pid)
        if guardian.pidfd is not None:
            self._loop.watch(guardian.pidfd, lambda: self._on_end(guardian))
        else:
            self._loop.call_in(_AGAIN_S, lambda: self._on_end(guardian))
        self._flush_later(guardian)

    def add_session(self, pid: int) -> None:
        """A fork server is there, which leads a session."""
        self._tell("session", pid)

    def add_worker(self, pid: int, has_functions: bool) -> None:
        """A worker is there, whose host functions, if it has any, may start processes."""
        if has_functions:
            self._tell("worker", pid)
        if not self._begun:
            self.start()

    def remove(self, pid: int) -> None:
        """A child was reaped, and nothing of it is left."""
        if self._told.pop(pid, None) is not None:
            self._send("over", pid)

    def release(self) -> None:
        """Have it end soon: everything was killed, and nothing that could have left others behind."""
        if self._guardian is not None:
            self._guardian.kill()

    def close(self) -> None:
        """End the guardian without a trace, whatever state it is in. Everything else must be gone."""
        guardian, self._guardian = self._guardian, None
        if guardian is not None:
            self._put_away(guardian)

    def _tell(self, verb: str, pid: int) -> None:
        self._told[pid] = verb
        self._send(verb, pid)

    def _send(self, verb: str, pid: int) -> None:
        guardian = self._guardian
        if guardian is not None:
            guardian.tell(verb, pid)
            self._flush_later(guardian)

    def _flush_later(self, guardian: Guardian) -> None:
        """See to it that it hears at last what it has no room for now; replace it if that becomes too much."""
        if guardian.owed > MOST_OWED:
            # It is dead, of which we shall hear, or it was stopped: the next one begins with what counts now.
            guardian.kill()
        elif guardian.owed and not self._flushing:
            self._flushing = True
            self._loop.call_in(_AGAIN_S, lambda: self._flush(guardian))

    def _flush(self, guardian: Guardian) -> None:
        self._flushing = False
        if guardian is self._guardian:
            guardian.flush()
            self._flush_later(guardian)

    def _on_end(self, guardian: Guardian) -> None:
        if guardian is not self._guardian:
            return
        ended = guardian.reap()
        if ended is None:
            if guardian.pidfd is None:
                self._loop.call_in(_AGAIN_S, lambda: self._on_end(guardian))
            return
        lasted = time.monotonic() - self._started_at >= LASTING_S
        self._deaths = 1 if lasted else self._deaths + 1
        how = "" if ended.wait is None else " ({} {})".format(*ended.wait)
        words = guardian.last_words()
        self._guardian = None
        self._put_away(guardian)
        more = self._deaths < MOST_DEATHS
        what = "another takes its place" if more else _WITHOUT
        self._notice(f"the guardian is gone{how}{f': {words}' if words else ''}; {what}")
        if more:
            self.start()

    def _put_away(self, guardian: Guardian) -> None:
        if guardian.pidfd is not None:
            self._loop.unwatch(guardian.pidfd)
        if guardian.end():
            self._buried(guardian.pid)
        guardian.close()
