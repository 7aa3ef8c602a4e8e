"""The guest's file descriptors: which number stands for which host descriptor, and what may be done with it.

Numbers are the guest's own; host numbers never show. 0, 1 and 2 are the worker's standard streams, which a
guest can give up but never close: their numbers must not be handed out to something else in the worker.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from procstop.wasi import abi
from procstop.wasi.resolve import identity

# One entry of a directory: name, inode, filetype.
Entry = tuple[bytes, int, int]


@dataclass(frozen=True)
class Preopen:
    """A host directory that the guest finds under the name `guest`; `write` grants changing it.

    `open` opens it, as `os.open` does.
    """

    guest: str
    host: str
    write: bool = False
    open: Callable[[str, int], int] = os.open


class Descriptor:
    """What one number of the guest stands for."""

    __slots__ = (
        "entries",
        "flags",
        "host",
        "kind",
        "mutable",
        "preopen",
        "readable",
        "standard",
        "top",
        "waits",
        "writable",
    )

    def __init__(self, host: int, mode: int, *, readable: bool, writable: bool, mutable: bool) -> None:
        self.host = host
        self.kind = abi.filetype(mode)
        self.readable = readable
        self.writable = writable
        # Whether the preopen that this came from may be changed.
        self.mutable = mutable
        self.flags = 0
        self.standard = False
        # Reading or writing it can block: a pipe, a socket, a terminal.
        self.waits = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or (stat.S_ISCHR(mode) and os.isatty(host))
        self.preopen: bytes | None = None
        # Device and inode of that preopen's directory.
        self.top = (0, 0)
        self.entries: list[Entry] | None = None

    def rights(self) -> tuple[int, int]:
        """Base and inheriting rights, for `fd_fdstat_get`."""
        if self.preopen is not None:
            return abi.PREOPEN_RIGHTS, abi.PREOPEN_INHERITING
        if self.kind == abi.DIRECTORY_TYPE:
            return abi.DIRECTORY_RIGHTS, abi.DIRECTORY_RIGHTS
        if self.standard:
            rights = abi.FD_READ if self.readable else abi.FD_WRITE
            rights |= abi.FD_SET_FLAGS | abi.FD_FILESTAT_GET | abi.POLL_FD_READWRITE
            # wasi-libc takes a character device that cannot seek for a terminal; /dev/null is none.
            if not self.waits:
                rights |= abi.FD_SEEK | abi.FD_TELL
            return rights, rights
        rights = abi.ALL_RIGHTS
        if not self.readable:
            rights &= ~(abi.FD_READ | abi.FD_READDIR)
        if not self.writable:
            rights &= ~abi.FD_WRITE
        return rights, rights

    def close(self) -> None:
        if not self.standard:
            os.close(self.host)


class Table:
    """Numbers to descriptors. New ones get the lowest number that is free."""

    def __init__(self) -> None:
        self.used: dict[int, Descriptor] = {}
        self.most: int | None = None
        """How many may be in use; None for no limit."""
        self.file_size: int | None = None
        """How large a file may get; None for no limit."""
        self._free: list[int] = []
        self._next = 0

    def add(self, descriptor: Descriptor) -> int:
        if self.most is not None and len(self.used) >= self.most:
            raise abi.WasiError(abi.MFILE)
        if self._free:
            number = heapq.heappop(self._free)
        else:
            number = self._next
            self._next += 1
        self.used[number] = descriptor
        return number

    def get(self, number: int) -> Descriptor:
        descriptor = self.used.get(number)
        if descriptor is None:
            raise abi.WasiError(abi.BADF)
        return descriptor

    def close(self, number: int) -> None:
        descriptor = self.get(number)
        del self.used[number]
        heapq.heappush(self._free, number)
        descriptor.close()

    def renumber(self, number: int, to: int) -> None:
        """Let `to`, which must be in use, stand for what `number` stood for; `number` becomes free."""
        descriptor, replaced = self.get(number), self.get(to)
        if number == to:
            return
        self.used[to] = descriptor
        del self.used[number]
        heapq.heappush(self._free, number)
        replaced.close()

    def close_all(self) -> None:
        while self.used:
            self.used.popitem()[1].close()


_STANDARD_STREAMS: Final = ((0, True, False), (1, False, True), (2, False, True))


def add_standard_streams(table: Table) -> None:
    for host, readable, writable in _STANDARD_STREAMS:
        try:
            mode = os.fstat(host).st_mode
        except OSError:
            # Closed in the worker: an entry that answers with errors keeps the preopens at 3, 4, ...
            mode = 0
        descriptor = Descriptor(host, mode, readable=readable, writable=writable, mutable=False)
        descriptor.standard = True
        table.add(descriptor)


def add_preopen(table: Table, preopen: Preopen) -> None:
    """Open a preopen's host directory; raise OSError when it is none."""
    host = preopen.open(preopen.host, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    descriptor = Descriptor(host, stat.S_IFDIR, readable=True, writable=False, mutable=preopen.write)
    descriptor.top = identity(host)
    descriptor.preopen = preopen.guest.encode("utf-8", "surrogateescape")
    table.add(descriptor)


def set_host_flags(descriptor: Descriptor) -> None:
    """Give the host's open file the flags of the guest's descriptor: append, and nothing else.

    Opened with O_NONBLOCK, so that a pipe without a peer does not block the open; what can block keeps it
    and is waited for, a regular file does without.
    """
    flags = os.O_APPEND if descriptor.flags & abi.APPEND else 0
    if descriptor.waits:
        flags |= os.O_NONBLOCK
    fcntl.fcntl(descriptor.host, fcntl.F_SETFL, flags)
