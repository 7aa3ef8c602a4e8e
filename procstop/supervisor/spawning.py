"""One wish for a worker: what it is to host, who is told of it, and the files that it begins with.

`hiring` makes it and `spawner` grants it; it does nothing by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from procstop.process import SpawnError, Worker
from procstop.supervisor.artifacts import Artifact
from procstop.supervisor.assignment import Assignment


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

    @property
    def engine(self) -> str:
        """The engine that its guest runs on."""
        return self.assignment.engine or ""

    @property
    def mark(self) -> str | None:
        """What marks the processes that its host functions, or what they import, start; None without any."""
        return self.attempt if self.assignment.has_functions else None

    def abandon(self) -> None:
        """Want it no more; a worker that comes all the same is killed."""
        self.abandoned = True


class Opened:
    """The files that a worker begins with, open for as long as it takes to hand them over."""

    def __init__(self, spawning: Spawning) -> None:
        self._assignment = spawning.assignment
        self.module = -1
        self.stdin = -1

    def __enter__(self) -> Opened:
        try:
            self.module = self._assignment.open_module()
            self.stdin = self._assignment.open_stdin()
        except OSError as error:
            self.__exit__()
            what = f'open "{error.filename}"' if error.filename is not None else "start a worker"
            raise SpawnError(f"cannot {what}: {error.strerror}", error) from error
        return self

    def __exit__(self, *_: object) -> None:
        for fd in (self.module, self.stdin):
            if fd >= 0:
                os.close(fd)
