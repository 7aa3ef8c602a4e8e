"""Host functions that do their worst. They run in a worker, from where a guest calls them.

Those that try to get out of the sandbox end well if they could not, and otherwise raise `Escaped`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import resource
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable

from procstop.sandbox.calls import NUMBERS

OUTSIDE, PORT = "SELFTEST_OUTSIDE", "SELFTEST_PORT"
"""The variables that name a directory that was not granted, and a local port where somebody listens."""
DEAF = "deaf"
"""What they say who have signals ignored from now on."""
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PTRACE_ATTACH, _F_SETSIG, _FIOASYNC = 1, 16, 10, 0x5452


class Escaped(Exception):
    """What nobody had allowed could be done."""


def say(text: str) -> None:
    """Write a line where the guest's output goes."""
    os.write(1, f"{text}\n".encode())


# Those that do not want to end


def blocks() -> None:
    """Read from a pipe into which nobody writes, for ever."""
    read, _write = os.pipe()
    os.read(read, 1)


def ignores_sigterm() -> None:
    """Ignore SIGTERM from now on, and say so."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(DEAF)


def ignores_everything_and_blocks() -> None:
    """Ignore all signals that can be ignored, say so, and block."""
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    say(DEAF)
    blocks()


def starts_descendants() -> None:
    """Fork a child, and a grandchild that leaves for a session of its own; both ignore what can be ignored."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            _stay(write)
        os._exit(0)
    os.wait()
    if os.fork() == 0:
        _stay(write)
    pids = sorted(int.from_bytes(os.read(read, 4), "big") for _ in range(2))
    say("descendants " + " ".join(map(str, pids)))


def _stay(tell: int) -> None:
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    os.write(tell, os.getpid().to_bytes(4, "big"))
    while True:
        time.sleep(1e6)


# Those that try to get out


def _must_fail(*acts: Callable[[], object]) -> None:
    """Do each; raise `Escaped` for one that the system does not deny, be it that it fails for another reason."""
    for number, act in enumerate(acts, start=1):
        try:
            act()
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES):
                continue
            raise Escaped(f"act {number} of {len(acts)} was not denied: {error.strerror}") from None
        raise Escaped(f"act {number} of {len(acts)} was allowed")


def _system_call(name: str, *arguments: int) -> int:
    number = NUMBERS[platform.machine()][name]
    return _checked(_LIBC.syscall(*map(ctypes.c_long, (number, *arguments))))


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def forks() -> None:
    """Start a process."""

    def fork() -> None:
        if os.fork() == 0:
            os._exit(0)

    _must_fail(fork, lambda: os.posix_spawn("/bin/true", ["true"], {}))


def executes() -> None:
    """Become another program."""
    _must_fail(lambda: os.execv("/bin/true", ["true"]), lambda: os.execv(sys.executable, [sys.executable, "-V"]))


def opens_socket() -> None:
    """Make sockets, of the network and local ones."""
    _must_fail(lambda: socket.socket().close(), lambda: socket.socket(socket.AF_UNIX).close())


def connects() -> None:
    """Connect to somebody who listens on this machine."""
    address = ("127.0.0.1", int(os.environ[PORT]))
    _must_fail(lambda: socket.create_connection(address, timeout=5).close())


def kills_parent() -> None:
    """Kill the supervisor, and everybody."""
    _must_fail(
        lambda: os.kill(os.getppid(), signal.SIGKILL),
        lambda: _system_call("tgkill", os.getppid(), os.getppid(), signal.SIGKILL),
        lambda: os.close(_system_call("pidfd_open", os.getppid(), 0)),
        # Signal 0 asks whether one might: the real one would not leave anybody to tell.
        lambda: os.kill(-1, 0),
    )


def clears_parent_death_signal() -> None:
    """Take off the guard that ends a worker with its supervisor."""
    _must_fail(lambda: _checked(_LIBC.prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)))


def cuts_lifeline() -> None:
    """Close, replace and silence the descriptors by which the kernel tells of the supervisor's end."""
    lifelines = [fd for fd in range(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0]) if _is_lifeline(fd)]
    if not lifelines:
        raise Escaped("there is no lifeline")
    for fd in lifelines:
        _cut(fd)
        os.closerange(fd, fd + 1)
    if not all(map(_is_lifeline, lifelines)):
        raise Escaped("the lifeline was closed")


def _cut(fd: int) -> None:
    try:
        os.close(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        pass  # Whatever it is that makes it impossible.
    else:
        raise Escaped("the lifeline was opened again")
    _must_fail(
        lambda: os.close(fd),
        lambda: os.dup2(0, fd),
        lambda: fcntl.fcntl(fd, fcntl.F_SETFL, 0),
        lambda: fcntl.fcntl(fd, fcntl.F_SETOWN, 0),
        lambda: fcntl.fcntl(fd, _F_SETSIG, 0),
        lambda: fcntl.ioctl(fd, _FIOASYNC, b"\0\0\0\0"),
        lambda: _system_call("shutdown", fd, socket.SHUT_RDWR),
    )


def _is_lifeline(fd: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode) and bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ASYNC)
    except OSError:
        return False


def sets_timers() -> None:
    """Take off the timer that ends a worker whose supervisor stands still, and set others."""
    _must_fail(
        lambda: _system_call("timer_delete", 0),
        lambda: _system_call("timer_settime", 0, 0, 0, 0),
        lambda: signal.setitimer(signal.ITIMER_REAL, 1000),
        lambda: _system_call("setrlimit", resource.RLIMIT_CPU, 0),
    )


def writes_to_proc() -> None:
    """Write to memory, and to what the kernel thinks of processes, by their names in /proc."""
    parent = os.getppid()
    names = ("/proc/self/mem", "/proc/self/oom_score_adj", f"/proc/{parent}/mem", f"/proc/{parent}/oom_score_adj")
    _must_fail(*(lambda name=name: os.close(os.open(name, os.O_RDWR)) for name in names))


def opens_files() -> None:
    """Read, write and make files outside of what was granted."""
    outside = os.environ[OUTSIDE]
    _must_fail(
        lambda: os.close(os.open(f"{outside}/secret", os.O_RDONLY)),
        lambda: os.close(os.open(f"{outside}/secret", os.O_WRONLY)),
        lambda: os.close(os.open(f"{outside}/new", os.O_CREAT | os.O_WRONLY, 0o600)),
        lambda: os.close(os.open("/etc/passwd", os.O_RDONLY)),
        lambda: os.listdir(outside),
        lambda: os.truncate(f"{outside}/secret", 0),
    )


def changes_files() -> None:
    """Change modes, remove, move and link outside of what was granted."""
    outside = os.environ[OUTSIDE]
    _must_fail(
        lambda: os.chmod(f"{outside}/secret", 0o777),
        lambda: os.chown(f"{outside}/secret", os.getuid(), os.getgid()),
        lambda: os.unlink(f"{outside}/secret"),
        lambda: os.rename(f"{outside}/secret", f"{outside}/new"),
        lambda: os.symlink("secret", f"{outside}/new"),
        lambda: os.mkdir(f"{outside}/new"),
    )


def traces_parent() -> None:
    """Trace the supervisor, and write to its memory."""
    _must_fail(
        lambda: _system_call("ptrace", _PTRACE_ATTACH, os.getppid(), 0, 0),
        lambda: _system_call("process_vm_writev", os.getppid(), 0, 0, 0, 0, 0),
        lambda: _system_call("prlimit64", os.getppid(), resource.RLIMIT_NOFILE, 8, 0),
    )


def does_nothing() -> None:
    """Do nothing: a control, and a guest's neighbour."""
