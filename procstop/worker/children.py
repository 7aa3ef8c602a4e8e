"""What code in a worker has started, and left."""

from __future__ import annotations

import os
import signal

from procstop import linux

_ALL = 0x40000000 if linux.ON_LINUX else 0
"""__WALL: also one that was cloned with another signal than SIGCHLD, which nobody would wait for otherwise."""


def kill_children() -> bool:
    """Kill what host functions started and left, all of which this worker sees; return whether there was anything."""
    found = False
    spared: set[int] = set()
    while children := set(linux.children(os.getpid()) or ()) - spared:
        found = True
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, _ALL)
            except PermissionError:
                # It runs as somebody else, and is not ours to kill.
                spared.add(pid)
            except OSError:
                pass  # Reaped by a thread of a host module in between.
    return found
