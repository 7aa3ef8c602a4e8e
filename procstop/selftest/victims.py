"""The process in which supervisors are made to be killed, seen from the selftest; what it does is in `victim`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from procstop.errors import InternalError
from procstop.selftest import processes

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@dataclass(frozen=True)
class Request:
    """Kill `whom` of supervisors that run `workers` guests each, so many times over; `stop` stands for SIGSTOP.

    `whom` are "supervisor", "fork server" and "guardian"; one that is not there takes no part. With `descendants`, host
    functions start some; a `cold` supervisor finds no compiled module, and is killed at any moment; the workers of one
    that is `fresh` are started anew.
    """

    engine: str
    module: str
    whom: Sequence[str]
    trials: int
    workers: int = 4
    longest_ms: float = 150.0
    stop: bool = False
    descendants: bool = False
    cold: bool = False
    fresh: bool = False


class Victims:
    """One helper for all rows, started when it is first needed: its imports are half a second."""

    def __init__(self) -> None:
        self._helper: subprocess.Popen[bytes] | None = None

    def ask(self, request: Request) -> list[dict[str, Any]]:
        """Have it done, and return what is said of each trial."""
        helper = self._helper or self._start()
        assert helper.stdin is not None and helper.stdout is not None
        try:
            helper.stdin.write(json.dumps(asdict(request)).encode() + b"\n")
            helper.stdin.flush()
            answer: list[dict[str, Any]] = json.loads(helper.stdout.readline())
        except (OSError, ValueError):
            self.close()
            raise InternalError("the process that makes the victims has ended") from None
        return answer

    def pids(self) -> set[int]:
        """Return the pids of the helper and all that is below it."""
        helper = self._helper
        return set() if helper is None else {helper.pid, *(pid for pid, _ in processes.below(helper.pid))}

    def _start(self) -> subprocess.Popen[bytes]:
        self._helper = subprocess.Popen(
            [sys.executable, "-m", "procstop.selftest.victim", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(os.environ),
            # Ctrl-C is ours to hear: we end it.
            start_new_session=True,
        )
        return self._helper

    def close(self) -> None:
        """End it, and what is below it with it."""
        helper, self._helper = self._helper, None
        if helper is None:
            return
        left = processes.below(helper.pid)
        helper.kill()
        for stream in (helper.stdin, helper.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    pass  # There was something left to be written to it.
        helper.wait()
        processes.kill(left, signal.SIGKILL)


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    path = own.get("PYTHONPATH")
    return {**own, "PYTHONPATH": _ROOT if not path else f"{_ROOT}{os.pathsep}{path}"}
