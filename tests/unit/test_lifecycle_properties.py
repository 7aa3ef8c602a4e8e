"""What holds for every sequence of events, whatever state it starts in."""

from __future__ import annotations

import math
from dataclasses import astuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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

PATHS: dict[State, tuple[Event, ...]] = {
    State.PENDING: (),
    State.STARTING: (Spawned(),),
    State.RUNNING: (Spawned(), Ready()),
    State.INTERRUPTING: (Spawned(), Ready(), Stop(Reason.USER)),
    State.PREEMPTING: (Spawned(), Ready(), Stop(Reason.USER, Rung.PREEMPT)),
    State.EXITING: (Spawned(), Ready(), Reported(Report(Outcome.COMPLETED))),
    State.TERMINATING: (Spawned(), Ready(), Stop(Reason.USER, Rung.TERMINATE)),
    State.KILLING: (Spawned(), Ready(), Stop(Reason.USER, Rung.KILL)),
    State.OVER: (Spawned(), Ready(), Gone(("exit", 0), 0.0)),
}

graces = st.one_of(st.just(0.0), st.floats(0.001, 100))
policies = st.builds(StopPolicy, graces, graces, graces, st.floats(0.001, 100))
limits = st.builds(Limits, st.floats(0.001, 100), st.none() | st.floats(0.001, 100))
abilities = st.builds(Abilities, st.booleans(), st.booleans(), st.booleans())
attempts = st.builds(Attempt, policies, limits, abilities)
stops = st.builds(Stop, st.sampled_from(Reason), st.sampled_from(Rung), st.none() | st.just("why"))
waits = st.tuples(st.sampled_from(["exit", "signal"]), st.sampled_from([0, 1, 9, 11, 15]))
events = st.one_of(
    st.just(Spawned()),
    st.just(SpawnFailed("no")),
    st.builds(Ready, st.booleans()),
    st.builds(Reported, st.builds(Report, st.sampled_from(Outcome))),
    stops,
    st.just(Deadline()),
    st.builds(Gone, waits, st.floats(-1, 1000)),
    st.just(Freed()),
)
# Sequences with a chance of getting far: an end is rare, and deadlines are mostly waited for.
steps = st.lists(st.tuples(events, st.sampled_from(["soon", "at the deadline", "after it"])), max_size=25)


def when(attempt: Attempt, now: float, moment: str) -> float:
    if attempt.deadline is None or moment == "soon":
        return now + 0.01
    return max(now, attempt.deadline + (0.5 if moment == "after it" else 0.0))


def reach(state: State, attempt: Attempt) -> Attempt | None:
    """The attempt in `state`, None if its graces and abilities skip that."""
    for event in PATHS[state]:
        attempt, _ = step(attempt, event, 0.0)
    return attempt if attempt.state is state else None


def check(before: Attempt, event: Event, now: float, after: Attempt, actions: tuple[Action, ...]) -> None:
    """One step that was legal kept every rule."""
    assert after.state in TABLE[before.state][type(event)].leads_to
    # The rung never falls, and each action comes at most once.
    if before.rung is not None:
        assert after.rung is not None and after.rung.height >= before.rung.height
    assert len(actions) <= 1 and not before.sent & set(actions)
    assert after.sent == before.sent | set(actions)
    if actions:
        assert after.rung is not None and actions == (Action(after.rung.value),)
        assert after.rung is not before.rung
    # Over is absorbing.
    if before.state is State.OVER:
        assert (after, actions) == (before, ())
    assert (after.outcome is not None) == (after.state is State.OVER)
    # The first reason and the first report win.
    assert before.reason is None or (after.reason, after.message) == (before.reason, before.message)
    assert before.report is None or after.report is before.report
    # A deadline is never put off within a state.
    if after.state is before.state:
        assert after.deadline == before.deadline and after.entered == before.entered
    check_deadline(after)
    assert (after.policy, after.limits) == (before.policy, before.limits)


def check_deadline(attempt: Attempt) -> None:
    """Every state but pending, unlimited running and over has a finite deadline."""
    unlimited = attempt.state is State.RUNNING and attempt.limits.time is None
    if attempt.state in (State.PENDING, State.OVER) or unlimited:
        assert attempt.deadline is None
    else:
        assert attempt.deadline is not None and math.isfinite(attempt.deadline)


@pytest.mark.parametrize("state", list(State))
@given(attempt=attempts, sequence=steps)
def test_every_sequence_from_every_state_keeps_the_rules(
    state: State, attempt: Attempt, sequence: list[tuple[Event, str]]
) -> None:
    now, reached = 0.0, reach(state, attempt)
    if reached is None:
        return
    attempt = reached
    for event, moment in sequence:
        now = when(attempt, now, moment)
        same = astuple(attempt)
        try:
            after, actions = step(attempt, event, now)
        except IllegalEvent:
            # An illegal event changes nothing.
            assert astuple(attempt) == same
            continue
        check(attempt, event, now, after, actions)
        attempt = after


@pytest.mark.parametrize("state", [state for state in State if state is not State.PENDING])
@given(attempt=attempts, stop=stops, lateness=st.floats(0, 0.5))
def test_from_the_first_rung_over_comes_within_the_sum_of_the_graces(
    state: State, attempt: Attempt, stop: Stop, lateness: float
) -> None:
    reached = reach(state, attempt)
    if reached is None:
        return
    attempt, _ = step(reached, stop, 0.0)
    if attempt.rung is None:
        return
    now, policy, climbed = 0.0, attempt.policy, 0
    while attempt.state is not State.OVER:
        assert attempt.deadline is not None
        # The supervisor may wake up late: each time that costs no more than its lateness.
        now = attempt.deadline + lateness
        attempt, _ = step(attempt, Deadline(), now)
        climbed += 1
    assert attempt.outcome is Outcome.LOST
    assert climbed <= 4
    exiting = EXIT_GRACE_S if state is State.EXITING else 0.0
    most = policy.interrupt + policy.preempt + policy.terminate + policy.kill_wait + exiting
    assert now <= most + climbed * lateness + 1e-6


@given(attempt=attempts, sequence=steps)
def test_phases_add_up_to_the_whole_life(attempt: Attempt, sequence: list[tuple[Event, str]]) -> None:
    now = 0.0
    attempt, _ = step(attempt, Spawned(), now)
    for event, moment in [*sequence, (Gone(("exit", 0), 1e9), "soon")]:
        if attempt.state is State.OVER:
            break
        try:
            attempt, _ = step(attempt, event, later := when(attempt, now, moment))
        except IllegalEvent:
            continue
        now = later
    spent = [seconds for seconds in astuple(attempt.phases) if seconds is not None]
    assert attempt.state is State.OVER
    assert min(spent) >= 0
    assert sum(spent) == pytest.approx(now)


@given(attempt=attempts, sequence=steps)
def test_our_own_signals_are_never_a_crash_and_others_never_ours(
    attempt: Attempt, sequence: list[tuple[Event, str]]
) -> None:
    now, sent = 0.0, set()
    attempt, _ = step(attempt, Spawned(), now)
    for event, moment in sequence:
        now = when(attempt, now, moment)
        try:
            attempt, actions = step(attempt, event, now)
        except IllegalEvent:
            continue
        sent |= set(actions)
        if attempt.state is State.OVER:
            break
    if attempt.wait is None or attempt.report is not None:
        return
    if attempt.wait == ("signal", 9):
        assert attempt.outcome is (Outcome.KILLED if Action.KILL in sent else Outcome.CRASHED)
    if attempt.wait == ("signal", 15):
        assert attempt.outcome is (Outcome.TERMINATED if Action.TERMINATE in sent else Outcome.CRASHED)
    if attempt.wait == ("signal", 11):
        assert attempt.outcome is Outcome.CRASHED


class Lifecycle(RuleBasedStateMachine):
    """A supervisor that does anything at any time, and a worker that says anything."""

    @initialize(attempt=attempts, state=st.sampled_from(State))
    def begin(self, attempt: Attempt, state: State) -> None:
        self.now = 0.0
        self.attempt = reach(state, attempt) or attempt

    def feed(self, event: Event) -> None:
        before = self.attempt
        try:
            after, actions = step(before, event, self.now)
        except IllegalEvent:
            assert self.attempt is before
            return
        check(before, event, self.now, after, actions)
        self.attempt = after

    @rule(seconds=st.floats(0, 50))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(event=events)
    def anything_happens(self, event: Event) -> None:
        self.feed(event)

    @rule(stop=stops)
    def somebody_stops_it(self, stop: Stop) -> None:
        self.feed(stop)

    @precondition(lambda self: self.attempt.deadline is not None)
    @rule()
    def deadline_comes(self) -> None:
        before = self.attempt
        self.now = max(self.now, before.deadline or 0.0)
        self.feed(Deadline())
        assert self.attempt.state is not before.state

    @invariant()
    def deadline_is_there(self) -> None:
        check_deadline(self.attempt)


Lifecycle.TestCase.settings = settings(max_examples=60, stateful_step_count=25)
TestLifecycle = Lifecycle.TestCase
