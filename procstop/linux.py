"""The few kernel calls that Python does not wrap. On other systems each says that it did nothing.

Nothing here decides anything; `containment` (in a worker) and `process` (in a supervisor) do.
"""

from __future__ import annotations

import os
import sys

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PR_GET_CHILD_SUBREAPER = 37

ON_LINUX = sys.platform.startswith("linux")


def _prctl(option: int, value: int) -> None:
    # ctypes is imported late: a supervisor on another system never needs it.
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def set_parent_death_signal(number: int) -> bool:
    """Have the kernel send us `number` when the thread that spawned us ends; return whether it will.

    It is cleared by a change of uid, and tells nothing if that thread is gone already.
    """
    if not ON_LINUX:
        return False
    _prctl(PR_SET_PDEATHSIG, number)
    return True


def set_child_subreaper(on: bool) -> bool:
    """Become the new parent of orphaned descendants, or stop being it; return whether it is so."""
    if not ON_LINUX:
        return False
    _prctl(PR_SET_CHILD_SUBREAPER, int(on))
    return True


def is_child_subreaper() -> bool:
    """Tell whether orphaned descendants come to us."""
    if not ON_LINUX:
        return False
    import ctypes

    value = ctypes.c_int(0)
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(value), 0, 0, 0) == 0 and value.value != 0


def children(pid: int) -> list[int] | None:
    """Return the pids of a process's children, zombies too; None where the kernel does not list them.

    A process that is gone has none.
    """
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except (FileNotFoundError, ProcessLookupError):
        # Threads come and go. Only where the whole file is unknown is there no answer.
        return found if LISTS_CHILDREN else None
    except OSError:
        return None
    return found


LISTS_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")
"""Whether this kernel was built to list children (CONFIG_PROC_CHILDREN)."""
