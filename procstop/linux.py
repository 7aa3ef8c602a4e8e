"""The few kernel calls that Python does not wrap. On other systems each says that it did nothing.

Nothing here decides anything; `containment` (in a worker) and `process` (in a supervisor) do.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PR_GET_CHILD_SUBREAPER = 37
PR_GET_TID_ADDRESS = 40

_MACHINE = os.uname().machine if hasattr(os, "uname") else ""
_CLONE = {"x86_64": 56, "aarch64": 220, "riscv64": 220}.get(_MACHINE)
"""The number of the system call."""
_CLONE_PARENT = 0x00008000
_CLONE_CHILD_CLEARTID = 0x00200000
_CLONE_CHILD_SETTID = 0x01000000
_CAP_SETGID, _CAP_SETUID = 6, 7
FILE_RIGHTS = frozenset(range(4))
"""CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH and CAP_FOWNER: what lets root use others' files."""
NETWORK_RIGHTS = frozenset((10, 13))
"""CAP_NET_BIND_SERVICE and CAP_NET_RAW: low ports, and sockets such as those that ping uses."""
_CAPABILITY_VERSION = 0x20080522

CORE_BYTES = 1
"""The limit on core dumps, soft and hard, of whatever procstop starts, and of all that this starts in turn.

Not 0, which a kernel that hands cores to a program takes for no limit; 1 is too little for any, and nobody else's.
"""

ON_LINUX = sys.platform.startswith("linux")


CAN_FORK_SIBLINGS = ON_LINUX and _CLONE is not None
"""Whether `fork_sibling` works here."""


@functools.cache
def _libc() -> Any:
    # ctypes is imported late: a supervisor on another system never needs it.
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def make_prctl() -> Callable[[int, int | bytes], None]:
    """Return prctl(option, value), laid ready; it raises `OSError` where the kernel refuses."""
    import ctypes

    # A library object of its own: argument types are the property of one.
    call = ctypes.CDLL(None, use_errno=True).prctl
    call.argtypes = [ctypes.c_int, ctypes.c_void_p, *[ctypes.c_ulong] * 3]

    def prctl(option: int, value: int | bytes) -> None:
        if call(option, value, 0, 0, 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"prctl({option}): {os.strerror(number)}")

    return prctl


def _prctl(option: int, value: int) -> None:
    make_prctl()(option, value)


def set_parent_death_signal(number: int) -> bool:
    """Have the kernel send us `number` when the thread that spawned us ends; return whether it will.

    It is cleared by a change of uid, and tells nothing if that thread is gone already.
    """
    if not ON_LINUX:
        return False
    _prctl(PR_SET_PDEATHSIG, number)
    return True


def set_name(name: str) -> None:
    """Show this process under a name, at most 15 bytes of it, to those who list processes."""
    if ON_LINUX:
        make_prctl()(PR_SET_NAME, name.encode()[:15])


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
    return _libc().prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(value), 0, 0, 0) == 0 and value.value != 0


def make_fork_sibling() -> Callable[[], int]:
    """Return a `fork` whose child has the caller's own parent for a parent: 0 in the child, its pid in the caller.

    The parent then waits for it, as for the caller, and the parent's death reaches both alike. Only a process with
    one thread may use it. It raises `OSError` where the system refuses.
    """
    import ctypes

    # PyDLL keeps the GIL: the child begins where the caller stood, with everything that Python knows in place.
    libc, python = ctypes.PyDLL(None, use_errno=True), ctypes.pythonapi
    # Looked up here and not in the child, which would have to copy all the pages that looking up touches.
    syscall, before = libc.syscall, python.PyOS_BeforeFork
    after_in_child, after_in_parent = python.PyOS_AfterFork_Child, python.PyOS_AfterFork_Parent
    for function in (before, after_in_child, after_in_parent):
        function.argtypes, function.restype = (), None
    # Where the C library keeps the id of this thread, so that the kernel writes the child's there as fork() has it do.
    address = ctypes.c_void_p()
    tid = address.value if libc.prctl(PR_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0) == 0 else None
    flags = _CLONE_PARENT | signal.SIGCHLD
    if tid:
        flags |= _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID
    number, zero = ctypes.c_long(_CLONE or -1), ctypes.c_void_p(None)
    # x86_64 takes (flags, stack, parent_tid, child_tid, tls), the others (flags, stack, parent_tid, tls, child_tid).
    last = (ctypes.c_void_p(tid), zero) if _MACHINE == "x86_64" else (zero, ctypes.c_void_p(tid))
    arguments = (number, ctypes.c_ulong(flags), zero, zero, *last)
    syscall.restype = ctypes.c_long
    get_errno = ctypes.get_errno

    def fork_sibling() -> int:
        before()
        pid: int = syscall(*arguments)
        if pid == 0:
            after_in_child()
            return 0
        error = get_errno()
        after_in_parent()
        if pid < 0:
            raise OSError(error, os.strerror(error))
        return pid

    return fork_sibling


def can_become(user: int) -> bool:
    """Tell whether this process may take on the user and group of a number, which its namespace may not even have."""
    try:
        with open("/proc/self/status", "rb") as status:
            (rights,) = (int(line.split()[1], 16) for line in status if line.startswith(b"CapEff:"))
        with open("/proc/self/setgroups", "rb") as file:
            may = rights >> _CAP_SETGID & 1 and rights >> _CAP_SETUID & 1 and file.read().strip() == b"allow"
        return bool(may) and all(_is_mapped(f"/proc/self/{kind}_map", user) for kind in ("uid", "gid"))
    except (OSError, ValueError):
        return False


def core_limits(pid: int) -> tuple[int, int] | None:
    """Return a process's limits on core dumps, soft and hard, in bytes; a zombie has them still.

    None where they are not known, or are not numbers.
    """
    try:
        with open(f"/proc/{pid}/limits", "rb") as file:
            for line in file:
                if line.startswith(b"Max core file size"):
                    soft, hard = line.split()[4:6]
                    return int(soft), int(hard)
    except (OSError, ValueError):
        pass
    return None


def make_keep_rights() -> Callable[[frozenset[int]], None]:
    """Return a function that gives up all of this thread's capabilities but some, laid ready to be used after a fork.

    What it does not have it does not get. It raises `OSError` where the kernel refuses.
    """
    if not ON_LINUX:
        return lambda kept: None
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    # Twice 32 of them: effective, permitted, inheritable.
    sets = (ctypes.c_uint32 * 6)()

    def check(failed: int) -> None:
        if failed:
            number = ctypes.get_errno()
            raise OSError(number, f"capabilities: {os.strerror(number)}")

    def keep(kept: frozenset[int]) -> None:
        check(libc.capget(header, sets))
        for half in (0, 1):
            mask = sum(1 << number % 32 for number in kept if number // 32 == half)
            for one in range(3):
                sets[3 * half + one] &= mask
        check(libc.capset(header, sets))

    return keep


def _is_mapped(path: str, number: int) -> bool:
    with open(path, "rb") as file:
        ranges = [tuple(map(int, line.split())) for line in file]
    return any(first <= number < first + count for first, _, count in ranges)


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


def make_thread_counter() -> Callable[[], int | None]:
    """Return what counts the threads of this process, also from inside of a sandbox; None where that cannot be."""
    if not ON_LINUX:
        return lambda: None
    try:
        tasks = os.open("/proc/self/task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return lambda: None

    def count_threads() -> int | None:
        try:
            return len(os.listdir(tasks))
        except OSError:
            return None

    return count_threads


def make_life_timer() -> Callable[[float], None]:
    """Return a function that has the kernel kill this process in so many seconds of monotonic time; it may be called
    again, which begins anew, and with 0 for never. It raises `OSError` where there can be no such timer.

    The kernel carries it out whatever this process and its parents do or have become: SIGKILL needs nobody's turn.
    """
    import ctypes

    if not ON_LINUX:
        return lambda seconds: None
    libc = ctypes.CDLL(None, use_errno=True)
    # struct sigevent: a value of 8 bytes, the signal, how to notify (0 is by signal), and room for the rest.
    event = (ctypes.c_int * 16)(0, 0, signal.SIGKILL, 0)
    timer = ctypes.c_void_p()
    spec = (ctypes.c_long * 4)()
    create, settime = libc.timer_create, libc.timer_settime
    create.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    settime.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    made = False

    def live_for(seconds: float) -> None:
        nonlocal made
        if not made and create(time.CLOCK_MONOTONIC, event, ctypes.byref(timer)) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"timer_create: {os.strerror(number)}")
        made = True
        whole = int(seconds)
        spec[2], spec[3] = whole, int((seconds - whole) * 1e9)
        if settime(timer, 0, spec, None) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"timer_settime: {os.strerror(number)}")

    return live_for
