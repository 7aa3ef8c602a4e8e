"""The standard library's ProcessPoolExecutor: a timeout ends the waiting, never the task."""

from __future__ import annotations

from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

from benchmarks import runner
from benchmarks.alternatives.pools import Pool


class Executor(Pool):
    """`ProcessPoolExecutor.submit`, and `Future.result` with a timeout."""

    name = "ProcessPoolExecutor"
    what = "`concurrent.futures.ProcessPoolExecutor`, and `result(timeout)`, which ends the waiting and not the task"

    def make_pool(self, workers: int) -> Any:
        """See `Pool`."""
        return ProcessPoolExecutor(max_workers=workers)

    def submit(self, timeout: float, *args: Any) -> Future[Any]:
        """See `Pool`."""
        future: Future[Any] = self._pool.submit(runner.run, *args)
        return future

    def result(self, future: Future[Any], timeout: float) -> Any:
        """See `Pool`."""
        return future.result(timeout=timeout)
