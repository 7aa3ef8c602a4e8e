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
from procstop.process.child import LOADER, Child, SpawnError, file_of, make_lifeline, start

_MAX_ANSWER = 64 * 1024


class Compiler(Child):
    """A compiler at work. `answer` is the pipe on which its one answer comes; its end is the end of the compiler.

    `request` is what `procstop.compiler` wants. Raise `SpawnError` where there can be none.
    """

    def __init__(self, request: dict[str, Any], module: int, *, run: str) -> None:
        self._heard = b""
        with contextlib.ExitStack() as ends, contextlib.ExitStack() as stack:
            try:
                order = ends.enter_context(file_of(json.dumps(request).encode()))
                read, write = os.pipe()
                stack.callback(os.close, read)
                ends.callback(os.close, write)
                lifeline, its_lifeline = make_lifeline()
                stack.callback(os.close, lifeline)
                ends.callback(os.close, its_lifeline)
                self._artifact = stack.enter_context(file_of(b""))
                self._errors = stack.enter_context(file_of(b""))
            except OSError as error:
                raise SpawnError(f"cannot start a compiler: {error.strerror}", error) from error
            popen, pidfd = start(
                "compiler",
                (order.fileno(), module, self._artifact.fileno(), write, its_lifeline),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors.fileno(),
                env={TOKEN: run, **LOADER},
            )
            stack.pop_all()
        os.set_blocking(read, False)
        self.answer = read
        super().__init__(popen.pid, pidfd, popen, lifeline=lifeline)

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
