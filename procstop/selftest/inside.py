"""P6: a guest has what its task grants and no more, and neither has native code in its worker."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from procstop.model import Dir, Level, Outcome, Reason
from procstop.records import AttemptRecord
from procstop.selftest import hostile
from procstop.selftest.bench import AT_ONCE, PATIENT, Bench, Trial
from procstop.selftest.outcomes import is_not

_MIB = 1 << 20
_FBIG, _MFILE = 22, 33
"""Errnos of WASI."""

# Limits


def memory(bench: Bench) -> list[Trial]:
    """A guest that takes memory until it gets no more."""
    return _limited(bench, Outcome.TRAPPED, Reason.MEMORY_LIMIT, "needs_memory", memory=16 * _MIB)


def cpu(bench: Bench) -> list[Trial]:
    """A guest that uses up its CPU time."""
    return _limited(bench, Outcome.KILLED, Reason.CPU_LIMIT, "spins", cpu=0.1, stop=AT_ONCE)


def output(bench: Bench) -> list[Trial]:
    """A guest that writes for ever: exactly as much is kept as it may write."""
    attempts = bench.attempts("writes_forever", output=_MIB, stop=AT_ONCE)
    return [_judge(one, Outcome.KILLED, Reason.OUTPUT_LIMIT, one.stdout.bytes, _MIB) for one in attempts]


def stall(bench: Bench) -> list[Trial]:
    """A guest that passes no more stopping points."""
    return _limited(bench, Outcome.KILLED, Reason.STALL, "points_then_spins", stall=0.1, stop=AT_ONCE)


def open_files(bench: Bench) -> list[Trial]:
    """A guest that opens a file again and again."""
    place = _make_place(bench)
    attempts = bench.attempts("opens_many", "run", 100, open_files=5, dirs=[Dir("/data", place.readable)])
    return [_judge(one, Outcome.COMPLETED, None, one.values, (5 * 100 + _MFILE,)) for one in attempts]


def file_size(bench: Bench) -> list[Trial]:
    """A guest that fills a file."""
    place = _make_place(bench)
    dirs = [Dir("/out", place.writable, write=True)]
    attempts = bench.attempts("fills_file", "run", file_size=300_000, dirs=dirs, stop=PATIENT, concurrency=1)
    size = os.stat(os.path.join(place.writable, "out.txt")).st_size
    return [_judge(one, Outcome.COMPLETED, None, (one.values, size), ((_FBIG,), 300_000)) for one in attempts]


def _limited(bench: Bench, outcome: Outcome, reason: Reason, guest: str, **limits: Any) -> list[Trial]:
    return [Trial(fault=is_not(one, outcome, reason)) for one in bench.attempts(guest, **limits)]


def _judge(attempt: AttemptRecord, outcome: Outcome, reason: Reason | None, found: object, expected: object) -> Trial:
    wrong = None if found == expected else f"it came to {found} instead of {expected}"
    return Trial(fault=is_not(attempt, outcome, reason) or wrong)


# Files, through WASI


class Place:
    """A directory to read and one to write to, full of ways out; and what is outside, which nobody may touch."""

    def __init__(self, root: str) -> None:
        self.root, self.outside = root, os.path.join(root, "outside")
        self.readable, self.writable = os.path.join(root, "readable"), os.path.join(root, "writable")
        for directory in (root, self.outside, self.readable, self.writable):
            os.mkdir(directory)
        for path in (self.outside, root):
            _write(os.path.join(path, "secret"))
        for directory in (self.readable, self.writable):
            for name in ("file", "in.txt"):
                _write(os.path.join(directory, name))
            os.symlink("../outside/secret", os.path.join(directory, "link"))
            os.symlink("../outside", os.path.join(directory, "away"))
            os.symlink(os.path.join(self.outside, "secret"), os.path.join(directory, "absolute"))
            os.symlink("../outside/new", os.path.join(directory, "hole"))

    def snapshot(self) -> list[tuple[str, int, int, int]]:
        """Return all that there is outside, with what would show a change."""
        found = []
        for directory in (self.root, self.outside):
            for name in sorted(os.listdir(directory)):
                path = os.path.join(directory, name)
                if not os.path.isdir(path):
                    about = os.lstat(path)
                    found.append((path, about.st_ino, about.st_mode, about.st_mtime_ns))
                else:
                    found.append((path, os.lstat(path).st_ino, 0, 0))
        return found


def _write(path: str) -> None:
    with open(path, "w") as file:
        file.write("content")


def _make_place(bench: Bench) -> Place:
    number = sum(name.startswith("place") for name in os.listdir(bench.directory))
    return Place(os.path.join(bench.directory, f"place-{number}"))


def escapes(readable: bool, writable: bool) -> Callable[[Bench], list[Trial]]:
    """Return the row of a guest that tries every way out of the directories that it has."""

    def try_escapes(bench: Bench) -> list[Trial]:
        place = _make_place(bench)
        dirs = [Dir("/r", place.readable)] * readable + [Dir("/w", place.writable, write=True)] * writable
        before = place.snapshot()
        attempts = bench.attempts("escapes", "run", dirs=dirs)
        changed = "something outside was changed" if place.snapshot() != before else None
        trials = [_judge(one, Outcome.COMPLETED, None, one.values, (len(dirs),)) for one in attempts]
        return [Trial(fault=trial.fault or changed) for trial in trials]

    return try_escapes


# Native code, which an engine with a hole would let in


def contained(work: Callable[[], None]) -> Callable[[Bench], list[Trial]]:
    """Return the row of a host function that tries something for which nothing was allowed."""

    def try_work(bench: Bench) -> list[Trial]:
        place = _make_place(bench)
        before = place.snapshot()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            env = {hostile.OUTSIDE: place.outside, hostile.PORT: str(listener.getsockname()[1])}
            attempts = bench.attempts("calls_host", host={"env.work": work}, env=env, time=60.0)
        changed = "something outside was changed" if place.snapshot() != before else None
        return [Trial(fault=is_not(one, Outcome.COMPLETED, None) or changed) for one in attempts]

    return try_work


def lacks_layers(bench: Bench) -> str | None:
    """Say what this machine lacks of what keeps native code inside."""
    return None if bench.level is Level.FULL else "; ".join(bench.missing) or f"containment is {bench.level.value}"
