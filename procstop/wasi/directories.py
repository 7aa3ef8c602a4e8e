"""Preopens and the entries of directories: `fd_prestat_*` and `fd_readdir`."""

from __future__ import annotations

import os

from procstop.wasi import abi
from procstop.wasi.descriptors import Descriptor, Entry
from procstop.wasi.memory import view
from procstop.wasi.state import State


class Directories(State):
    """What a guest can learn from an open directory."""

    def fd_prestat_get(self, fd: int, result: int) -> int:
        name = self.table.get(fd).preopen
        if name is None:
            return abi.BADF
        # The tag of the only kind there is, a directory, is 0.
        abi.pair.pack_into(self.host.memory(), result, 0, len(name))
        return abi.SUCCESS

    def fd_prestat_dir_name(self, fd: int, buffer: int, size: int) -> int:
        name = self.table.get(fd).preopen
        if name is None:
            return abi.NOTDIR
        if len(name) > size:
            return abi.NAMETOOLONG
        view(self.host.memory(), buffer, len(name))[:] = name
        return abi.SUCCESS

    def fd_readdir(self, fd: int, buffer: int, size: int, cookie: int, result: int) -> int:
        """Entries from number `cookie` on; the last one is cut off where the buffer ends.

        They come from a snapshot taken at cookie 0: a guest that deletes what it lists misses nothing.
        """
        entry = self.directory(fd)
        memory = self.host.memory()
        view(memory, result, 4)
        target = view(memory, buffer, size)
        if entry.entries is None or cookie == 0:
            entry.entries = _list(entry)
        used = 0
        for number in range(cookie, len(entry.entries)):
            name, inode, kind = entry.entries[number]
            record = abi.dirent.pack(number + 1, inode, len(name), kind) + name
            piece = record[: size - used]
            target[used : used + len(piece)] = piece
            used += len(piece)
            if used == size:
                break
        abi.u32.pack_into(memory, result, used)
        return abi.SUCCESS


def _list(entry: Descriptor) -> list[Entry]:
    inode = os.fstat(entry.host).st_ino & abi.U64
    # The inode of what lies above a preopen is none of the guest's business: `..` has that of `.`.
    entries: list[Entry] = [(b".", inode, abi.DIRECTORY_TYPE), (b"..", inode, abi.DIRECTORY_TYPE)]
    with os.scandir(entry.host) as found:
        for item in found:
            entries.append((os.fsencode(item.name), item.inode() & abi.U64, _kind(item)))
    return entries


def _kind(item: os.DirEntry[str]) -> int:
    try:
        # The first three cost no system call.
        if item.is_file(follow_symlinks=False):
            return abi.REGULAR_FILE
        if item.is_dir(follow_symlinks=False):
            return abi.DIRECTORY_TYPE
        if item.is_symlink():
            return abi.SYMBOLIC_LINK
        return abi.filetype(item.stat(follow_symlinks=False).st_mode)
    except OSError:
        # Gone meanwhile.
        return abi.UNKNOWN
