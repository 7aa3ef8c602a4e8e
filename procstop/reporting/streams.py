"""Writing that never disturbs a run: a stream that goes silent when it breaks.

The reader of a pipe may leave (`procstop run job.toml | head`), a disk may be full, a terminal may hang up.
None of that is a reason for a run to end otherwise, so a broken stream swallows what comes after and
remembers why.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import IO, TextIO, cast


class QuietStream:
    """A text stream whose writes never raise; the first failure silences it and is kept in `failed`.

    It has what rich asks of a file. Characters that the encoding lacks are written as escapes.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failed: OSError | None = None
        self.encoding: str = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write and flush, or do nothing once the stream is broken."""
        if text:
            self._quietly(lambda: self._write(text))
        return len(text)

    def write_bytes(self, data: bytes) -> None:
        """Write and flush bytes as they are, or do nothing once the stream is broken."""
        if data:
            self._quietly(lambda: self._write_bytes(data))

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            self._stream.write(text.encode(self.encoding, "backslashreplace").decode(self.encoding))
        self._stream.flush()

    def _write_bytes(self, data: bytes) -> None:
        self._stream.buffer.write(data)
        self._stream.buffer.flush()

    def _quietly(self, write: Callable[[], None]) -> None:
        if self.failed is not None:
            return
        try:
            write()
        except OSError as error:
            # EAGAIN is among them: a descriptor that somebody made non-blocking has lost part of a line,
            # and what was written after the gap would be misread.
            self.failed = error
        except ValueError:
            self.failed = OSError(errno.EBADF, "the stream is closed")

    def flush(self) -> None:
        """Do nothing: every write is flushed."""

    def isatty(self) -> bool:
        """Tell whether a terminal is at the other end; a closed stream has none."""
        try:
            return self._stream.isatty()
        except (OSError, ValueError):
            return False

    def fileno(self) -> int:
        """Give the descriptor; raises `OSError` where there is none."""
        return self._stream.fileno()

    def file(self) -> IO[str]:
        """Give itself as the file that rich writes to."""
        return cast("IO[str]", self)
