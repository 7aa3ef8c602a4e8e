"""The children of this process: which are ours, and which are orphans that came to us and must go.

The orphans of a worker come to the supervisor, their subreaper, when it ends. A child that nobody knows is one, with an
exception: a fork server may have made a worker whose pid it has not told yet. Such a child is a suspect until all
requests are answered that were open when it was first seen. Nobody waits long for that: a fork server that hangs is no
reason to hold up the end of an attempt whose orphan the suspect is hardly ever.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable

from procstop import linux, process
from procstop.process import Process, Worker
from procstop.supervisor.guarding import Guarding

LOOK_EVERY_S = 0.1
"""How often at most orphans are looked for that there cannot be, unless an engine has a hole."""
SUSPECT_S = 0.1
"""How long a suspect may hold up whoever looks for orphans."""
_KNOWN_BY_THEN_S = 2.0
"""How old a child is that its run surely knows, where it is not an orphan."""

_lock = threading.Lock()
_families: weakref.WeakSet[Family] = weakref.WeakSet()
"""Those of all runs of this process that go on."""


class Family:
    """The children of a run. `unanswered` returns the numbers of the open requests to fork servers.

    The run's guardians, if there are any, hear from here of those whose offspring they may have to end.
    """

    def __init__(
        self,
        run_id: str,
        owns_process: bool,
        unanswered: Callable[[], frozenset[int]],
        guarding: Guarding | None = None,
    ) -> None:
        self._run = run_id
        # As the first process of a container we are handed everybody's orphans.
        self._owns_process = owns_process and os.getpid() != 1
        self._unanswered = unanswered
        self._guarding = guarding
        # What was started before an exec of ours is a child too, and none of our business.
        self._known = set(linux.children(os.getpid()) or ())
        self._suspects: dict[Process, tuple[frozenset[int], float]] = {}
        self._killed: frozenset[Process] = frozenset()
        self._sessions: set[int] = set()
        self._looked_at = 0.0
        with _lock:
            _families.add(self)

    def close(self) -> None:
        """The run is over: no child is this one's any more."""
        with _lock:
            _families.discard(self)

    def add(self, pid: int) -> None:
        """Take note of a child of ours."""
        self._known.add(pid)
        if self._guarding is not None:
            self._guarding.begin()

    def add_worker(self, pid: int, token: str | None) -> None:
        """Take note of a worker; `token` marks what its host functions or their imports start, None without any."""
        self.add(pid)
        if self._guarding is not None:
            self._guarding.add_worker(pid, token)

    def add_session(self, pid: int) -> None:
        """Take note of a fork server: whoever is in its session is ours, and says so even as a zombie."""
        self._sessions.add(pid)
        if self._guarding is not None:
            self._guarding.add_session(pid)

    def remove(self, pid: int) -> None:
        """Forget a child that was reaped."""
        self._known.discard(pid)
        if self._guarding is not None:
            self._guarding.remove(pid)

    @property
    def has_suspects(self) -> bool:
        """Tell whether there are children that may be orphans, or workers of which we were not told yet."""
        return bool(self._suspects)

    def is_due(self) -> bool:
        """Tell whether nobody has looked for orphans for a while."""
        return time.monotonic() - self._looked_at >= LOOK_EVERY_S

    def clear_orphans(self, worker: Worker | None = None) -> bool:
        """Kill the orphans that are there, `worker`'s if one is given; return whether to look again soon."""
        now = self._looked_at = time.monotonic()
        # A worker that was reaped has given its pid back, and an orphan may have it; one that is held has not.
        reaped = worker is not None and worker.ended is not None and not worker.ended.held
        known = self._known - {worker.pid} if worker is not None and reaped else self._known
        found = process.adopted(known, None if self._owns_process else lambda one: self._is_ours(one, worker))
        unanswered = self._unanswered() if found else frozenset()
        suspects: dict[Process, tuple[frozenset[int], float]] = {}
        orphans = []
        for one in found:
            requests, since = self._suspects.get(one, (unanswered, now))
            if requests & unanswered and one not in self._killed and not (worker is not None and worker.owns(one)):
                suspects[one] = requests & unanswered, since
            else:
                orphans.append(one)
        for one in orphans if worker is not None else ():
            # One that was killed before is a zombie by now, and has been counted.
            if one not in self._killed and worker is not None and worker.owns(one):
                worker.count_orphan(one)
        self._suspects = suspects
        self._killed = frozenset(orphans)
        process.remove_orphans(orphans)
        return bool(orphans) or any(now - since < SUSPECT_S for _, since in suspects.values())

    def _is_ours(self, orphan: Process, worker: Worker | None) -> bool:
        # A zombie has no environment any more: without memory, one that was not reaped at once never would be.
        if orphan in self._killed or orphan in self._suspects or (worker is not None and worker.owns(orphan)):
            return True
        try:
            in_session = os.getsid(orphan.pid) in self._sessions
        except OSError:
            in_session = False
        if in_session or (process.marked_with(orphan) or "").partition("-")[0] == self._run:
            return True
        # What has ended by itself before we looked says nothing any more; but nobody else has such a limit.
        return process.has_our_limit(orphan) and not self._may_be_anothers(orphan)

    def _may_be_anothers(self, orphan: Process) -> bool:
        """Tell whether a child may belong to another run of this process, which may not even know it yet."""
        with _lock:
            others = [family for family in _families if family is not self]
        try:
            young, session = time.time() - orphan.create_time() < _KNOWN_BY_THEN_S, os.getsid(orphan.pid)
        except process.GONE:
            return True
        return any(young or orphan.pid in one._known or session in one._sessions for one in others)
