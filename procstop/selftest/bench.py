"""Where the selftest happens: a private directory, guests as bytes, a cache of its own, and nothing left of it."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from procstop import api, linux
from procstop.errors import EngineError, InternalError
from procstop.events import Event
from procstop.model import Containment, Job, Level, Limits, Outcome, StopPolicy, Task, Workers
from procstop.preflight import engine_status, read_sources
from procstop.preflight.contained import contained
from procstop.records import AttemptRecord, RunRecord
from procstop.sandbox import probe
from procstop.selftest import processes
from procstop.selftest.victims import Victims

ENGINES = ("wasmer", "wasmtime")
AT_ONCE = StopPolicy(interrupt=0, preempt=0, terminate=0, kill_wait=10)
"""No graces: the deadline is the kill."""
PATIENT = StopPolicy(interrupt=20, preempt=20, terminate=20, kill_wait=10)
"""Graces for those who leave before they are over, however slow the machine is."""
ANY = tuple(Outcome)
_CONCURRENCY = 2
_SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guests")


@dataclass(frozen=True)
class Trial:
    """One trial: the milliseconds it took, None where nothing is timed, what was wrong, and who survived."""

    ms: float | None = None
    fault: str | None = None
    survivors: int = 0


@dataclass
class Bench:
    """What a row is tried on. `engine` is None for a row that takes all of `engines`."""

    engine: str | None
    engines: tuple[str, ...]
    trials: int
    directory: str
    guests: dict[str, str]
    victims: Victims
    level: Level
    missing: tuple[str, ...]
    absent: dict[str, str] = field(default_factory=dict)
    """Why engines are not here, by name."""
    known: frozenset[int] = frozenset()
    """The pids below this process that are none of the selftest's."""

    def task(self, guest: str, call: str = "_start", *args: Any, name: str = "guest", **options: Any) -> Task:
        """Make a task of a guest that may end as it likes: the trial looks at that itself."""
        options.setdefault("engine", self.engine or "auto")
        limits = {key: options.pop(key) for key in _LIMITS if key in options}
        return Task(name, self.guests[guest], call, args, expect=ANY, limits=Limits(**limits), **options)

    def attempts(self, guest: str, call: str = "_start", *args: Any, **options: Any) -> list[AttemptRecord]:
        """Run a guest as often as there are trials, two side by side, and return what became of each."""
        of_job = {key: options.pop(key) for key in ("watch", "concurrency") if key in options}
        tasks = [self.task(guest, call, *args, name=f"{n}", **options) for n in range(self.trials)]
        return [only(one.attempts) for one in self.run(tasks, **of_job).tasks]

    def run(
        self,
        tasks: Iterable[Task],
        watch: Callable[[Event], None] | None = None,
        concurrency: int = _CONCURRENCY,
        cache: bool = True,
    ) -> RunRecord:
        """Run tasks in one job; raise `Survived` if anything of it is left, and end that."""
        job = Job("selftest", list(tasks), concurrency=concurrency, workers=Workers(cache=cache))
        record = api.run(job, observers=[] if watch is None else [watch])
        self.check_gone(record.run)
        return record

    def check_gone(self, run: str) -> None:
        """Raise `Survived` if anything of a run is left, which is over; end that.

        By its mark wherever it is, and without it below this process, to which orphans come.
        """
        others = {*self.known, *self.victims.pids()}
        left = {*processes.marked(run), *(who for who in processes.below(os.getpid()) if who[0] not in others)}
        if left:
            processes.kill(left)
            raise Survived(len(left))


_LIMITS = ("start", "time", "cpu", "stall", "memory", "output", "open_files", "file_size")


class Survived(Exception):
    """Processes of a run were there when it was over: so many."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} of its processes survived the run")
        self.count = count


def only(attempts: tuple[AttemptRecord, ...]) -> AttemptRecord:
    """Return the one attempt of a task that was to be made once."""
    if len(attempts) != 1:
        raise InternalError(f"expected one attempt, got {len(attempts)}")
    return attempts[0]


def choose_engines(wanted: str | None) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the engines to try, and why others are not here; raise `EngineError` where there is none to try."""
    absent = {name: why for name in ENGINES if (why := engine_status()[name].why_not) is not None}
    if wanted is not None and wanted in absent:
        raise EngineError(f"{wanted}: {absent[wanted]}; `procstop engines` says what to do")
    here = tuple(name for name in ENGINES if name not in absent and wanted in (None, name))
    if not here:
        raise EngineError("no engine is here; `procstop engines` says what to do")
    return here, absent


@contextmanager
def make_bench(engines: tuple[str, ...], absent: dict[str, str], trials: int) -> Iterator[Bench]:
    """Lay out everything, and take all of it away at the end, whatever happened in between."""
    directory = tempfile.mkdtemp(prefix="procstop-selftest-")
    found = contained(Containment(), probe())
    before = os.environ.get(_CACHE)
    was_subreaper = linux.is_child_subreaper()
    known = frozenset(pid for pid, _ in processes.below(os.getpid()))
    victims = Victims()
    try:
        # Neither the user's cache is filled with these guests, nor can what is in it hide a fault of ours.
        os.environ[_CACHE] = os.path.join(directory, "cache")
        # What escapes from a victim that died comes to us, and is found.
        linux.set_child_subreaper(True)
        guests = _lay_out_guests(directory)
        yield Bench(None, engines, trials, directory, guests, victims, found.level, found.missing, absent, known)
    finally:
        with _undisturbed():
            victims.close()
            _end_all_but(known)
            linux.set_child_subreaper(was_subreaper)
            if before is None:
                os.environ.pop(_CACHE, None)
            else:
                os.environ[_CACHE] = before
            shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep a second Ctrl-C waiting while what the first one has left is cleared away."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


_CACHE = "XDG_CACHE_HOME"


def _lay_out_guests(directory: str) -> dict[str, str]:
    """Turn the texts of the guests into bytes, once; return their paths by name."""
    made = os.path.join(directory, "guests")
    os.mkdir(made)
    paths = [os.path.join(_SOURCE, name) for name in sorted(os.listdir(_SOURCE)) if name.endswith(".wat")]
    guests = {}
    for path, source in read_sources(paths).items():
        if not isinstance(source.module, bytes):
            raise InternalError(f"{path}: {source.error}")
        name = os.path.splitext(os.path.basename(path))[0]
        guests[name] = os.path.join(made, f"{name}.wasm")
        with open(guests[name], "wb") as file:
            file.write(source.module)
    return guests


def _end_all_but(known: frozenset[int]) -> None:
    """Kill and reap whatever is below this process and was not before: after a failure, or a Ctrl-C."""

    def is_clear() -> bool:
        processes.kill(who for who in processes.below(os.getpid()) if who[0] not in known)
        ours = [pid for pid in linux.children(os.getpid()) or () if pid not in known]
        for pid in ours:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass
        return not ours

    processes.wait_until(is_clear)
