"""The functions on an open descriptor, `fd_*`, but for directories.

Positions are the kernel's: every open file of the guest is an open file of its own on the host. Bytes go
straight between the host's file and the guest's memory; nothing is copied, so a read of a gigabyte needs no
memory of ours.
"""

from __future__ import annotations

import os
from typing import Final

from procstop.wasi import abi
from procstop.wasi.descriptors import Descriptor, set_host_flags
from procstop.wasi.memory import vectors, view
from procstop.wasi.state import State
from procstop.wasi.times import new_times

# To a pipe no more than this at once, so that a guest that writes more passes a stopping point in between.
_PIECE: Final = 1 << 16

_ADVICE: Final = tuple(
    getattr(os, "POSIX_FADV_" + name, 0)
    for name in ("NORMAL", "SEQUENTIAL", "RANDOM", "WILLNEED", "DONTNEED", "NOREUSE")
)


class Files(State):
    """Reading, writing, seeking, attributes."""

    def fd_read(self, fd: int, iovs: int, count: int, result: int) -> int:
        entry = self.table.get(fd)
        if not entry.readable or entry.kind == abi.DIRECTORY_TYPE:
            return abi.BADF
        memory = self.host.memory()
        if result + 4 > len(memory):
            return abi.FAULT
        buffers = vectors(memory, iovs, count)
        done = 0
        if buffers:
            done = self._read_waiting(entry, buffers) if entry.waits else os.readv(entry.host, buffers)
        abi.u32.pack_into(memory, result, done)
        return abi.SUCCESS

    def _read_waiting(self, entry: Descriptor, buffers: list[memoryview]) -> int:
        while True:
            if entry.flags & abi.NONBLOCK:
                if not self.host.wait((entry.host,), (), 0)[0]:
                    raise abi.WasiError(abi.AGAIN)
            else:
                self.host.wait((entry.host,), (), None)
            try:
                return os.readv(entry.host, buffers)
            except BlockingIOError:
                if entry.flags & abi.NONBLOCK:
                    raise

    def fd_write(self, fd: int, iovs: int, count: int, result: int) -> int:
        entry = self.table.used.get(fd)
        if entry is None or not entry.writable:
            return abi.BADF
        memory = self.host.memory()
        if result + 4 > len(memory):
            return abi.FAULT
        buffers = vectors(memory, iovs, count)
        done = 0
        if buffers:
            if entry.waits:
                done = self._write_waiting(entry, buffers)
            else:
                done = os.writev(entry.host, self._fitting(entry, buffers, None))
        abi.u32.pack_into(memory, result, done)
        return abi.SUCCESS

    def _write_waiting(self, entry: Descriptor, buffers: list[memoryview]) -> int:
        if sum(map(len, buffers)) <= _PIECE:
            return self._write_piece(entry, buffers)
        done = 0
        for buffer in buffers:
            for start in range(0, len(buffer), _PIECE):
                piece = buffer[start : start + _PIECE]
                if done:
                    self.host.wait((), (), 0)
                try:
                    written = self._write_piece(entry, [piece])
                except OSError:
                    # What is out is out: the guest meets the error with its next write.
                    if done:
                        return done
                    raise
                done += written
                if written < len(piece):
                    return done
        return done

    def _write_piece(self, entry: Descriptor, buffers: list[memoryview]) -> int:
        while True:
            try:
                return os.writev(entry.host, buffers)
            except BlockingIOError:
                if entry.flags & abi.NONBLOCK:
                    raise
                self.host.wait((), (entry.host,), None)

    def _fitting(self, entry: Descriptor, buffers: list[memoryview], offset: int | None) -> list[memoryview]:
        """Cut what would make a file larger than it may get; None is the file's own position."""
        most = self.table.file_size
        if most is None or entry.standard or entry.kind != abi.REGULAR_FILE:
            return buffers
        if entry.flags & abi.APPEND:
            # The kernel appends wherever the position is, and whatever offset is given.
            offset = os.fstat(entry.host).st_size
        elif offset is None:
            offset = os.lseek(entry.host, 0, os.SEEK_CUR)
        room = max(0, most - offset)
        if buffers and any(map(len, buffers)) and not room:
            raise abi.WasiError(abi.FBIG)
        fitting = []
        for buffer in buffers:
            fitting.append(buffer[:room])
            room -= len(fitting[-1])
        return fitting

    def fd_pread(self, fd: int, iovs: int, count: int, offset: int, result: int) -> int:
        entry = self.table.get(fd)
        if not entry.readable or entry.kind == abi.DIRECTORY_TYPE:
            return abi.BADF
        memory = self.host.memory()
        view(memory, result, 4)
        buffers = vectors(memory, iovs, count)
        if offset > abi.I64_MAX:
            return abi.INVAL
        # With nothing to read, the kernel still says whether the descriptor has positions at all.
        done = os.preadv(entry.host, buffers, offset) if buffers else len(os.pread(entry.host, 0, offset))
        abi.u32.pack_into(memory, result, done)
        return abi.SUCCESS

    def fd_pwrite(self, fd: int, iovs: int, count: int, offset: int, result: int) -> int:
        entry = self.table.get(fd)
        if not entry.writable:
            return abi.BADF
        if entry.standard:
            # Even where output goes to a file: what was written before is not the guest's to change.
            return abi.SPIPE
        memory = self.host.memory()
        view(memory, result, 4)
        buffers = vectors(memory, iovs, count)
        if offset > abi.I64_MAX:
            return abi.INVAL
        buffers = self._fitting(entry, buffers, offset)
        done = os.pwritev(entry.host, buffers, offset) if buffers else os.pwrite(entry.host, b"", offset)
        abi.u32.pack_into(memory, result, done)
        return abi.SUCCESS

    def fd_seek(self, fd: int, offset: int, whence: int, result: int) -> int:
        if offset > abi.I64_MAX:
            offset -= 1 << 64
        return self._seek(fd, offset, whence, result)

    def fd_tell(self, fd: int, result: int) -> int:
        return self._seek(fd, 0, self.layout.whence.index(os.SEEK_CUR), result)

    def _seek(self, fd: int, offset: int, whence: int, result: int) -> int:
        entry = self.table.get(fd)
        if entry.kind == abi.DIRECTORY_TYPE:
            return abi.BADF
        if entry.standard and not entry.readable:
            return abi.SPIPE
        if whence >= len(self.layout.whence):
            return abi.INVAL
        memory = self.host.memory()
        view(memory, result, 8)
        position = os.lseek(entry.host, offset, self.layout.whence[whence])
        abi.u64.pack_into(memory, result, position)
        return abi.SUCCESS

    def fd_close(self, fd: int) -> int:
        self.table.close(fd)
        return abi.SUCCESS

    def fd_renumber(self, fd: int, to: int) -> int:
        self.table.renumber(fd, to)
        return abi.SUCCESS

    def fd_sync(self, fd: int) -> int:
        os.fsync(self.file(fd).host)
        return abi.SUCCESS

    def fd_datasync(self, fd: int) -> int:
        # macOS has no fdatasync; fsync does more, never less.
        getattr(os, "fdatasync", os.fsync)(self.file(fd).host)
        return abi.SUCCESS

    def fd_advise(self, fd: int, offset: int, size: int, advice: int) -> int:
        entry = self.file(fd)
        if advice >= len(_ADVICE) or offset > abi.I64_MAX or size > abi.I64_MAX:
            return abi.INVAL
        advise = getattr(os, "posix_fadvise", None)
        if advise is not None:
            advise(entry.host, offset, size, _ADVICE[advice])
        return abi.SUCCESS

    def fd_allocate(self, fd: int, offset: int, size: int) -> int:
        # As in wasmtime; callers of posix_fallocate are used to file systems without it.
        self.file(fd)
        return abi.NOTSUP

    def fd_fdstat_get(self, fd: int, result: int) -> int:
        entry = self.table.get(fd)
        base, inheriting = entry.rights()
        abi.fdstat.pack_into(self.host.memory(), result, entry.kind, entry.flags, base, inheriting)
        return abi.SUCCESS

    def fd_fdstat_set_flags(self, fd: int, flags: int) -> int:
        entry = self.table.get(fd)
        if entry.kind == abi.DIRECTORY_TYPE:
            return abi.BADF
        if flags & ~(abi.APPEND | abi.NONBLOCK):
            return abi.INVAL
        # DSYNC and SYNC were settled when the file was opened and stay.
        entry.flags = entry.flags & ~(abi.APPEND | abi.NONBLOCK) | flags
        if not entry.standard:
            # A standard stream is shared with the worker: its flags live in our table only.
            set_host_flags(entry)
        return abi.SUCCESS

    def fd_fdstat_set_rights(self, fd: int, base: int, inheriting: int) -> int:
        if self.table.get(fd).standard:
            return abi.BADF
        return abi.NOTSUP

    def fd_filestat_get(self, fd: int, result: int) -> int:
        self.write_filestat(self.host.memory(), result, os.fstat(self.table.get(fd).host))
        return abi.SUCCESS

    def fd_filestat_set_size(self, fd: int, size: int) -> int:
        entry = self.file(fd)
        if not entry.mutable:
            return abi.PERM
        if size > abi.I64_MAX:
            return abi.INVAL
        most = self.table.file_size
        if most is not None and size > most:
            return abi.FBIG
        os.ftruncate(entry.host, size)
        return abi.SUCCESS

    def fd_filestat_set_times(self, fd: int, atime: int, mtime: int, flags: int) -> int:
        entry = self.table.get(fd)
        if entry.standard:
            return abi.BADF
        if not entry.mutable:
            return abi.PERM
        times = new_times(lambda: os.fstat(entry.host), atime, mtime, flags)
        if times is not None:
            os.utime(entry.host, ns=times)
        return abi.SUCCESS
