"""Wait for events of a run and for facts about processes, never for luck."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import psutil

from procstop.events import AttemptCompiling, AttemptMoved, AttemptOver, AttemptStarted, Event, Notice, Output
from support.places import WAIT_S, below


class Watcher:
    """An observer that keeps what it was told, and lets a test wait for it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait_until(self, true: Callable[[list[Event]], bool]) -> None:
        """Wait until something holds of the events so far."""
        with self._changed:
            came = self._changed.wait_for(lambda: true(self.events), WAIT_S)
        assert came, f"it did not come; what came was {self.events}"

    def wait_for_state(self, state: str, count: int = 1) -> None:
        """Wait until so many attempts have entered a state."""
        self.wait_until(lambda events: sum(isinstance(e, AttemptMoved) and e.state == state for e in events) >= count)

    def wait_for_output(self, text: bytes, stream: str = "stdout", count: int = 1) -> None:
        """Wait until guests wrote a text so many times."""
        self.wait_until(lambda events: _written(events, stream).count(text) >= count)

    def written(self, stream: str = "stdout") -> bytes:
        """Return what all guests wrote to a stream."""
        with self._changed:
            return _written(self.events, stream)

    def states(self, task: str | None = None) -> list[str]:
        """Return the states that attempts entered, in order."""
        with self._changed:
            return [e.state for e in self.events if isinstance(e, AttemptMoved) and task in (None, e.task)]

    def pids(self) -> list[int]:
        """Return the workers' pids."""
        with self._changed:
            return [event.pid for event in self.events if isinstance(event, AttemptStarted)]

    def compilers(self) -> list[int]:
        """Return the compilers' pids, one for each attempt that waited."""
        with self._changed:
            return [event.pid for event in self.events if isinstance(event, AttemptCompiling)]

    def wait_for_compilers(self, count: int = 1) -> list[int]:
        """Wait until so many attempts wait for a compiler; return its pid for each."""
        self.wait_until(lambda events: sum(isinstance(event, AttemptCompiling) for event in events) >= count)
        return self.compilers()

    def notices(self) -> list[str]:
        """Return the lines for the user."""
        with self._changed:
            return [event.text for event in self.events if isinstance(event, Notice)]

    def wait_for_notice(self, text: str) -> None:
        """Wait until a line for the user holds a text."""
        self.wait_until(lambda events: any(isinstance(event, Notice) and text in event.text for event in events))

    def most_side_by_side(self) -> int:
        """Return how many attempts ran at once, at most."""
        most = now = 0
        with self._changed:
            for event in self.events:
                now += isinstance(event, AttemptStarted) - isinstance(event, AttemptOver)
                most = max(most, now)
        return most


def _written(events: list[Event], stream: str) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Output) and event.stream == stream)


def wait_until(true: Callable[[], object], what: str, within: float = WAIT_S) -> None:
    """Look again and again until something is so."""
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline, f"it is not so after {within:g} s: {what}"
        time.sleep(0.002)


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended; one that nobody reaped yet has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, IndexError):
        # psutil finds an empty /proc/PID/stat when the process ends at just that moment.
        return True


def wait_until_gone(pid: int) -> None:
    """Wait until a process that is none of ours has ended."""
    wait_until(lambda: is_gone(pid), f"process {pid} is gone")


def processes_marked(text: str) -> list[int]:
    """Return the living processes whose environment or command line holds a text, this one left out."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                said = b""
                for part in ("environ", "cmdline"):
                    with open(f"/proc/{name}/{part}", "rb") as file:
                        said += file.read()
            except OSError:
                continue
            if text.encode() in said and not is_gone(int(name)):
                found.append(int(name))
    return found


def process_state(pid: int) -> str:
    """Return the letter that /proc has for a process's state: R, S, T, Z, ...; X for one that is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def workers(pid: int) -> list[int]:
    """Return the pids of a process's living workers: their name tells them from fork servers and compilers."""
    return _named("procstop-worker", pid)


def fork_servers(pid: int) -> list[int]:
    """Return the pids of a process's living fork servers."""
    return _named("procstop-forkserver", pid)


def compilers(pid: int) -> list[int]:
    """Return the pids of a process's living compilers."""
    return _named("procstop-compiler", pid)


def guardians(pid: int) -> list[int]:
    """Return the pids of a process's living guardians, those that have only just been started too."""
    return [child for child in _below(pid) if _is_guardian(child) and not is_gone(child)]


def listening_guardians(pid: int, count: int) -> list[int]:
    """Return the pids of a process's guardians, once there are so many and all of them listen."""

    def listens(one: int) -> bool:
        return _name(one) == "procstop-guardian"[:15] and process_state(one) == "S"

    def listen() -> bool:
        found = guardians(pid)
        return len(found) == count and all(listens(one) for one in found)

    wait_until(listen, f"there are guardians: {count}")
    return guardians(pid)


def guardian(pid: int) -> int:
    """Return the pid of a process's only guardian, once it listens."""
    (found,) = listening_guardians(pid, 1)
    return found


def _is_guardian(pid: int) -> bool:
    try:
        return any("from guardian import" in part for part in psutil.Process(pid).cmdline())
    except (psutil.Error, IndexError):
        return False


def _named(name: str, pid: int) -> list[int]:
    # The kernel keeps 15 bytes of a name.
    return [child for child in children(pid) if _name(child) == name[:15] and not is_gone(child)]


def _name(pid: int) -> str | None:
    try:
        return psutil.Process(pid).name()
    except psutil.NoSuchProcess:
        return None


def children(pid: int) -> list[int]:
    """Return the pids of a process's living descendants, its guardians left out."""
    return [child for child in _below(pid) if not _is_guardian(child)]


def _below(pid: int) -> list[int]:
    try:
        return [child.pid for child in below(pid)]
    except psutil.NoSuchProcess:
        return []
