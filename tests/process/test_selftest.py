"""The selftest proves what holds, says what does not, and leaves nothing behind."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from procstop import linux
from procstop.cli import selftest as command
from procstop.errors import EngineError
from procstop.model import Outcome
from procstop.preflight import engine_status
from procstop.process import TOKEN
from procstop.sandbox import probe
from procstop.selftest import bounded, hostile, outcomes
from procstop.selftest import run as running
from procstop.selftest.bench import Bench, Trial
from procstop.selftest.rows import ROWS, Row
from procstop.selftest.run import BROKEN, HELD, LEFT_OUT, MISSING, selftest
from support.command import Procstop
from support.watching import processes_marked, wait_until, wait_until_gone

HERE = [name for name in ("wasmer", "wasmtime") if engine_status()[name].why_not is None]
ONE = HERE[0]


@pytest.mark.slow
def test_every_promise_holds_here_and_no_row_is_left_unsaid(procstop_command: Procstop) -> None:
    started = procstop_command.start("selftest", "--trials", "1", "--json")
    started.popen.wait(110)
    ended = started.end()
    said = json.loads(ended.stdout)
    wrong = [row for row in said["rows"] if row["state"] in (BROKEN, MISSING)]
    if probe().missing:
        # Then native code is not kept inside on this machine, and the selftest has to say so.
        assert ended.code == 1 and {row["state"] for row in wrong} == {MISSING}
        return
    assert (ended.code, wrong, said["held"]) == (0, [], True)
    expected = [(row.promise, row.tried, engine) for row in ROWS for engine in (["both"] if row.together else HERE)]
    assert [(row["promise"], row["tried"], row["engine"]) for row in said["rows"]] == expected
    assert {row["trials"] for row in said["rows"] if row["state"] == HELD} == {1}
    timed = {row["promise"] for row in said["rows"] if row["p50_ms"] is not None}
    assert timed == {"P1", "P2", "P3"}
    assert said["schema"] == "procstop.selftest/1" and said["engines"] == HERE


def test_rows_are_in_the_order_of_the_promises() -> None:
    promises = [row.promise for row in ROWS]
    assert promises == sorted(promises) and len({(row.promise, row.tried) for row in ROWS}) == len(ROWS)


def never_holds(bench: Bench) -> list[Trial]:
    """Take for killed what has trapped."""
    return [Trial(fault=outcomes.is_not(one, Outcome.KILLED, None)) for one in bench.attempts("ends", "traps")]


def leaves_a_process(bench: Bench) -> list[Trial]:
    """Have somebody stay behind who bears the mark of the run."""
    environment = {**os.environ, TOKEN: "SELFTEST-SURVIVOR"}
    left = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(1000)"], env=environment)
    try:
        bench.check_gone("SELFTEST-SURVIVOR")
    finally:
        left.wait(60)
    return []


def leaves_an_unmarked_process(bench: Bench) -> list[Trial]:
    """Have somebody stay behind who has no mark, and is below us."""
    left = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(1000)"], env={})
    try:
        bench.run([bench.task("ends", "adds", 1, 2)])
    finally:
        left.wait(60)
    return []


def raises(bench: Bench) -> list[Trial]:
    """Fail in a way that nobody foresaw."""
    raise LookupError("of the row")


def makes_too_few(bench: Bench) -> list[Trial]:
    """Make no trial at all, which proves nothing."""
    return []


@pytest.mark.parametrize(
    ("run", "survivors", "why"),
    [
        (never_holds, 0, "trapped, reason none, instead of killed, reason none: unreachable, in function 4"),
        (leaves_a_process, 1, "1 of its processes survived the run"),
        (leaves_an_unmarked_process, 1, "1 of its processes survived the run"),
        (raises, 0, "LookupError: of the row"),
        (makes_too_few, 0, "0 of 1 trials were made"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_promise_that_does_not_hold_is_told(
    run: Callable[[Bench], list[Trial]], survivors: int, why: str, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    row = Row("P1", "what cannot hold", run)
    monkeypatch.setattr(command, "selftest", functools.partial(selftest, rows=(row,)))
    assert command.selftest_command(trials=1, engine=ONE, json=True) == 1
    (said,) = json.loads(capfd.readouterr().out)["rows"]
    assert (said["state"], said["survivors"], said["why"]) == (BROKEN, survivors, why)
    assert said["failures"] >= (run is not makes_too_few)


def test_worker_that_is_not_killed_in_time_breaks_the_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that nothing could fail would be none: here the constant is made smaller than anything can be."""
    monkeypatch.setattr(bounded, "MOST_MS", 0.0)
    report = selftest(trials=2, engine=ONE, rows=(Row("P1", "a guest that spins", bounded.spins),))
    (result,) = report.results
    assert (report.held, result.state, result.failures) == (False, BROKEN, 2)
    assert "beyond its graces" in (result.why or "")


def test_what_the_machine_lacks_is_no_promise_that_held_and_what_is_left_out_is_none_that_broke() -> None:
    lacking = Row("P6", "lacking", raises, lacks=lambda bench: "no such layer")
    left_out = Row("P7", "left out", raises, leave_out=lambda bench: "no such engine", together=True)
    report = selftest(trials=1, engine=ONE, rows=(lacking, left_out))
    assert [(one.state, one.why) for one in report.results] == [
        (MISSING, "no such layer"),
        (LEFT_OUT, "no such engine"),
    ]
    assert not report.held
    assert selftest(trials=1, engine=ONE, rows=(left_out,)).held


def test_engine_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    def nothing_here(wanted: str | None) -> None:
        raise EngineError(f"{wanted}: not here")

    monkeypatch.setattr(running, "choose_engines", nothing_here)
    assert command.selftest_command(trials=1, engine="wasmer", json=False) == 2
    assert capfd.readouterr().err == "error: wasmer: not here\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--trials", "0"], "--trials"),
        (["--trials", "many"], "--trials"),
        (["--engine", "v8"], "--engine"),
        (["--fast"], "--fast"),
        (["now"], "now"),
    ],
    ids=" ".join,
)
def test_bad_option_is_refused(procstop_command: Procstop, options: list[str], said: str) -> None:
    ended = procstop_command("selftest", *options)
    assert ended.code == 2 and said in ended.stderr


def test_reader_that_leaves_ends_it_quietly_and_leaves_nothing(procstop_command: Procstop, tmp_path: Path) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    read, write = os.pipe()
    started = procstop_command.start(
        "selftest", "--engine", ONE, "--trials", "1", stdout=write, env={"TMPDIR": str(place)}
    )
    os.close(write)
    assert os.read(read, 7) == b"promise"
    os.close(read)
    ended = started.end()
    assert (ended.code, ended.stderr) == (1, "")
    assert os.listdir(place) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("at", ["a guest that spins", "SIGKILL of the supervisor"])
def test_ctrl_c_ends_it_and_leaves_nothing(
    procstop_command: Procstop, tmp_path: Path, at: str, number: signal.Signals
) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    env = {"TMPDIR": str(place), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    started = procstop_command.start("selftest", "--engine", ONE, "--trials", "1", env=env)
    started.wait_for(at, "stdout")
    assert [name for name in os.listdir(place) if name.startswith("procstop-selftest-")]
    started.signal(number)
    ended = started.end()
    assert (ended.code, ended.stderr.splitlines()) == (130, ["interrupted; nothing is left running"])
    assert os.listdir(place) == [] and not (tmp_path / "cache").exists()
    wait_until(lambda: not processes_marked(str(place)), "nothing of it is left")


def test_nothing_survives_a_selftest_that_is_killed(procstop_command: Procstop, tmp_path: Path) -> None:
    """But for its directory, which nobody is left to remove."""
    env = {"TMPDIR": str(tmp_path)}
    started = procstop_command.start("selftest", "--engine", ONE, "--trials", "3", env=env)
    started.wait_for("SIGKILL of the supervisor", "stdout")
    pids = _below(started.pid)
    assert pids, "not even the process that makes the victims is there"
    started.signal(signal.SIGKILL)
    started.end()
    for pid in pids:
        wait_until_gone(pid)


def _below(pid: int) -> list[int]:
    found = [*(linux.children(pid) or ())]
    for child in tuple(found):
        found += _below(child)
    return found


# The tricks: where nothing keeps them inside they must succeed, or their failure would prove nothing.

HARMLESS = [hostile.forks, hostile.opens_socket, hostile.connects, hostile.sets_timers, hostile.opens_files,
            hostile.changes_files, hostile.clears_parent_death_signal, hostile.cuts_lifeline,
            hostile.writes_to_proc]  # fmt: skip


@pytest.mark.parametrize("trick", HARMLESS, ids=lambda trick: trick.__name__)
def test_trick_works_where_nothing_is_closed(trick: Callable[[], None], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("content")
    script = (
        "import os, socket, sys\n"
        "from procstop.selftest import hostile\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "os.environ[hostile.PORT] = str(listener.getsockname()[1])\n"
        f"os.environ[hostile.OUTSIDE] = {str(tmp_path)!r}\n"
        "try:\n"
        f"    hostile.{trick.__name__}()\n"
        "except hostile.Escaped:\n"
        "    print('escaped')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=_ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "escaped\n", "")


_ROOT = Path(__file__).parents[2]
