"""Compiled modules on disk: keyed by all that they depend on, sealed, written whole or not at all.

An artifact is machine code, and loading a changed one on wasmer is a crash or worse. So each is sealed with a keyed
digest (BLAKE2b) under a secret of this cache, and whoever loads one checks the seal over the very bytes it loads. The
directory belongs to the user alone (mode 0700); a file that others could have written is not even opened. Whatever is
wrong is a `BadArtifact` or a `CacheError`, and the module is compiled instead.

A file is: MAGIC, the lengths of head and artifact (4 and 8 bytes, big-endian), the head in JSON, the seal (32 bytes),
the artifact. The lengths come first so that a file of another size is refused before anybody reads all of it.
This module does files and digests only; it runs in the supervisor, in compilers, in fork servers and in workers.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import stat
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from procstop.errors import ProcstopError

MAGIC = b"procstop artifact 1\n"
SUFFIX = ".artifact"
SECRET_BYTES = 32
_SEAL_BYTES = 32
_LENGTHS = struct.Struct(">IQ")
_START = len(MAGIC) + _LENGTHS.size
_MAX_HEAD = 64 * 1024
_STALE_S = 3600.0
"""A temporary file this old belongs to nobody any more."""
_CHUNK = 1 << 24


class BadArtifact(ProcstopError):
    """It is not what was stored under this key; it must not be loaded."""


class CacheError(ProcstopError):
    """The cache cannot be used; the text says where, why, and what to do about it."""


@dataclass(frozen=True)
class Key:
    """What an artifact depends on: the module's SHA-256 in hex, the engine, and its `build`.

    `build` is a text with the versions of engine and compiler, their settings, the CPU's features and the platform.
    """

    module: str
    engine: str
    build: str

    @property
    def name(self) -> str:
        """Its file's name, without the suffix."""
        return f"{self.engine}-{hashlib.sha256(repr((self.module, self.engine, self.build)).encode()).hexdigest()[:40]}"


@dataclass(frozen=True)
class Entry:
    """One artifact in the cache. Sizes in bytes, times in seconds since 1970; `about` is what its head says."""

    name: str
    path: str
    size: int
    used_at: float
    about: dict[str, Any]


def seal(secret: bytes | bytearray, name: str, about: dict[str, Any], artifact: bytes) -> bytes:
    """Return what goes before an artifact in its file."""
    head = json.dumps(about, sort_keys=True).encode()
    start = MAGIC + _LENGTHS.pack(len(head), len(artifact)) + head
    return start + _digest(secret, name, start, artifact)


def unseal(secret: bytes | bytearray, name: str, data: bytes) -> memoryview:
    """Return the artifact in a file's bytes; raise `BadArtifact` unless they are exactly what `seal` was given."""
    end = _START + _head_length(data, len(data))
    artifact = memoryview(data)[end + _SEAL_BYTES :]
    if not hmac.compare_digest(data[end : end + _SEAL_BYTES], _digest(secret, name, data[:end], artifact)):
        raise BadArtifact("its digest does not match")
    return artifact


def _head_length(start: bytes, size: int) -> int:
    """Return the length of the head of a file that starts so; raise `BadArtifact` unless it has the `size` it says."""
    if not start.startswith(MAGIC):
        raise BadArtifact("it is not an artifact" if start else "it is empty")
    if len(start) < _START:
        raise BadArtifact("it is cut off")
    head, artifact = _LENGTHS.unpack_from(start, len(MAGIC))
    whole = _START + head + _SEAL_BYTES + artifact
    if size != whole:
        raise BadArtifact("it is cut off" if size < whole else "something was added to it")
    return int(head)


def _digest(secret: bytes | bytearray, name: str, start: bytes, artifact: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(key=secret, digest_size=_SEAL_BYTES)
    # The name too, so that one artifact cannot stand in for another.
    for part in (name.encode(), b"\0", start, artifact):
        digest.update(part)
    return digest.digest()


def read_whole(fd: int) -> bytes:
    """Read a file from its start, whatever the shared offset is."""
    parts, offset = [], 0
    while part := os.pread(fd, _CHUNK, offset):
        parts.append(part)
        offset += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def write_whole(fd: int, *parts: bytes) -> None:
    """Write all of the parts, one after another."""
    for part in parts:
        view = memoryview(part)
        while view:
            view = view[os.write(fd, view) :]


class Cache:
    """A directory of artifacts. Making one touches nothing; `secret` makes the directory."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def path_of(self, name: str) -> str:
        """Return where an artifact is, if it is there."""
        return os.path.join(self.directory, name + SUFFIX)

    def secret(self) -> bytes:
        """Return the cache's secret, made at first need; raise `CacheError` where it cannot be kept safely."""
        self._prepare()
        path = os.path.join(self.directory, "secret")
        try:
            if not os.path.exists(path):
                with self._new_file() as (fd, link):
                    write_whole(fd, os.urandom(SECRET_BYTES))
                    os.fsync(fd)
                    # The first of several that try at once wins; the others take what it made.
                    with contextlib.suppress(FileExistsError):
                        link(path, False)
            fd = _open_own(path)
            try:
                secret = read_whole(fd)
            finally:
                os.close(fd)
        except BadArtifact as error:
            raise CacheError(f'cache: "{path}": {error}; remove it') from None
        except OSError as error:
            raise CacheError(f'cache: cannot keep a secret in "{self.directory}": {error.strerror}') from None
        if len(secret) != SECRET_BYTES:
            raise CacheError(f'cache: "{path}" is not a secret of {SECRET_BYTES} bytes; remove it')
        return secret

    def open(self, name: str) -> int | None:
        """Open an artifact for reading; None if there is none.

        Raise `BadArtifact` if others could have written it, or if it has not the size that it says. Only `unseal` tells
        whether its bytes are right.
        """
        try:
            fd = _open_own(self.path_of(name))
        except OSError:
            return None
        try:
            _head_length(os.pread(fd, _START, 0), os.fstat(fd).st_size)
        except BaseException as error:
            os.close(fd)
            if isinstance(error, OSError):
                return None
            raise
        # When it was last used, for `prune`. What cannot be noted costs nothing but that.
        with contextlib.suppress(OSError):
            os.utime(fd)
        return fd

    def store(self, name: str, head: bytes, artifact: bytes) -> None:
        """Write an artifact: whole, synced, then under its name. Raise `CacheError` where that cannot be done."""
        try:
            with self._new_file() as (fd, link):
                write_whole(fd, head, artifact)
                os.fsync(fd)
                link(self.path_of(name), True)
            self._sync()
        except OSError as error:
            raise CacheError(f'cache: cannot write to "{self.directory}": {error.strerror}') from None

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Wait until nobody else makes this artifact, and keep the others waiting meanwhile.

        The kernel lets go of the lock when its holder ends, however it does.
        """
        try:
            fd = os.open(os.path.join(self.directory, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CacheError(f'cache: cannot lock in "{self.directory}": {error.strerror}') from None
        try:
            _make_own(fd, 0o600)
            # One byte of one file for each name: no lock files to clear away.
            at = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX, 1, at)
            except OSError:
                pass  # A file system without locks: at worst two make the same thing.
            yield
        finally:
            os.close(fd)

    def remove(self, name: str) -> None:
        """Remove an artifact if it is there."""
        with contextlib.suppress(OSError):
            os.unlink(self.path_of(name))

    def distrust(self) -> str | None:
        """Say why the directory is not used, if it is there; looking into it and removing from it need no trust."""
        try:
            return self._fault(os.stat(self.directory))
        except OSError:
            return None

    def entries(self) -> list[Entry]:
        """Return what is in the cache, last used first; raise `CacheError` where the directory cannot be read."""
        found = []
        for file in self._files():
            if file.name.endswith(SUFFIX):
                try:
                    status = file.stat(follow_symlinks=False)
                    about = _read_about(file.path) if stat.S_ISREG(status.st_mode) else {}
                except OSError:
                    continue
                found.append(Entry(file.name.removesuffix(SUFFIX), file.path, status.st_size, status.st_mtime, about))
        return sorted(found, key=lambda entry: (-entry.used_at, entry.name))

    def prune(self, older_than_s: float | None = None, max_size: int | None = None) -> list[Entry]:
        """Remove what was not used for so long, and what was used longest ago until the rest fits; return it.

        Raise `CacheError` where something cannot be removed.
        """
        now, surplus, size = time.time(), [], 0
        # Last used first: from the one that does not fit any more on, all go.
        for entry in self.entries():
            too_old = older_than_s is not None and now - entry.used_at > older_than_s
            size += entry.size
            if too_old or (max_size is not None and size > max_size):
                surplus.append(entry)
        removed = self._remove_all(surplus)
        for file in self._files():
            # What a compiler left that was killed between two system calls.
            with contextlib.suppress(OSError):
                if file.name.startswith(".new-") and now - file.stat().st_mtime > _STALE_S:
                    os.unlink(file.path)
        return removed

    def _remove_all(self, entries: list[Entry]) -> list[Entry]:
        removed, problem = [], None
        for entry in entries:
            try:
                os.unlink(entry.path)
            except FileNotFoundError:
                continue  # Somebody else was faster.
            except OSError as error:
                # One that stays is no reason to keep the others.
                problem = problem or f'cache: cannot remove "{entry.path}": {error.strerror}'
                continue
            removed.append(entry)
        if problem is not None:
            raise CacheError(problem)
        return removed

    def _files(self) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.directory) as files:
                return list(files)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CacheError(f'cache: cannot read "{self.directory}": {error.strerror}') from None

    def _prepare(self) -> None:
        try:
            os.makedirs(os.path.dirname(self.directory), exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.directory, 0o700)
                os.chmod(self.directory, 0o700)  # Whatever the umask took away.
            status = os.stat(self.directory)
        except OSError as error:
            raise CacheError(f'cache: cannot make "{self.directory}": {error.strerror}') from None
        fault = self._fault(status)
        if fault is not None:
            raise CacheError(fault)

    def _fault(self, status: os.stat_result) -> str | None:
        if not stat.S_ISDIR(status.st_mode):
            return f'cache: "{self.directory}" is not a directory; remove it'
        if status.st_uid != os.geteuid():
            return f'cache: "{self.directory}" belongs to another user (uid {status.st_uid})'
        if stat.S_IMODE(status.st_mode) & 0o077:
            return f'cache: "{self.directory}" is open to other users; chmod 700 it'
        return None

    @contextlib.contextmanager
    def _new_file(self) -> Iterator[tuple[int, Any]]:
        """Open a file that nobody sees until `link(path, replace)` gives it a name; without that nothing is left."""
        own = os.path.join(self.directory, f".new-{os.getpid()}-{os.urandom(4).hex()}")
        unnamed = getattr(os, "O_TMPFILE", 0)
        fd = -1
        if unnamed:
            with contextlib.suppress(OSError):
                fd = os.open(self.directory, unnamed | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        has_name = fd < 0
        if has_name:
            fd = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        _make_own(fd, 0o600)

        def link(path: str, replace: bool) -> None:
            nonlocal has_name
            if not has_name:
                try:
                    _give_name(fd, path)
                    return
                except FileExistsError:
                    if not replace:
                        raise
                _give_name(fd, own)
                has_name = True
            if replace:
                os.rename(own, path)
                has_name = False
            else:
                os.link(own, path)

        try:
            yield fd, link
        finally:
            os.close(fd)
            if has_name:
                with contextlib.suppress(OSError):
                    os.unlink(own)

    def _sync(self) -> None:
        fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _give_name(fd: int, path: str) -> None:
    """Give a file that has no name one; raise `FileExistsError` if that is taken."""
    # With a directory's descriptor, which an absolute path does without, Python follows the link to the file.
    os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)


def _make_own(fd: int, mode: int) -> None:
    """Give a file the mode that it was to have, whatever the umask took away."""
    with contextlib.suppress(OSError):
        os.fchmod(fd, mode)


def _open_own(path: str) -> int:
    """Open a file for reading that nobody else could have written; raise `BadArtifact` for another."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        # A symbolic link is nothing that procstop makes.
        if os.path.islink(path):
            raise BadArtifact("it is a symbolic link") from None
        raise error
    status = os.fstat(fd)
    fault = None
    if not stat.S_ISREG(status.st_mode):
        fault = "it is not a file"
    elif status.st_uid != os.geteuid():
        fault = f"it belongs to another user (uid {status.st_uid})"
    elif stat.S_IMODE(status.st_mode) & 0o077:
        fault = "it is open to other users"
    if fault is not None:
        os.close(fd)
        raise BadArtifact(fault)
    return fd


def _read_about(path: str) -> dict[str, Any]:
    """Read an artifact's head, which nothing vouches for; empty where it makes no sense."""
    with open(path, "rb") as file:
        start = file.read(_START)
        if not start.startswith(MAGIC) or len(start) < _START:
            return {}
        length, _ = _LENGTHS.unpack_from(start, len(MAGIC))
        if length > _MAX_HEAD:
            return {}
        try:
            about = json.loads(file.read(length))
        except (ValueError, RecursionError):
            return {}
    return about if isinstance(about, dict) else {}
