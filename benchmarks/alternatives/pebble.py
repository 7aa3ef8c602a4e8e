"""pebble's ProcessPool: each task has a timeout, and a worker whose task ran into it is replaced."""

from __future__ import annotations

import importlib
import importlib.util
from concurrent.futures import Future
from typing import Any

from benchmarks import runner
from benchmarks.alternatives.pools import Pool


class Pebble(Pool):
    """`ProcessPool.schedule` with a timeout; `max_tasks` is how many tasks a worker may run, 0 for any number."""

    install = "pip install pebble"

    def __init__(self, max_tasks: int = 0, *, new_store: bool = False) -> None:
        super().__init__()
        self.max_tasks = max_tasks
        self.new_store = new_store
        self.name = "pebble"
        self.what = f"`pebble.ProcessPool({'max_tasks=1' if max_tasks else ''})`, tasks with a timeout; after it a "
        self.what += "SIGTERM, and 3 s later a SIGKILL (its `CONSTS.term_timeout`)"
        if max_tasks == 1:
            self.name += ", a process per task"
        elif new_store:
            # What procstop's reused workers do: nothing of an attempt is left in the store of the next.
            self.name += ", a store per task"
            self.what += "; the guest gets a store of its own"
        else:
            self.what += "; a worker keeps its store, and the guest gets an instance of its own in it"

    def why_not(self) -> str | None:
        """See `Contender`."""
        if importlib.util.find_spec("pebble") is None:
            return "pebble is not installed"
        return super().why_not()

    def make_pool(self, workers: int) -> Any:
        """See `Pool`."""
        return importlib.import_module("pebble").ProcessPool(max_workers=workers, max_tasks=self.max_tasks)

    def submit(self, timeout: float, *args: Any) -> Future[Any]:
        """See `Pool`."""
        future: Future[Any] = self._pool.schedule(
            runner.run, args=args, kwargs={"new_store": self.new_store}, timeout=timeout
        )
        return future
