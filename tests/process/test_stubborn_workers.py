"""Workers that do not want to end, and what they start: nothing is left, whatever they do."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from procstop import Job, Limits, Outcome, Reason, Rung, Spawn, StopPolicy, Tree, Workers, start
from procstop.process import Worker, tree
from support import hosts
from support.guests import Guests
from support.running import PATIENT, QUICK, run_guest, run_record, task
from support.watching import Watcher, children, is_gone, process_state, wait_until


def test_blocked_host_function_is_terminated(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["calls_host"], engine=engine, host={"env.work": hosts.blocks}, time=0.3, stop=PATIENT)
    assert (attempt.outcome, attempt.reason) == (Outcome.TERMINATED, Reason.TIME_LIMIT)
    assert attempt.stdout.tail == b"blocked\n"


@pytest.mark.parametrize(
    ("work", "outcome"),
    [
        (hosts.ignores_sigterm, Outcome.KILLED),
        (hosts.blocks_sigterm, Outcome.TERMINATED),
        (hosts.ignores_everything_and_blocks, Outcome.KILLED),
        (hosts.leaves_at_sigterm_with_0, Outcome.TERMINATED),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_host_function_that_resists(engine: str, guests: Guests, work: object, outcome: Outcome) -> None:
    watcher = Watcher()
    guest = task(guests["calls_host_then_spins"], engine=engine, host={"env.work": work}, stop=QUICK)
    with start(Job("test", [guest]), observers=[watcher]) as run:
        watcher.wait_for_output(b"\n")
        run.stop(Rung.TERMINATE)
        attempt = run.result().tasks[0].attempts[0]
    assert (attempt.outcome, attempt.reason) == (outcome, Reason.STOP_COMMAND)


def test_python_handler_for_sigterm_does_not_save_a_guest_that_spins(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    guest = task(guests["calls_host_then_spins"], engine=engine, host={"env.work": hosts.handles_sigterm}, stop=QUICK)
    with start(Job("test", [guest]), observers=[watcher]) as run:
        watcher.wait_for_output(b"deaf")
        run.stop(Rung.TERMINATE)
        assert run.result().tasks[0].outcome is Outcome.KILLED


def test_stop_for_a_higher_rung_jumps_there(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    guest = task(guests["asks_and_goes_on"], engine=engine, stop=PATIENT)
    with start(Job("test", [guest]), observers=[watcher]) as run:
        watcher.wait_for_state("running")
        run.stop()
        watcher.wait_for_state("interrupting")
        run.stop(Rung.KILL)
        attempt = run.result().tasks[0].attempts[0]
    assert (attempt.outcome, attempt.rung, attempt.phases.terminate) == (Outcome.KILLED, Rung.KILL, None)


def child_of(watcher: Watcher) -> int:
    """Return the pid that a host function said."""
    watcher.wait_for_output(b"\n")
    found = re.search(rb"child (\d+)\n", watcher.written())
    assert found
    return int(found[1])


@pytest.mark.parametrize("work", [hosts.starts_child, hosts.starts_stubborn_escapee], ids=lambda one: one.__name__)
def test_child_of_a_host_function_does_not_outlive_a_guest_that_returns(
    engine: str, guests: Guests, work: Callable[[], None]
) -> None:
    """It holds the worker's pipes open as well, and the run does not wait for their end."""
    watcher = Watcher()
    attempt = run_guest(guests["calls_host"], engine=engine, host={"env.work": work}, observers=[watcher])
    assert (attempt.outcome, attempt.reason, attempt.rung) == (Outcome.COMPLETED, None, None)
    assert is_gone(child_of(watcher))


@pytest.mark.parametrize("rung", [Rung.TERMINATE, Rung.KILL])
@pytest.mark.parametrize("work", [hosts.starts_child, hosts.starts_stubborn_escapee], ids=lambda one: one.__name__)
def test_child_of_a_host_function_does_not_outlive_a_stop(
    engine: str, guests: Guests, work: Callable[[], None], rung: Rung
) -> None:
    watcher = Watcher()
    guest = task(guests["calls_host_then_spins"], engine=engine, host={"env.work": work}, stop=QUICK)
    with start(Job("test", [guest]), observers=[watcher]) as run:
        child = child_of(watcher)
        assert not is_gone(child)
        run.stop(rung)
        attempt = run.result().tasks[0].attempts[0]
    assert attempt.outcome is (Outcome.TERMINATED if rung is Rung.TERMINATE else Outcome.KILLED)
    assert is_gone(child)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_child_does_not_outlive_a_crash(engine: str, guests: Guests, number: int) -> None:
    watcher = Watcher()
    functions = {"env.work": hosts.starts_stubborn_escapee}
    guest = task(guests["calls_host_then_spins"], engine=engine, host=functions)
    with start(Job("test", [guest]), observers=[watcher]) as run:
        child = child_of(watcher)
        os.kill(watcher.pids()[0], number)
        assert run.result().tasks[0].outcome is Outcome.CRASHED
    assert is_gone(child)


def test_process_that_forks_for_ever_is_caught(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    guest = task(guests["calls_host_then_spins"], engine=engine, host={"env.work": hosts.breeds}, stop=QUICK)
    with start(Job("test", [guest]), observers=[watcher]) as run:
        watcher.wait_for_output(b"breeding")
        run.stop(Rung.KILL)
        assert run.result().tasks[0].outcome is Outcome.KILLED


def test_worker_that_stands_still_is_still_stopped_by_its_limit(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    attempt = run_guest(
        guests["calls_host"],
        engine=engine,
        host={"env.work": hosts.stops_itself},
        time=0.3,
        stop=QUICK,
        observers=[watcher],
    )
    # SIGTERM comes with SIGCONT, or it would not be noticed.
    assert (attempt.outcome, attempt.reason) == (Outcome.TERMINATED, Reason.TIME_LIMIT)
    assert attempt.stdout.tail == b"stopping\n"


def test_worker_that_somebody_stopped_is_killed_all_the_same(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    policy = StopPolicy(interrupt=0, preempt=0, terminate=0, kill_wait=30)
    with start(Job("test", [task(guests["spins"], engine=engine)], stop=policy), observers=[watcher]) as run:
        watcher.wait_for_state("running")
        os.kill(watcher.pids()[0], signal.SIGSTOP)
        wait_until(lambda: process_state(watcher.pids()[0]) == "T", "the worker stands still")
        run.stop()
        assert run.result().tasks[0].outcome is Outcome.KILLED


def test_fifty_stubborn_workers_are_gone_in_the_time_of_one_ladder(engine: str, guests: Guests) -> None:
    """One after another they would take fifty graces; a fifth of that leaves room for a slow machine."""
    count, policy = 50, StopPolicy(interrupt=0.5, preempt=0.5, terminate=1.0, kill_wait=60.0)
    watcher = Watcher()
    stubborn = [
        task(
            guests["calls_host_then_spins"],
            name=f"stubborn {number}",
            engine=engine,
            host={"env.work": hosts.ignores_sigterm_and_waits},
        )
        for number in range(count)
    ]
    with start(Job("test", stubborn, concurrency=count, stop=policy), observers=[watcher]) as run:
        watcher.wait_for_output(b"deaf\n", count=count)
        began = time.monotonic()
        run.stop()
        record = run.result()
        took = time.monotonic() - began
    assert {one.outcome for one in record.tasks} == {Outcome.KILLED}
    assert policy.terminate <= took < count * policy.terminate / 5


def test_run_of_workers_that_all_resist_is_over(engine: str, guests: Guests) -> None:
    """Different kinds of stubbornness side by side do not get in each other's way."""
    works = [hosts.ignores_sigterm, hosts.blocks, hosts.stops_itself, hosts.starts_stubborn_escapee]
    record = run_record(
        *(
            task(guests["calls_host_then_spins"], name=work.__name__, engine=engine, host={"env.work": work})
            for work in works
        ),
        concurrency=4,
        stop=QUICK,
        limits=Limits(time=1.0),
    )
    assert {one.outcome for one in record.tasks} <= {Outcome.TERMINATED, Outcome.KILLED}
    assert {one.attempts[0].reason for one in record.tasks} == {Reason.TIME_LIMIT}


# Orphans


def test_hidden_child_of_a_worker_that_crashed_does_not_stay_with_the_caller(engine: str, guests: Guests) -> None:
    """This program has children of its own, which procstop must not touch: it knows this one for having seen it."""
    attempt = run_guest(guests["calls_host"], engine=engine, host={"env.work": hosts.dies_of_a_hidden_child}, time=60.0)
    assert attempt.outcome is Outcome.CRASHED
    (child,) = (int(word) for word in attempt.stdout.tail.split() if word.isdigit())
    assert is_gone(child)
    assert attempt.tree is None or attempt.tree.left == 0


@pytest.mark.parametrize("spawn", [Spawn.SERVER, Spawn.FRESH], ids=lambda spawn: spawn.value)
def test_child_that_an_import_has_started_does_not_stay(
    engine: str, guests: Guests, tmp_path: Path, spawn: Spawn
) -> None:
    """It is there before the sandbox closes, from within which nobody could end it."""
    (tmp_path / "functions.py").write_text(
        "import subprocess, sys\n"
        "code = 'import time; time.sleep(1e6)'\n"
        "child = subprocess.Popen([sys.executable, '-S', '-c', code], env={}, start_new_session=True)\n"
        "imports = {'env.work': lambda: print('child', child.pid, flush=True)}\n"
    )
    host = tmp_path / "functions.py"
    record = run_record(
        task(guests["calls_host"], engine=engine, host=host, host_allow=()), workers=Workers(spawn=spawn)
    )
    attempt = record.tasks[0].attempts[0]
    assert attempt.outcome is Outcome.COMPLETED, attempt.message
    assert is_gone(int(attempt.stdout.tail.split()[1]))


def test_lost_worker_leaves_those_that_are_left_in_its_receipt() -> None:
    with subprocess.Popen(["sleep", "1000"]) as one, subprocess.Popen(["true"]) as other:
        other.wait()
        worker = Worker(other.pid, None, other, "token", -1, -1, -1, -1)
        worker.count_orphan(psutil.Process(one.pid))
        worker.reap()
        assert (worker.left(), worker.found) == (1, 1)
        one.kill()
        one.wait()
        assert worker.left() == 0


def test_name_in_a_receipt_has_an_end(tmp_path: Path) -> None:
    program = tmp_path / ("n" * 20)
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    with subprocess.Popen(["n" * 20 + "x" * 10_000, "1000"], executable=program) as process:
        wait_until(lambda: psutil.Process(process.pid).name().startswith("nnn"), "it executes its program")
        assert 0 < len(tree.name_of(psutil.Process(process.pid))) <= tree.LONGEST_NAME
        process.kill()


# Receipts


def test_receipt_of_a_kill_tells_what_was_found_and_that_nothing_is_left(engine: str, guests: Guests) -> None:
    attempt = run_guest(
        guests["calls_host_then_spins"],
        engine=engine,
        host={"env.work": hosts.starts_stubborn_escapee},
        time=0.3,
        stop=StopPolicy(interrupt=0.0, preempt=0.0, terminate=0.0, kill_wait=20.0),
    )
    assert (attempt.outcome, attempt.reason) == (Outcome.KILLED, Reason.TIME_LIMIT)
    tree = attempt.tree
    assert tree is not None and (tree.found, tree.killed, tree.left) == (1, 2, 0)
    # It was forked, and goes by the name of its worker.
    said = [int(word) for word in attempt.stdout.tail.split() if word.isdigit()]
    assert tree.processes == ((said[-1], "procstop-worker"),)


def test_worker_alone_is_all_that_a_kill_finds(engine: str, guests: Guests) -> None:
    stop = StopPolicy(interrupt=0.0, preempt=0.0, terminate=0.0, kill_wait=20.0)
    assert run_guest(guests["spins"], engine=engine, time=0.2, stop=stop).tree == Tree(found=0, killed=1, left=0)


def test_no_receipt_without_force(engine: str, guests: Guests) -> None:
    assert run_guest(guests["checks_in_loop"], engine=engine, time=0.2, stop=PATIENT).tree is None
    assert run_guest(guests["returns"], "run", 1, 7, engine=engine).tree is None


# What others do to a worker

_TRACER = """
import ctypes, os, sys
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
if libc.ptrace(16, pid, 0, 0) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
os.waitpid(pid, 0)
libc.ptrace(7, pid, 0, 0)
print("traces", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def traced(pid: int) -> Iterator[None]:
    """Have another process trace this one, and take no notice of the signals that come to it."""
    with subprocess.Popen(
        [sys.executable, "-c", _TRACER, str(pid)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as tracer:
        assert tracer.stdout is not None and tracer.stderr is not None
        if not tracer.stdout.readline():
            pytest.skip(f"nobody may trace here: {tracer.stderr.read().decode().strip()}")
        try:
            yield
        finally:
            tracer.communicate()


@pytest.mark.parametrize("guest", ["spins", "calls_host_then_spins"])
def test_worker_that_is_traced_does_not_stop_the_ladder(engine: str, guests: Guests, guest: str) -> None:
    watcher = Watcher()
    options = {"host": {"env.work": hosts.nothing}} if guest == "calls_host_then_spins" else {}
    stop = StopPolicy(interrupt=0.0, preempt=0.0, terminate=0.3, kill_wait=20.0)
    guest = task(guests[guest], engine=engine, stop=stop, **options)
    with start(Job("test", [guest]), observers=[watcher]) as run:
        watcher.wait_for_state("running")
        worker = watcher.pids()[0]
        with traced(worker):
            run.stop(Rung.TERMINATE)
            attempt = run.result().tasks[0].attempts[0]
    # Its tracer kept it from its parent until now.
    os.waitpid(worker, 0)
    # A tracer may keep SIGTERM from it; SIGKILL nobody can.
    assert attempt.outcome in (Outcome.TERMINATED, Outcome.KILLED)
    assert attempt.reason is Reason.STOP_COMMAND and worker not in children(os.getpid())
