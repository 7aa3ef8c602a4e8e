"""Whatever comes in whatever order, fed in as `supervisor/attempt.py` does: one outcome, in time, and no lie.

`Supervisor` below is that module without processes: what a worker says goes in until it breaks the rules, then its
breach; a deadline goes in when it is due; an end goes in once. Nothing else may be illegal.
"""

from __future__ import annotations

import random
from dataclasses import astuple, dataclass, field

import pytest

from procstop.lifecycle import (
    EXIT_GRACE_S,
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
from support.fuzzing import TIMEOUT, fuzz

GRACES = [0.0, 0.001, 0.2, 1.0, 30.0]
HEIGHTS = {rung: rung.height for rung in Rung}
JUDGED = frozenset({Outcome.TERMINATED, Outcome.KILLED, Outcome.LOST, Outcome.CANCELLED})
"""What no worker can know of itself. It may say that it crashed: procstop's own code in it failed."""
UNREADY = frozenset({Outcome.REJECTED, Outcome.HOST_ERROR, Outcome.CRASHED})
"""What may be reported without a word before it that the guest is about to run."""
WAITS = [("exit", 0), ("exit", 1), ("exit", 137), ("exit", 143), ("exit", 255)]
WAITS += [("signal", number) for number in (1, 2, 6, 9, 11, 15, 31, 64)]


@dataclass
class Supervisor:
    """One attempt and all that was ever done to it."""

    attempt: Attempt
    now: float = 0.0
    muted: bool = False
    breach: bool = False
    has_worker: bool = False
    outcomes: list[Outcome] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    asked: list[Stop] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    backwards: bool = False
    limit_came: bool = False
    starved: bool = False
    climbed_at: float | None = None
    late: float = 0.0

    @property
    def over(self) -> bool:
        return self.attempt.state is State.OVER

    def feed(self, event: Event) -> None:
        before, same = self.attempt, astuple(self.attempt)
        self.story.append(f"{self.now:.6g} {before.state.value}: {event}")
        try:
            after, actions = step(before, event, self.now)
        except IllegalEvent:
            assert astuple(before) == same
            raise
        self._check(before, after, actions)
        self.starved |= isinstance(event, Reported) and event.report.out_of_memory
        self.attempt = after
        self.actions += actions
        if after.state is State.OVER and before.state is not State.OVER:
            assert after.outcome is not None
            self.starved |= isinstance(event, (Gone, SpawnFailed)) and event.out_of_memory
            self.outcomes.append(after.outcome)

    def _check(self, before: Attempt, after: Attempt, actions: tuple[Action, ...]) -> None:
        if before.state is State.OVER:
            assert (after, actions) == (before, ())
            return
        if before.rung is not None:
            assert after.rung is not None and HEIGHTS[after.rung] >= HEIGHTS[before.rung]
        assert len(actions) <= 1
        for action in actions:
            assert action not in self.actions, "each action comes at most once"
            assert after.rung is not None and action.value == after.rung.value
        if before.report is not None:
            assert after.report is before.report, "the first report wins"
        if before.reason is not None:
            # An end may add what is known of it, where nothing was said before.
            assert after.reason is before.reason, "the first reason wins"
            assert before.message in (None, after.message)
        if after.state is before.state:
            assert after.deadline == before.deadline, "no deadline is put off"
        elif before.deadline is not None and self.climbed_at is not None:
            self.late += max(0.0, self.now - before.deadline)
        if self.climbed_at is None and after.rung is not None:
            self.climbed_at = self.now
        unlimited = after.state is State.RUNNING and after.limits.time is None
        assert (after.deadline is None) == (unlimited or after.state in (State.PENDING, State.OVER))

    # What attempt.py does

    def stop(self, stop: Stop) -> None:
        self.asked.append(stop)
        self.feed(stop)

    def spawn(self) -> None:
        self.feed(Spawned())

    def hear(self, event: Ready | Reported, *, free: bool = False) -> None:
        """Take a message of the worker's; one that cannot come is a breach, and nothing after it counts."""
        if self.muted or not self.has_worker or self.over:
            return
        try:
            self.feed(event)
        except IllegalEvent:
            self._break()
            return
        state = self.attempt
        if free and isinstance(event, Reported):
            clean = state.state is State.EXITING and state.rung is None
            if clean and event.report.outcome is Outcome.COMPLETED:
                self.feed(Freed())

    def babble(self) -> None:
        """What the decoder refuses, or another attempt's id."""
        if not self.muted and self.has_worker and not self.over:
            self._break()

    def _break(self) -> None:
        self.muted = self.breach = True
        report = self.attempt.report
        self.stop(Stop(Reason.PROTOCOL, Rung.KILL, "the worker sent nonsense"))
        assert self.attempt.rung is Rung.KILL and self.attempt.report is report

    def look_at_the_clock(self) -> None:
        deadline = self.attempt.deadline
        if deadline is not None and self.now >= deadline:
            self.limit_came |= self.attempt.state in (State.STARTING, State.RUNNING)
            self.feed(Deadline())

    def end(self, wait: tuple[str, int] | None, ended_at: float, out_of_memory: bool = False) -> None:
        if not self.over and self.attempt.state is not State.PENDING:
            self.feed(Gone(wait, ended_at, was_there=self.has_worker, out_of_memory=out_of_memory))

    def refuse(self, text: str) -> None:
        if self.over or self.has_worker:
            return
        waiting = self.attempt.state in (State.PENDING, State.STARTING)
        self.feed(SpawnFailed(text) if waiting else Gone(None, self.now, text, was_there=False))


def anything_happens(rng: random.Random, one: Supervisor) -> None:
    """One thing of all that can happen to an attempt at any time."""
    way = rng.randrange(100)
    if way < 20:
        one.now += rng.choice([0.0, 1e-9, 0.01, 0.3, 5.0])
    elif way < 22:
        # The machine slept, or the supervisor stood still.
        one.now += rng.choice([1e3, 1e9])
    elif way < 23:
        one.now -= rng.choice([0.1, 10.0, 1e6])
        one.backwards = True
    elif way < 35 and one.attempt.deadline is not None:
        one.now = max(one.now, one.attempt.deadline + rng.choice([0.0, 1e-6, 0.01]))
    elif way < 38 and one.attempt.state is State.PENDING:
        one.refuse("no")
    elif way < 55:
        if one.attempt.state is State.PENDING:
            one.spawn()
        one.has_worker |= not one.over and rng.random() < 0.9
    elif way < 65:
        one.hear(Ready(rng.random() < 0.5))
    elif way < 75:
        outcome = rng.choice(list(Outcome))
        one.hear(
            Reported(Report(outcome, values=(rng.randrange(9),), out_of_memory=rng.random() < 0.2)),
            free=rng.random() < 0.5,
        )
    elif way < 77:
        one.babble()
    elif way < 93:
        reason = rng.choice([reason for reason in Reason if reason is not Reason.PROTOCOL])
        one.stop(Stop(reason, rng.choice(list(Rung)), rng.choice([None, "why"])))
    elif way < 95:
        wait = rng.choice([None, *WAITS])
        one.end(wait, one.now + rng.choice([0.0, -0.1, -1e9, 1e9]), out_of_memory=rng.random() < 0.2)
    elif way < 96 and not one.has_worker and one.attempt.state is not State.PENDING:
        one.refuse("no process left")
    if rng.random() < 0.8:
        one.look_at_the_clock()


def bring_to_an_end(rng: random.Random, one: Supervisor) -> None:
    """Nobody says anything any more: what was stopped is over within its graces, anything else once it is stopped."""
    if one.attempt.state is State.PENDING or one.attempt.rung is None:
        one.stop(Stop(Reason.SHUTDOWN, rng.choice([Rung.PREEMPT, Rung.TERMINATE, Rung.KILL])))
    for _ in range(8):
        if one.over:
            break
        deadline = one.attempt.deadline
        assert deadline is not None
        one.now = max(one.now, deadline + rng.choice([0.0, 0.05]))
        one.look_at_the_clock()
    assert one.over, "over comes, whatever does not happen"


def check_outcome(one: Supervisor) -> None:
    """The verdict says only what is so."""
    end, sent = one.attempt, set(one.actions)
    assert one.outcomes == [end.outcome], "exactly one outcome"
    assert end.sent == sent
    outcome, report = end.outcome, end.report
    if report is not None and outcome is not Outcome.LOST:
        assert outcome is report.outcome
    if outcome in (Outcome.COMPLETED, Outcome.TRAPPED, Outcome.EXITED, Outcome.HOST_ERROR):
        assert report is not None
    if report is not None:
        assert report.outcome not in JUDGED
        assert end.ready or report.outcome in UNREADY
    needs = {
        Outcome.INTERRUPTED: Action.INTERRUPT,
        Outcome.PREEMPTED: Action.PREEMPT,
        Outcome.TERMINATED: Action.TERMINATE,
        Outcome.KILLED: Action.KILL,
        Outcome.LOST: Action.KILL,
    }
    if outcome in needs:
        assert needs[outcome] in sent, "nothing is said to be ours that we did not do"
    if outcome is Outcome.CRASHED and report is None:
        assert one.has_worker
        assert end.wait is not None or not sent & {Action.TERMINATE, Action.KILL}
        assert not (end.wait == ("signal", 9) and Action.KILL in sent)
        assert not (end.wait == ("signal", 15) and Action.TERMINATE in sent)
    if outcome is Outcome.CANCELLED:
        assert not one.has_worker and report is None
    highest = max((Rung(action.value) for action in sent), key=HEIGHTS.__getitem__, default=None)
    assert end.rung is highest
    asked = {stop.reason for stop in one.asked}
    if end.reason in (Reason.TIME_LIMIT, Reason.START_LIMIT):
        assert one.limit_came or end.reason in asked
    elif end.reason is Reason.MEMORY_LIMIT:
        assert one.starved or end.reason in asked
    elif end.reason is not None:
        assert end.reason in asked
    assert (end.reason is Reason.PROTOCOL) <= one.breach
    assert all(phase is None or phase >= 0 for phase in astuple(end.phases))
    if one.climbed_at is not None and not one.backwards:
        policy = end.policy
        most = policy.interrupt + policy.preempt + policy.terminate + policy.kill_wait + EXIT_GRACE_S
        took = end.entered - one.climbed_at
        assert took <= most + one.late + max(1.0, abs(one.now)) * 1e-9, "over within the sum of the graces"


@pytest.mark.timeout(TIMEOUT)
def test_any_interleaving_ends_in_one_true_outcome_in_time() -> None:
    def attempt(rng: random.Random) -> None:
        policy = StopPolicy(*(rng.choice(GRACES) for _ in range(3)), rng.choice(GRACES[1:]))
        memory, compile_memory = rng.choice([None, 1 << 20]), rng.choice([None, 1 << 30])
        limits = Limits(
            start=rng.choice([0.01, 5.0]),
            time=rng.choice([None, 0.01, 5.0]),
            memory=memory,
            compile_memory=compile_memory,
        )
        abilities = Abilities(*(rng.random() < 0.7 for _ in range(3)))
        one = Supervisor(Attempt(policy, limits, abilities))
        one.story.append(f"{policy} {limits} {abilities}")
        try:
            if rng.random() < 0.7:
                one.spawn()
                one.has_worker = True
            for _ in range(rng.choice([2, 8, 30])):
                anything_happens(rng, one)
            bring_to_an_end(rng, one)
            check_outcome(one)
            for event in (Stop(Reason.USER, Rung.KILL), Deadline()):
                one.feed(event)
            assert len(one.outcomes) == 1
        except BaseException:
            print("\n".join(one.story))
            raise

    assert fuzz(attempt) > 0
