"""Ctrl-Z and `fg`: guests and clocks stand still in between."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import psutil

from support.command import attempt
from support.guests import Guests
from support.terminal import INTERRUPT, SUSPEND, Terminal
from support.watching import process_state, wait_until, workers

TIME_LIMIT_S = 2.0


def test_suspended_run_stands_still_and_goes_on(engine: str, guests: Guests, tmp_path: Path) -> None:
    """It is suspended for longer than its time limit, and still has what was left of it."""
    arguments = ("run", guests["spins"], "--engine", engine, f"--set=limits.time={TIME_LIMIT_S}s")
    with Terminal(tmp_path, *arguments, "--report", "report.json") as terminal:
        terminal.wait_until_running()
        (worker,) = workers(terminal.pid)
        terminal.type(SUSPEND)
        terminal.wait_until_told(f"stopped {int(signal.SIGTSTP)}")
        assert process_state(terminal.pid) == "T"
        # The kernel brings a thread that computes to a halt when it next looks at it.
        wait_until(lambda: process_state(worker) == "T", "the worker stands still")
        assert "run: paused; workers end by their own timers, the first in" in terminal.text()
        # The shell gets its terminal as it was.
        assert terminal.is_sane()
        spent = psutil.Process(worker).cpu_times().user
        pause = time.monotonic()
        time.sleep(TIME_LIMIT_S * 1.5)
        assert process_state(worker) == "T"
        assert psutil.Process(worker).cpu_times().user == spent
        pause = time.monotonic() - pause
        paused = len(terminal.text())
        terminal.continue_command()
        terminal.wait_until_running(since=paused)
        assert terminal.end() == 124
        assert terminal.is_sane()
    data = json.loads((tmp_path / "report.json").read_text())
    last = attempt(data)
    assert (last["outcome"], last["reason"]) == ("terminated", "time_limit")
    # Its own clock says that it ran for its limit, the wall clock says that it was there for longer.
    assert last["phases_s"]["run"] >= TIME_LIMIT_S
    assert last["phases_s"]["run"] < data["duration_s"] - pause + 0.1


def test_suspended_run_completes_with_its_limit_untouched(engine: str, guests: Guests, tmp_path: Path) -> None:
    """The nap is shorter than the limit, nap and pause together are longer."""
    arguments = ("run", guests["sleeps"], "--engine", engine, "--call", "nap", "--set=limits.time=20s")
    with Terminal(tmp_path, *arguments, "--report", "report.json", "1500000000") as terminal:
        terminal.wait_until_running()
        terminal.type(SUSPEND)
        terminal.wait_until_told("stopped")
        terminal.continue_command()
        assert terminal.end() == 0
    assert attempt(json.loads((tmp_path / "report.json").read_text()))["outcome"] == "completed"


def test_run_can_be_suspended_twice_and_then_stopped(engine: str, guests: Guests, tmp_path: Path) -> None:
    with Terminal(tmp_path, "run", guests["checks_slowly"], "--engine", engine, "--report", "report.json") as terminal:
        terminal.wait_until_running()
        for count in (1, 2):
            terminal.type(SUSPEND)
            terminal.wait_until_told("stopped", count)
            paused = len(terminal.text())
            terminal.continue_command()
            terminal.wait_until_running(since=paused)
        terminal.type(INTERRUPT)
        assert terminal.end() == 130
    last = attempt(json.loads((tmp_path / "report.json").read_text()))
    assert (last["outcome"], last["reason"]) == ("interrupted", "user")


def test_press_while_suspended_acts_when_the_run_goes_on(engine: str, guests: Guests, tmp_path: Path) -> None:
    with Terminal(tmp_path, "run", guests["checks_slowly"], "--engine", engine, "--report", "report.json") as terminal:
        terminal.wait_until_running()
        terminal.type(SUSPEND)
        terminal.wait_until_told("stopped")
        # SIGTERM waits; a shell that ends its jobs sends SIGCONT after it.
        os.kill(terminal.pid, signal.SIGTERM)
        terminal.continue_command()
        assert terminal.end() == 130
    last = attempt(json.loads((tmp_path / "report.json").read_text()))
    assert (last["outcome"], last["reason"]) == ("interrupted", "shutdown")
