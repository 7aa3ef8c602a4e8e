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
from procstop.wasi.resolve import Place, climbs_out, depth_of, identity
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
                entry.top = parent.top
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
            if climbs_out(text, depth_of(place.descriptor, parent.top)):
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
            _check_move(old, old_parent.top, new, new_parent.top)
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
            _check_move(old, old_parent.top, new, new_parent.top)
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


def _check_move(old: Place, old_top: tuple[int, int], new: Place, new_top: tuple[int, int]) -> None:
    """Refuse to move a symbolic link, or a directory with one in it, to where its text would climb out of the preopen.

    A link that does so where it is may be moved to the same depth, and an absolute one anywhere.
    """
    mode = _status(old).st_mode
    if not (stat.S_ISLNK(mode) or stat.S_ISDIR(mode)):
        return
    before, after = depth_of(old.descriptor, old_top), depth_of(new.descriptor, new_top)
    if stat.S_ISLNK(mode):
        target = os.readlink(old.name, dir_fd=old.descriptor)
        if before != after and not target.startswith(b"/") and climbs_out(target, after):
            raise _leads_out()
    # Deeper down a link climbs less far.
    elif after < before:
        _check_links_below(old, after + 1)


def _check_links_below(place: Place, depth: int) -> None:
    """Refuse it if a link in a directory, or below it, would climb out with that directory at this depth.

    A directory is left by its `..`, so that no more than two are open however deep it goes.
    """
    here = os.open(place.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.descriptor)
    above: list[tuple[tuple[int, int], list[str]]] = []
    left = _MOST_MOVED

    def go(name: str) -> None:
        nonlocal here
        there = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
        os.close(here)
        here = there

    try:
        while True:
            below = []
            with os.scandir(here) as entries:
                for entry in entries:
                    left -= 1
                    if left < 0:
                        raise OSError(errno.EPERM, "too much to look through for links that would lead out")
                    if entry.is_symlink():
                        if climbs_out(os.fsencode(os.readlink(entry.name, dir_fd=here)), depth + len(above)):
                            raise _leads_out()
                    elif entry.is_dir(follow_symlinks=False):
                        below.append(entry.name)
            above.append((identity(here), below))
            while not above[-1][1]:
                above.pop()
                if not above:
                    return
                go("..")
                if identity(here) != above[-1][0]:
                    raise OSError(errno.EPERM, "moved while it was looked through")
            go(above[-1][1].pop())
    finally:
        os.close(here)


def _leads_out() -> OSError:
    return OSError(errno.EPERM, "leads out of the sandbox")
