"""Keep what guests write: counted against the limit, its end in memory, all of it in a file if asked."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from urllib.parse import quote

from procstop.records import StreamRecord
from procstop.settled import open_settled

TAIL = 16 * 1024


class Sink:
    """One stream of one attempt. `limit` in bytes; `path` is where to keep it all, None for nowhere."""

    def __init__(self, limit: int | None, path: str | None, complain: Callable[[str], None]) -> None:
        self._limit = limit
        self._path = path
        self._complain = complain
        self._file: int | None = None
        self._error: str | None = None
        self._tail = bytearray()
        self.kept = 0
        self.over_limit = False
        self.truncated = False

    def feed(self, data: bytes) -> bytes:
        """Take what the guest wrote; return the part of it that is kept. More than the limit sets `over_limit`."""
        if self._limit is not None and self.kept + len(data) > self._limit:
            data = data[: self._limit - self.kept]
            self.over_limit = self.truncated = True
        self.kept += len(data)
        self._tail += data
        # Cut seldom, so that a guest that writes byte by byte costs no copy each time.
        if len(self._tail) > 2 * TAIL:
            del self._tail[:-TAIL]
        if data and self._path is not None and self._error is None:
            self._save(data)
        return data

    def close(self) -> StreamRecord:
        """Close the file and return the record."""
        path = self._path if self._file is not None else None
        if self._file is not None:
            os.close(self._file)
            self._file = None
        return StreamRecord(self.kept, self.truncated, path, bytes(self._tail[-TAIL:]), self._error)

    def has_said(self, text: bytes) -> bool:
        """Tell whether a text is among the last that was written."""
        return text in self._tail

    def _save(self, data: bytes) -> None:
        assert self._path is not None
        try:
            if self._file is None:
                self._file = open_private(self._path)
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            # The guest goes on, and the record says that not all of it is in the file.
            self._complain(f"cannot write {self._path!r}: {error.strerror}; the rest of this stream is not kept")
            self._error, self.truncated = error.strerror or str(error), True


def open_private(path: str) -> int:
    """Make a file that is the user's alone, in the place of what had its name, and return its descriptor.

    Its directory is a settled path. A guest may write in it: what it lays there is neither followed nor written to.
    Only a device, as /dev/null, is opened as it is.
    """
    flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    directory, name = os.path.split(path)
    place = open_settled(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            if stat.S_ISCHR(os.stat(name, dir_fd=place, follow_symlinks=False).st_mode):
                return os.open(name, flags | os.O_NOCTTY, dir_fd=place)
            os.unlink(name, dir_fd=place)
        except FileNotFoundError:
            pass
        return os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=place)
    finally:
        os.close(place)


def make_directory(path: str) -> None:
    """Make a directory and those above it that are not there, the user's alone whatever the umask; or leave it."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(os.path.abspath(path))
    if above != path:
        make_directory(above)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        # Somebody else may have been faster; what is there is no directory otherwise.
        if not os.path.isdir(path):
            raise


def output_path(directory: str, task: str, number: int, stream: str) -> str:
    """Return the file for one stream of one attempt; different tasks never share one."""
    return os.path.join(directory, f"{quote(task, safe=' []()+,=@', errors='surrogatepass')}.{number}.{stream}")
