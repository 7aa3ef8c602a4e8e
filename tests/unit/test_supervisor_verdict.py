"""The exit code of a run."""

from __future__ import annotations

import pytest

from procstop.model import LIMIT_REASONS, Outcome, Reason
from procstop.records import AttemptRecord, TaskRecord
from procstop.supervisor.verdict import exit_code


def task(outcome: Outcome, ok: bool = False, reason: Reason | None = None) -> TaskRecord:
    attempts = () if outcome is Outcome.CANCELLED else (AttemptRecord(1, "wasmer", outcome, reason),)
    return TaskRecord("t", ok, outcome, attempts)


GOOD = task(Outcome.COMPLETED, ok=True)
EXPECTED_STOP = task(Outcome.KILLED, ok=True, reason=Reason.TIME_LIMIT)
BAD = task(Outcome.TRAPPED)
TOO_LONG = task(Outcome.INTERRUPTED, reason=Reason.TIME_LIMIT)
STOPPED = task(Outcome.INTERRUPTED, reason=Reason.USER)
NEVER_STARTED = task(Outcome.CANCELLED)
LOST = task(Outcome.LOST, reason=Reason.TIME_LIMIT)


@pytest.mark.parametrize(
    ("tasks", "reason", "code"),
    [
        ([], None, 0),
        ([GOOD], None, 0),
        ([GOOD, EXPECTED_STOP], None, 0),
        ([GOOD, BAD], None, 1),
        ([BAD, TOO_LONG], None, 1),
        ([TOO_LONG, GOOD], None, 124),
        ([TOO_LONG, NEVER_STARTED], None, 124),
        ([TOO_LONG, BAD, NEVER_STARTED], None, 1),
        ([BAD, NEVER_STARTED], None, 1),
        ([STOPPED], Reason.USER, 130),
        ([STOPPED, NEVER_STARTED, BAD, TOO_LONG], Reason.USER, 130),
        ([NEVER_STARTED], Reason.SHUTDOWN, 130),
        # Everything ended as expected all the same.
        ([GOOD, EXPECTED_STOP], Reason.USER, 0),
        ([LOST], None, 3),
        ([LOST, BAD], Reason.USER, 3),
        # Lost is procstop's fault, whoever expected it.
        ([task(Outcome.LOST, ok=True)], None, 3),
    ],
)
def test_exit_code_puts_the_worst_first(tasks: list[TaskRecord], reason: Reason | None, code: int) -> None:
    assert exit_code(tasks, reason) == code


@pytest.mark.parametrize("reason", list(Reason))
def test_only_limits_are_limits(reason: Reason) -> None:
    assert exit_code([task(Outcome.KILLED, reason=reason)], None) == (124 if reason in LIMIT_REASONS else 1)


def test_last_attempt_decides() -> None:
    first, last = AttemptRecord(1, "wasmer", Outcome.CRASHED), AttemptRecord(2, "wasmer", Outcome.KILLED, Reason.STALL)
    assert exit_code([TaskRecord("t", False, Outcome.KILLED, (first, last))], None) == 124
    assert exit_code([TaskRecord("t", False, Outcome.CRASHED, (last, first))], None) == 1
