"""Every ending has a sentence, and the sentence says what the record says."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from procstop.model import Limits, Outcome, Reason, Rung
from procstop.records import AttemptRecord, Phases, StoppingPoints, TaskRecord
from procstop.reporting.words import detail, duration, elapsed, phrase, size, task_phrase, task_why, why

RAN = Phases(start=0.01, run=2.0)
TIME = Reason.TIME_LIMIT


def attempt(outcome: Outcome, **facts: Any) -> AttemptRecord:
    return AttemptRecord(1, "wasmer", outcome, **facts)


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        (attempt(Outcome.COMPLETED, values=(8,)), "completed: 8"),
        (attempt(Outcome.COMPLETED, values=(8, 1.5, "nan")), "completed: 8, 1.5, nan"),
        (attempt(Outcome.COMPLETED, values=()), "completed"),
        (
            attempt(Outcome.COMPLETED, values=(8,), reason=TIME, rung=Rung.INTERRUPT),
            "completed: 8; asked to stop by its time limit of 2 s (interrupt)",
        ),
        (
            attempt(Outcome.COMPLETED, values=(8,), rung=Rung.KILL),
            "completed: 8; its worker had to be stopped (kill)",
        ),
        (attempt(Outcome.EXITED, exit_code=3), "exited with code 3"),
        (attempt(Outcome.EXITED, message="oops"), "exited: oops"),
        (attempt(Outcome.EXITED, exit_code=3, message="oops"), "exited with code 3: oops"),
        (attempt(Outcome.TRAPPED, message="unreachable"), "trapped: unreachable"),
        (attempt(Outcome.HOST_ERROR, message="ValueError: boom"), "host_error: ValueError: boom"),
        (
            attempt(Outcome.INTERRUPTED, reason=TIME, stopping_points=StoppingPoints(1001, 0.1, 1001)),
            "interrupted at stopping point 1001 by its time limit of 2 s",
        ),
        (
            attempt(Outcome.INTERRUPTED, reason=Reason.USER, partial=(17,)),
            "interrupted with the partial value 17 by the user",
        ),
        (attempt(Outcome.PREEMPTED, reason=TIME, phases=RAN), "preempted by its time limit of 2 s"),
        (
            attempt(Outcome.KILLED, reason=TIME, rung=Rung.KILL, phases=RAN),
            "killed after its time limit of 2 s: it reported no stopping point",
        ),
        (
            attempt(Outcome.KILLED, reason=TIME, phases=RAN, stopping_points=StoppingPoints(1204, 0.1)),
            "killed after its time limit of 2 s: it had reported 1,204 stopping points",
        ),
        (attempt(Outcome.KILLED, reason=Reason.START_LIMIT), "killed after its start limit of 2 min"),
        (
            attempt(Outcome.KILLED, reason=Reason.PROTOCOL, message="a second report", phases=RAN),
            "killed by procstop, for its worker broke the message format: a second report",
        ),
        (
            attempt(Outcome.TERMINATED, reason=Reason.OUTPUT_LIMIT, phases=RAN),
            "terminated after its output limit of 10 MiB: it reported no stopping point",
        ),
        (attempt(Outcome.CRASHED, wait=("signal", 11)), "crashed: signal 11 (SIGSEGV)"),
        (attempt(Outcome.CRASHED, wait=("signal", 99)), "crashed: signal 99"),
        (attempt(Outcome.CRASHED, wait=("exit", 2)), "crashed: exit code 2"),
        (attempt(Outcome.REJECTED, message="not a module"), "rejected: not a module"),
        (attempt(Outcome.CANCELLED, reason=Reason.USER), "cancelled by the user"),
        (attempt(Outcome.LOST, pid=4127), "lost: worker 4127 is still present"),
        (
            attempt(Outcome.LOST, pid=4127, reason=TIME, rung=Rung.KILL),
            "lost: worker 4127 is still present; asked to stop by its time limit of 2 s",
        ),
    ],
)
def test_the_sentence_says_what_the_record_says(record: AttemptRecord, sentence: str) -> None:
    assert phrase(record, Limits(start=120, time=2, output=10 * 2**20)) == sentence


EVERY = list(itertools.product(Outcome, [None, *Reason], [None, *Rung]))


@pytest.mark.parametrize("full", [False, True], ids=["bare", "full"])
@pytest.mark.parametrize("limits", [None, Limits(time=None, output=None), Limits(1, 2, 3)], ids=repr)
def test_every_outcome_reason_and_rung_has_a_sentence(full: bool, limits: Limits | None) -> None:
    facts: dict[str, Any] = {}
    if full:
        facts = {
            "values": (1, 2.5, "x"), "exit_code": 3, "message": "m\x1b\nn", "partial": (4,), "pid": 7,
            "wait": ("signal", 9), "stopping_points": StoppingPoints(5, 0.1, 5), "phases": RAN,
        }  # fmt: skip
    for outcome, reason, rung in EVERY:
        record = attempt(outcome, reason=reason, rung=rung, **facts)
        sentence = phrase(record, limits)
        assert sentence.startswith(outcome.value)
        assert sentence.isprintable() and sentence == sentence.strip() and "None" not in sentence
        assert sentence.endswith(why(record, limits))
        assert detail(record).isprintable()


def test_a_guest_that_never_ran_is_not_said_to_have_passed_no_stopping_point() -> None:
    assert phrase(attempt(Outcome.KILLED, reason=Reason.USER)) == "killed by the user"


def test_a_limit_without_a_known_figure_is_named_without_one() -> None:
    assert phrase(attempt(Outcome.PREEMPTED, reason=TIME)) == "preempted by its time limit"


def test_a_task_without_attempts_says_why_it_never_started() -> None:
    record = TaskRecord("t", False, Outcome.CANCELLED, (), 'task "x" did not complete')
    assert task_phrase(record) == 'cancelled: task "x" did not complete'
    assert task_why(record) == 'task "x" did not complete'
    assert task_phrase(TaskRecord("t", False, Outcome.CANCELLED)) == "cancelled"


def test_a_task_that_was_called_off_between_attempts_is_not_described_by_the_last_one() -> None:
    last = attempt(Outcome.TRAPPED, message="unreachable")
    assert task_phrase(TaskRecord("t", False, Outcome.CANCELLED, (last,), "stopped")) == "cancelled: stopped"
    assert task_phrase(TaskRecord("t", False, Outcome.TRAPPED, (last,))) == "trapped: unreachable"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (-1, "0 s"), (0.00001, "0.1 ms"), (0.0004, "0.4 ms"), (0.002, "2 ms"), (0.011, "11 ms"),
        (0.2, "200 ms"), (0.9996, "1 s"), (1.93, "1.93 s"), (2, "2 s"), (10, "10 s"), (59.999, "1 min"),
        (123, "2 min 3 s"), (3599.9, "1 h"), (3900, "1 h 5 min"),
    ],
)  # fmt: skip
def test_durations_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0 bytes"), (1, "1 byte"), (1536, "1.5 KiB"), (10 * 2**20, "10 MiB"), (2**20 - 1, "1 MiB")],
)
def test_sizes_for_people(amount: int, text: str) -> None:
    assert size(amount) == text


def test_elapsed_adds_up_the_phases_that_there_were() -> None:
    assert elapsed(attempt(Outcome.KILLED, phases=Phases(start=0.5, run=2.0, kill=0.01))) == pytest.approx(2.51)
    assert elapsed(attempt(Outcome.REJECTED)) is None
