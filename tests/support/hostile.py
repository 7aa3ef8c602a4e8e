"""Native code that a guest got hold of, as host functions: each act is tried, and what became of it is said."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PORT = "TEST_PORT"
"""The variable with the port of somebody who listens."""
OUTSIDE = "TEST_OUTSIDE"
"""The variable with a file that was not granted."""


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _ptrace() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, os.getppid(), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _connect() -> None:
    socket.create_connection(("127.0.0.1", int(os.environ[PORT])), timeout=5).close()


def _signal_all_blocked() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def _close_everything_but_the_report() -> None:
    """Close what can be closed; the lifelines cannot."""
    left = 0
    for fd in sorted(map(int, os.listdir("/proc/self/fd"))) if os.access("/proc/self/fd", os.R_OK) else range(3, 64):
        try:
            fcntl.fcntl(fd, fcntl.F_SETOWN, 0)
            left += 1
        except OSError as error:
            if error.errno == errno.EBADF:
                continue
    if not left:
        raise PermissionError(errno.EPERM, "no descriptor gives up its owner")


def _write(path: str) -> None:
    with open(path, "w") as file:
        file.write("x")


ACTS: dict[str, Callable[[], object]] = {
    "fork": _fork,
    "exec": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),
    "subprocess": lambda: subprocess.run(["true"], check=True),
    "socket": lambda: socket.socket().close(),
    "connect": _connect,
    "kill the supervisor": lambda: os.kill(os.getppid(), signal.SIGKILL),
    "signal everybody": lambda: os.kill(-1, signal.SIGKILL),
    "forget the parent's death": lambda: _prctl(1, 0),
    "trace the supervisor": _ptrace,
    "lift a limit": lambda: __import__("resource").setrlimit(7, (4096, 4096)),
    "stop the timers": lambda: signal.setitimer(signal.ITIMER_REAL, 1000),
    "give up the lifeline": _close_everything_but_the_report,
    "read a file outside": lambda: Path(os.environ[OUTSIDE]).read_text(),
    "write a file outside": lambda: _write(os.environ[OUTSIDE]),
    "remove a file outside": lambda: os.unlink(os.environ[OUTSIDE]),
    "rename a file outside": lambda: os.rename(os.environ[OUTSIDE], os.environ[OUTSIDE] + ".new"),
    "change a mode outside": lambda: os.chmod(os.environ[OUTSIDE], 0o777),
    "make a file outside": lambda: _write(os.environ[OUTSIDE] + ".made"),
    "link out": lambda: os.symlink("/etc", os.environ[OUTSIDE] + ".link"),
    "write to /proc": lambda: _write("/proc/self/oom_score_adj"),
    "read the supervisor's memory": lambda: open(f"/proc/{os.getppid()}/mem", "rb").close(),
    "read a user's secrets": lambda: Path("/etc/shadow").read_text(),
}


def tries_everything() -> None:
    """Try each act, and say what became of it as a line of JSON."""
    _signal_all_blocked()
    became = {}
    for name, act in ACTS.items():
        try:
            act()
            became[name] = "done"
        except (OSError, ValueError) as error:
            became[name] = type(error).__name__
    os.write(1, json.dumps(became).encode() + b"\n")


def tries_one() -> None:
    """Try the act that TEST_ACT names."""
    ACTS[os.environ["TEST_ACT"]]()
