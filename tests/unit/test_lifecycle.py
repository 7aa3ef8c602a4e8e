"""The state machine, event by event: every row of the table, and every verdict of promise P4."""

from __future__ import annotations

import signal
from dataclasses import fields, replace
from itertools import product

import pytest

from procstop.lifecycle import (
    EXIT_GRACE_S,
    TABLE,
    Abilities,
    Action,
    Attempt,
    Deadline,
    Event,
    Freed,
    Gone,
    IllegalEvent,
    Ready,
    Reported,
    Spawned,
    SpawnFailed,
    State,
    Stop,
    step,
)
from procstop.model import Limits, Outcome, Reason, Rung, StopPolicy
from procstop.records import Report

GRACES = StopPolicy(interrupt=2.0, preempt=3.0, terminate=5.0, kill_wait=7.0)
LIMITS = Limits(start=11.0, time=13.0)
ABLE = Abilities(interrupt=True, preempt=True)
FIRST = Attempt(GRACES, LIMITS, ABLE)
EVENT_TYPES = (Spawned, SpawnFailed, Ready, Reported, Stop, Deadline, Gone, Freed)
USER = Stop(Reason.USER)
DONE = Reported(Report(Outcome.COMPLETED))
EXIT_0 = ("exit", 0)

# How each state is reached; all graces differ, so that a deadline tells which one it is.
PATHS: dict[State, tuple[Event, ...]] = {
    State.PENDING: (),
    State.STARTING: (Spawned(),),
    State.RUNNING: (Spawned(), Ready()),
    State.INTERRUPTING: (Spawned(), Ready(), USER),
    State.PREEMPTING: (Spawned(), Ready(), Stop(Reason.USER, Rung.PREEMPT)),
    State.EXITING: (Spawned(), Ready(), DONE),
    State.TERMINATING: (Spawned(), Ready(), Stop(Reason.USER, Rung.TERMINATE)),
    State.KILLING: (Spawned(), Ready(), Stop(Reason.USER, Rung.KILL)),
    State.OVER: (Spawned(), Ready(), Gone(EXIT_0, 0.0)),
}


def play(*events: Event, at: float = 0.0, attempt: Attempt = FIRST) -> Attempt:
    for event in events:
        attempt, _ = step(attempt, event, at)
    return attempt


def in_state(state: State, attempt: Attempt = FIRST) -> Attempt:
    reached = play(*PATHS[state], attempt=attempt)
    assert reached.state is state
    return reached


def at_deadline(attempt: Attempt) -> tuple[Attempt, tuple[Action, ...]]:
    assert attempt.deadline is not None
    return step(attempt, Deadline(), attempt.deadline)


def reported(outcome: Outcome) -> Reported:
    return Reported(Report(outcome))


# The table.


@pytest.mark.parametrize(
    ("state", "event", "then", "actions"),
    [
        (State.PENDING, Spawned(), State.STARTING, ()),
        (State.PENDING, SpawnFailed("no memory"), State.OVER, ()),
        (State.PENDING, USER, State.OVER, ()),
        (State.STARTING, Ready(), State.RUNNING, ()),
        (State.STARTING, reported(Outcome.REJECTED), State.EXITING, ()),
        (State.STARTING, USER, State.TERMINATING, (Action.TERMINATE,)),
        (State.STARTING, Stop(Reason.USER, Rung.PREEMPT), State.TERMINATING, (Action.TERMINATE,)),
        (State.STARTING, Stop(Reason.USER, Rung.KILL), State.KILLING, (Action.KILL,)),
        (State.STARTING, Deadline(), State.TERMINATING, (Action.TERMINATE,)),
        (State.STARTING, Gone(EXIT_0, 0), State.OVER, ()),
        (State.STARTING, SpawnFailed("no"), State.OVER, ()),
        (State.RUNNING, DONE, State.EXITING, ()),
        (State.RUNNING, USER, State.INTERRUPTING, (Action.INTERRUPT,)),
        (State.RUNNING, Stop(Reason.USER, Rung.PREEMPT), State.PREEMPTING, (Action.PREEMPT,)),
        (State.RUNNING, Stop(Reason.USER, Rung.TERMINATE), State.TERMINATING, (Action.TERMINATE,)),
        (State.RUNNING, Stop(Reason.USER, Rung.KILL), State.KILLING, (Action.KILL,)),
        (State.RUNNING, Deadline(), State.INTERRUPTING, (Action.INTERRUPT,)),
        (State.RUNNING, Gone(EXIT_0, 0), State.OVER, ()),
        (State.INTERRUPTING, DONE, State.EXITING, ()),
        (State.INTERRUPTING, reported(Outcome.INTERRUPTED), State.EXITING, ()),
        (State.INTERRUPTING, Deadline(), State.PREEMPTING, (Action.PREEMPT,)),
        (State.INTERRUPTING, USER, State.INTERRUPTING, ()),
        (State.INTERRUPTING, Stop(Reason.USER, Rung.PREEMPT), State.PREEMPTING, (Action.PREEMPT,)),
        (State.INTERRUPTING, Stop(Reason.USER, Rung.TERMINATE), State.TERMINATING, (Action.TERMINATE,)),
        (State.INTERRUPTING, Stop(Reason.USER, Rung.KILL), State.KILLING, (Action.KILL,)),
        (State.INTERRUPTING, Gone(EXIT_0, 0), State.OVER, ()),
        (State.PREEMPTING, reported(Outcome.PREEMPTED), State.EXITING, ()),
        (State.PREEMPTING, Deadline(), State.TERMINATING, (Action.TERMINATE,)),
        (State.PREEMPTING, USER, State.PREEMPTING, ()),
        (State.PREEMPTING, Stop(Reason.USER, Rung.PREEMPT), State.PREEMPTING, ()),
        (State.PREEMPTING, Stop(Reason.USER, Rung.KILL), State.KILLING, (Action.KILL,)),
        (State.PREEMPTING, Gone(EXIT_0, 0), State.OVER, ()),
        (State.EXITING, Deadline(), State.TERMINATING, (Action.TERMINATE,)),
        (State.EXITING, USER, State.EXITING, ()),
        (State.EXITING, Stop(Reason.TIME_LIMIT), State.EXITING, ()),
        (State.EXITING, Stop(Reason.USER, Rung.PREEMPT), State.EXITING, ()),
        (State.EXITING, Stop(Reason.USER, Rung.TERMINATE), State.TERMINATING, (Action.TERMINATE,)),
        (State.EXITING, Stop(Reason.USER, Rung.KILL), State.KILLING, (Action.KILL,)),
        (State.EXITING, Gone(EXIT_0, 0), State.OVER, ()),
        (State.EXITING, Freed(), State.OVER, ()),
        (State.TERMINATING, DONE, State.TERMINATING, ()),
        (State.TERMINATING, Deadline(), State.KILLING, (Action.KILL,)),
        (State.TERMINATING, USER, State.TERMINATING, ()),
        (State.TERMINATING, Stop(Reason.USER, Rung.TERMINATE), State.TERMINATING, ()),
        (State.TERMINATING, Stop(Reason.USER, Rung.KILL), State.KILLING, (Action.KILL,)),
        (State.TERMINATING, Gone(EXIT_0, 0), State.OVER, ()),
        (State.KILLING, DONE, State.KILLING, ()),
        (State.KILLING, Deadline(), State.OVER, ()),
        (State.KILLING, Stop(Reason.USER, Rung.KILL), State.KILLING, ()),
        (State.KILLING, Gone(EXIT_0, 0), State.OVER, ()),
        (State.OVER, Stop(Reason.USER, Rung.KILL), State.OVER, ()),
        (State.OVER, Deadline(), State.OVER, ()),
    ],
)
def test_each_event_leads_where_the_design_says(
    state: State, event: Event, then: State, actions: tuple[Action, ...]
) -> None:
    before = in_state(state)
    now = before.deadline if isinstance(event, Deadline) and before.deadline is not None else 1.0
    after, called_for = step(before, event, now)
    assert (after.state, called_for) == (then, actions)


ILLEGAL = {
    State.PENDING: {Ready, Reported, Deadline, Gone, Freed},
    State.STARTING: {Spawned, Freed},
    State.RUNNING: {Spawned, SpawnFailed, Ready, Freed},
    State.INTERRUPTING: {Spawned, SpawnFailed, Ready, Freed},
    State.PREEMPTING: {Spawned, SpawnFailed, Ready, Freed},
    State.EXITING: {Spawned, SpawnFailed, Ready, Reported},
    State.TERMINATING: {Spawned, SpawnFailed, Freed},
    State.KILLING: {Spawned, SpawnFailed, Freed},
    State.OVER: {Spawned, SpawnFailed, Ready, Reported, Gone, Freed},
}
SAMPLES: dict[type, Event] = {
    Spawned: Spawned(),
    SpawnFailed: SpawnFailed("no"),
    Ready: Ready(),
    Reported: DONE,
    Stop: USER,
    Deadline: Deadline(),
    Gone: Gone(EXIT_0, 0.0),
    Freed: Freed(),
}


@pytest.mark.parametrize("state", list(State))
def test_events_outside_the_table_are_illegal(state: State) -> None:
    assert set(EVENT_TYPES) - set(TABLE[state]) == ILLEGAL[state]
    for kind in ILLEGAL[state]:
        with pytest.raises(IllegalEvent, match=f"{kind.__name__} cannot come while {state.value}"):
            step(in_state(state), SAMPLES[kind], 1e9)


@pytest.mark.parametrize(
    ("state", "grace"),
    [
        (State.STARTING, LIMITS.start),
        (State.RUNNING, LIMITS.time),
        (State.INTERRUPTING, GRACES.interrupt),
        (State.PREEMPTING, GRACES.preempt),
        (State.EXITING, EXIT_GRACE_S),
        (State.TERMINATING, GRACES.terminate),
        (State.KILLING, GRACES.kill_wait),
        (State.PENDING, None),
        (State.OVER, None),
    ],
)
def test_each_state_has_the_deadline_of_its_own_grace(state: State, grace: float | None) -> None:
    assert play(*PATHS[state], at=100.0).deadline == (None if grace is None else 100.0 + grace)


def test_running_without_a_time_limit_has_no_deadline() -> None:
    assert in_state(State.RUNNING, Attempt(limits=Limits(time=None))).deadline is None


@pytest.mark.parametrize("outcome", [Outcome.TRAPPED, Outcome.EXITED, Outcome.HOST_ERROR, Outcome.REJECTED])
def test_worker_is_free_only_after_its_guest_returned(outcome: Outcome) -> None:
    with pytest.raises(IllegalEvent, match="free without having returned"):
        step(play(reported(outcome), attempt=in_state(State.RUNNING)), Freed(), 1.0)


def test_worker_is_not_free_after_a_stop() -> None:
    asked = play(reported(Outcome.COMPLETED), attempt=in_state(State.INTERRUPTING))
    with pytest.raises(IllegalEvent, match="free without having returned"):
        step(asked, Freed(), 1.0)


@pytest.mark.parametrize("state", [one for one in State if one not in (State.PENDING, State.OVER)])
def test_deadline_that_has_not_come_is_illegal(state: State) -> None:
    before = in_state(state)
    assert before.deadline is not None
    with pytest.raises(IllegalEvent):
        step(before, Deadline(), before.deadline - 0.001)


def test_deadline_of_an_unlimited_guest_is_illegal() -> None:
    with pytest.raises(IllegalEvent):
        step(in_state(State.RUNNING, Attempt(limits=Limits(time=None))), Deadline(), 1e12)


# Where each rule can lead, found by trying everything.

POLICIES = [GRACES, replace(GRACES, interrupt=0), replace(GRACES, preempt=0), replace(GRACES, terminate=0)]
ABILITIES = [Abilities(*able) for able in product((True, False), repeat=3)]
VARIANTS: dict[type, list[Event]] = {
    Spawned: [Spawned()],
    SpawnFailed: [SpawnFailed("no")],
    Ready: [Ready(True), Ready(False)],
    Reported: [
        reported(outcome)
        for outcome in (Outcome.COMPLETED, Outcome.REJECTED, Outcome.INTERRUPTED, Outcome.PREEMPTED, Outcome.LOST)
    ],
    Stop: [Stop(reason, rung) for reason in (Reason.USER, Reason.OUTPUT_LIMIT) for rung in Rung],
    Deadline: [Deadline()],
    Gone: [Gone(EXIT_0, 0.0), Gone(("signal", 9), 0.0)],
    Freed: [Freed()],
}


def reachable_states() -> set[Attempt]:
    """Every attempt that any events lead to, with the clock at 0 or at the deadline."""
    found = {Attempt(policy, LIMITS, able) for policy in POLICIES for able in ABILITIES}
    waiting = list(found)
    while waiting:
        before = waiting.pop()
        for event in (event for events in VARIANTS.values() for event in events):
            after, _ = try_step(before, event)
            # One attempt for each way of being there is enough: its times and its words do not matter.
            after = after and replace(
                after,
                phases=FIRST.phases,
                entered=0.0,
                deadline=after.deadline and 0.0,
                reason=after.reason and Reason.USER,
                report=after.report and DONE.report,
                outcome=None,
                wait=None,
                message=None,
            )
            if after is not None and after not in found:
                found.add(after)
                waiting.append(after)
    return found


def try_step(before: Attempt, event: Event) -> tuple[Attempt | None, tuple[Action, ...]]:
    try:
        return step(before, event, before.deadline or 0.0)
    except IllegalEvent:
        return None, ()


def test_each_rule_leads_exactly_where_it_says() -> None:
    led: dict[tuple[State, type], set[State]] = {}
    for before in reachable_states():
        for kind, events in VARIANTS.items():
            for event in events:
                after, _ = try_step(before, event)
                if after is not None:
                    led.setdefault((before.state, kind), set()).add(after.state)
    said = {(state, kind): set(rule.leads_to) for state, rules in TABLE.items() for kind, rule in rules.items()}
    assert led == said


# The ladder.


@pytest.mark.parametrize(
    ("policy", "able", "rung"),
    [
        (GRACES, Abilities(), Rung.INTERRUPT),
        (GRACES, Abilities(interrupt=False), Rung.TERMINATE),
        (GRACES, Abilities(interrupt=False, preempt=True), Rung.PREEMPT),
        (replace(GRACES, interrupt=0), Abilities(preempt=True), Rung.PREEMPT),
        (replace(GRACES, interrupt=0), Abilities(), Rung.TERMINATE),
        (replace(GRACES, interrupt=0, preempt=0), Abilities(preempt=True), Rung.TERMINATE),
        (replace(GRACES, interrupt=0, terminate=0), Abilities(), Rung.KILL),
        (replace(GRACES, terminate=0), Abilities(interrupt=False), Rung.KILL),
    ],
)
def test_rung_that_cannot_work_is_skipped_at_once(policy: StopPolicy, able: Abilities, rung: Rung) -> None:
    after, actions = step(in_state(State.RUNNING, Attempt(policy, LIMITS, able)), USER, 1.0)
    assert (after.rung, actions) == (rung, (Action(rung.value),))


def test_guest_that_has_no_stopping_point_is_not_asked_politely() -> None:
    running = play(Spawned(), Ready(interruptible=False), attempt=Attempt(GRACES))
    assert step(running, USER, 1.0)[1] == (Action.TERMINATE,)


def test_worker_cannot_claim_stopping_points_that_the_task_does_not_have() -> None:
    running = play(Spawned(), Ready(interruptible=True), attempt=Attempt(GRACES, abilities=Abilities(interrupt=False)))
    assert step(running, USER, 1.0)[1] == (Action.TERMINATE,)


@pytest.mark.parametrize("state", [State.STARTING, State.RUNNING])
def test_strategy_ignore_ignores_only_soft_interrupts(state: State) -> None:
    before = in_state(state, Attempt(GRACES, LIMITS, Abilities(soft=False)))
    assert step(before, USER, 1.0) == (before, ())
    assert step(before, Stop(Reason.USER, Rung.TERMINATE), 1.0)[1] == (Action.TERMINATE,)
    assert step(before, Stop(Reason.OUTPUT_LIMIT), 1.0)[1] == (Action.TERMINATE,)
    assert at_deadline(before)[1] == (Action.TERMINATE,)


@pytest.mark.parametrize(("state", "reason"), [("starting", Reason.START_LIMIT), ("running", Reason.TIME_LIMIT)])
def test_limit_names_itself_as_the_reason(state: str, reason: Reason) -> None:
    assert at_deadline(in_state(State(state)))[0].reason is reason


def test_first_reason_wins() -> None:
    attempt = play(Stop(Reason.TIME_LIMIT, message="first"), attempt=in_state(State.RUNNING))
    attempt = play(Stop(Reason.USER, Rung.KILL, "second"), attempt=attempt)
    assert (attempt.reason, attempt.message) == (Reason.TIME_LIMIT, "first")


def test_worker_that_is_slow_to_exit_is_ended_without_an_invented_reason() -> None:
    attempt, actions = at_deadline(in_state(State.EXITING))
    assert (attempt.reason, attempt.rung, actions) == (None, Rung.TERMINATE, (Action.TERMINATE,))


# Verdicts: what ended it and why are never confused (promise P4).


def ended(before: Attempt, wait: tuple[str, int]) -> Outcome | None:
    return step(before, Gone(wait, 0.0), 1.0)[0].outcome


SIGKILL, SIGTERM, SIGSEGV = (("signal", int(n)) for n in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV))


@pytest.mark.parametrize(
    ("state", "wait", "outcome"),
    [
        (State.KILLING, SIGKILL, Outcome.KILLED),
        (State.TERMINATING, SIGTERM, Outcome.TERMINATED),
        # A host function caught our SIGTERM and left by exit: it was our signal all the same.
        (State.TERMINATING, ("exit", 3), Outcome.TERMINATED),
        # Another's signals, the kernel's for want of memory included.
        (State.RUNNING, SIGKILL, Outcome.CRASHED),
        (State.INTERRUPTING, SIGKILL, Outcome.CRASHED),
        (State.TERMINATING, SIGKILL, Outcome.CRASHED),
        (State.RUNNING, SIGTERM, Outcome.CRASHED),
        (State.KILLING, SIGTERM, Outcome.CRASHED),
        (State.STARTING, SIGSEGV, Outcome.CRASHED),
        (State.KILLING, SIGSEGV, Outcome.CRASHED),
        (State.STARTING, EXIT_0, Outcome.CRASHED),
        (State.RUNNING, EXIT_0, Outcome.CRASHED),
        (State.RUNNING, ("exit", 1), Outcome.CRASHED),
        (State.INTERRUPTING, EXIT_0, Outcome.CRASHED),
    ],
)
def test_worker_without_a_report_is_judged_by_what_we_sent_and_what_ended_it(
    state: State, wait: tuple[str, int], outcome: Outcome
) -> None:
    assert ended(in_state(state), wait) is outcome


def test_sigterm_that_worked_just_before_our_kill_is_terminated() -> None:
    killing, _ = at_deadline(in_state(State.TERMINATING))
    assert killing.state is State.KILLING
    assert ended(killing, SIGTERM) is Outcome.TERMINATED


@pytest.mark.parametrize("state", [State.EXITING, State.TERMINATING, State.KILLING])
@pytest.mark.parametrize("wait", [EXIT_0, SIGTERM, SIGKILL, SIGSEGV])
def test_report_wins_over_the_wait_status(state: State, wait: tuple[str, int]) -> None:
    before = in_state(state)
    before = before if before.report else play(DONE, attempt=before)
    after, _ = step(before, Gone(wait, 0.0), 1.0)
    assert (after.outcome, after.wait) == (Outcome.COMPLETED, wait)


def test_answer_in_time_keeps_its_outcome_and_the_reason_apart() -> None:
    attempt, _ = at_deadline(in_state(State.RUNNING))
    attempt = play(reported(Outcome.COMPLETED), Gone(EXIT_0, 0), attempt=attempt)
    assert (attempt.outcome, attempt.reason, attempt.rung) == (Outcome.COMPLETED, Reason.TIME_LIMIT, Rung.INTERRUPT)


def test_worker_that_never_leaves_is_lost() -> None:
    assert at_deadline(in_state(State.KILLING))[0].outcome is Outcome.LOST


def test_spawn_failure_is_rejected_and_keeps_its_message() -> None:
    attempt = play(SpawnFailed("no such file"))
    assert (attempt.outcome, attempt.message, attempt.reason) == (Outcome.REJECTED, "no such file", None)


def test_stop_before_the_start_is_cancelled() -> None:
    attempt = play(Stop(Reason.SHUTDOWN))
    assert (attempt.outcome, attempt.reason, attempt.rung) == (Outcome.CANCELLED, Reason.SHUTDOWN, None)


# What a worker says is believed only as far as it can be true.


@pytest.mark.parametrize("state", [State.TERMINATING, State.KILLING])
def test_first_report_wins(state: State) -> None:
    attempt = play(reported(Outcome.TRAPPED), attempt=in_state(state))
    with pytest.raises(IllegalEvent):
        step(attempt, DONE, 1.0)


@pytest.mark.parametrize("state", [State.RUNNING, State.INTERRUPTING, State.PREEMPTING, State.TERMINATING])
@pytest.mark.parametrize("outcome", [Outcome.TERMINATED, Outcome.KILLED, Outcome.CANCELLED, Outcome.LOST])
def test_worker_cannot_report_what_only_we_can_know(state: State, outcome: Outcome) -> None:
    with pytest.raises(IllegalEvent):
        step(in_state(state), reported(outcome), 1.0)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_before_the_guest_runs_only_its_refusal_can_be_reported(outcome: Outcome) -> None:
    believed = outcome in (Outcome.REJECTED, Outcome.HOST_ERROR, Outcome.CRASHED)
    assert (try_step(in_state(State.STARTING), reported(outcome))[0] is not None) == believed


@pytest.mark.parametrize(
    ("state", "outcome", "believed"),
    [
        (State.RUNNING, Outcome.INTERRUPTED, False),
        (State.RUNNING, Outcome.PREEMPTED, False),
        (State.INTERRUPTING, Outcome.INTERRUPTED, True),
        (State.INTERRUPTING, Outcome.PREEMPTED, False),
        (State.PREEMPTING, Outcome.PREEMPTED, True),
        (State.PREEMPTING, Outcome.INTERRUPTED, False),
        (State.TERMINATING, Outcome.INTERRUPTED, False),
    ],
)
def test_worker_cannot_say_that_it_was_asked_when_it_was_not(state: State, outcome: Outcome, believed: bool) -> None:
    assert (try_step(in_state(state), reported(outcome))[0] is not None) == believed


def test_late_answer_to_an_interrupt_counts_on_the_next_rungs() -> None:
    attempt, _ = at_deadline(in_state(State.INTERRUPTING, replace(FIRST, abilities=Abilities())))
    attempt = play(reported(Outcome.INTERRUPTED), Gone(SIGTERM, 0), attempt=attempt)
    assert (attempt.outcome, attempt.rung) == (Outcome.INTERRUPTED, Rung.TERMINATE)


@pytest.mark.parametrize("rung", [Rung.TERMINATE, Rung.KILL])
def test_ready_that_crossed_our_signal_is_no_offence(rung: Rung) -> None:
    stopping = play(Spawned(), Stop(Reason.USER, rung))
    late = play(Ready(), attempt=stopping)
    assert late == replace(stopping, ready=True)
    assert play(DONE, attempt=late).report == DONE.report


@pytest.mark.parametrize("state", [State.TERMINATING, State.KILLING])
def test_second_ready_is_illegal(state: State) -> None:
    with pytest.raises(IllegalEvent):
        step(in_state(state), Ready(), 1.0)


def test_ready_after_the_report_is_illegal() -> None:
    attempt = play(Spawned(), Stop(Reason.USER), reported(Outcome.REJECTED))
    with pytest.raises(IllegalEvent):
        step(attempt, Ready(), 1.0)


# Times.


def test_each_state_is_booked_under_its_phase() -> None:
    attempt = FIRST
    script: list[tuple[float, Event]] = [
        (100.0, Spawned()),
        (101.0, Ready()),
        (103.0, USER),
        (105.0, Deadline()),
        (108.0, Deadline()),
        (113.0, Deadline()),
        (116.0, Gone(SIGKILL, 115.0)),
    ]
    for now, event in script:
        attempt, _ = step(attempt, event, now)
    phases = {field.name: getattr(attempt.phases, field.name) for field in fields(attempt.phases)}
    assert phases == {
        "start": 1.0,
        "run": 2.0,
        "interrupt": 2.0,
        "preempt": 3.0,
        "terminate": 5.0,
        "kill": 2.0,
        "reap": 1.0,
    }


def test_time_after_the_report_belongs_to_reaping() -> None:
    attempt = play(Gone(EXIT_0, 0.5), attempt=in_state(State.EXITING), at=0.75)
    assert (attempt.phases.run, attempt.phases.reap) == (0.0, 0.75)


@pytest.mark.parametrize("seen", [-5.0, 50.0])
def test_end_that_was_seen_outside_of_its_state_books_no_negative_time(seen: float) -> None:
    attempt, _ = step(in_state(State.RUNNING), Gone(EXIT_0, seen), 10.0)
    assert attempt.phases.run is not None and attempt.phases.reap is not None
    assert min(attempt.phases.run, attempt.phases.reap) >= 0
    assert attempt.phases.run + attempt.phases.reap == 10.0


@pytest.mark.parametrize("wait", [EXIT_0, ("exit", 1), ("signal", 9), ("signal", 11)])
def test_worker_that_broke_the_format_is_killed_whatever_it_did_before_the_signal_came(wait: tuple[str, int]) -> None:
    over = play(Spawned(), Ready(), Stop(Reason.PROTOCOL, Rung.KILL), Gone(wait, 0.0))
    assert (over.outcome, over.reason, over.wait) == (Outcome.KILLED, Reason.PROTOCOL, wait)
