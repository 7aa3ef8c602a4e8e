"""What the benchmark asks of everyone that can run a guest and stop it, and what several of them share.

A contender is made anew in a process of its own for each row, and may leave threads and workers behind: whoever
started that process ends them all.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import psutil

CONCURRENCY = 2
"""How many tasks run side by side in the row of tasks a second."""
LIMIT_S = 10.0
"""The time limit of tasks that end by themselves: everybody has one, as everybody's users would."""
DEADLINE_S = 0.2
"""The time limit of tasks that do not."""
GRACE_S = 1.0
"""The grace between the gentle and the hard signal, where a contender has both and the row allows one."""
_POLL_S = 0.0005


class NotMeasured(Exception):
    """A contender cannot do what a row asks; the text says why."""


@dataclass
class Place:
    """Where guests and signs are, and how long a guest that should be stopped is waited for."""

    folder: str
    patience_s: float = 8.0
    _signs: int = field(default=0, init=False)

    def guest(self, name: str) -> str:
        """Return the path of a guest's module."""
        return os.path.join(self.folder, f"{name}.wasm")

    def sign(self) -> str:
        """Return a path for a sign that nobody has used."""
        self._signs += 1
        return os.path.join(self.folder, f"sign-{os.getpid()}-{self._signs}")


class Contender(ABC):
    """A way to run guests. `what` says how it is used here, `install` is the command that gets it."""

    name: str
    what: str
    install: str = ""

    @abstractmethod
    def why_not(self) -> str | None:
        """Say why it cannot be measured here, None if it can."""

    @abstractmethod
    def many(self, place: Place, count: int) -> float:
        """Run the trivial guest `count` times, `CONCURRENCY` side by side; return seconds. The second call is warm."""

    @abstractmethod
    def starts(self, place: Place, count: int) -> list[float]:
        """Return seconds from the asking until the guest runs, one task after the other."""

    @abstractmethod
    def lives(self, place: Place, count: int) -> list[float]:
        """Return seconds from the asking until the outcome is known, for the trivial guest, one after the other."""

    @abstractmethod
    def stop(self, place: Place, guest: str, *, grace: bool) -> float | None:
        """Let a guest run into `DEADLINE_S`; return seconds from then until nothing of it runs, None for never."""

    @abstractmethod
    def spin(self, place: Place, count: int) -> set[int]:
        """Start `count` guests that spin; return the pids whose death should end them, once all of them run."""

    @abstractmethod
    def keeps_output(self, place: Place) -> tuple[bool | None, str]:
        """Let a guest print a line and be stopped; tell whether the line is there (None: not stopped), and where."""


def best_engine() -> str | None:
    """The engine for contenders that may choose: the one that starts faster, of those that are here."""
    for name in ("wasmer", "wasmtime"):
        if importlib.util.find_spec(name) is None:
            continue
        try:
            # On newer Pythons pip installs a stub of wasmer, which tells only when it is used.
            getattr(importlib.import_module(name), "Store")  # noqa: B009
        except ImportError:
            continue
        return name
    return None


def read_sign(sign: str, patience_s: float) -> tuple[int, float]:
    """Wait for a sign; return the pid of who runs the guest, and since when in seconds of the monotonic clock."""
    until = time.monotonic() + patience_s
    while not os.path.exists(sign):
        if time.monotonic() > until:
            raise NotMeasured("its guest did not start")
        time.sleep(_POLL_S)
    with open(sign, encoding="ascii") as file:
        pid, began = file.read().split()
    return int(pid), int(began) / 1e9


def wait_gone(pid: int, patience_s: float) -> float | None:
    """Wait until a process is reaped; return the monotonic clock then, None if it still is there after `patience_s`.

    One that has ended after its parent did counts as reaped, which is then the matter of nobody who is measured.
    """
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE and process.ppid() in (1, os.getppid()):
                return time.monotonic()
        except psutil.NoSuchProcess:
            return time.monotonic()
        time.sleep(_POLL_S)
    return None
