"""What contenders share that run `runner.py`, a Python script that hosts one guest, as a command for each task."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor

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

SCRIPT = os.path.abspath(runner.__file__)
_WARM_UP = 2


class Command(Contender):
    """One command for each task, started from Python and waited for."""

    engine = ""

    def why_not(self) -> str | None:
        """See `Contender`."""
        self.engine = self.engine or best_engine() or ""
        return None if self.engine else "no engine is installed"

    def script(self, place: Place, guest: str, sign: str | None = None) -> list[str]:
        """Return the command that runs a guest."""
        self.why_not()
        return [sys.executable, SCRIPT, self.engine, place.guest(guest), *([sign] if sign else [])]

    @abstractmethod
    def call(self, command: list[str], limit_s: float, *, grace: bool = False) -> tuple[bool, bytes]:
        """Run a command with a time limit; return whether it ran into it, and what it wrote."""

    @abstractmethod
    def begin(self, command: list[str]) -> int:
        """Start a command without waiting; return the pid whose death should end it."""

    def many(self, place: Place, count: int) -> float:
        """See `Contender`."""
        command = self.script(place, "trivial")
        with ThreadPoolExecutor(CONCURRENCY) as threads:
            began = time.monotonic()
            list(threads.map(lambda _: self.call(command, LIMIT_S), range(count)))
            return time.monotonic() - began

    def starts(self, place: Place, count: int) -> list[float]:
        """See `Contender`."""
        found = []
        for _ in range(count + _WARM_UP):
            began = time.monotonic_ns()
            _, output = self.call(self.script(place, "tells"), LIMIT_S)
            found.append((int(output) - began) / 1e9)
        return found[_WARM_UP:]

    def lives(self, place: Place, count: int) -> list[float]:
        """See `Contender`."""
        found = []
        for _ in range(count + _WARM_UP):
            began = time.monotonic()
            self.call(self.script(place, "trivial"), LIMIT_S)
            found.append(time.monotonic() - began)
        return found[_WARM_UP:]

    def stop(self, place: Place, guest: str, *, grace: bool) -> float | None:
        """See `Contender`; its clock starts with the command."""
        sign = place.sign()
        began = time.monotonic()
        stopped, _ = self.call(self.script(place, guest, sign), DEADLINE_S, grace=grace)
        done = time.monotonic()
        if not stopped:
            raise NotMeasured("a guest that never ends came to an end")
        pid, _ = read_sign(sign, place.patience_s)
        gone = wait_gone(pid, place.patience_s)
        return None if gone is None else max(done, gone) - began - DEADLINE_S

    def spin(self, place: Place, count: int) -> set[int]:
        """See `Contender`."""
        signs = [place.sign() for _ in range(count)]
        pids = {self.begin(self.script(place, "spins", sign)) for sign in signs}
        for sign in signs:
            read_sign(sign, place.patience_s)
        return pids

    def keeps_output(self, place: Place) -> tuple[bool | None, str]:
        """See `Contender`."""
        stopped, output = self.call(self.script(place, "prints"), DEADLINE_S)
        return (PARTIAL in output if stopped else None), "in the task's own output"


def start_quietly(command: list[str]) -> int:
    """Start a command in the background; return its pid."""
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet).pid
