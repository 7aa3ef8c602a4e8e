"""P1 bounded: from the first rung, an attempt is over within the sum of the graces plus a small constant."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

import pytest

from procstop import Job, Limits, Outcome, Reason, Rung, StopPolicy, start
from procstop.events import AttemptMoved
from support import hosts
from support.guests import Guests
from support.running import task
from support.watching import Watcher, fork_servers, guardians, is_gone, workers

POLICY = StopPolicy(interrupt=0.3, preempt=0.3, terminate=0.3, kill_wait=20.0)
CONSTANT_S = 5.0
"""On an idle machine it is 50 ms; here it only must not be another grace too many."""

STUBBORN: dict[str, tuple[str, Callable[..., None] | None]] = {
    "nothing": ("checks_in_loop", None),
    "the answer": ("asks_and_goes_on", None),
    "interrupts": ("spins", None),
    "interrupts, in a start function": ("spins_in_start", None),
    "SIGTERM": ("calls_host_then_spins", hosts.ignores_sigterm),
    "SIGTERM, in Python": ("calls_host_then_spins", hosts.handles_sigterm),
    "all signals": ("calls_host_then_spins", hosts.ignores_everything_and_blocks),
    "everything, blocked": ("calls_host", hosts.blocks),
    "everything, standing still": ("calls_host", hosts.stops_itself),
    "its own end, by an escapee": ("calls_host_then_spins", hosts.starts_stubborn_escapee),
    "its own end, by a fork bomb": ("calls_host_then_spins", hosts.breeds),
    "its report pipe": ("calls_host_then_spins", hosts.closes_report),
    "its supervisor, with a flood of beats": ("calls_host", hosts.floods_report),
    "its output's reader": ("writes_forever", None),
}


@pytest.mark.parametrize("ignored", STUBBORN)
def test_stop_is_over_within_the_sum_of_the_graces(engine: str, guests: Guests, ignored: str) -> None:
    guest, work = STUBBORN[ignored]
    watcher = Watcher()
    one = task(guests[guest], engine=engine, host=None if work is None else {"env.work": work})
    with start(Job("test", [one], stop=POLICY), observers=[watcher]) as run:
        watcher.wait_for_state("running")
        if work is not None and work not in (hosts.closes_report, hosts.floods_report):
            watcher.wait_for_output(b"\n")
        began = time.monotonic()
        run.stop()
        record = run.result()
        took = time.monotonic() - began
    attempt = record.tasks[0].attempts[0]
    assert took < POLICY.interrupt + POLICY.preempt + POLICY.terminate + CONSTANT_S
    assert attempt.outcome in (Outcome.INTERRUPTED, Outcome.TERMINATED, Outcome.KILLED)
    assert attempt.reason is Reason.STOP_COMMAND
    assert is_gone(watcher.pids()[0])


@pytest.mark.parametrize("rung", list(Rung))
def test_stop_on_any_rung_is_bounded_while_starting(engine: str, guests: Guests, rung: Rung) -> None:
    """Whatever the worker does at that moment: the stop comes as soon as there is one."""
    watcher = Watcher()
    with start(Job("test", [task(guests["spins"], engine=engine)], stop=POLICY), observers=[watcher]) as run:
        watcher.wait_for_state("starting")
        began = time.monotonic()
        run.stop(rung)
        attempt = run.result().tasks[0].attempts[0]
        took = time.monotonic() - began
    assert took < POLICY.terminate + CONSTANT_S
    assert attempt.outcome in (Outcome.TERMINATED, Outcome.KILLED)


@pytest.mark.parametrize("kind", ["start", "time", "output"])
def test_limit_is_followed_by_a_bounded_stop(engine: str, guests: Guests, kind: str) -> None:
    limits = {"start": Limits(start=0.01), "time": Limits(time=0.2), "output": Limits(output=1000)}[kind]
    began = time.monotonic()
    one = task(guests["writes_forever"], engine=engine, limits=limits)
    with start(Job("test", [one], stop=POLICY)) as run:
        attempt = run.result().tasks[0].attempts[0]
    assert attempt.reason is not None and attempt.reason.value == f"{kind}_limit"
    ladder = sum(filter(None, (attempt.phases.interrupt, attempt.phases.terminate, attempt.phases.kill)))
    assert ladder < POLICY.interrupt + POLICY.terminate + CONSTANT_S
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("still", ["server", "guardian", "worker", "all of them"])
def test_twenty_workers_are_over_in_time_whoever_stands_still(engine: str, guests: Guests, still: str) -> None:
    """Stopped with SIGSTOP once all guests run, for as long as the run goes on, which is beyond every deadline."""
    count, limit = 20, 0.5
    tasks = [task(guests["spins"], name=f"{n}", engine=engine, limits=Limits(time=limit)) for n in range(count)]
    watcher = Watcher()
    with start(Job("test", tasks, stop=POLICY, concurrency=count), observers=[watcher]) as run:
        # The first are over before the last ones run where this takes longer than their limit.
        watcher.wait_until(lambda events: sum(is_running(event) for event in events) >= count)
        me = os.getpid()
        groups = {"server": fork_servers(me), "guardian": guardians(me), "worker": workers(me)}
        for pid in {pid for name, pids in groups.items() if still in (name, "all of them") for pid in pids}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        record = run.result()
    for one in record.tasks:
        attempt = one.attempts[0]
        assert attempt.outcome in (Outcome.TERMINATED, Outcome.KILLED) and attempt.reason is Reason.TIME_LIMIT
        after = (attempt.phases.terminate or 0.0) + (attempt.phases.kill or 0.0) + (attempt.phases.reap or 0.0)
        assert after < POLICY.terminate + CONSTANT_S
    assert all(map(is_gone, watcher.pids()))


def is_running(event: object) -> bool:
    return isinstance(event, AttemptMoved) and event.state == "running"
