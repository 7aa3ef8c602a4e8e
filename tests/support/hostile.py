"""Native code that a guest got hold of, as host functions. The tricks are those of procstop's selftest."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from procstop.selftest import hostile
from procstop.selftest.hostile import OUTSIDE, PORT

SECRET = "secret"
"""The file in the directory `OUTSIDE` that was not granted."""
ACT = "TEST_ACT"
"""The variable that names an act."""

TRICKS: list[Callable[[], None]] = [
    hostile.forks,
    hostile.executes,
    hostile.opens_socket,
    hostile.connects,
    hostile.kills_parent,
    hostile.clears_parent_death_signal,
    hostile.cuts_lifeline,
    hostile.sets_timers,
    hostile.writes_to_proc,
    hostile.opens_files,
    hostile.changes_files,
    hostile.traces_parent,
]


def _secret() -> Path:
    return Path(os.environ[OUTSIDE], SECRET)


ACTS: dict[str, Callable[[], object]] = {
    "connect": lambda: socket.create_connection(("127.0.0.1", int(os.environ[PORT])), timeout=5).close(),
    "start a process": lambda: subprocess.run(["true"], check=True),
    "read a file": lambda: _secret().read_text(),
    "write a file": lambda: _secret().write_text("x"),
}
"""What a host function may do if the task says so."""


def tries_everything() -> None:
    """Block all signals, try each trick, and say as JSON what became of it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    became = {}
    for trick in TRICKS:
        try:
            trick()
            became[trick.__name__] = "nothing"
        except hostile.Escaped as escape:
            became[trick.__name__] = str(escape)
    os.write(1, json.dumps(became).encode() + b"\n")


def tries_one() -> None:
    """Do what `ACT` names."""
    ACTS[os.environ[ACT]]()
