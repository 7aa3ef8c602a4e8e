"""Children of this process: how they are started, watched, signalled and reaped.

A child is only ever signalled while nobody has reaped it, and there is one reaper, `Child.reap`: so its pid is its own.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from procstop import linux
from procstop.errors import SHORTAGES, ProcstopError
from procstop.process import tree

PACKAGE_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_BOOT = """
import sys
sys.path.insert(0, {root!r})
{first}
from procstop.{module} import main
main()
"""
# Without the package, which takes longer to import than all that such a module may import: the standard library.
_BOOT_ALONE = """
import sys
sys.path.insert(0, {place!r})
from {module} import main
del sys.path[0]
main()
"""
# A child's guards come before all else that it imports: a supervisor may die in the meantime.
_GUARD = "from procstop.containment import guard\nguard(sys.argv, {name!r})"
# Some Pythons do not even start without it; nothing else of the environment reaches a child.
LOADER = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}


class SpawnError(ProcstopError):
    """No process could be started. `is_shortage` says that it may work once others have ended."""

    def __init__(self, message: str, error: OSError | None = None) -> None:
        super().__init__(message)
        self.is_shortage = error is not None and error.errno in SHORTAGES


@dataclass
class Ended:
    """How a child ended: ("exit", code) or ("signal", number), its CPU seconds and peak memory in bytes.

    `wait` and `cpu_s` are None if somebody else reaped it, as the kernel does where SIGCHLD is ignored.
    `peak_memory_bytes` is None where the kernel's figure could be the supervisor's own, from before the exec. `held`
    says that somebody who traces it has not let go of it: it is dead, and stays a child until that one does.
    """

    wait: tuple[str, int] | None
    cpu_s: float | None
    peak_memory_bytes: int | None
    held: bool = False


@dataclass
class Child:
    """A child process. `pidfd` is None where the system has none; then `reap` has to be asked now and then.

    `popen` is None for a child that another process forked for us. `lifeline` is our end of the child's, which is
    killed when that is closed; -1 for a child without one.
    """

    pid: int
    pidfd: int | None
    popen: subprocess.Popen[bytes] | None
    ended: Ended | None = field(default=None, kw_only=True)
    lifeline: int = field(default=-1, kw_only=True)

    def reap(self) -> Ended | None:
        """Reap the child if it has ended; return how, None while it runs."""
        if self.ended is None:
            try:
                pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            except ChildProcessError:
                # Somebody else waited for our child. Its end is all that is known.
                self.ended = Ended(None, None, None)
                self._tell_popen(0)
                return self.ended
            if pid:
                code = os.waitstatus_to_exitcode(status)
                unit = 1024 if linux.ON_LINUX else 1
                own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                # One that was forked and executed nothing has never been us.
                peak = usage.ru_maxrss * unit if self.popen is None or usage.ru_maxrss > own else None
                wait = ("signal", -code) if code < 0 else ("exit", code)
                self.ended = Ended(wait, usage.ru_utime + usage.ru_stime, peak)
                self._tell_popen(code)
            elif self._is_held():
                self.ended = Ended(None, None, None, held=True)
        return self.ended

    def signal(self, number: int) -> None:
        """Signal the child itself; nothing happens once it was reaped."""
        if self.ended is None:
            try:
                if self.pidfd is not None:
                    signal.pidfd_send_signal(self.pidfd, number)  # type: ignore[attr-defined,unused-ignore]
                else:
                    os.kill(self.pid, number)
            except ProcessLookupError:
                pass

    def _is_held(self) -> bool:
        """Tell whether it is dead, and a tracer keeps its end from us."""
        # The kernel tells of the end of a process whoever may reap it: only then is it worth a look.
        if self.pidfd is None or not readable(self.pidfd):
            return False
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as stat, open(f"/proc/{self.pid}/status", "rb") as status:
                dead = stat.read().rpartition(b") ")[2][:1] == b"Z"
                tracer = next((line.split()[1] for line in status if line.startswith(b"TracerPid:")), b"0")
        except OSError:
            return False
        return dead and tracer not in (b"0", str(os.getpid()).encode())

    def close(self) -> None:
        """Close what is held of it."""
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None

    def _tell_popen(self, code: int) -> None:
        # Else Popen would complain, and later wait for a pid that is no longer ours.
        if self.popen is not None:
            self.popen.returncode = code


def start(
    module: str, fds: Sequence[int], *, guarded: bool = True, **options: object
) -> tuple[subprocess.Popen[bytes], int | None]:
    """Start `main` of one of procstop's modules, which gets these descriptors and our pid; return it and its pidfd.

    The last descriptor of a child that is `guarded` is its end of a lifeline. `options` are Popen's. Raise `SpawnError`
    where the system refuses, with nothing left behind. Call it from the thread that will live as long as the child: the
    kernel ends a child that is `guarded` with that thread.
    """
    command = python_command(module, _GUARD.format(name=f"procstop-{module}")) if guarded else python_alone(module)
    try:
        popen: subprocess.Popen[bytes] = subprocess.Popen(
            [*command, *map(str, fds), str(os.getpid())],
            pass_fds=[fd for fd in fds if fd >= 0],
            start_new_session=True,
            **options,  # type: ignore[call-overload]
        )
    except OSError as error:
        raise SpawnError(f"cannot start a process: {error.strerror or error}", error) from error
    try:
        return popen, open_pidfd(popen.pid)
    except OSError as error:
        # A child that cannot be watched must not run.
        popen.kill()
        popen.wait()
        raise SpawnError(f"cannot watch a process: {error.strerror}", error) from error


def make_lifeline() -> tuple[int, int]:
    """Return both ends of a lifeline, ours and a child's (see `containment`); raise `OSError` where there can be none.

    Neither passes to a program that is executed, unless it is handed on.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return ours.detach(), theirs.detach()


def open_pidfd(pid: int) -> int | None:
    """Return a pidfd for a child that nobody has reaped; None where the system has none."""
    return os.pidfd_open(pid) if tree.HAS_PIDFDS else None


def is_stranger(pid: int) -> bool:
    """Tell whether a process is there that is no child of ours."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return False
    except ChildProcessError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def python_command(module: str, first: str = "") -> list[str]:
    """Return the command that runs `main` of one of procstop's modules, with no site packages: it starts fast.

    Its standard streams are not buffered, so that nothing printed is lost when it is killed.
    """
    return [sys.executable, "-I", "-S", "-u", "-c", _BOOT.format(root=PACKAGE_ROOT, first=first, module=module)]


def python_alone(module: str) -> list[str]:
    """Return the command that runs `main` of a module that imports nothing of procstop."""
    boot = _BOOT_ALONE.format(place=os.path.join(PACKAGE_ROOT, "procstop"), module=module)
    return [sys.executable, "-I", "-S", "-u", "-c", boot]


def file_of(data: bytes) -> UnnamedFile:
    """Return an unnamed file that holds `data`, positioned at its start; a context manager."""
    if hasattr(os, "memfd_create"):
        file = UnnamedFile(os.memfd_create("procstop"))
    else:
        with tempfile.TemporaryFile() as made:
            file = UnnamedFile(os.dup(made.fileno()))
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(file.fileno(), view) :]
        os.lseek(file.fileno(), 0, os.SEEK_SET)
    except BaseException:
        file.close()
        raise
    return file


class UnnamedFile:
    """A file without a name; in memory, where the system has such."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        """Return its descriptor."""
        return self._fd

    def last_line(self) -> str:
        """Return the end of the last line in it."""
        try:
            size = os.fstat(self._fd).st_size
            text = os.pread(self._fd, 4096, max(0, size - 4096)).decode("utf-8", "replace")
        except OSError:
            return ""
        return "".join(text.strip().splitlines()[-1:])[-500:]

    def detach(self) -> int:
        """Hand over its descriptor, which the caller closes."""
        fd, self._fd = self._fd, -1
        return fd

    def close(self) -> None:
        """Let go of it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> UnnamedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def run_helper(module: str, request: object, *, timeout: float) -> Any:
    """Run one of procstop's modules as a one-shot child: give it JSON, and return the JSON that it prints.

    Raise `SpawnError` where it can't be started, fails or takes longer than `timeout` seconds; it is gone then.
    """
    try:
        child = subprocess.Popen(
            [*python_command(module), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=LOADER,
            start_new_session=True,
        )
    except OSError as error:
        raise SpawnError(f"cannot start a process: {error.strerror or error}") from error
    try:
        answer, errors = child.communicate(json.dumps(request).encode(), timeout=timeout)
    except BaseException as error:
        child.kill()
        child.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise SpawnError(f"{module} took longer than {timeout:g} s") from None
        raise
    if child.returncode != 0:
        last = errors.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise SpawnError(f"{module} failed with {child.returncode}: {''.join(last)[:500]}")
    try:
        return json.loads(answer)
    except ValueError:
        # Where SIGCHLD is ignored nobody is told of its exit code.
        last = errors.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise SpawnError(f"{module} failed: {''.join(last)[:500] or 'its answer is none'}") from None


def readable(fd: int) -> bool:
    """Tell whether a descriptor has something to read now, its end included."""
    # Not select(): it knows no descriptor above 1023.
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(0))
