"""The layer around files: Landlock, by which a process gives up what it was not granted.

It holds for what is opened from then on, by a path; a descriptor that is open already can do all that it could. It does
not cover asking about a file (stat) nor changing its mode, owner, times or attributes: most of these are denied by the
filter of system calls, but asking and setting times are not.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable

from procstop.sandbox.grants import Grants
from procstop.settled import open_settled

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""System calls, with the same numbers on all machines."""
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_RESTRICT_SELF_TSYNC = 1 << 3

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = (1 << bit for bit in range(6, 13))
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_BITS_SINCE = ((1, 13), (2, 14), (3, 15), (5, 16))
"""From which ABI on there are how many rights."""

_BIND_TCP, _CONNECT_TCP = 1, 2
_ABSTRACT_UNIX_SOCKET, _SIGNAL = 1, 2

_READ = READ_FILE | READ_DIR
# What can be made are files, directories and symbolic links: no devices, and no sockets or pipes that others wait at.
_WRITE = _READ | WRITE_FILE | TRUNCATE | MAKE_REG | MAKE_DIR | MAKE_SYM | REMOVE_FILE | REMOVE_DIR | REFER


def handled(grants: Grants) -> tuple[int, int, int]:
    """Return what is denied unless a rule grants it: rights to files, to the network, and ways to other processes."""
    abi, allow = grants.landlock, grants.allow
    files = 0
    if "files" not in allow:
        files = (1 << max((bits for since, bits in _BITS_SINCE if abi >= since), default=0)) - 1
        if "processes" in allow:
            # No rule ever grants it, so it would be nothing but a denial of what was allowed.
            files &= ~EXECUTE
    network = _BIND_TCP | _CONNECT_TCP if abi >= 4 and "network" not in allow else 0
    scoped = 0
    if abi >= 6:
        scoped |= _ABSTRACT_UNIX_SOCKET if "network" not in allow else 0
        scoped |= _SIGNAL if "processes" not in allow else 0
    return files, network, scoped


def probe() -> int:
    """Return the version of the kernel's ABI, 0 where it has none or does not let us."""
    import ctypes

    version: int = ctypes.CDLL(None).syscall(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    return max(0, version)


def make_restrictor() -> Callable[[Grants], None]:
    """Return what closes this layer around the calling thread, laid ready; no_new_privs must be set before.

    Threads that are there already are closed in from ABI 8 on only; those that are started later always are.
    It raises `OSError` where the kernel refuses, and with its path for a granted directory that cannot be opened.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    # Each subscription makes a function of its own, and so each has argument types of its own.
    create, add, restrict = libc["syscall"], libc["syscall"], libc["syscall"]
    long, data = ctypes.c_long, ctypes.c_char_p
    create.argtypes = [long, data, long, long]
    add.argtypes = [long, long, long, data, long]
    restrict.argtypes = [long, long, long]
    get_errno = ctypes.get_errno

    def fail(what: str, path: str | None = None) -> OSError:
        number = get_errno()
        return OSError(number, f"landlock: {what}: {os.strerror(number)}", path)

    def allow(ruleset: int, fd: int, rights: int, path: str) -> None:
        try:
            if add(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", rights, fd), 0) != 0:
                raise fail("grant", path)
        finally:
            os.close(fd)

    def add_rules(ruleset: int, grants: Grants, files: int) -> None:
        for path, writable in grants.dirs:
            fd = open_settled(path, os.O_PATH | os.O_DIRECTORY)
            allow(ruleset, fd, files & (_WRITE if writable else _READ), path)
        for path in grants.readable:
            try:
                fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                continue  # It cannot be read without a sandbox either.
            is_dir = stat.S_ISDIR(os.fstat(fd).st_mode)
            allow(ruleset, fd, _READ if is_dir else READ_FILE, path)

    def restrict_self(grants: Grants) -> None:
        files, network, scoped = handled(grants)
        if not (files or network or scoped):
            return
        attributes = struct.pack("=QQQ", files, network, scoped)
        # An older kernel takes no longer structure than it knows.
        size = 24 if grants.landlock >= 6 else 16 if grants.landlock >= 4 else 8
        ruleset = create(_CREATE_RULESET, attributes, size, 0)
        if ruleset < 0:
            raise fail("make a set of rules")
        try:
            if files:
                add_rules(ruleset, grants, files)
            if restrict(_RESTRICT_SELF, ruleset, _RESTRICT_SELF_TSYNC if grants.landlock >= 8 else 0) != 0:
                raise fail("restrict")
        finally:
            os.close(ruleset)

    return restrict_self
