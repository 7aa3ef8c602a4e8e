"""Find the place that a guest's path names, without ever leaving the directory it starts from.

Theory of operation. The kernel is never given more than one component of a path, never `..`, and never a
symbolic link to follow. A walk opens one directory after the other, each from the descriptor of the one
before (O_NOFOLLOW), and keeps them on a stack; `..` pops the stack, so a directory that another process
moves meanwhile cannot turn `..` into a way out. A symbolic link is read and its components are walked in
its stead. The last component is handed to the caller as (directory descriptor, name), to be used with
calls that do not follow links either: whatever is swapped in between, the call meets it inside.

What would lead out, an absolute path or one `..` too many, is EPERM, as in wasmtime.
"""

from __future__ import annotations

import errno
import os
from types import TracebackType
from typing import Final, final

MAX_LINKS: Final = 40
MAX_PATH: Final = 4096

# O_PATH needs no right to read the directory, as a walk of the kernel's own would not; macOS has none.
_STEP: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What an open of a symbolic link with these flags says: ENOTDIR on Linux, ELOOP on macOS, EMLINK on BSD.
_MAYBE_LINK: Final = frozenset({errno.ENOTDIR, errno.ELOOP, errno.EMLINK})


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@final
class Place:
    """A name in an open directory: where a path leads. A context manager; leaving it closes the directory.

    `name` is one component, or b"." for the directory itself. `directory` says that the path ends in a way
    that only a directory may have.
    """

    __slots__ = ("_opened", "descriptor", "directory", "name")

    def __init__(self, descriptor: int, name: bytes, directory: bool, opened: list[int]) -> None:
        self.descriptor = descriptor
        self.name = name
        self.directory = directory
        self._opened = opened

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        _close(self._opened)


def resolve(root: int, path: bytes, *, follow: bool, through_slash: bool = True) -> Place:
    """Walk `path` from the directory `root`; raise OSError where it cannot lead anywhere inside.

    `follow` expands a symbolic link in the last component too; `through_slash` does so as well when a slash
    follows it.
    """
    opened: list[int] = []
    try:
        return _walk(root, path, follow, through_slash, opened)
    except BaseException:
        _close(opened)
        raise


def _walk(root: int, path: bytes, follow: bool, through_slash: bool, opened: list[int]) -> Place:
    pending, directory = _components(path)
    links = 0
    while True:
        name = pending.pop()
        here = opened[-1] if opened else root
        if name == b"..":
            if not opened:
                raise _error(errno.EPERM)
            os.close(opened.pop())
        elif name != b".":
            if pending:
                target = _enter(here, name, opened)
            elif follow or (directory and through_slash):
                target = _link(here, name)
            else:
                target = None
            if target is not None:
                links += 1
                if links > MAX_LINKS:
                    raise _error(errno.ELOOP)
                more, slash = _components(target)
                directory = directory or (slash and not pending)
                pending += more
                continue
            if not pending:
                return Place(here, name, directory, opened)
        if not pending:
            here = opened[-1] if opened else root
            return Place(here, b".", True, opened)


def _components(path: bytes) -> tuple[list[bytes], bool]:
    """The components of a relative path, last one first, and whether a slash ends it."""
    if not path:
        raise _error(errno.ENOENT)
    if len(path) >= MAX_PATH:
        raise _error(errno.ENAMETOOLONG)
    if path.startswith(b"/"):
        raise _error(errno.EPERM)
    return [part for part in reversed(path.split(b"/")) if part], path.endswith(b"/")


def _enter(here: int, name: bytes, opened: list[int]) -> bytes | None:
    """Open the directory `name` onto the stack, or return the target of the symbolic link that it is."""
    try:
        opened.append(os.open(name, _STEP, dir_fd=here))
    except OSError as error:
        if error.errno not in _MAYBE_LINK:
            raise
        target = _link(here, name)
        if target is None:
            raise _error(errno.ENOTDIR) from None
        return target
    return None


def _link(here: int, name: bytes) -> bytes | None:
    """The target of the symbolic link `name`, or None when it is something else or nothing."""
    try:
        return os.readlink(name, dir_fd=here)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


def depth_of(directory: int, top: tuple[int, int]) -> int:
    """Count the directories from `top`, a preopen's device and inode, down to an open one, as they are at this moment.

    Raise OSError where it is not below that any more.
    """
    here, depth = os.dup(directory), 0
    try:
        while (this := identity(here)) != top:
            above = os.open("..", _STEP, dir_fd=here)
            os.close(here)
            here, depth = above, depth + 1
            if identity(here) == this:
                raise _error(errno.EPERM)
        return depth
    finally:
        os.close(here)


def identity(descriptor: int) -> tuple[int, int]:
    """The device and inode of something open, which nothing else has meanwhile."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def climbs_out(target: bytes, depth: int) -> bool:
    """Whether a symbolic link `depth` directories below its preopen could lead out of it by its text alone.

    Every `..` counts, wherever it stands: what comes before it may itself be a link that leads upwards.
    """
    return target.startswith(b"/") or target.split(b"/").count(b"..") > depth
