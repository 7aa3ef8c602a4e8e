"""What a worker closes around itself after its imports, before any guest code runs.

An engine keeps a guest in; this is for the day on which it does not, and for what engines do not check. Two layers,
each of which works without the other, and neither of which the process can ever take off again:

    landlock   files, by the directories that were granted
    seccomp    system calls: no processes, no sockets, nothing that would undo a guard of `containment`

They hold for what the worker does itself, too: host functions ask for `ALLOWABLE` in advance. What neither covers: what
is open already, asking about files by name and setting their times, local sockets once "network" is allowed, and the
CPU and the memory, which limits are for.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Callable

from procstop import linux
from procstop.sandbox import landlock, seccomp
from procstop.sandbox.calls import MACHINES
from procstop.sandbox.grants import ALLOWABLE, Grants, Support

__all__ = ["ALLOWABLE", "Grants", "Support", "lay_ready", "make_closer", "probe"]

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SECCOMP_SET_MODE_FILTER, _SECCOMP_GET_ACTION_AVAIL = 1, 2
_SECCOMP_FILTER_FLAG_TSYNC = 1
_SECCOMP_RET_KILL_PROCESS = 0x80000000


def probe() -> Support:
    """Ask the kernel what it offers; nothing in this process changes."""
    if not linux.ON_LINUX:
        return Support(0, False)
    return Support(landlock.probe(), _has_seccomp())


def _machine() -> str | None:
    machine = os.uname().machine
    # A 32-bit process on a 64-bit kernel makes calls by another table.
    return machine if machine in MACHINES and sys.maxsize > 2**32 else None


def _has_seccomp() -> bool:
    import ctypes

    machine = _machine()
    if machine is None:
        return False
    action = ctypes.c_uint32(_SECCOMP_RET_KILL_PROCESS)
    call = ctypes.CDLL(None).syscall
    return bool(call(_SECCOMP[machine], _SECCOMP_GET_ACTION_AVAIL, 0, ctypes.byref(action)) == 0)


def lay_ready(grants: Grants) -> None:
    """Make the filter for these grants, so that children that are forked from here on find it made."""
    machine = _machine()
    if grants.seccomp and machine is not None:
        seccomp.program(grants, 0, machine)


def make_closer() -> Callable[[Grants], None]:
    """Return what closes the sandbox in the process that calls it, laid ready to be used after a fork.

    It raises `OSError` where the kernel refuses, which may leave one layer closed and the other not: end the process.
    Threads that run already are taken in by the filter; by Landlock only from ABI 8 on.
    """
    if not linux.ON_LINUX:
        return _close_nothing
    import ctypes

    prctl, restrict, machine = linux.make_prctl(), landlock.make_restrictor(), _machine()
    install = ctypes.CDLL(None, use_errno=True).syscall
    install.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_char_p]
    install.restype = ctypes.c_long
    get_errno, address_of, as_bytes = ctypes.get_errno, ctypes.addressof, ctypes.c_char

    def set_filter(grants: Grants) -> None:
        if machine is None:
            raise OSError(errno.ENOSYS, f"seccomp: no numbers of system calls for {os.uname().machine}")
        program = bytearray(seccomp.program(grants, os.getpid(), machine))
        held = as_bytes.from_buffer(program)
        array = struct.pack("@HP", len(program) // 8, address_of(held))
        failed = install(_SECCOMP[machine], _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC, array)
        if failed > 0:
            raise OSError(errno.EBUSY, f"seccomp: thread {failed} has a filter of its own")
        if failed:
            raise OSError(get_errno(), f"seccomp: {os.strerror(get_errno())}")

    def close(grants: Grants) -> None:
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
        if grants.landlock:
            restrict(grants)
        # Last: it would deny some of what the other layer takes.
        if grants.seccomp:
            set_filter(grants)

    return close


def _close_nothing(grants: Grants) -> None:
    if grants.landlock or grants.seccomp:
        raise OSError(errno.ENOSYS, f"{sys.platform} has no sandbox")
