"""Compile modules into the cache ahead of any run, several side by side.

The same compilers as in a run (`artifacts`), without attempts: for each module one is started unless the cache has a
sound artifact already. `run` belongs to one thread; `stop` may be called from any thread and from signal handlers.
"""

from __future__ import annotations

import collections
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from procstop.cache import BadArtifact, Cache, read_whole, unseal
from procstop.errors import InternalError
from procstop.supervisor.artifacts import Artifact, Artifacts, CompilerEnd, Waiting
from procstop.supervisor.assignment import Assignment
from procstop.supervisor.family import Family
from procstop.supervisor.loop import Clock, Loop, Timer
from procstop.supervisor.runid import new_run_id

_LAST_WAIT_S = 5.0


@dataclass(frozen=True)
class Compiled:
    """What became of one module: `size` of its file in the cache in bytes, or `problem`.

    `seconds` is how long it took, its wait for another compiler of the same included; None if it was there.
    """

    assignment: Assignment
    size: int | None = None
    seconds: float | None = None
    problem: str | None = None


class Precompiler:
    """Fills a cache. Raise `CacheError` for a directory that cannot be used; close it at the end.

    `on_start` and `on_end` are called in the thread of `run`; `notice` gets lines for the user.
    """

    def __init__(
        self,
        assignments: Sequence[Assignment],
        directory: str,
        *,
        side_by_side: int,
        on_start: Callable[[Assignment], None],
        on_end: Callable[[Compiled], None],
        notice: Callable[[str], None],
    ) -> None:
        self._cache = Cache(directory)
        # Without a secret to keep there is no cache to fill, and the rest would compile for nothing.
        self._secret = self._cache.secret()
        self._queue = collections.deque(assignments)
        self._side_by_side = side_by_side
        self._on_start = on_start
        self._on_end = on_end
        self._notice = notice
        self._directory = directory
        self._loop = Loop(Clock())
        self._jobs: set[_Job] = set()
        self._artifacts: Artifacts | None = None
        self._stopped = False

    def run(self) -> bool:
        """Compile all; return False if it was stopped before the end. No compiler is left, also when it raises."""
        run = new_run_id()
        family = Family(run, False, lambda: frozenset())
        try:
            self._artifacts = Artifacts(self._loop, family, run, self._directory, self._notice)
            self._start_more()
            while (self._jobs or self._queue) and not self._stopped:
                self._loop.turn()
            return not self._stopped
        finally:
            self._kill_all_and_wait()
            family.close()

    def stop(self) -> None:
        """Kill the compilers and end; what is in the cache already stays there."""
        self._loop.post(self._on_stop)

    def close(self) -> None:
        """Release what it holds, once nobody can call it any more: signal handlers first of all."""
        self._loop.close()

    @property
    def wake_fd(self) -> int:
        """What to give to `signal.set_wakeup_fd`, so that a signal wakes `run` whichever thread it hits."""
        return self._loop.wake_fd

    def _on_stop(self) -> None:
        self._stopped = True

    def _start_more(self) -> None:
        while self._queue and len(self._jobs) < self._side_by_side and not self._stopped:
            job = _Job(self, self._queue.popleft())
            self._jobs.add(job)
            job.start()

    # What a job needs

    def get(self, assignment: Assignment, waiting: Waiting) -> None:
        """Get an artifact, or have it compiled."""
        self._artifacts_of().get(assignment, waiting)

    def drop(self, artifact: Artifact, assignment: Assignment, why: str) -> None:
        """Throw away an artifact that is not sound."""
        self._artifacts_of().drop(artifact, assignment.label, why)

    def call_after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call back later."""
        return self._loop.call_at(self._loop.clock.now() + seconds, callback)

    def has_started(self, assignment: Assignment) -> None:
        """Tell that a compiler is at work."""
        self._on_start(assignment)

    def look(self, artifact: Artifact) -> int:
        """Return the size of a sound artifact's file; raise `BadArtifact` for another."""
        data = read_whole(artifact.fd)
        unseal(self._secret, artifact.name, data)
        return len(data)

    def is_kept(self, artifact: Artifact) -> bool:
        """Tell whether it is in the cache, and not only in the memory of this process."""
        try:
            fd = self._cache.open(artifact.name)
        except BadArtifact:
            return False
        if fd is not None:
            os.close(fd)
        return fd is not None

    def over(self, job: _Job, compiled: Compiled) -> None:
        """Take what became of a module, and go on to the next."""
        self._jobs.discard(job)
        self._on_end(compiled)
        # Not from here: this call may stand deep inside the one that started the job.
        self._loop.post(self._start_more)

    def _artifacts_of(self) -> Artifacts:
        if self._artifacts is None:
            raise InternalError("nothing is compiled before `run`")
        return self._artifacts

    def _kill_all_and_wait(self) -> None:
        artifacts = self._artifacts
        for job in self._jobs:
            job.forget()
        if artifacts is None:
            return
        artifacts.stop_all()
        until = time.monotonic() + _LAST_WAIT_S
        while not artifacts.reap() and time.monotonic() < until:
            # They were killed, and are on their way.
            time.sleep(0.0005)
        artifacts.close()


class _Job:
    """One module on its way into the cache."""

    def __init__(self, owner: Precompiler, assignment: Assignment) -> None:
        self._owner = owner
        self._assignment = assignment
        self._began = 0.0
        self._compiled = False
        self._timer: Timer | None = None
        self._waiting: Waiting | None = None

    def start(self) -> None:
        """Look into the cache; where it is not there, wait for its compiler as long as the start limit lets it."""
        self._began = time.monotonic()
        self._waiting = waiting = Waiting(self._on_ready, self._on_refused, self._on_compiler_end)
        self._owner.get(self._assignment, waiting)
        if waiting.pid is not None:
            self._compiled = True
            self._timer = self._owner.call_after(self._assignment.limits.start, self._on_deadline)
            self._owner.has_started(self._assignment)

    def forget(self) -> None:
        """Have nothing happen any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _on_ready(self, artifact: Artifact) -> None:
        try:
            size = self._owner.look(artifact)
        except BadArtifact as error:
            if self._compiled:
                # Somebody else writes to the cache, with another secret.
                return self._end(problem=f"its artifact cannot be used: {error}")
            self._owner.drop(artifact, self._assignment, f"the artifact in the cache cannot be used ({error})")
            return self.start()
        if not self._compiled:
            return self._end(size=size)
        if not self._owner.is_kept(artifact):
            return self._end(problem="it was compiled, and could not be kept in the cache")
        return self._end(size=size, seconds=time.monotonic() - self._began)

    def _on_refused(self, text: str, _out_of_memory: bool) -> None:
        self._end(problem=text)

    def _on_compiler_end(self, end: CompilerEnd) -> None:
        self._end(problem=end.message or "its compiler was stopped")

    def _on_deadline(self) -> None:
        if self._waiting is not None:
            # Another may wait for the same compiler, and have longer.
            waiting, self._waiting = self._waiting, None
            waiting.ended = lambda end: None
            waiting.stop(kill=True)
            self._end(problem=f"it took longer than its start limit of {self._assignment.limits.start:g} s")

    def _end(self, *, size: int | None = None, seconds: float | None = None, problem: str | None = None) -> None:
        self.forget()
        self._waiting = None
        self._owner.over(self, Compiled(self._assignment, size, seconds, problem))
