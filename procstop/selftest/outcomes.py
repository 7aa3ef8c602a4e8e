"""P3 and P4: who leaves in time is only asked, and what ended an attempt and why are never confused."""

from __future__ import annotations

import os
import signal

from procstop import linux
from procstop.events import AttemptCompiling, AttemptMoved, AttemptStarted, Event
from procstop.model import Outcome, Reason, Rung, StopPolicy
from procstop.records import AttemptRecord
from procstop.selftest.bench import AT_ONCE, PATIENT, Bench, Trial, only

_LINE = 64
"""What the polite guest writes between two stopping points."""


def is_polite(bench: Bench) -> list[Trial]:
    """A guest that writes a line between two stopping points: it is asked, and every line is kept."""
    return [_judge_polite(one, written=True) for one in bench.attempts("writes_politely", time=0.05, stop=PATIENT)]


def sleeps_politely(bench: Bench) -> list[Trial]:
    """A guest in a WASI sleep, which is a stopping point."""
    attempts = bench.attempts("naps", "run", 100_000_000_000, time=0.05, stop=PATIENT)
    return [_judge_polite(one, written=False) for one in attempts]


def _judge_polite(attempt: AttemptRecord, written: bool) -> Trial:
    fault = is_not(attempt, Outcome.INTERRUPTED, Reason.TIME_LIMIT)
    if fault is None and (attempt.rung, attempt.wait) != (Rung.INTERRUPT, ("exit", 0)):
        fault = f"it was ended on rung {attempt.rung} with {attempt.wait}"
    if fault is None and written and attempt.stdout.bytes != _LINE * attempt.stopping_points.passed:
        fault = f"{attempt.stdout.bytes} bytes were kept of {attempt.stopping_points.passed} lines"
    phases = attempt.phases
    return Trial(sum(filter(None, (phases.interrupt, phases.reap))) * 1000, fault)


def we_kill(bench: Bench) -> list[Trial]:
    """Our own SIGKILL at a limit: never a crash."""
    return [_judge_ours(attempt) for attempt in bench.attempts("spins", time=0.05, stop=AT_ONCE)]


def _judge_ours(attempt: AttemptRecord) -> Trial:
    fault = is_not(attempt, Outcome.KILLED, Reason.TIME_LIMIT)
    if fault is None and attempt.wait != ("signal", signal.SIGKILL):
        fault = f"its wait status is {attempt.wait}"
    return Trial(fault=fault)


def they_kill(bench: Bench) -> list[Trial]:
    """Somebody else's SIGKILL: a crash, for which nobody asked."""
    pids: dict[str, int] = {}

    def watch(event: Event) -> None:
        if isinstance(event, AttemptStarted):
            pids[event.task] = event.pid
        elif isinstance(event, AttemptMoved) and event.state == "running":
            if pids.get(event.task) in (linux.children(os.getpid()) or ()):
                os.kill(pids[event.task], signal.SIGKILL)

    attempts = bench.attempts("spins", time=60.0, stop=PATIENT, watch=watch)
    return [Trial(fault=is_not(attempt, Outcome.CRASHED, None)) for attempt in attempts]


def they_kill_compiler(bench: Bench) -> list[Trial]:
    """Somebody else's SIGKILL of a compiler: a crash of the attempt that waits for it."""
    return [_kill_compiler(bench) for _ in range(bench.trials)]


def _kill_compiler(bench: Bench) -> Trial:
    def watch(event: Event) -> None:
        if isinstance(event, AttemptCompiling) and event.pid in (linux.children(os.getpid()) or ()):
            os.kill(event.pid, signal.SIGKILL)

    record = bench.run([bench.task("spins", time=60.0, stop=PATIENT)], watch, cache=False)
    attempt = only(record.tasks[0].attempts)
    fault = is_not(attempt, Outcome.CRASHED, None)
    if fault is None and attempt.phases.run is not None:
        fault = "it got a worker all the same"
    return Trial(fault=fault)


def answers_in_time(bench: Bench) -> list[Trial]:
    """A guest that returns just about when its time is over: either it returned, or it was stopped, and never both."""
    # It may sleep on beyond its limit as well: the one that comes first has to be told.
    policy = StopPolicy(interrupt=10, preempt=0, terminate=0, kill_wait=10)
    attempts = bench.attempts("naps", "run", 50_000_000, time=0.05, stop=policy)
    return [_judge_race(attempt) for attempt in attempts]


def _judge_race(attempt: AttemptRecord) -> Trial:
    if attempt.outcome is Outcome.COMPLETED:
        fault = is_not(attempt, Outcome.COMPLETED, None) if attempt.rung is None else None
        return Trial(fault=fault or (None if attempt.values == (7,) else f"it returned {attempt.values}"))
    fault = is_not(attempt, Outcome.INTERRUPTED, Reason.TIME_LIMIT)
    if fault is None and (attempt.phases.run or 0.0) < 0.05:
        fault = f"it was stopped {attempt.phases.run} s after its start, before its time was over"
    return Trial(fault=fault)


def answers_early(bench: Bench) -> list[Trial]:
    """A guest that returns long before its time is over."""
    attempts = bench.attempts("ends", "adds", 3, 4, time=60.0)
    values = [None if one.values == (7,) else f"it returned {one.values}" for one in attempts]
    return [Trial(fault=is_not(one, Outcome.COMPLETED, None) or value) for one, value in zip(attempts, values)]


def is_not(attempt: AttemptRecord, outcome: Outcome, reason: Reason | None) -> str | None:
    """Say what became of an attempt where it is not what was to become of it."""
    if (attempt.outcome, attempt.reason) == (outcome, reason):
        return None
    expected = f"{outcome.value}, reason {reason.value if reason else 'none'}"
    found = f"{attempt.outcome.value}, reason {attempt.reason.value if attempt.reason else 'none'}"
    return f"{found}, instead of {expected}" + (f": {attempt.message}" if attempt.message else "")
