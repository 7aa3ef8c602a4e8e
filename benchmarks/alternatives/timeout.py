"""`timeout` of GNU coreutils around the script: SIGTERM at the limit, SIGKILL after the grace."""

from __future__ import annotations

import shutil
import subprocess

from benchmarks.alternatives.commands import Command, start_quietly
from benchmarks.contender import GRACE_S

_KILLED = 128 + 9
_STOPPED = 124


class Timeout(Command):
    """`timeout -k`, called for each task."""

    name = "timeout -k"
    what = "`timeout -k 1 LIMIT` (`-s KILL` where there is no grace) around a Python script that runs the guest"
    install = "apt-get install coreutils"

    def why_not(self) -> str | None:
        """See `Contender`."""
        return super().why_not() if shutil.which("timeout") else "timeout is not installed"

    def call(self, command: list[str], limit_s: float, *, grace: bool = False) -> tuple[bool, bytes]:
        """See `Command`."""
        signals = ["-k", str(GRACE_S)] if grace else ["-s", "KILL"]
        done = subprocess.run(["timeout", *signals, str(limit_s), *command], capture_output=True)
        return done.returncode in (_STOPPED, _KILLED, -9), done.stdout

    def begin(self, command: list[str]) -> int:
        """See `Command`."""
        return start_quietly(["timeout", "-k", str(GRACE_S), "600", *command])
