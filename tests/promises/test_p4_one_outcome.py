"""P4 one outcome: exactly one for every attempt; why it was asked and what ended it are never confused."""

from __future__ import annotations

import itertools
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from procstop import AttemptRecord, Job, Limits, Outcome, Reason, Rung, StopPolicy, Workers, start
from procstop.events import AttemptCompiling, AttemptOver, RunOver, TaskOver
from support import faulty_servers, hosts
from support.faulty_servers import take_the_place
from support.guests import Guests
from support.running import PATIENT, QUICK, run_guest, run_record, task
from support.watching import Watcher, children, fork_servers, wait_until, wait_until_gone


def test_every_attempt_and_every_task_is_over_once(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    tasks = [
        task(guests["returns"], "nothing", name="returns", engine=engine),
        task(guests["traps"], name="traps", engine=engine, retries=2, expect=Outcome.COMPLETED),
        task(guests["spins"], name="spins", engine=engine),
        task(guests["needs_unknown_import"], name="rejected", engine=engine),
        task(guests["returns"], "nothing", name="cancelled", engine=engine, needs=["traps"]),
        task(guests["calls_host"], name="crashes", engine=engine, host={"env.work": hosts.kills_itself}),
    ]
    record = run_record(*tasks, observers=[watcher], limits=Limits(time=1.0), stop=QUICK)
    attempts = Counter((e.task, e.record.number) for e in watcher.events if isinstance(e, AttemptOver))
    assert (set(attempts.values()), len(attempts)) == ({1}, 7)
    assert Counter(e.record.task for e in watcher.events if isinstance(e, TaskOver)) == Counter(t.name for t in tasks)
    assert [e.record for e in watcher.events if isinstance(e, RunOver)] == [record]
    assert isinstance(watcher.events[-1], RunOver)
    assert [one.outcome.value for one in record.tasks] == [
        "completed",
        "trapped",
        "terminated",
        "rejected",
        "cancelled",
        "crashed",
    ]


def says_the_truth(attempt: AttemptRecord) -> None:
    """Check what must hold between the parts of any record."""
    phases = attempt.phases
    stopped = attempt.outcome in (Outcome.INTERRUPTED, Outcome.PREEMPTED, Outcome.TERMINATED, Outcome.KILLED)
    if stopped:
        assert attempt.reason is not None and attempt.rung is not None
    if attempt.outcome is Outcome.KILLED:
        assert (attempt.rung, attempt.wait) == (Rung.KILL, ("signal", signal.SIGKILL))
    if attempt.outcome is Outcome.TERMINATED:
        assert phases.terminate is not None
    if attempt.outcome is Outcome.INTERRUPTED:
        assert phases.interrupt is not None and attempt.stopping_points.stopped_at is not None
    if attempt.outcome in (Outcome.COMPLETED, Outcome.EXITED, Outcome.TRAPPED):
        assert attempt.wait is not None
    if attempt.rung is None:
        assert phases.interrupt is phases.terminate is phases.kill is None
    if attempt.outcome not in (Outcome.REJECTED, Outcome.CANCELLED):
        assert attempt.pid is not None and phases.start is not None
    for phase in (phases.start, phases.run, phases.interrupt, phases.terminate, phases.kill, phases.reap):
        assert phase is None or phase >= 0


@pytest.mark.parametrize("seed", range(3))
def test_stops_that_race_with_ends_still_give_one_true_outcome(engine: str, guests: Guests, seed: int) -> None:
    """Guests of all kinds end by themselves while stops on random rungs arrive; and each is told apart."""
    chance = random.Random(seed)
    kinds: list[tuple[str, str, tuple[int, ...]]] = [
        ("returns", "run", (1, 2)),
        ("traps", "_start", ()),
        ("exits_3", "_start", ()),
        ("checks_in_loop", "run", (100_000,)),
        ("sleeps", "nap", (20_000_000,)),
        ("asks_and_returns", "run", ()),
        ("spins", "_start", ()),
    ]
    tasks = [
        task(guests[guest], call, *args, name=str(number), engine=engine, limits=Limits(time=chance.uniform(0.01, 0.4)))
        for number, (guest, call, args) in enumerate(itertools.islice(itertools.cycle(kinds), 14))
    ]
    policy = StopPolicy(interrupt=0.1, preempt=0.1, terminate=0.1, kill_wait=20.0)
    watcher = Watcher()
    with start(Job("test", tasks, concurrency=3, stop=policy), observers=[watcher]) as run:
        enough = chance.randrange(4, 12)
        watcher.wait_until(lambda events: sum(isinstance(event, AttemptOver) for event in events) >= enough)
        for rung in chance.sample(list(Rung), 2):
            run.stop(rung)
        record = run.result()
    over = Counter(e.record.task for e in watcher.events if isinstance(e, TaskOver))
    assert set(over.values()) == {1} and set(over) == {one.name for one in tasks}
    for one in record.tasks:
        assert len(one.attempts) == 1 or (one.outcome is Outcome.CANCELLED and not one.attempts)
        for attempt in one.attempts:
            says_the_truth(attempt)
            own = {"returns": "completed", "traps": "trapped", "exits_3": "exited"}.get(kinds[int(one.task) % 7][0])
            assert own is None or attempt.outcome.value in (own, "terminated", "killed")


def test_our_own_sigkill_is_not_a_crash_and_theirs_is_not_ours(engine: str, guests: Guests) -> None:
    policy = StopPolicy(interrupt=0, preempt=0, terminate=0, kill_wait=30)
    ours = run_guest(guests["spins"], engine=engine, time=0.2, stop=policy)
    assert (ours.outcome, ours.reason, ours.wait) == (Outcome.KILLED, Reason.TIME_LIMIT, ("signal", signal.SIGKILL))
    watcher = Watcher()
    with start(Job("test", [task(guests["spins"], engine=engine)], stop=policy), observers=[watcher]) as run:
        watcher.wait_for_state("running")
        os.kill(watcher.pids()[0], signal.SIGKILL)
        theirs = run.result().tasks[0].attempts[0]
    assert (theirs.outcome, theirs.reason, theirs.wait) == (Outcome.CRASHED, None, ("signal", signal.SIGKILL))


def test_their_kill_while_we_ask_is_a_crash_that_keeps_our_reason(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    with start(Job("test", [task(guests["asks_and_goes_on"], engine=engine)], stop=PATIENT),
               observers=[watcher]) as run:  # fmt: skip
        watcher.wait_for_state("running")
        run.stop()
        watcher.wait_for_state("interrupting")
        os.kill(watcher.pids()[0], signal.SIGKILL)
        attempt = run.result().tasks[0].attempts[0]
    assert (attempt.outcome, attempt.reason, attempt.rung) == (Outcome.CRASHED, Reason.STOP_COMMAND, Rung.INTERRUPT)


@pytest.mark.parametrize(
    ("work", "outcome"),
    [(hosts.terminates_itself, Outcome.CRASHED), (hosts.kills_itself, Outcome.CRASHED)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_signal_that_nobody_asked_for_is_a_crash(
    engine: str, guests: Guests, work: Callable[[], None], outcome: Outcome
) -> None:
    attempt = run_guest(guests["calls_host"], engine=engine, host={"env.work": work}, time=60.0)
    assert (attempt.outcome, attempt.reason, attempt.rung) == (outcome, None, None)


NO_GRACES = StopPolicy(interrupt=0, preempt=0, terminate=0)


@pytest.fixture
def short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timers of workers and compilers run out when their limits and graces do."""
    monkeypatch.setattr("procstop.preflight._LIFE_SLACK_S", 0.0)


@pytest.mark.usefixtures("short_lives")
def test_compiler_that_its_own_timer_ended_is_no_crash(
    engine: str, guests: Guests, request: pytest.FixtureRequest
) -> None:
    """It stands still, and so does procstop's clock: nobody but its timer ends it."""
    compiling: list[int] = []

    def pause(event: object) -> None:
        if isinstance(event, AttemptCompiling):
            timers = Path(f"/proc/{event.pid}/timers")
            wait_until(timers.read_text, "it has its timer")
            os.kill(event.pid, signal.SIGSTOP)
            compiling.append(event.pid)
            run._supervisor.pause()

    module = guests.large(request.node.nodeid)
    one = task(module, "run", engine=engine, limits=Limits(start=2.0), stop=NO_GRACES)
    with start(Job("test", [one], workers=Workers(cache=False)), observers=[pause]) as run:
        wait_until(lambda: bool(compiling), "it is compiled")
        wait_until_gone(compiling[0])
        run._supervisor.resume()
        attempt = run.result().tasks[0].attempts[0]
    assert (attempt.outcome, attempt.reason, attempt.rung) == (Outcome.KILLED, Reason.START_LIMIT, Rung.KILL)
    assert attempt.message == "its dead-man's timer ran out, while procstop stood still or was paused"


@pytest.mark.usefixtures("short_lives")
def test_their_kill_is_theirs_however_long_the_start_took(engine: str, guests: Guests, tmp_path: Path) -> None:
    """Its guest's time began when its host functions were there, not when the worker was asked for."""
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(1.5)\nimports = {'env.work': lambda: None}\n")
    one = task(guests["calls_host_then_spins"], engine=engine, host=tmp_path / "slow.py", stop=NO_GRACES,
               limits=Limits(time=1.2))  # fmt: skip
    watcher = Watcher()
    with start(Job("test", [one]), observers=[watcher]) as run:
        watcher.wait_for_state("running")
        os.kill(watcher.pids()[0], signal.SIGKILL)
        attempt = run.result().tasks[0].attempts[0]
    assert (attempt.outcome, attempt.reason) == (Outcome.CRASHED, None)


def test_answer_that_was_given_in_time_is_no_timeout(engine: str, guests: Guests) -> None:
    """It reports, and then hangs on its way out: force ends its worker, and changes nothing of its outcome."""
    attempt = run_guest(
        guests["calls_host_then_spins"],
        engine=engine,
        host={"env.work": hosts.reports_completed_and_goes_on},
        time=60.0,
        stop=QUICK,
    )
    assert (attempt.outcome, attempt.reason) == (Outcome.COMPLETED, None)
    says_the_truth(attempt)


def test_first_reason_wins(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    one = task(guests["asks_and_goes_on"], engine=engine, limits=Limits(time=0.2))
    with start(Job("test", [one], stop=PATIENT), observers=[watcher]) as run:
        watcher.wait_for_state("interrupting")
        run.stop(Rung.KILL)
        record = run.result()
    attempt = record.tasks[0].attempts[0]
    assert (attempt.outcome, attempt.reason, record.reason) == (
        Outcome.KILLED,
        Reason.TIME_LIMIT,
        Reason.STOP_COMMAND,
    )


@pytest.mark.parametrize("rung", [Rung.TERMINATE, Rung.KILL], ids=lambda rung: rung.value)
def test_attempt_whose_guest_ran_is_never_called_cancelled(
    engine: str, guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rung: Rung
) -> None:
    """Stopped when its guest runs already, and its fork server has not told of the worker."""
    guest = task(
        guests["calls_host_then_spins"],
        engine=engine,
        host={"env.work": hosts.leaves_mark},
        env={hosts.MARKS: str(tmp_path)},
    )
    take_the_place(monkeypatch, faulty_servers.stands_still_before_it_tells)
    watcher = Watcher()
    with start(Job("test", [guest], stop=PATIENT), observers=[watcher]) as run:
        wait_until(lambda: os.listdir(tmp_path), "the guest runs")
        (pid,) = map(int, os.listdir(tmp_path))
        run.stop(rung)
        if rung is Rung.TERMINATE:
            watcher.wait_for_state("terminating")
            os.kill(fork_servers(os.getpid())[0], signal.SIGCONT)
        attempt = run.result().tasks[0].attempts[0]
    ended = {Rung.TERMINATE: Outcome.TERMINATED, Rung.KILL: Outcome.KILLED}[rung]
    assert (attempt.outcome, attempt.reason, attempt.pid) == (ended, Reason.STOP_COMMAND, pid)
    assert children(os.getpid()) == []
