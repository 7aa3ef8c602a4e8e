"""What pools of worker processes share: a worker keeps the engine and the modules that it has loaded.

A task is over when its future is done and, if it was to be stopped, the worker that ran its guest is gone.
"""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from concurrent.futures import Future
from typing import Any

from benchmarks import runner
from benchmarks.contender import (
    CONCURRENCY,
    DEADLINE_S,
    LIMIT_S,
    Contender,
    NotMeasured,
    Place,
    best_engine,
    read_sign,
    wait_gone,
)
from benchmarks.guests import PARTIAL

_WARM_UP = 5


class Pool(Contender):
    """A pool whose tasks call `runner.run`."""

    def __init__(self) -> None:
        self.engine = ""
        self._pool: Any = None

    def why_not(self) -> str | None:
        """See `Contender`."""
        self.engine = best_engine() or ""
        return None if self.engine else "no engine is installed"

    @abstractmethod
    def make_pool(self, workers: int) -> Any:
        """Make the pool."""

    @abstractmethod
    def submit(self, timeout: float, *args: Any) -> Future[Any]:
        """Hand a task to the pool."""

    def result(self, future: Future[Any], timeout: float) -> Any:
        """Wait for a task as the pool's users do; a task that ran into its limit raises TimeoutError."""
        return future.result()

    def open(self, workers: int) -> None:
        """Make the pool if there is none, with the engine imported before it forks."""
        if self._pool is None:
            self.why_not()
            runner.load_engine(self.engine)
            self._pool = self.make_pool(workers)

    def many(self, place: Place, count: int) -> float:
        """See `Contender`."""
        self.open(CONCURRENCY)
        guest = place.guest("trivial")
        began = time.monotonic()
        futures = [self.submit(LIMIT_S, self.engine, guest) for _ in range(count)]
        for future in futures:
            self.result(future, LIMIT_S)
        return time.monotonic() - began

    def starts(self, place: Place, count: int) -> list[float]:
        """See `Contender`."""
        self.open(1)
        found = []
        for _ in range(count + _WARM_UP):
            began = time.monotonic_ns()
            told = self.result(self.submit(LIMIT_S, self.engine, place.guest("tells")), LIMIT_S)
            found.append((told - began) / 1e9)
        return found[_WARM_UP:]

    def lives(self, place: Place, count: int) -> list[float]:
        """See `Contender`."""
        self.open(1)
        found = []
        for _ in range(count + _WARM_UP):
            began = time.monotonic()
            self.result(self.submit(LIMIT_S, self.engine, place.guest("trivial")), LIMIT_S)
            found.append(time.monotonic() - began)
        return found[_WARM_UP:]

    def stop(self, place: Place, guest: str, *, grace: bool) -> float | None:
        """See `Contender`; a pool has one way to stop, with its own grace."""
        self.open(1)
        sign = place.sign()
        future = self.submit(DEADLINE_S, self.engine, place.guest(guest), sign)
        pid, began = read_sign(sign, place.patience_s)
        try:
            self.result(future, DEADLINE_S)
        except Exception as error:
            if not isinstance(error, TimeoutError) and type(error).__name__ != "TimeoutError":
                raise
        else:
            raise NotMeasured("a guest that never ends came to an end")
        done = time.monotonic()
        gone = wait_gone(pid, place.patience_s)
        return None if gone is None else max(done, gone) - began - DEADLINE_S

    def spin(self, place: Place, count: int) -> set[int]:
        """See `Contender`."""
        self.open(count)
        signs = [place.sign() for _ in range(count)]
        for sign in signs:
            self.submit(600, self.engine, place.guest("spins"), sign)
        for sign in signs:
            read_sign(sign, place.patience_s)
        return {os.getpid()}

    def keeps_output(self, place: Place) -> tuple[bool | None, str]:
        """See `Contender`; workers write to the standard output of whoever made the pool."""
        with redirected(place) as path:
            stopped = self.stop(place, "prints", grace=False) is not None
            with open(path, "rb") as file:
                there = PARTIAL in file.read()
        return (there if stopped else None), "among the parent's own output" if there else ""


class redirected:
    """Put this process's standard output into a file; as a context manager it returns the path."""

    def __init__(self, place: Place) -> None:
        self._path = os.path.join(place.folder, "stdout")
        self._kept = -1

    def __enter__(self) -> str:
        self._kept = os.dup(1)
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.dup2(fd, 1)
        os.close(fd)
        return self._path

    def __exit__(self, *_: object) -> None:
        os.dup2(self._kept, 1)
        os.close(self._kept)
