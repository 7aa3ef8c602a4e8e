"""The guardian: always one for each run, never in its way, and gone with it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from procstop import Job, Outcome, Run, Task, start
from procstop.events import Notice
from procstop.guardian import MARK, Guardian, Prey
from procstop.model import Level
from procstop.process import SpawnError
from procstop.supervisor.loop import Loop
from support import hosts
from support.command import Procstop
from support.guests import Guests
from support.places import ROOT, WAIT_S
from support.running import QUICK, run_record, task
from support.watching import (
    Watcher,
    guardian,
    guardians,
    is_gone,
    listening_guardians,
    process_state,
    wait_until,
    wait_until_gone,
)

ANOTHER = "the guardian is gone (signal 9); another takes its place"
UNGUARDED = "what host functions started may outlive a procstop that is killed"
LAST = f"the run goes on without one: {UNGUARDED}"


def spins(guests: Guests, engine: str, **options: Any) -> Task:
    """Make a task that calls a host function, then spins."""
    host = {"env.work": hosts.says_so}
    options.setdefault("host_allow", ())
    return task(guests["calls_host_then_spins"], engine=engine, host=host, stop=QUICK, **options)


def started(watcher: Watcher, *tasks: Task) -> Run:
    """Start a run; return when its guests run."""
    run = start(Job("test", tasks, concurrency=max(1, len(tasks))), observers=[watcher])
    watcher.wait_for_state("running", count=len(tasks))
    return run


@pytest.mark.parametrize("host", [{"env.work": hosts.nothing}, {"env.work": hosts.starts_child}], ids=["none", "child"])
def test_run_that_ends_well_leaves_no_guardian_and_says_nothing(
    engine: str, guests: Guests, host: dict[str, Callable[[], None]]
) -> None:
    watcher = Watcher()
    tasks = [task(guests["calls_host"], name=f"{n}", engine=engine, host=host) for n in range(5)]
    record = run_record(*tasks, observers=[watcher])
    assert {one.outcome for one in record.tasks} == {Outcome.COMPLETED}
    assert guardians(os.getpid()) == watcher.notices() == []


def test_run_without_host_functions_has_one_as_well(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    with started(watcher, task(guests["spins"], engine=engine, stop=QUICK)):
        guard = guardian(os.getpid())
    assert is_gone(guard) and watcher.notices() == []


def test_run_whose_host_functions_may_start_processes_has_two(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    with started(watcher, spins(guests, engine, host_allow=("processes",))):
        both = listening_guardians(os.getpid(), 2)
    assert all(is_gone(one) for one in both) and watcher.notices() == []


def test_guardian_that_stays_alone_is_enough(engine: str, guests: Guests, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("procstop.supervisor.guarding.MOST_DEATHS", 1)
    watcher = Watcher()
    with started(watcher, spins(guests, engine, host_allow=("processes",))) as run:
        one, other = listening_guardians(os.getpid(), 2)
        os.kill(one, signal.SIGKILL)
        watcher.wait_until(lambda events: any(isinstance(e, Notice) for e in events))
        assert guardians(os.getpid()) == [other]
    assert watcher.notices() == ["the guardian is gone (signal 9); the run goes on with the other one"]
    contained = run.result().tasks[0].attempts[0].contained
    assert contained is not None and f"one of two guardians is missing: {UNGUARDED}" in contained.missing


def test_guardian_has_nothing_open_but_its_own(engine: str, guests: Guests) -> None:
    with started(Watcher(), spins(guests, engine)):
        place = Path(f"/proc/{guardian(os.getpid())}")
        targets = sorted(os.readlink(one).partition(":")[0] for one in (place / "fd").iterdir())
        # Pidfds of its supervisor and of the worker that it was told of.
        assert targets == ["/dev/null", "/dev/null", "/memfd", "anon_inode", "anon_inode", "pipe"]
        assert b"PROCSTOP" not in (place / "environ").read_bytes()
        assert os.getsid(int(place.name)) == int(place.name)


def test_guardian_ignores_what_can_be_ignored(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    with started(watcher, spins(guests, engine)):
        guard = guardian(os.getpid())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGUSR1):
            os.kill(guard, number)
        # Signals that did something would have done it before it takes this news.
        wait_until(lambda: process_state(guard) == "S", "it listens")
        assert guardian(os.getpid()) == guard
    assert watcher.notices() == []


def test_guardian_that_dies_is_replaced_until_it_is_no_use(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    with started(watcher, spins(guests, engine)) as run:
        for count in range(1, 4):
            os.kill(guardian(os.getpid()), signal.SIGKILL)
            watcher.wait_until(lambda events, count=count: sum(isinstance(e, Notice) for e in events) == count)
        assert guardians(os.getpid()) == []
    assert watcher.notices() == [ANOTHER, ANOTHER, f"the guardian is gone (signal 9); {LAST}"]
    assert run.result().tasks[0].outcome is not Outcome.CRASHED


def test_guardian_that_stands_still_holds_up_nothing(engine: str, guests: Guests, tmp_path: Path) -> None:
    watcher, mark = Watcher(), tmp_path / "mark"
    waits = task(
        guests["calls_host"],
        name="first",
        engine=engine,
        host={"env.work": hosts.waits_for_mark},
        env={"MARK": str(mark)},
        host_allow=("files",),
    )
    rest = [
        task(guests["calls_host"], name=f"{n}", engine=engine, host={"env.work": hosts.nothing}, host_allow=())
        for n in range(20)
    ]
    with start(Job("test", [waits, *rest], concurrency=1), observers=[watcher]) as run:
        guard = guardian(os.getpid())
        os.kill(guard, signal.SIGSTOP)
        mark.touch()
        record = run.result()
    assert record.exit_code == 0 and watcher.notices() == [] and is_gone(guard)


def test_guardian_that_does_not_listen_is_replaced_when_news_pile_up(
    engine: str, guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("procstop.process.guardian.MOST_OWED", 3)
    watcher, mark = Watcher(), tmp_path / "mark"
    host = {"env.work": hosts.waits_for_mark}
    tasks = [
        task(guests["calls_host"], name=f"{n}", engine=engine, host=host, env={"MARK": str(mark)}) for n in range(20)
    ]
    with start(Job("test", tasks, concurrency=1), observers=[watcher]) as run:
        listening_guardians(os.getpid(), 2)
        crew = run._supervisor._crew
        assert crew is not None
        guard = crew.guarding._posts[0]._guardian
        assert guard is not None
        os.kill(guard.pid, signal.SIGSTOP)
        wait_until(lambda: process_state(guard.pid) == "T", "it stands still")
        pipe = guard._pipe
        fcntl.fcntl(pipe, 1031, 4096)  # F_SETPIPE_SZ
        with pytest.raises(BlockingIOError):
            while True:
                os.write(pipe, b"over 1\n")
        mark.touch()
        record = run.result()
    assert record.exit_code == 0
    assert watcher.notices() == [ANOTHER]


@pytest.fixture
def no_guardian(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system refuses to start one."""

    def refuse(*_: Any, **__: Any) -> None:
        raise SpawnError("cannot start a process: no more", OSError(errno.EAGAIN, "no more"))

    monkeypatch.setattr("procstop.process.guardian.start", refuse)


@pytest.mark.usefixtures("no_guardian")
def test_run_goes_on_where_there_can_be_no_guardian(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    host = {"env.work": hosts.nothing}
    record = run_record(task(guests["calls_host"], engine=engine, host=host), observers=[watcher])
    assert record.exit_code == 0
    assert watcher.notices() == [f"cannot start a process: no more; {LAST}"]


@pytest.mark.usefixtures("no_guardian")
def test_report_says_where_no_guardian_would_end_what_host_functions_start(engine: str, guests: Guests) -> None:
    host = {"env.work": hosts.nothing}
    record = run_record(task(guests["calls_host"], engine=engine, host=host, host_allow=("processes",)))
    contained = record.tasks[0].attempts[0].contained
    assert contained is not None and contained.level is Level.BASIC
    assert f"there is no guardian: {UNGUARDED}" in contained.missing


def test_two_runs_have_a_guardian_each(engine: str, guests: Guests) -> None:
    first, second = Watcher(), Watcher()
    with started(first, spins(guests, engine)):
        one = guardian(os.getpid())
        with started(second, spins(guests, engine)):
            wait_until(lambda: len(guardians(os.getpid())) == 2, "there are two")
        assert guardian(os.getpid()) == one
    assert first.notices() == second.notices() == []


def test_run_that_fails_takes_its_guardian_along(engine: str, guests: Guests, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is one of procstop's own; whatever it is, nothing is left."""
    turn = Loop.turn

    def fail_once_it_is_there(loop: Loop) -> None:
        if guardians(os.getpid()):
            raise RuntimeError("a fault")
        turn(loop)

    monkeypatch.setattr(Loop, "turn", fail_once_it_is_there)
    with pytest.raises(RuntimeError, match="a fault"):
        run_record(spins(guests, engine))
    assert guardians(os.getpid()) == []


def test_guardian_outlives_its_supervisor_and_ends_by_itself(
    engine: str, guests: Guests, procstop_command: Procstop
) -> None:
    command = procstop_command.start("run", guests["spins"], "--engine", engine)
    command.wait_for("attempt 1 started")
    guard = guardian(command.pid)
    os.kill(guard, signal.SIGSTOP)
    command.signal(signal.SIGKILL)
    command.end()
    assert not is_gone(guard)
    os.kill(guard, signal.SIGCONT)
    wait_until_gone(guard)


@contextlib.contextmanager
def lone_guardian(still_s: float) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], None]]]:
    """Start a guardian of this process, with a timer from the beginning; yield it, and what tells it to end."""
    boot = f"import sys; sys.path.insert(0, {str(ROOT / 'procstop')!r}); import guardian; del sys.path[0]\n"
    boot += f"guardian._FIRST_WIND_S = 0; guardian._WIND_S = 0.2; guardian.STILL_S = {still_s}; guardian.main()"
    with contextlib.ExitStack() as stack:
        theirs, ours = os.pipe()
        hang_up = stack.enter_context(contextlib.ExitStack())
        hang_up.callback(os.close, ours)
        stack.callback(os.close, theirs)
        command = [sys.executable, "-I", "-S", "-c", boot, str(theirs), str(os.getpid())]
        guard = stack.enter_context(subprocess.Popen(command, pass_fds=[theirs]))
        maps = Path(f"/proc/{guard.pid}/maps")
        wait_until(lambda: "_ctypes" in maps.read_text() and process_state(guard.pid) == "S", "it has its timer")
        yield guard, hang_up.close


def test_guardian_that_stands_still_for_long_is_ended_by_its_timer() -> None:
    """Also when nobody is left who could do it."""
    with lone_guardian(1) as (guard, _):
        os.kill(guard.pid, signal.SIGSTOP)
        assert guard.wait(WAIT_S) == -signal.SIGKILL


def test_guardian_that_does_not_stand_still_lives_on() -> None:
    with lone_guardian(5) as (guard, hang_up):
        with pytest.raises(subprocess.TimeoutExpired):
            guard.wait(6)
        hang_up()
        assert guard.wait(WAIT_S) == 0


def test_guardian_stops_no_process_of_ours_that_has_no_guards_yet() -> None:
    """If the guardian were killed right after that, nobody would ever end it; others it stops first, and then kills."""
    run = b"01TESTRUN"
    say = "import time; print(flush=True); time.sleep(600)\n"
    environment = {**os.environ, "PROCSTOP_ATTEMPT": f"{run.decode()}-1"}
    with contextlib.ExitStack() as stack:
        started = []
        for text in (f"{say}'''\nfrom procstop.containment import guard\n'''", say):
            command = [sys.executable, "-I", "-S", "-c", text]
            one = stack.enter_context(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE))
            stack.callback(one.kill)
            assert one.stdout is not None and one.stdout.read(1) == b"\n"
            started.append(one)
        own, other = started
        warden = Guardian(os.getpid())
        found = warden._freeze(Prey(MARK + run, whole=False))
        assert {one.pid for one in found} == {own.pid, other.pid}
        assert own.wait(WAIT_S) == -signal.SIGKILL
        wait_until(lambda: process_state(other.pid) == "T", "it stands still")
        warden.clear(Prey(MARK + run, whole=False))
        assert other.wait(WAIT_S) == -signal.SIGKILL
