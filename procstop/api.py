"""Run jobs from Python: at once, in the background, or awaited.

A run belongs to a thread of its own, from which it starts its workers: the kernel ends a worker with the thread
that started it. Ctrl-C in the main thread, and the cancelling of an awaiting task, stop the run as a first press of
Ctrl-C does, wait until nothing is left of it, and are then raised on.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterable
from typing import Any

from procstop.errors import InternalError, InvalidValue
from procstop.events import Observer
from procstop.model import Job, Reason, Rung, Task
from procstop.places import cache_directory
from procstop.platforms import check_platform
from procstop.preflight import prepare
from procstop.records import RunRecord, TaskRecord
from procstop.supervisor import Supervisor
from procstop.supervisor.outputs import make_directory

_OBSERVERS_S = 5.0
"""How long the end of a run waits for observers."""


class Run:
    """A run that goes on in the background. As a context manager it is stopped at the end of the block."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._over = threading.Event()
        self._record: RunRecord | None = None
        self._error: BaseException | None = None
        self._callbacks: list[Any] = []
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name=f"procstop-{supervisor.run_id}")
        self._thread.start()

    @property
    def id(self) -> str:
        """The run's id."""
        return self._supervisor.run_id

    @property
    def over(self) -> bool:
        """Tell whether it is over."""
        return self._over.is_set()

    def stop(self, rung: Rung | str = Rung.INTERRUPT) -> None:
        """Stop it: start no further task, and stop those that run, from `rung` on. Any thread may ask.

        Raise `InvalidValue` for a rung that is not on the ladder.
        """
        try:
            self._supervisor.stop(Reason.STOP_COMMAND, Rung(rung))
        except ValueError:
            raise InvalidValue("rung", f"must be one of {', '.join(one.value for one in Rung)}, got {rung!r}") from None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is over, at most `timeout` seconds; return whether it is."""
        return self._over.wait(timeout)

    def result(self) -> RunRecord:
        """Wait until it is over and return what happened.

        KeyboardInterrupt is raised on only when nothing is left of the run; each further one climbs the ladder.
        """
        self._wait_climbing()
        if self._error is not None:
            raise self._error
        if self._record is None:
            raise InternalError("a run is over without a record")
        return self._record

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.over:
            self.stop()
        self._wait_climbing()
        self._thread.join(_OBSERVERS_S)

    def _wait_climbing(self) -> None:
        """Wait until it is over; every Ctrl-C meanwhile is a press, and the first is raised at the end."""
        interrupted: KeyboardInterrupt | None = None
        while not self._over.is_set():
            try:
                self._over.wait()
            except KeyboardInterrupt as error:
                interrupted = interrupted or error
                self._supervisor.press()
        if interrupted is not None:
            raise interrupted

    def _when_over(self, callback: Any) -> None:
        with self._lock:
            if not self._over.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def _work(self) -> None:
        try:
            with self._supervisor:
                self._record = self._supervisor.run()
                # Observers are told all, unless one is stuck: nobody waits for that.
                self._supervisor.wait_for_observers(_OBSERVERS_S)
        except BaseException as error:
            self._error = error
        with self._lock:
            self._over.set()
        for callback in self._callbacks:
            callback()


def start(job: Job, *, observers: Iterable[Observer] = (), output_dir: str | None = None) -> Run:
    """Start a job in the background. Raise `JobFileError`, with every problem, before anything is started.

    `output_dir` is made if need be; what guests write is kept there, a file for each stream of each attempt.
    """
    check_platform()
    plan = prepare(job).check()
    if output_dir is not None:
        output_dir = os.path.abspath(output_dir)
        try:
            make_directory(output_dir)
        except OSError as error:
            raise InvalidValue("output_dir", f"cannot make {output_dir!r}: {error.strerror}") from None
    return Run(
        Supervisor(
            job,
            plan.assignments,
            observers=tuple(observers),
            output_dir=output_dir,
            cache_directory=cache_directory(),
        )
    )


def run(job: Job, *, observers: Iterable[Observer] = (), output_dir: str | None = None) -> RunRecord:
    """Run a job to its end and return what happened; see `start`."""
    with start(job, observers=observers, output_dir=output_dir) as running:
        return running.result()


async def run_async(job: Job, *, observers: Iterable[Observer] = (), output_dir: str | None = None) -> RunRecord:
    """Run a job without blocking the event loop. Cancelling it stops the run, and returns when nothing is left."""
    loop = asyncio.get_running_loop()
    watchers = tuple(observers)
    # No task of its own: the end of the loop cancels every task, but it cannot call the thread back.
    starting = loop.run_in_executor(None, lambda: start(job, observers=watchers, output_dir=output_dir))
    cancelled: asyncio.CancelledError | None = None
    while not starting.done():
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError as error:
            # The thread goes on: without it there would be a run that nobody could stop.
            cancelled = cancelled or error
        except Exception:
            break
    running = starting.result()
    over = loop.create_future()

    def finish() -> None:
        if not over.done():
            over.set_result(None)

    running._when_over(lambda: loop.call_soon_threadsafe(finish))
    if cancelled is not None:
        running._supervisor.press()
    while not over.done():
        try:
            await asyncio.shield(over)
        except asyncio.CancelledError as error:
            cancelled = cancelled or error
            running._supervisor.press()
    # It called back as the last thing that it does: not even its thread is left to the caller.
    running._thread.join()
    if cancelled is not None:
        raise cancelled
    return running.result()


def run_module(module: str | os.PathLike[str], call: str = "_start", *args: Any, **options: Any) -> TaskRecord:
    """Run one module: `run_module("add.wat", "run", 1, 7).values`.

    `options` are those of `Task`, and `observers` and `output_dir` as in `start`.
    """
    around = {key: options.pop(key) for key in ("observers", "output_dir") if key in options}
    name = os.path.splitext(os.path.basename(os.fspath(module)))[0] or "module"
    task = Task(name, os.fspath(module), call, args, **options)
    return run(Job(name, [task]), **around).tasks[0]
