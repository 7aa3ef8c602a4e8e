"""The run's guardians: started, told what they must know, and replaced when they die.

Nothing depends on one while the supervisor lives. It is told only of processes that may leave others behind, so that
other tasks cost nothing here, and it is never waited for but at the end of the run, when it is killed. There is one in
each run, from its first child on: one that somebody stops before it has put on its guards has nobody else. Where host
functions may start processes there are two, from the beginning: one may be killed or stopped together with the
supervisor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from procstop import linux
from procstop.process import SpawnError
from procstop.process.guardian import Guardian
from procstop.supervisor.loop import Loop

MOST_DEATHS = 3
"""Deaths in a row after which a run goes on without that guardian."""
LASTING_S = 10.0
"""One that lived longer than this was no failure from the start: its death begins a new row."""
_AGAIN_S = 0.1
_WITHOUT = "the run goes on without one: what host functions started may outlive a procstop that is killed"
_WITH_OTHER = "the run goes on with the other one"


class Guarding:
    """One run's guardians. `born` and `buried` are told their pids; `notice` gets lines for the user."""

    def __init__(
        self,
        loop: Loop,
        run: str,
        notice: Callable[[str], None],
        born: Callable[[int], None],
        buried: Callable[[int], None],
    ) -> None:
        self._told: dict[int, str] = {}
        self._begun = False
        self._wanted = 0

        def without() -> str:
            return _WITH_OTHER if any(post.is_held for post in self._posts) else _WITHOUT

        self._posts = [_Post(loop, run, self._told, notice, without, born, buried) for _ in range(2)]

    def start(self, guardians: int) -> None:
        """Start one or two guardians; where there can be none, say so and go on. Without /proc there is none."""
        self._begun = True
        self._wanted = guardians if linux.ON_LINUX else 0
        if linux.ON_LINUX:
            for post in self._posts[:guardians]:
                post.fill()
                if not post.is_held:
                    break

    @property
    def lack(self) -> str | None:
        """Say so when there are fewer guardians now than there should be."""
        held = sum(post.is_held for post in self._posts)
        if held >= self._wanted:
            return None
        what = "one of two guardians is missing" if held else "there is no guardian"
        return f"{what}: what host functions started may outlive a procstop that is killed"

    def begin(self) -> None:
        """A child is there, whatever it is: from now on there is a guardian."""
        if not self._begun:
            self.start(1)

    def add_session(self, pid: int) -> None:
        """A fork server is there, which leads a session."""
        self._tell(pid, f"session {pid}")

    def add_worker(self, pid: int, token: str | None) -> None:
        """A worker is there; `token` marks what its host functions or their imports start, None without any."""
        if token is not None:
            self._tell(pid, f"worker {pid} {token}")

    def remove(self, pid: int) -> None:
        """A child was reaped, and nothing of it is left."""
        if self._told.pop(pid, None) is not None:
            self._send(pid, f"over {pid}")

    def release(self) -> None:
        """Have them end soon: everything was killed, and nothing that could have left others behind."""
        for post in self._posts:
            post.release()

    def close(self) -> None:
        """End the guardians without a trace, whatever state they are in. Everything else must be gone."""
        for post in self._posts:
            post.close()

    def _tell(self, pid: int, news: str) -> None:
        self._told[pid] = news
        self._send(pid, news)

    def _send(self, pid: int, news: str) -> None:
        for post in self._posts:
            post.tell(pid, news)


class _Post:
    """The place of one guardian. One that comes to it is told all that was `told` before."""

    def __init__(
        self,
        loop: Loop,
        run: str,
        told: Mapping[int, str],
        notice: Callable[[str], None],
        without: Callable[[], str],
        born: Callable[[int], None],
        buried: Callable[[int], None],
    ) -> None:
        self._loop = loop
        self._run = run
        self._told = told
        self._notice = notice
        self._without = without
        self._born = born
        self._buried = buried
        self._guardian: Guardian | None = None
        self._started_at = 0.0
        self._deaths = 0
        self._flushing = False

    @property
    def is_held(self) -> bool:
        """Tell whether there is a guardian here."""
        return self._guardian is not None

    def fill(self) -> None:
        """Start a guardian here."""
        try:
            guardian = Guardian(self._run, self._told)
        except SpawnError as error:
            self._notice(f"{error}; {self._without()}")
            return
        self._guardian = guardian
        self._started_at = time.monotonic()
        self._born(guardian.pid)
        if guardian.pidfd is not None:
            self._loop.watch(guardian.pidfd, lambda: self._on_end(guardian))
        else:
            self._loop.call_in(_AGAIN_S, lambda: self._on_end(guardian))
        self._flush_later(guardian)

    def tell(self, pid: int, news: str) -> None:
        """Tell the guardian, if there is one, of a process."""
        guardian = self._guardian
        if guardian is not None:
            guardian.tell(pid, news)
            self._flush_later(guardian)

    def release(self) -> None:
        """Have it end soon."""
        if self._guardian is not None:
            self._guardian.kill()

    def close(self) -> None:
        """End it without a trace."""
        guardian, self._guardian = self._guardian, None
        if guardian is not None:
            self._put_away(guardian)

    def _flush_later(self, guardian: Guardian) -> None:
        """See to it that it hears at last what it has no room for now; replace it if that becomes too much."""
        if guardian.lags:
            # It is dead, of which we shall hear, or it was stopped: the next one begins with what counts now.
            guardian.kill()
        elif guardian.is_owed and not self._flushing:
            self._flushing = True
            self._loop.call_in(_AGAIN_S, self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._guardian is not None:
            # Another one may have come meanwhile, which waits for the same.
            self._guardian.flush()
            self._flush_later(self._guardian)

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
        what = "another takes its place" if more else self._without()
        self._notice(f"the guardian is gone{how}{f': {words}' if words else ''}; {what}")
        if more:
            self.fill()

    def _put_away(self, guardian: Guardian) -> None:
        if guardian.pidfd is not None:
            self._loop.unwatch(guardian.pidfd)
        if guardian.end():
            self._buried(guardian.pid)
        guardian.close()
