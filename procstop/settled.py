"""Paths that are settled before a run, and opened during it with no symbolic link followed.

A guest may write to a directory that holds what another task is granted, reads, or has its output kept in. Whatever it
lays there must lead nowhere else.
"""

from __future__ import annotations

import errno
import os

_STEP = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OF_THE_KERNEL = ("/dev/fd/", "/dev/std", "/proc/")
"""Names of what is open, such as /dev/fd/3, lead where no path does; nobody lays other links there."""


def settle(path: str | os.PathLike[str]) -> str:
    """Return where a path leads now: absolute, with no symbolic link in it. What is not there yet may come later."""
    absolute = os.path.abspath(path)
    return absolute if absolute.startswith(_OF_THE_KERNEL) else os.path.realpath(absolute)


def open_settled(path: str, flags: int) -> int:
    """Open what `settle` returned; raise `OSError`, with ELOOP for a symbolic link that was laid since then."""
    flags |= os.O_CLOEXEC
    if path.startswith(_OF_THE_KERNEL):
        return os.open(path, flags)
    *above, last = [name for name in path.split("/") if name] or ["."]
    here = os.open("/", _STEP)
    try:
        for name in above:
            inner = os.open(name, _STEP, dir_fd=here)
            os.close(here)
            here = inner
        return os.open(last, flags | os.O_NOFOLLOW, dir_fd=here)
    except OSError as error:
        if _has_link(path):
            raise OSError(errno.ELOOP, "a symbolic link was laid there during the run", path) from None
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(here)


def _has_link(path: str) -> bool:
    while path != os.path.dirname(path):
        if os.path.islink(path):
            return True
        path = os.path.dirname(path)
    return False
