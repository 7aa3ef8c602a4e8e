"""The supervisor's end of a compiler: one process, one module, one answer."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from typing import Any

from procstop.messages import TOKEN, ProtocolError
from procstop.messages.compiler import Compiled, decode_compiled
from procstop.process.child import LOADER, Child, SpawnError, file_of, start

_MAX_ANSWER = 64 * 1024


class Compiler(Child):
    """A compiler at work. `answer` is the pipe on which its one answer comes; its end is the end of the compiler.

    `request` is what `procstop.compiler` wants. Raise `SpawnError` where there can be none.
    """

    def __init__(self, request: dict[str, Any], module: int, *, run: str, lifeline: int) -> None:
        self._heard = b""
        with contextlib.ExitStack() as stack:
            try:
                order = stack.enter_context(file_of(json.dumps(request).encode()))
                read, write = os.pipe()
                stack.callback(os.close, write)
                with contextlib.ExitStack() as kept:
                    kept.callback(os.close, read)
                    self._artifact = kept.enter_context(file_of(b""))
                    self._errors = kept.enter_context(file_of(b""))
                    popen, pidfd = start(
                        "compiler",
                        (order.fileno(), module, self._artifact.fileno(), write, lifeline),
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=self._errors.fileno(),
                        env={TOKEN: run, **LOADER},
                    )
                    kept.pop_all()
            except OSError as error:
                raise SpawnError(f"cannot start a compiler: {error.strerror}", error) from error
        os.set_blocking(read, False)
        self.answer = read
        super().__init__(popen.pid, pidfd, popen)

    def listen(self) -> bool:
        """Take what it says; return whether more may come."""
        try:
            data = os.read(self.answer, _MAX_ANSWER)
        except BlockingIOError:
            return True
        self._heard += data[: _MAX_ANSWER - len(self._heard)]
        return bool(data)

    def answered(self) -> Compiled | None:
        """Return its answer; None where it gave none that makes sense."""
        try:
            return decode_compiled(self._heard)
        except ProtocolError:
            return None

    def terminate(self) -> None:
        """SIGTERM; SIGCONT with it, since a stopped process would not notice."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL; a lock that it holds goes with it, and the cache has only whole artifacts."""
        self.signal(signal.SIGKILL)

    def take_artifact(self) -> int:
        """Hand over the descriptor of the artifact that it made, once; the caller closes it."""
        return self._artifact.detach()

    def last_words(self) -> str:
        """Return the last line that it wrote to standard error."""
        return self._errors.last_line()

    def close(self) -> None:
        """Close what is held of it."""
        if self.answer >= 0:
            os.close(self.answer)
            self.answer = -1
        self._artifact.close()
        self._errors.close()
        super().close()
