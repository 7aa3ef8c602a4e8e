"""The supervisor's end of a fork server: requests out, answers in, nothing waited for."""

from __future__ import annotations

import array
import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Sequence

from procstop.errors import ProcstopError
from procstop.messages import TOKEN, ProtocolError
from procstop.messages.forkserver import ForkAnswer, ForkRequest, decode_answer, encode_request, split_request
from procstop.process.child import LOADER, Child, SpawnError, file_of, make_lifeline, start

MAX_PACKET = 32 * 1024
"""A request that is longer comes with a file."""
_MAX_PACKET = 64 * 1024


class ServerGone(ProcstopError):
    """The fork server has ended, or no longer makes sense."""


class ForkServer(Child):
    """A fork server for one engine. Its socket, `fd`, can be watched."""

    def __init__(self, engine: str, sys_path: Sequence[str], secret: bytes, *, run: str) -> None:
        self.engine = engine
        # The secret as it is, before the rest: it is to leave no trace in what reads the rest.
        setup = secret + json.dumps({"engine": engine, "sys_path": list(sys_path)}).encode()
        with contextlib.ExitStack() as ends, contextlib.ExitStack() as stack:
            try:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                ends.callback(theirs.close)
                stack.callback(ours.close)
                lifeline, its_lifeline = make_lifeline()
                stack.callback(os.close, lifeline)
                ends.callback(os.close, its_lifeline)
                self._errors = stack.enter_context(file_of(b""))
            except OSError as error:
                raise SpawnError(f"cannot start a fork server: {error.strerror}", error) from error
            popen, pidfd = start(
                "forkserver",
                (theirs.fileno(), its_lifeline),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors.fileno(),
                env={TOKEN: run, **LOADER},
            )
            stack.pop_all()
        super().__init__(popen.pid, pidfd, popen, lifeline=lifeline)
        ours.setblocking(False)
        self._socket = ours
        with contextlib.suppress(OSError):
            # If it is gone already, the next read says so.
            ours.send(setup)

    @property
    def fd(self) -> int:
        """What can be read when there is an answer."""
        return self._socket.fileno()

    def request(self, request: ForkRequest, fds: Sequence[int]) -> bool:
        """Ask for a worker with these descriptors, which stay open here; return False if it has no room for it now.

        Raise `ServerGone` where nobody hears it, and `SpawnError` where the system passes no more descriptors.
        """
        short, file = split_request(request, MAX_PACKET)
        try:
            with contextlib.ExitStack() as stack:
                if file is not None:
                    fds = [*fds, stack.enter_context(file_of(file)).fileno()]
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
                self._socket.sendmsg([encode_request(short)], [rights])
            return True
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionError):
            raise ServerGone("it hung up") from None
        except OSError as error:
            raise SpawnError(f"cannot start a worker: {error.strerror}", error) from error

    def answers(self) -> list[ForkAnswer]:
        """Return the answers that have come; raise `ServerGone` at the end of them, or at one that is none."""
        found: list[ForkAnswer] = []
        while True:
            try:
                data = self._socket.recv(_MAX_PACKET)
            except BlockingIOError:
                return found
            except ConnectionResetError:
                # It ended with requests unread, which is told once, and before what it had answered.
                continue
            except OSError:
                data = b""
            # What came before the end still counts: the end is there again at the next call.
            if not data:
                if found:
                    return found
                raise ServerGone("it has ended")
            try:
                found.append(decode_answer(data))
            except ProtocolError as error:
                raise ServerGone(f"it sent {error}") from None

    def kill(self) -> None:
        """SIGKILL; it has nothing to say and nothing to save."""
        self.signal(signal.SIGKILL)

    def last_words(self) -> str:
        """Return the last line that it wrote to standard error."""
        return self._errors.last_line()

    def close(self) -> None:
        """Close what is held of it."""
        self._socket.close()
        self._errors.close()
        super().close()
