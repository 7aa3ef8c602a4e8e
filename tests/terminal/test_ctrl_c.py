"""A real terminal: Ctrl-C once, twice and three times, other signals, and a terminal that goes away."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from procstop.supervisor import REPEAT_S
from support.command import attempt
from support.guests import Guests
from support.places import SUPPORT
from support.terminal import INTERRUPT, Terminal
from support.watching import children, wait_until, wait_until_gone

LONG = ("--set=stop.interrupt=500s", "--set=stop.terminate=500s", "--report", "report.json")


def deaf(guests: Guests, engine: str) -> tuple[object, ...]:
    """A guest that answers to nothing, and says so."""
    return ("run", guests["calls_host"], "--engine", engine, "--host", SUPPORT / "deaf.py", *LONG)


def report(directory: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((directory / "report.json").read_text())
    return data


def let_the_repeat_pass() -> None:
    """Two presses within this time count as one."""
    time.sleep(REPEAT_S * 1.5)


def test_one_press_interrupts_and_says_what_the_next_will_do(engine: str, guests: Guests, tmp_path: Path) -> None:
    with Terminal(tmp_path, "run", guests["checks_slowly"], "--engine", engine, *LONG) as terminal:
        terminal.wait_until_running()
        terminal.type(INTERRUPT)
        assert terminal.end() == 130
        assert "interrupted at stopping point" in terminal.text()
        assert terminal.is_sane()
    last = attempt(report(tmp_path))
    assert (last["outcome"], last["reason"], last["rung"]) == ("interrupted", "user", "interrupt")


def test_next_press_and_countdown_are_shown_while_it_stops(engine: str, guests: Guests, tmp_path: Path) -> None:
    with Terminal(tmp_path, "run", guests["asks_and_goes_on"], "--engine", engine, *LONG) as terminal:
        terminal.wait_until_running()
        terminal.type(INTERRUPT)
        terminal.wait_for("interrupting what runs; no further task starts")
        terminal.wait_for("next press: terminate what still runs")
        # 500 s of grace; a countdown that goes down.
        seen = re.compile(r"interrupt, terminate in 8 min (\d+) s")
        wait_until(lambda: len(set(seen.findall(terminal.text()))) >= 2, "the countdown goes down")
        let_the_repeat_pass()
        terminal.type(INTERRUPT)
        assert terminal.end() == 130
        assert terminal.is_sane()
    last = attempt(report(tmp_path))
    assert (last["outcome"], last["reason"], last["rung"]) == ("terminated", "user", "terminate")


@pytest.mark.parametrize("press", ["ctrl-c", "SIGINT", "SIGTERM"])
def test_three_presses_climb_to_the_kill_and_exit(engine: str, guests: Guests, tmp_path: Path, press: str) -> None:
    with Terminal(tmp_path, *deaf(guests, engine)) as terminal:
        terminal.wait_for("| deaf")
        worker = children(terminal.pid)
        steps = ("next press: terminate what still runs", "next press: kill it at once")
        for text in (*steps, None):
            if press == "ctrl-c":
                terminal.type(INTERRUPT)
            else:
                os.kill(terminal.pid, getattr(signal, press))
            if text is not None:
                terminal.wait_for(text)
                let_the_repeat_pass()
        assert terminal.end() == 130
        assert terminal.is_sane()
    for pid in worker:
        wait_until_gone(pid)
    last = attempt(report(tmp_path))
    reason = "shutdown" if press == "SIGTERM" else "user"
    assert (last["outcome"], last["reason"], last["rung"]) == ("killed", reason, "kill")


def test_presses_that_follow_at_once_count_as_one(engine: str, guests: Guests, tmp_path: Path) -> None:
    """A key that is held, or a wrapper that passes the signal on: it climbs one step and no more."""
    with Terminal(tmp_path, *deaf(guests, engine)) as terminal:
        terminal.wait_for("| deaf")
        # All in one write: the terminal makes the signals of them before the command can see the first.
        terminal.type(INTERRUPT * 5)
        terminal.wait_for("next press: terminate what still runs")
        let_the_repeat_pass()
        terminal.type(INTERRUPT)
        terminal.wait_for("next press: kill it at once")
        let_the_repeat_pass()
        terminal.type(INTERRUPT)
        assert terminal.end() == 130


def test_workers_do_not_get_the_terminals_signals(engine: str, guests: Guests, tmp_path: Path) -> None:
    """The job ignores a first press, so a worker that noticed one would be the only one to end."""
    job = tmp_path / "job.toml"
    job.write_text(
        'on_interrupt = "finish-current"\n'
        f'[[task]]\nname = "nap"\nmodule = "{guests["sleeps"]}"\nengine = "{engine}"\n'
        'call = "nap"\nargs = [1500000000]\n'
    )
    with Terminal(tmp_path, "run", job, "--report", "report.json") as terminal:
        terminal.wait_until_running()
        terminal.type(INTERRUPT)
        terminal.wait_for("what runs may finish; no further task starts")
        assert terminal.end() == 0
    last = attempt(report(tmp_path))
    assert (last["outcome"], last["values"]) == ("completed", [0])


def test_hang_up_is_one_press_however_often_it_comes(engine: str, guests: Guests, tmp_path: Path) -> None:
    with Terminal(tmp_path, *deaf(guests, engine)) as terminal:
        terminal.wait_for("| deaf")
        os.kill(terminal.pid, signal.SIGHUP)
        terminal.wait_for("next press: terminate what still runs")
        let_the_repeat_pass()
        os.kill(terminal.pid, signal.SIGHUP)
        let_the_repeat_pass()
        os.kill(terminal.pid, signal.SIGTERM)
        terminal.wait_for("next press: kill it at once")
        let_the_repeat_pass()
        os.kill(terminal.pid, signal.SIGTERM)
        assert terminal.end() == 130
    assert attempt(report(tmp_path))["reason"] == "shutdown"


def test_terminal_that_goes_away_stops_the_run(engine: str, guests: Guests, tmp_path: Path) -> None:
    """Its window is closed: the kernel sends SIGHUP, and all that is written from then on fails."""
    with Terminal(tmp_path, "run", guests["sleeps"], "--engine", engine, *LONG) as terminal:
        terminal.wait_for("sleeping")
        pid = terminal.pid
        workers = children(pid)
        terminal.close_window()
        for one in (pid, *workers):
            wait_until_gone(one)
    last = attempt(report(tmp_path))
    assert (last["outcome"], last["reason"]) == ("interrupted", "shutdown")
