"""The functions that take a path, `path_*`. All of them resolve it by `resolve`, none follows a link itself."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from procstop.wasi import abi
from procstop.wasi.descriptors import Descriptor, set_host_flags
from procstop.wasi.memory import path as read_path
from procstop.wasi.memory import view
from procstop.wasi.resolve import Place, climbs_out
from procstop.wasi.state import State, check_lookup
from procstop.wasi.times import new_times

_OPEN: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_KNOWN_OFLAGS: Final = abi.CREAT | abi.DIRECTORY | abi.EXCL | abi.TRUNC
_KNOWN_FDFLAGS: Final = abi.APPEND | abi.DSYNC | abi.NONBLOCK | abi.RSYNC | abi.SYNC

_MOST_MOVED: Final = 100_000
"""Entries that are looked through when a directory is moved upwards."""


class Paths(State):
    """Opening, and what changes or tells about a name."""

    def path_open(
        self,
        fd: int,
        lookup: int,
        path: int,
        size: int,
        oflags: int,
        base: int,
        inheriting: int,
        fdflags: int,
        result: int,
    ) -> int:
        parent = self.table.get(fd)
        if parent.standard:
            return abi.BADF
        if parent.kind != abi.DIRECTORY_TYPE:
            return abi.NOTDIR
        follow = check_lookup(lookup)
        flags, readable, writable = _host_flags(oflags, base, fdflags)
        if not parent.mutable and (writable or oflags & (abi.CREAT | abi.TRUNC)):
            return abi.PERM
        if oflags & abi.CREAT and oflags & abi.EXCL:
            # POSIX: what is to be new is not a link to something else.
            follow = False
        memory = self.host.memory()
        view(memory, result, 4)
        with self.place(parent, memory, path, size, follow=follow) as place:
            if place.directory:
                if oflags & abi.CREAT:
                    raise OSError(errno.EISDIR, "is a directory")
                flags |= os.O_DIRECTORY
            host = os.open(place.name, flags, 0o666, dir_fd=place.descriptor)
            try:
                mode = os.fstat(host).st_mode
                entry = Descriptor(host, mode, readable=readable, writable=writable, mutable=parent.mutable)
                # As in wasmtime: a directory has none.
                entry.flags = 0 if entry.kind == abi.DIRECTORY_TYPE else fdflags
                entry.depth = place.depth + (place.name != b".")
                set_host_flags(entry)
                number = self.table.add(entry)
            except BaseException:
                os.close(host)
                raise
        abi.u32.pack_into(memory, result, number)
        return abi.SUCCESS

    def path_filestat_get(self, fd: int, lookup: int, path: int, size: int, result: int) -> int:
        parent = self.directory(fd)
        follow = check_lookup(lookup)
        memory = self.host.memory()
        with self.place(parent, memory, path, size, follow=follow) as place:
            self.write_filestat(memory, result, _status(place))
        return abi.SUCCESS

    def path_filestat_set_times(
        self, fd: int, lookup: int, path: int, size: int, atime: int, mtime: int, flags: int
    ) -> int:
        parent = self.directory(fd, change=True)
        follow = check_lookup(lookup)
        with self.place(parent, self.host.memory(), path, size, follow=follow) as place:
            status = _status(place)
            times = new_times(lambda: status, atime, mtime, flags)
            if times is not None:
                os.utime(place.name, ns=times, dir_fd=place.descriptor, follow_symlinks=False)
        return abi.SUCCESS

    def path_create_directory(self, fd: int, path: int, size: int) -> int:
        parent = self.directory(fd, change=True)
        with self._name(parent, self.host.memory(), path, size) as place:
            os.mkdir(place.name, dir_fd=place.descriptor)
        return abi.SUCCESS

    def path_remove_directory(self, fd: int, path: int, size: int) -> int:
        parent = self.directory(fd, change=True)
        with self._name(parent, self.host.memory(), path, size) as place:
            os.rmdir(place.name, dir_fd=place.descriptor)
        return abi.SUCCESS

    def path_unlink_file(self, fd: int, path: int, size: int) -> int:
        parent = self.directory(fd, change=True)
        with self._name(parent, self.host.memory(), path, size) as place:
            if stat.S_ISDIR(_status(place).st_mode):
                # macOS would say EPERM, and let root do it.
                raise OSError(errno.EISDIR, "is a directory")
            os.unlink(place.name, dir_fd=place.descriptor)
        return abi.SUCCESS

    def path_readlink(self, fd: int, path: int, size: int, buffer: int, capacity: int, result: int) -> int:
        parent = self.directory(fd)
        memory = self.host.memory()
        view(memory, result, 4)
        with self.place(parent, memory, path, size, follow=False) as place:
            if place.directory:
                _status(place)
            target = os.readlink(place.name, dir_fd=place.descriptor)
        if target.startswith(b"/"):
            # As in wasmtime: it leads nowhere for the guest, and would show it paths of the host.
            return abi.PERM
        target = target[:capacity]
        view(memory, buffer, len(target))[:] = target
        abi.u32.pack_into(memory, result, len(target))
        return abi.SUCCESS

    def path_symlink(self, target: int, target_size: int, fd: int, path: int, size: int) -> int:
        parent = self.directory(fd, change=True)
        memory = self.host.memory()
        text = read_path(memory, target, target_size)
        if text.startswith(b"/"):
            return abi.PERM
        with self._name(parent, memory, path, size) as place:
            if climbs_out(text, place.depth):
                # It would not lead this guest out, but whoever follows it next.
                return abi.PERM
            _refuse_slash(place)
            os.symlink(text, place.name, dir_fd=place.descriptor)
        return abi.SUCCESS

    def path_link(self, fd: int, lookup: int, path: int, size: int, new_fd: int, new_path: int, new_size: int) -> int:
        # Both ends: a link makes a file of a read-only directory writable through the other one.
        old_parent = self.directory(fd, change=True)
        new_parent = self.directory(new_fd, change=True)
        if check_lookup(lookup):
            return abi.INVAL
        memory = self.host.memory()
        with (
            self._name(old_parent, memory, path, size) as old,
            self._name(new_parent, memory, new_path, new_size) as new,
        ):
            _check_moved_link(old, new)
            _refuse_slash(new)
            os.link(
                old.name,
                new.name,
                src_dir_fd=old.descriptor,
                dst_dir_fd=new.descriptor,
                follow_symlinks=False,
            )
        return abi.SUCCESS

    def path_rename(self, fd: int, path: int, size: int, new_fd: int, new_path: int, new_size: int) -> int:
        old_parent = self.directory(fd, change=True)
        new_parent = self.directory(new_fd, change=True)
        memory = self.host.memory()
        with (
            self._name(old_parent, memory, path, size) as old,
            self._name(new_parent, memory, new_path, new_size) as new,
        ):
            if new.directory and new.name != b"." and not stat.S_ISDIR(_status(old).st_mode):
                raise OSError(errno.ENOTDIR, "not a directory")
            _check_moved_link(old, new)
            _check_moved_directory(old, new)
            os.rename(old.name, new.name, src_dir_fd=old.descriptor, dst_dir_fd=new.descriptor)
        return abi.SUCCESS

    def _name(self, parent: Descriptor, memory: memoryview, path: int, size: int) -> Place:
        """A name to create or remove: a symbolic link there is meant itself, also before a slash."""
        return self.place(parent, memory, path, size, follow=False, through_slash=False)


def _host_flags(oflags: int, rights: int, fdflags: int) -> tuple[int, bool, bool]:
    """Flags for `os.open`, and whether the guest may read and write through the result."""
    if oflags & ~_KNOWN_OFLAGS or fdflags & ~_KNOWN_FDFLAGS:
        raise abi.WasiError(abi.INVAL)
    if oflags & abi.DIRECTORY and oflags & (abi.CREAT | abi.TRUNC):
        raise abi.WasiError(abi.INVAL)
    writable = bool(rights & abi.FD_WRITE)
    readable = bool(rights & abi.FD_READ) or not writable
    flags = _OPEN | (os.O_RDWR if readable and writable else os.O_WRONLY if writable else os.O_RDONLY)
    for bit, host in (
        (abi.CREAT, os.O_CREAT),
        (abi.DIRECTORY, os.O_DIRECTORY),
        (abi.TRUNC, os.O_TRUNC),
    ):
        if oflags & bit:
            flags |= host
    if oflags & abi.EXCL and oflags & abi.CREAT:
        flags |= os.O_EXCL
    if fdflags & abi.APPEND:
        flags |= os.O_APPEND
    if fdflags & (abi.SYNC | abi.RSYNC):
        flags |= os.O_SYNC
    elif fdflags & abi.DSYNC:
        flags |= os.O_DSYNC
    return flags, readable, writable


def _status(place: Place) -> os.stat_result:
    """The status of what is at `place`, which must be a directory where the path ends like one."""
    status = os.stat(place.name, dir_fd=place.descriptor, follow_symlinks=False)
    if place.directory and not stat.S_ISDIR(status.st_mode):
        raise OSError(errno.ENOTDIR, "not a directory")
    return status


def _refuse_slash(place: Place) -> None:
    """Raise as POSIX does where something that is no directory is to be created under a name like "new/"."""
    if place.directory and place.name != b".":
        os.stat(place.name, dir_fd=place.descriptor, follow_symlinks=False)
        raise OSError(errno.EEXIST, "exists")


def _check_moved_link(old: Place, new: Place) -> None:
    """Refuse to move a symbolic link to where its text would climb out of the preopen."""
    if stat.S_ISLNK(_status(old).st_mode):
        target = os.readlink(old.name, dir_fd=old.descriptor)
        if climbs_out(target, new.depth) and not climbs_out(target, old.depth):
            raise OSError(errno.EPERM, "leads out of the sandbox")


def _check_moved_directory(old: Place, new: Place) -> None:
    """Refuse to move a directory to where a symbolic link in it would climb out of the preopen."""
    # Deeper down a link climbs less far.
    if new.depth >= old.depth or not stat.S_ISDIR(_status(old).st_mode):
        return
    left = _MOST_MOVED
    top = os.fsdecode(old.name)
    for path, directories, files, fd in os.fwalk(top, dir_fd=old.descriptor, follow_symlinks=False):
        left -= len(directories) + len(files)
        if left < 0:
            raise OSError(errno.EPERM, "too much to look through for links that would lead out")
        depth = new.depth + 1 + path[len(top) :].count("/")
        for name in (*directories, *files):
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode) and climbs_out(os.fsencode(os.readlink(name, dir_fd=fd)), depth):
                raise OSError(errno.EPERM, "leads out of the sandbox")
