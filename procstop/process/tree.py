"""Find what lives below a process, and signal exactly that.

Nothing is ever signalled by a bare pid that could have been used again: a descendant is held by a pidfd that was
checked against psutil's (pid, start time).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection, Sequence

import psutil

from procstop import linux

# What it means that a process cannot be looked at. psutil parses /proc/PID/stat, which is empty, and makes it raise
# IndexError or ValueError, when the process ends at just that moment.
Process = psutil.Process
"""A process by its identity: (pid, start time)."""
GONE = (OSError, psutil.Error, IndexError, ValueError)


def _has_pidfds() -> bool:
    """Tell whether this kernel gives pidfds, and whatever confines us allows them."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


HAS_PIDFDS = _has_pidfds()
LONGEST_NAME = 64
"""The kernel keeps 15 bytes; psutil finds the rest in the arguments, which may be anything."""


def descendants(pid: int) -> list[psutil.Process]:
    """Return the living descendants of a process, parents before children."""
    found: list[psutil.Process] = []
    try:
        if linux.children(pid) is None:
            return list(psutil.Process(pid).children(recursive=True))
        waiting = [pid]
        seen = {pid}
        while waiting:
            for child in linux.children(waiting.pop()) or ():
                if child not in seen:
                    seen.add(child)
                    waiting.append(child)
                    try:
                        found.append(psutil.Process(child))
                    except GONE:
                        continue
    except GONE:
        pass  # Out of descriptors, say. The worker itself is signalled all the same.
    return found


def name_of(process: psutil.Process) -> str:
    """Return what a process calls itself, which is up to it, at most `LONGEST_NAME` of it; empty if it is gone."""
    try:
        return str(process.name())[:LONGEST_NAME]
    except GONE:
        return ""


def is_running(process: psutil.Process) -> bool:
    """Tell whether a process is there, and no zombie."""
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except GONE:
        return False


def adopted(known: Collection[int], is_ours: Callable[[psutil.Process], bool] | None) -> list[psutil.Process]:
    """Return the orphans that came to this process: children that are not `known`, neither workers nor helpers.

    With `is_ours`, only those of which it says so: this process may have children of its own that are none of our
    business. Without, all of them.
    """
    orphans = []
    try:
        pids = linux.children(os.getpid())
        if pids is None:
            pids = [child.pid for child in psutil.Process().children()]
    except GONE:
        return []
    for pid in pids:
        if pid in known:
            continue
        try:
            orphan = psutil.Process(pid)
        except GONE:
            continue
        if is_ours is None or is_ours(orphan):
            orphans.append(orphan)
    return orphans


def has_our_limit(process: psutil.Process) -> bool:
    """Tell whether a process, be it a zombie, was started by something that procstop has started, at whatever remove.

    That limit is inherited by everybody and lifted by nobody but a root that is not contained. Where this process has
    it itself, it says nothing.
    """
    ours = (linux.CORE_BYTES, linux.CORE_BYTES)
    return linux.core_limits(process.pid) == ours and linux.core_limits(os.getpid()) != ours


def remove_orphans(orphans: Sequence[psutil.Process]) -> None:
    """Kill orphans with all that is below them, and reap those that are dead."""
    for orphan in orphans:
        for member in [*descendants(orphan.pid), orphan]:
            send(member, signal.SIGKILL)
        try:
            os.waitpid(orphan.pid, os.WNOHANG)
        except ChildProcessError:
            pass


def send(process: psutil.Process, number: int) -> None:
    """Signal exactly this process: never another one that got its pid later."""
    try:
        if HAS_PIDFDS:
            fd = os.pidfd_open(process.pid)
            try:
                # Still there with its start time after the pidfd was opened: so the pidfd is it.
                if process.is_running():
                    signal.pidfd_send_signal(fd, number)  # type: ignore[attr-defined,unused-ignore]
            finally:
                os.close(fd)
        else:
            process.send_signal(number)
    except GONE:
        pass  # It ended by itself, which is all that was wanted, or is not ours to signal.
