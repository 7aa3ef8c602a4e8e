"""Facts about processes, from /proc: who is there, who is marked as a run's, and when all of them are gone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable

from procstop.linux import children
from procstop.process import TOKEN

HELPERS = {"fork server": "procstop-forkserver", "guardian": "procstop-guardian"}
"""What a supervisor has besides its workers, by the names that they give themselves."""
GONE_S = 10.0
"""How long survivors are waited for before they are called so."""
Identity = tuple[int, int]
"""A process for good: its pid, and when it started in ticks since the system did."""


def identity(pid: int) -> Identity | None:
    """Return who a living process is; None for one that has ended, reaped or not."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in "ZX" else (pid, int(fields[19]))


def is_there(who: Identity) -> bool:
    """Tell whether it lives."""
    return identity(who[0]) == who


def started_at(who: Identity) -> float:
    """Return when it started, on the clock CLOCK_BOOTTIME; to the tick."""
    return who[1] / os.sysconf("SC_CLK_TCK")


def name_of(pid: int) -> str:
    """Return the first 15 bytes of its name; nothing for one that is gone."""
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except OSError:
        return ""


def named(name: str, parent: int) -> list[Identity]:
    """Return a process's living children of a name, the oldest first."""
    found = [who for pid in children(parent) or () if name_of(pid) == name[:15] and (who := identity(pid)) is not None]
    return sorted(found, key=lambda who: who[1])


def below(pid: int) -> list[Identity]:
    """Return all that lives below a process."""
    found, waiting = [], [pid]
    while waiting:
        for child in children(waiting.pop()) or ():
            waiting.append(child)
            who = identity(child)
            if who is not None:
                found.append(who)
    return found


def marked(run: str) -> list[Identity]:
    """Return the living processes that a run has started, at whatever remove, by the mark in their environment."""
    mark = f"{TOKEN}={run}".encode()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    is_marked = any(part.startswith(mark) for part in file.read().split(b"\0"))
            except OSError:
                continue  # It is gone, or somebody else's.
            who = identity(int(name)) if is_marked else None
            if who is not None and who[0] != os.getpid():
                found.append(who)
    return found


def wait_until(true: Callable[[], object], within: float = GONE_S) -> bool:
    """Look again and again until something is so; return whether it came to be within so many seconds."""
    deadline = time.monotonic() + within
    while not true():
        if time.monotonic() > deadline:
            return False
        # Of strangers' ends, and of what is to appear in /proc, nobody can be told.
        time.sleep(0.0005)
    return True


def kill(whom: Iterable[Identity], number: int = signal.SIGKILL) -> None:
    """Signal processes that are still who they were."""
    for who in whom:
        try:
            fd = os.pidfd_open(who[0])
        except OSError:
            continue
        try:
            # Still there after the descriptor was opened: so the descriptor is it.
            if is_there(who):
                signal.pidfd_send_signal(fd, number)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            pass
        finally:
            os.close(fd)


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the state on."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(") ")[2].split()
    except (OSError, ValueError):
        return None
    return fields or None
