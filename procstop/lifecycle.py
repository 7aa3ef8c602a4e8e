"""One attempt's life as a pure state machine: `step(attempt, event, now)` gives the next attempt and actions.

Everything that decides about an attempt lives here: the ladder and its graces, which reason and which
report win, and the verdict. There is no clock and no I/O: the supervisor feeds in facts with the monotonic
time at which they hold, sleeps until `Attempt.deadline`, and carries out the actions.

`TABLE` says which event may come in which state and where it can lead; docs/lifecycle.md is drawn from it.
"""

from __future__ import annotations

import enum
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, Union

from procstop.errors import InternalError
from procstop.model import Limits, Outcome, Reason, Rung, StopPolicy
from procstop.records import Phases, Report

EXIT_GRACE_S = 1.0
"""How long a worker may take to exit after its report."""


class State(enum.Enum):
    """Where an attempt is; the states after `RUNNING` are rungs and ends."""

    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    INTERRUPTING = "interrupting"
    PREEMPTING = "preempting"
    EXITING = "exiting"
    TERMINATING = "terminating"
    KILLING = "killing"
    OVER = "over"


class Action(enum.Enum):
    """What the supervisor must do now; each comes at most once in an attempt's life."""

    INTERRUPT = "interrupt"
    PREEMPT = "preempt"
    TERMINATE = "terminate"
    KILL = "kill"


@dataclass(frozen=True)
class Spawned:
    """Its start has begun: there is a worker, or one is asked for, or its module is being compiled."""


@dataclass(frozen=True)
class SpawnFailed:
    """No worker could be made, or the task can't run at all; `message` says why.

    `out_of_memory` says that it was the compiler, which its limit kept from more.
    """

    message: str
    out_of_memory: bool = False


@dataclass(frozen=True)
class Ready:
    """The worker says that its guest is about to run, and whether that can reach a stopping point."""

    interruptible: bool = True


@dataclass(frozen=True)
class Reported:
    """The worker's final report."""

    report: Report


@dataclass(frozen=True)
class Stop:
    """Somebody wants it to end: on `rung` or the first one above it that can work."""

    reason: Reason
    rung: Rung = Rung.INTERRUPT
    message: str | None = None


@dataclass(frozen=True)
class Deadline:
    """`Attempt.deadline` has come."""


@dataclass(frozen=True)
class Gone:
    """The worker was reaped, its tree is gone and its pipes are drained.

    `wait` is None if somebody else reaped it: then only what we sent it can tell what ended it.
    `ended_at` is the instant at which its end was first seen; `message` says what is known of it besides. `was_there`
    is False if there had not been a worker yet, nor a compiler of its own. `out_of_memory` says that it ended since it
    was refused memory, and could not go on without, `out_of_cpu` that it had used up all CPU time that the kernel gave
    it.
    """

    wait: tuple[str, int] | None
    ended_at: float
    message: str | None = None
    was_there: bool = True
    out_of_memory: bool = False
    out_of_cpu: bool = False


@dataclass(frozen=True)
class Freed:
    """The worker is free for another attempt: it said so with its report, and its pipes are drained."""


Event = Union[Spawned, SpawnFailed, Ready, Reported, Stop, Deadline, Gone, Freed]


class IllegalEvent(InternalError):
    """An event that cannot come in this state; nothing was changed."""


@dataclass(frozen=True)
class Abilities:
    """Which softer rungs can work for a task: interrupts need stopping points, preemption an engine.

    `soft` is False for the strategy "ignore": requests that are not limits do nothing on the first rung.
    """

    interrupt: bool = True
    preempt: bool = False
    soft: bool = True


@dataclass(frozen=True)
class Attempt:
    """What is known of one attempt. `deadline` is None where nothing limits the state."""

    policy: StopPolicy = StopPolicy()
    limits: Limits = Limits()
    abilities: Abilities = Abilities()
    state: State = State.PENDING
    entered: float = 0.0
    deadline: float | None = None
    ready: bool = False
    reason: Reason | None = None
    rung: Rung | None = None
    sent: frozenset[Action] = frozenset()
    report: Report | None = None
    message: str | None = None
    outcome: Outcome | None = None
    wait: tuple[str, int] | None = None
    phases: Phases = field(default=Phases())


_Record = TypeVar("_Record", Attempt, Phases, Abilities)


def _with(one: _Record, **changes: Any) -> _Record:
    """Return a copy with these fields changed: `dataclasses.replace`, but that it does not set every field anew."""
    made = object.__new__(type(one))
    made.__dict__.update(one.__dict__, **changes)
    return made


Step = tuple[Attempt, tuple[Action, ...]]
Handler = Callable[[Attempt, "Event", float], Step]

# The phase that each state's time is booked under. The time after a report belongs to reaping.
_PHASE = {
    State.STARTING: "start",
    State.RUNNING: "run",
    State.INTERRUPTING: "interrupt",
    State.PREEMPTING: "preempt",
    State.TERMINATING: "terminate",
    State.KILLING: "kill",
    State.EXITING: "reap",
}

_RUNG_STATE = {
    Rung.INTERRUPT: State.INTERRUPTING,
    Rung.PREEMPT: State.PREEMPTING,
    Rung.TERMINATE: State.TERMINATING,
    Rung.KILL: State.KILLING,
}

_ONLY_BEFORE_READY = frozenset({Outcome.REJECTED, Outcome.HOST_ERROR, Outcome.CRASHED})
_NEVER_REPORTED = frozenset({Outcome.TERMINATED, Outcome.KILLED, Outcome.CANCELLED, Outcome.LOST})


def step(attempt: Attempt, event: Event, now: float) -> Step:
    """Apply one event; return the new attempt and the actions it calls for.

    Raises `IllegalEvent` for an event that cannot come in this state.
    """
    rule = TABLE[attempt.state].get(type(event))
    if rule is None:
        raise IllegalEvent(f"{type(event).__name__} cannot come while {attempt.state.value}")
    return rule.apply(attempt, event, now)


def _move(attempt: Attempt, state: State, now: float, grace: float | None) -> Attempt:
    """Enter a state and book the time spent in the one before it."""
    return _with(
        attempt,
        state=state,
        entered=now,
        deadline=None if grace is None else now + grace,
        phases=_booked(attempt, now),
    )


def _booked(attempt: Attempt, until: float) -> Phases:
    phase = _PHASE.get(attempt.state)
    if phase is None:
        return attempt.phases
    spent = max(0.0, until - attempt.entered) + (getattr(attempt.phases, phase) or 0.0)
    return _with(attempt.phases, **{phase: spent})


def _over(attempt: Attempt, now: float, outcome: Outcome, message: str | None = None) -> Step:
    moved = _move(attempt, State.OVER, now, None)
    return _with(moved, outcome=outcome, message=message or attempt.message), ()


def _climb(attempt: Attempt, rung: Rung, now: float, why: Stop | None) -> Step:
    """Go to the first rung from `rung` upwards that can work for this attempt."""
    policy, able = attempt.policy, attempt.abilities
    # Before the guest runs there is nothing in the worker that could hear an interrupt.
    running = attempt.state in _GUEST_RUNS
    if rung is Rung.INTERRUPT and not (running and able.interrupt and able.soft and policy.interrupt > 0):
        rung = Rung.PREEMPT
    if rung is Rung.PREEMPT and not (running and able.preempt and policy.preempt > 0):
        rung = Rung.TERMINATE
    if rung is Rung.TERMINATE and policy.terminate == 0:
        rung = Rung.KILL
    grace = {
        Rung.INTERRUPT: policy.interrupt,
        Rung.PREEMPT: policy.preempt,
        Rung.TERMINATE: policy.terminate,
        Rung.KILL: policy.kill_wait,
    }[rung]
    moved = _move(attempt, _RUNG_STATE[rung], now, grace)
    action = Action(rung.value)
    moved = _with(moved, rung=rung, sent=moved.sent | {action})
    # The first reason wins, and none is invented for a worker that already gave its report.
    if why is not None and moved.reason is None:
        moved = _with(moved, reason=why.reason, message=why.message)
    return moved, (action,)


_GUEST_RUNS = frozenset({State.RUNNING, State.INTERRUPTING, State.PREEMPTING})


def _spawned(attempt: Attempt, event: Event, now: float) -> Step:
    return _move(attempt, State.STARTING, now, attempt.limits.start), ()


def _spawn_failed(attempt: Attempt, event: Event, now: float) -> Step:
    assert isinstance(event, SpawnFailed)
    if event.out_of_memory and attempt.limits.compile_memory is not None:
        attempt = _with(attempt, reason=attempt.reason or Reason.MEMORY_LIMIT)
    return _over(attempt, now, Outcome.REJECTED, event.message)


def _stop_pending(attempt: Attempt, event: Event, now: float) -> Step:
    assert isinstance(event, Stop)
    return _over(_with(attempt, reason=event.reason), now, Outcome.CANCELLED, event.message)


def _ready(attempt: Attempt, event: Event, now: float) -> Step:
    assert isinstance(event, Ready)
    moved = _move(attempt, State.RUNNING, now, attempt.limits.time)
    # A worker that lies about it only changes how long it is waited for on the first rung.
    interrupt = attempt.abilities.interrupt and event.interruptible
    return _with(moved, ready=True, abilities=_with(attempt.abilities, interrupt=interrupt)), ()


def _late_ready(attempt: Attempt, event: Event, now: float) -> Step:
    # It was written before our signal arrived. A second one is an offence.
    if attempt.ready or attempt.report is not None:
        raise IllegalEvent(f"Ready came twice or after the report, while {attempt.state.value}")
    return _with(attempt, ready=True), ()


def _reported(attempt: Attempt, event: Event, now: float) -> Step:
    kept = _keep(attempt, event)
    return _move(kept, State.EXITING, now, EXIT_GRACE_S), ()


def _late_report(attempt: Attempt, event: Event, now: float) -> Step:
    return _keep(attempt, event), ()


def _keep(attempt: Attempt, event: Event) -> Attempt:
    """Keep a report if it is the first, and says nothing that we know to be false."""
    assert isinstance(event, Reported)
    outcome = event.report.outcome
    if attempt.report is not None:
        raise IllegalEvent("a second report")
    if outcome in _NEVER_REPORTED or (not attempt.ready and outcome not in _ONLY_BEFORE_READY):
        raise IllegalEvent(f"a report of {outcome.value} while {attempt.state.value}")
    if event.report.out_of_memory and attempt.limits.memory is None:
        raise IllegalEvent("a report of a memory limit where there is none")
    asked = {Outcome.INTERRUPTED: Action.INTERRUPT, Outcome.PREEMPTED: Action.PREEMPT}.get(outcome)
    if asked is not None and asked not in attempt.sent:
        raise IllegalEvent(f"a report of {outcome.value} that nobody asked for")
    reason = attempt.reason
    if event.report.out_of_memory and reason is None:
        reason = Reason.MEMORY_LIMIT
    return _with(attempt, report=event.report, reason=reason)


def _stop(attempt: Attempt, event: Event, now: float) -> Step:
    assert isinstance(event, Stop)
    soft = event.rung is Rung.INTERRUPT and not event.reason.is_limit
    if soft and not attempt.abilities.soft:
        return attempt, ()
    if attempt.rung is not None and event.rung.height <= attempt.rung.height:
        return attempt, ()
    return _climb(attempt, event.rung, now, event)


def _stop_exiting(attempt: Attempt, event: Event, now: float) -> Step:
    # It is on its way out with its report: only force is new to it.
    assert isinstance(event, Stop)
    if event.rung.height < Rung.TERMINATE.height:
        return attempt, ()
    return _stop(attempt, event, now)


def _limit(reason: Reason) -> Handler:
    def apply(attempt: Attempt, event: Event, now: float) -> Step:
        _due(attempt, now)
        return _climb(attempt, Rung.INTERRUPT, now, Stop(reason))

    return apply


def _grace_over(attempt: Attempt, event: Event, now: float) -> Step:
    _due(attempt, now)
    following = {
        State.INTERRUPTING: Rung.PREEMPT,
        State.PREEMPTING: Rung.TERMINATE,
        State.EXITING: Rung.TERMINATE,
        State.TERMINATING: Rung.KILL,
    }[attempt.state]
    return _climb(attempt, following, now, None)


def _lost(attempt: Attempt, event: Event, now: float) -> Step:
    _due(attempt, now)
    return _over(attempt, now, Outcome.LOST)


def _due(attempt: Attempt, now: float) -> None:
    if attempt.deadline is None or now < attempt.deadline:
        raise IllegalEvent(f"no deadline has come while {attempt.state.value}")


def _gone(attempt: Attempt, event: Event, now: float) -> Step:
    assert isinstance(event, Gone)
    ended = min(max(event.ended_at, attempt.entered), now)
    phases = _booked(attempt, ended)
    phases = _with(phases, reap=(phases.reap or 0.0) + now - ended)
    if attempt.report is not None:
        outcome = attempt.report.outcome
    else:
        outcome = _verdict(attempt, event) if event.was_there else Outcome.CANCELLED
    over = _with(attempt, state=State.OVER, entered=now, deadline=None, phases=phases)
    limits = attempt.limits
    limited = limits.memory is not None or (not attempt.ready and limits.compile_memory is not None)
    if event.out_of_memory and over.reason is None and limited:
        over = _with(over, reason=Reason.MEMORY_LIMIT)
    if attempt.report is None and over.reason is None and _is_cpu_limit(attempt, event):
        rung = Rung.KILL if outcome is Outcome.KILLED else Rung.TERMINATE
        over = _with(over, reason=Reason.CPU_LIMIT, rung=over.rung or rung)
    return _with(over, outcome=outcome, wait=event.wait, message=attempt.message or event.message), ()


def _freed(attempt: Attempt, event: Event, now: float) -> Step:
    report = attempt.report
    if report is None or report.outcome is not Outcome.COMPLETED or attempt.rung is not None:
        raise IllegalEvent("a worker that is free without having returned by itself")
    return _over(attempt, now, report.outcome)


def _verdict(attempt: Attempt, event: Gone) -> Outcome:
    """Judge a worker that left no report by what we sent it and what the kernel says ended it."""
    if attempt.reason is Reason.PROTOCOL and Action.KILL in attempt.sent:
        # Whatever it did after it had broken the format, and before our signal reached it.
        return Outcome.KILLED
    wait = event.wait
    if wait is None:
        if Action.KILL in attempt.sent:
            return Outcome.KILLED
        return Outcome.TERMINATED if Action.TERMINATE in attempt.sent else Outcome.CRASHED
    how, number = wait
    if how == "signal":
        if number == signal.SIGKILL and Action.KILL in attempt.sent:
            return Outcome.KILLED
        if number == signal.SIGTERM and Action.TERMINATE in attempt.sent:
            return Outcome.TERMINATED
        if _is_cpu_limit(attempt, event):
            return Outcome.KILLED if number == signal.SIGKILL else Outcome.TERMINATED
        return Outcome.CRASHED
    # A host function may catch our SIGTERM and leave by exit: it was still our signal that ended it.
    return Outcome.TERMINATED if Action.TERMINATE in attempt.sent else Outcome.CRASHED


def _is_cpu_limit(attempt: Attempt, event: Gone) -> bool:
    """Tell whether the kernel ended it at its CPU limit, as it does when no supervisor comes before.

    By SIGXCPU, or one second later by SIGKILL, where a host function has that ignored.
    """
    at_once = event.wait == ("signal", signal.SIGXCPU)
    later = event.wait == ("signal", signal.SIGKILL) and event.out_of_cpu and Action.KILL not in attempt.sent
    return attempt.limits.cpu is not None and (at_once or later)


def _ignore(attempt: Attempt, event: Event, now: float) -> Step:
    return attempt, ()


class Rule(NamedTuple):
    """What an event does in a state, and every state that it can lead to."""

    apply: Handler
    leads_to: frozenset[State]


def _rule(apply: Handler, *leads_to: State) -> Rule:
    return Rule(apply, frozenset(leads_to))


_S = State
_FORCE = (_S.TERMINATING, _S.KILLING)
_LADDER = (_S.INTERRUPTING, _S.PREEMPTING, *_FORCE)
_GONE = _rule(_gone, _S.OVER)

TABLE: dict[State, dict[type, Rule]] = {
    _S.PENDING: {
        Spawned: _rule(_spawned, _S.STARTING),
        SpawnFailed: _rule(_spawn_failed, _S.OVER),
        Stop: _rule(_stop_pending, _S.OVER),
    },
    _S.STARTING: {
        SpawnFailed: _rule(_spawn_failed, _S.OVER),
        Ready: _rule(_ready, _S.RUNNING),
        Reported: _rule(_reported, _S.EXITING),
        Stop: _rule(_stop, _S.STARTING, *_FORCE),
        Deadline: _rule(_limit(Reason.START_LIMIT), *_FORCE),
        Gone: _GONE,
    },
    _S.RUNNING: {
        Reported: _rule(_reported, _S.EXITING),
        Stop: _rule(_stop, _S.RUNNING, *_LADDER),
        Deadline: _rule(_limit(Reason.TIME_LIMIT), *_LADDER),
        Gone: _GONE,
    },
    _S.INTERRUPTING: {
        Reported: _rule(_reported, _S.EXITING),
        Stop: _rule(_stop, _S.INTERRUPTING, _S.PREEMPTING, *_FORCE),
        Deadline: _rule(_grace_over, _S.PREEMPTING, *_FORCE),
        Gone: _GONE,
    },
    _S.PREEMPTING: {
        Reported: _rule(_reported, _S.EXITING),
        Stop: _rule(_stop, _S.PREEMPTING, *_FORCE),
        Deadline: _rule(_grace_over, *_FORCE),
        Gone: _GONE,
    },
    _S.EXITING: {
        Stop: _rule(_stop_exiting, _S.EXITING, *_FORCE),
        Deadline: _rule(_grace_over, *_FORCE),
        Freed: _rule(_freed, _S.OVER),
        Gone: _GONE,
    },
    _S.TERMINATING: {
        Ready: _rule(_late_ready, _S.TERMINATING),
        Reported: _rule(_late_report, _S.TERMINATING),
        Stop: _rule(_stop, *_FORCE),
        Deadline: _rule(_grace_over, _S.KILLING),
        Gone: _GONE,
    },
    _S.KILLING: {
        Ready: _rule(_late_ready, _S.KILLING),
        Reported: _rule(_late_report, _S.KILLING),
        Stop: _rule(_ignore, _S.KILLING),
        Deadline: _rule(_lost, _S.OVER),
        Gone: _GONE,
    },
    _S.OVER: {
        Stop: _rule(_ignore, _S.OVER),
        Deadline: _rule(_ignore, _S.OVER),
    },
}
