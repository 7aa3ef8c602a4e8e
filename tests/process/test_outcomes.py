"""Every outcome that an attempt can have, caused for real."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from procstop import Outcome, Reason, Rung, StopPolicy, start
from procstop.model import Job, Limits
from support import hosts
from support.guests import Guests
from support.running import PATIENT, QUICK, run_guest, run_record, task
from support.watching import Watcher


def test_guest_that_returns_is_completed(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["returns"], "run", 1, 7, engine=engine)
    assert (attempt.outcome, attempt.values, attempt.engine) == (Outcome.COMPLETED, (8,), engine)
    assert (attempt.reason, attempt.rung, attempt.wait) == (None, None, ("exit", 0))
    assert attempt.pid and attempt.cpu_s and attempt.peak_memory_bytes
    assert attempt.phases.start is not None and attempt.phases.run is not None
    assert attempt.phases.interrupt is attempt.phases.terminate is attempt.phases.kill is None


def test_guest_that_exits_with_0_is_completed(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["exits_0"], engine=engine)
    assert (attempt.outcome, attempt.exit_code) == (Outcome.COMPLETED, 0)


@pytest.mark.parametrize(("guest", "code"), [("exits_3", 3), ("exits_300", 300)])
def test_guest_that_leaves_with_a_code_is_exited(engine: str, guests: Guests, guest: str, code: int) -> None:
    attempt = run_guest(guests[guest], engine=engine)
    assert (attempt.outcome, attempt.exit_code, attempt.wait) == (Outcome.EXITED, code, ("exit", 0))


def test_guest_that_fails_with_a_message_is_exited(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["fails_with_message"], engine=engine)
    assert (attempt.outcome, attempt.exit_code) == (Outcome.EXITED, None)
    assert attempt.message == 'no such colour: "\u20acblue"'


def test_guest_that_traps_is_trapped(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["traps"], engine=engine)
    assert (attempt.outcome, attempt.wait) == (Outcome.TRAPPED, ("exit", 0))
    assert attempt.message == 'unreachable, in function 0 "deep"'


def test_host_function_that_raises_is_a_host_error(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["calls_host"], engine=engine, host={"env.work": hosts.raises})
    assert (attempt.outcome, attempt.message) == (Outcome.HOST_ERROR, "KeyError: 'no such colour'")


def test_polite_guest_is_interrupted(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["checks_in_loop"], engine=engine, time=0.3, stop=PATIENT)
    assert (attempt.outcome, attempt.reason, attempt.rung) == (
        Outcome.INTERRUPTED,
        Reason.TIME_LIMIT,
        Rung.INTERRUPT,
    )
    assert attempt.stopping_points.stopped_at == attempt.stopping_points.passed > 0
    assert attempt.wait == ("exit", 0)


def test_guest_that_spins_is_terminated(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["spins"], engine=engine, time=0.2, stop=PATIENT)
    assert (attempt.outcome, attempt.reason, attempt.rung) == (
        Outcome.TERMINATED,
        Reason.TIME_LIMIT,
        Rung.TERMINATE,
    )
    assert attempt.wait == ("signal", signal.SIGTERM)
    # It has no stopping point, so nobody waits for it on the first rungs.
    assert attempt.phases.interrupt is attempt.phases.preempt is None


def test_guest_whose_worker_ignores_sigterm_is_killed(engine: str, guests: Guests) -> None:
    attempt = run_guest(
        guests["calls_host_then_spins"],
        engine=engine,
        host={"env.work": hosts.ignores_sigterm},
        time=0.5,
        stop=QUICK,
    )
    assert (attempt.outcome, attempt.reason, attempt.rung) == (Outcome.KILLED, Reason.TIME_LIMIT, Rung.KILL)
    assert attempt.wait == ("signal", signal.SIGKILL)
    assert attempt.stdout.tail == b"deaf\n"


def test_task_without_terminate_grace_is_killed_at_once(engine: str, guests: Guests) -> None:
    policy = StopPolicy(interrupt=0, preempt=0, terminate=0, kill_wait=20)
    attempt = run_guest(guests["spins"], engine=engine, time=0.2, stop=policy)
    assert (attempt.outcome, attempt.phases.terminate) == (Outcome.KILLED, None)


@pytest.mark.parametrize(
    ("work", "wait"),
    [
        (hosts.exits_the_process, ("exit", 7)),
        (hosts.exits_the_process_well, ("exit", 0)),
        (hosts.segfaults, ("signal", signal.SIGSEGV)),
        (hosts.reads_null, ("signal", signal.SIGSEGV)),
        (hosts.kills_itself, ("signal", signal.SIGKILL)),
        (hosts.terminates_itself, ("signal", signal.SIGTERM)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_worker_that_ends_without_a_report_is_crashed(
    engine: str, guests: Guests, work: object, wait: tuple[str, int]
) -> None:
    attempt = run_guest(guests["calls_host"], engine=engine, host={"env.work": work})
    assert (attempt.outcome, attempt.wait, attempt.reason, attempt.rung) == (Outcome.CRASHED, wait, None, None)


def test_worker_that_somebody_else_kills_is_crashed(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    with start(Job("test", [task(guests["spins"], engine=engine)]), observers=[watcher]) as run:
        watcher.wait_for_state("running")
        os.kill(watcher.pids()[0], signal.SIGKILL)
        attempt = run.result().tasks[0].attempts[0]
    assert (attempt.outcome, attempt.wait, attempt.reason) == (Outcome.CRASHED, ("signal", signal.SIGKILL), None)


def test_task_that_cannot_run_is_rejected_where_that_is_expected(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["needs_unknown_import"], engine=engine)
    assert (attempt.outcome, attempt.pid, attempt.wait) == (Outcome.REJECTED, None, None)
    assert 'import "somewhere.nobody_has_this" (i32) -> i64: nobody provides it' in (attempt.message or "")
    assert 'did you mean "checkpoint"?' in (attempt.message or "")


def test_module_that_only_the_engine_can_refuse_is_rejected_by_it(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests.invalid_body(), engine=engine)
    assert attempt.outcome is Outcome.REJECTED
    assert f"{engine} cannot compile it" in (attempt.message or "")


def test_task_whose_need_failed_is_cancelled(engine: str, guests: Guests) -> None:
    bad = task(guests["traps"], name="bad", engine=engine, expect=Outcome.COMPLETED)
    after = task(guests["returns"], name="after", needs=["bad"], engine=engine, expect=Outcome.COMPLETED)
    record = run_record(bad, after)
    assert [one.outcome for one in record.tasks] == [Outcome.TRAPPED, Outcome.CANCELLED]
    assert record["after"].attempts == ()
    assert record["after"].message == 'task "bad", which it needs, did not end as expected'


def test_stop_while_starting_is_terminated_and_says_so(
    engine: str, guests: Guests, write: Callable[[str, str], Path]
) -> None:
    host = write("host.py", "import os\nprint('importing')\nos.read(os.pipe()[0], 1)\nimports = {}\n")
    watcher = Watcher()
    job = Job("test", [task(guests["calls_host"], engine=engine, host=str(host), imports={"env.work": "checkpoint"})])
    with start(job, observers=[watcher]) as run:
        watcher.wait_for_output(b"importing")
        run.stop()
        attempt = run.result().tasks[0].attempts[0]
    assert (attempt.outcome, attempt.reason) == (Outcome.TERMINATED, Reason.STOP_COMMAND)
    assert attempt.phases.run is None


def test_answer_in_time_wins_over_the_limit_that_asked(engine: str, guests: Guests) -> None:
    """What ended it and why it was asked are two things: it left by an exit of its own, having been asked."""
    attempt = run_guest(guests["asks_and_exits"], engine=engine, limits=Limits(time=0.2), stop=PATIENT)
    assert (attempt.outcome, attempt.reason, attempt.exit_code) == (Outcome.INTERRUPTED, Reason.TIME_LIMIT, 9)
