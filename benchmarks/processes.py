"""Start the process of a cell, and leave nothing behind of it.

Theory of operation. This process is the subreaper of all that a cell starts, so that what outlives the cell comes back
here and is found below this process, whatever sessions or groups it made. After each cell everything below is killed
and reaped. What survives a kill -9 of a parent is counted in the same way.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import psutil

from benchmarks.figures import Figures, from_json

HERE = os.path.dirname(os.path.abspath(__file__))
_PR_SET_CHILD_SUBREAPER = 36
_SURVIVORS_S = 1.0
_POLL_S = 0.01


class GaveUp(Exception):
    """A cell brought nothing back; the text says why, and `details` what a person may need to mend it."""

    def __init__(self, why: str, details: str = "") -> None:
        super().__init__(why)
        self.details = details


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent has died, where the system knows such a thing."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def time_floor(rounds: int) -> list[float]:
    """Time `posix_spawn("/bin/true")` and wait, so many times, in seconds."""
    found = []
    path = next(path for path in ("/bin/true", "/usr/bin/true") if os.path.exists(path))
    for _ in range(rounds):
        began = time.perf_counter()
        os.waitpid(os.posix_spawn(path, ["true"], {}), 0)
        found.append(time.perf_counter() - began)
    return found


def run_cell(row: str, who: str, effort: str, folder: str, limit_s: float) -> list[Figures]:
    """Measure one row of one contender in a process of its own; raise `GaveUp` if that brings nothing."""
    answer = _answer_path(folder)
    cell = _start_cell(row, who, effort, folder, answer)
    try:
        _await(answer, cell, limit_s)
        return [from_json(one) for one in _read(answer)["figures"]]
    finally:
        sweep()
        cell.wait()


def count_orphans(who: str, effort: str, folder: str, limit_s: float) -> int:
    """Let four guests spin, kill their parents, and count who is still there a second later."""
    answer = _answer_path(folder)
    cell = _start_cell("orphans", who, effort, folder, answer)
    try:
        _await(answer, cell, limit_s)
        parents = set(_read(answer)["parents"])
        for pid in parents:
            os.kill(pid, signal.SIGKILL)
        if cell.pid in parents:
            cell.wait()
        time.sleep(_SURVIVORS_S)
        return sum(child.pid not in parents | {cell.pid} and _alive(child) for child in _below())
    finally:
        sweep()
        cell.wait()


def sweep() -> None:
    """Kill and reap everything below this process; what it started itself is reaped by whoever started it."""
    until = time.monotonic() + 10
    while (below := [child for child in _below() if _alive(child)]) and time.monotonic() < until:
        for child in below:
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
        time.sleep(_POLL_S)
    _reap_adopted()


def _below() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


_started: set[int] = set()


def _reap_adopted() -> None:
    for child in psutil.Process().children():
        if child.pid not in _started:
            try:
                os.waitpid(child.pid, os.WNOHANG)
            except ChildProcessError:
                continue


def _answer_path(folder: str) -> str:
    return os.path.join(folder, f"answer-{time.monotonic_ns()}.json")


def _start_cell(row: str, who: str, effort: str, folder: str, answer: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, os.path.join(HERE, "cell.py"), row, who, effort, folder, answer]
    # What its guests and workers say is none of the table's business.
    with open(os.path.join(folder, "log"), "ab") as log:
        # A session of its own: Ctrl-C is for this process, which then sweeps.
        cell = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    _started.add(cell.pid)
    return cell


def _await(answer: str, cell: subprocess.Popen[bytes], limit_s: float) -> None:
    until = time.monotonic() + limit_s
    while not os.path.exists(answer):
        if cell.poll() is not None and not os.path.exists(answer):
            raise GaveUp(f"the measurement ended with status {cell.returncode} and no figures")
        if time.monotonic() > until:
            raise GaveUp(f"gave up after {limit_s:g} s")
        time.sleep(_POLL_S)


def _read(answer: str) -> dict[str, Any]:
    with open(answer, encoding="utf-8") as file:
        found: dict[str, Any] = json.load(file)
    if "why_not" in found:
        raise GaveUp(found["why_not"], found.get("details", ""))
    return found
