"""What every WASI function works on: the host, the descriptor table, the layout of the snapshot in use."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NoReturn, Protocol

from procstop.wasi import abi
from procstop.wasi.descriptors import Descriptor, Preopen, Table, add_preopen, add_standard_streams
from procstop.wasi.memory import path as read_path
from procstop.wasi.resolve import Place, resolve


class Host(Protocol):
    """What WASI needs from the worker."""

    def memory(self) -> memoryview:
        """The guest's memory as it is now: writable, format "B". It is not kept beyond one WASI call."""

    def exit(self, code: int) -> NoReturn:
        """Leave the guest by raising. `code` is unsigned 32 bit, whole."""

    def wait(self, readers: Sequence[int], writers: Sequence[int], timeout: float | None) -> tuple[set[int], set[int]]:
        """Wait until a host descriptor is ready or `timeout` seconds are over; return those that are ready.

        A stopping point: it may raise a BaseException to leave the guest. It may return early with nothing.
        """


class State:
    """Base of the function groups. Arguments reach them unsigned, see `calls`."""

    def __init__(
        self,
        host: Host,
        args: Sequence[bytes | str],
        env: Mapping[str, str],
        preopens: Sequence[Preopen],
        open_files: int | None = None,
        file_size: int | None = None,
    ) -> None:
        self.host = host
        self.layout = abi.PREVIEW1
        self.args = [_text(arg) for arg in args]
        self.environ = [_text(f"{name}={value}") for name, value in env.items()]
        self.table = Table()
        try:
            add_standard_streams(self.table)
            for preopen in preopens:
                _text(preopen.guest)
                add_preopen(self.table, preopen)
        except BaseException:
            self.table.close_all()
            raise
        self.table.file_size = file_size
        if open_files is not None:
            # What it was given does not count.
            self.table.most = len(self.table.used) + open_files

    def close(self) -> None:
        """Close every host descriptor that was opened for the guest. Calls after it see bad descriptors."""
        self.table.close_all()

    def file(self, fd: int) -> Descriptor:
        """The descriptor of something opened by path that is not a directory."""
        descriptor = self.table.get(fd)
        if descriptor.standard or descriptor.kind == abi.DIRECTORY_TYPE:
            raise abi.WasiError(abi.BADF)
        return descriptor

    def directory(self, fd: int, *, change: bool = False) -> Descriptor:
        """The descriptor of a directory; with `change`, one below which the guest may change things."""
        descriptor = self.table.get(fd)
        if descriptor.kind != abi.DIRECTORY_TYPE or descriptor.standard:
            raise abi.WasiError(abi.BADF)
        if change and not descriptor.mutable:
            raise abi.WasiError(abi.PERM)
        return descriptor

    def place(
        self,
        descriptor: Descriptor,
        memory: memoryview,
        pointer: int,
        size: int,
        *,
        follow: bool,
        through_slash: bool = True,
    ) -> Place:
        """Where the guest's path below `descriptor` leads; a context manager."""
        path = read_path(memory, pointer, size)
        return resolve(descriptor.host, path, follow=follow, through_slash=through_slash)

    def write_filestat(self, memory: memoryview, pointer: int, status: os.stat_result) -> None:
        # Times before 1970 cannot be told in an unsigned number.
        self.layout.filestat.pack_into(
            memory,
            pointer,
            status.st_dev & abi.U64,
            status.st_ino & abi.U64,
            abi.filetype(status.st_mode),
            min(status.st_nlink, abi.U32),
            status.st_size & abi.U64,
            max(status.st_atime_ns, 0) & abi.U64,
            max(status.st_mtime_ns, 0) & abi.U64,
            max(status.st_ctime_ns, 0) & abi.U64,
        )


def check_lookup(flags: int) -> bool:
    """Whether lookup flags ask to follow a symbolic link at the end of the path."""
    if flags & ~abi.SYMLINK_FOLLOW:
        raise abi.WasiError(abi.INVAL)
    return flags == abi.SYMLINK_FOLLOW


def _text(value: bytes | str) -> bytes:
    data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise ValueError(f"must not hold a NUL, got {value!r}")
    return data
