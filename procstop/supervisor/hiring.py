"""One attempt's way to a worker: a free one of its kin, or its module's artifact (`artifacts`), then one made for it
(`spawner`).

The way may be given up at any point of it. A worker that is just being made may run its guest before we know of it, so
that one is waited for: whoever gives up is told of it, and ends it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from procstop.process import Worker
from procstop.supervisor.artifacts import Artifact, CompilerEnd, Waiting
from procstop.supervisor.assignment import Assignment
from procstop.supervisor.crew import Crew
from procstop.supervisor.pool import assign
from procstop.supervisor.port import Port
from procstop.supervisor.spawning import Spawning

_MOST_SPOILT = 2
"""Artifacts in a row that an attempt may find spoilt."""


@dataclass(frozen=True)
class Ways:
    """How it may end: a worker, or the reason why there is none, or the end of the compiler that was waited for.

    `refused` is told last whether it was the compiler's limit on memory; `compiling` is told the pid of a compiler
    while it is waited for.
    """

    worker: Callable[[Port], None]
    refused: Callable[[str, bool], None]
    compiler_ended: Callable[[CompilerEnd], None]
    compiling: Callable[[int], None]


class Hiring:
    """Gets one attempt, named by its token, a worker."""

    def __init__(self, crew: Crew, assignment: Assignment, token: str, ways: Ways) -> None:
        self._crew = crew
        self._assignment = assignment
        self._token = token
        self._ways = ways
        self._waiting: Waiting | None = None
        self._spawning: Spawning | None = None
        self._artifact: Artifact | None = None
        self._spoilt = 0
        self._given_up = False
        self.asked_at = 0.0
        """When a worker was asked for, in real time."""
        self.ends_unused = False
        """Whether the end of the worker is none of the attempt's, which it has not begun.

        It was a free one that had come to its end before it heard of this attempt, or could not load the module.
        """

    @property
    def may_have_made_one(self) -> bool:
        """Tell whether a fork server may be making a worker at this moment."""
        return self._spawning is not None and self._spawning.asked

    def begin(self) -> None:
        """Take a worker that is free, or have one made."""
        if not self._take_free():
            self._have_one_made()

    def begin_again(self) -> None:
        """The worker has ended unused: have another one made, unless that has happened too often."""
        self.ends_unused = False
        if self._spoilt > _MOST_SPOILT:
            return self._on_refused("its artifact could not be loaded, however often it was made")
        self._have_one_made()

    def give_up(self, *, kill: bool) -> str | None:
        """Want no worker any more; return why there is none, or None if a worker or an end is still to be told of.

        `kill` leaves nobody any time.
        """
        self._given_up = True
        if self._waiting is not None:
            waiting, spawning = self._waiting, None
            if waiting.stop(kill=kill):
                return None
            note = "its module was still being compiled"
        else:
            waiting, spawning = None, self._spawning
            note = "it had no worker yet"
        if spawning is not None and spawning.asked:
            spawning.unwanted = True
            if kill:
                self._crew.spawner.hurry(spawning)
            return None
        if spawning is not None:
            spawning.abandon()
        self._waiting = self._spawning = None
        return note

    def abandon(self) -> None:
        """Be told of nothing any more; a worker that comes all the same is killed."""
        if self._spawning is not None:
            self._spawning.abandon()
        self.finish()

    def loaded(self) -> None:
        """The worker has its module."""
        self._artifact = None
        self.ends_unused = False

    def found_spoilt(self, why: str) -> None:
        """The worker cannot load the artifact, and ends."""
        self._drop(why)
        self._spoilt += 1
        self.ends_unused = True

    def _drop(self, why: str) -> None:
        if self._artifact is not None:
            self._crew.artifacts.drop(self._artifact, self._assignment.label, why)
            self._artifact = None

    def finish(self) -> None:
        """Let go of everything: an artifact's file is open as long as anybody has it."""
        self._artifact = self._spawning = self._waiting = None

    def _take_free(self) -> bool:
        assignment, pool = self._assignment, self._crew.pool
        port = pool.take(assignment.kin) if assignment.kin is not None else None
        if port is None:
            return False
        stdin = -1
        try:
            stdin = assignment.open_stdin() if assignment.task.stdin is not None else -1
            told = assign(port, self._token, assignment.args, stdin if stdin >= 0 else None)
        except OSError:
            # Whoever starts a worker for it will say what is wrong with the file.
            told = False
        finally:
            if stdin >= 0:
                os.close(stdin)
        if not told:
            pool.let_go(port)
            return False
        # What it starts from now on bears this mark.
        port.worker.token = self._token
        if assignment.has_functions:
            self._crew.family.add_worker(port.worker.pid, self._token)
        self.ends_unused = True
        self.asked_at = time.monotonic()
        self._ways.worker(port)
        return True

    def _have_one_made(self) -> None:
        self._waiting = Waiting(self._on_artifact, self._on_refused, self._on_compiler_end)
        self._crew.artifacts.get(self._assignment, self._waiting)
        if self._waiting is not None and self._waiting.pid is not None:
            self._ways.compiling(self._waiting.pid)

    def _on_artifact(self, artifact: Artifact) -> None:
        self._waiting = None
        self._artifact = artifact
        self.asked_at = time.monotonic()
        self._spawning = Spawning(
            self._assignment,
            self._token,
            artifact,
            self._crew.artifacts.secret,
            self._on_worker,
            self._on_refused,
            self._on_spoilt,
        )
        self._crew.spawner.spawn(self._spawning)

    def _on_worker(self, worker: Worker) -> None:
        self._spawning = None
        self._ways.worker(Port(self._crew.loop, worker, self._assignment.order.hosts))

    def _on_refused(self, text: str, out_of_memory: bool = False) -> None:
        self._waiting = self._spawning = None
        self._ways.refused(text, out_of_memory)

    def _on_spoilt(self, text: str) -> None:
        """The artifact cannot be loaded: have another one made, unless that has happened before."""
        self._spawning = None
        self._spoilt += 1
        self._drop(text)
        if self._spoilt > _MOST_SPOILT or self._given_up:
            return self._on_refused(text)
        self._have_one_made()

    def _on_compiler_end(self, end: CompilerEnd) -> None:
        self._waiting = None
        self._ways.compiler_ended(end)
