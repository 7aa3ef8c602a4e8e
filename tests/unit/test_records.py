"""Records and events are data: frozen, comparable, and all that an observer can be told."""

from __future__ import annotations

import dataclasses
import pickle
import typing
from typing import Any

import pytest

from procstop import events, records
from procstop.model import Outcome
from procstop.records import AttemptRecord, Phases, Report, RunRecord, StreamRecord, TaskRecord

FIRST = AttemptRecord(1, "wasmer", Outcome.CRASHED)
LAST = AttemptRecord(2, "wasmer", Outcome.COMPLETED, values=(8,))
GOOD = TaskRecord("good", True, Outcome.COMPLETED, (FIRST, LAST))
NEVER = TaskRecord("never", False, Outcome.CANCELLED, message="the run was stopped")


def run(*tasks: TaskRecord) -> RunRecord:
    return RunRecord("01J", "job", "2026-11-20T12:00:00Z", 1.0, 0, None, tasks)


def test_last_attempt_decides_what_a_task_gave() -> None:
    assert GOOD.last is LAST and GOOD.values == (8,)


def test_task_that_never_started_gave_nothing() -> None:
    assert NEVER.last is None and NEVER.values is None


def test_run_is_ok_when_all_of_its_tasks_are() -> None:
    assert run(GOOD).ok and run().ok
    assert not run(GOOD, NEVER).ok


def test_tasks_of_a_run_are_found_by_name() -> None:
    assert run(GOOD, NEVER)["never"] is NEVER
    with pytest.raises(KeyError, match="other"):
        run(GOOD)["other"]


def test_first_of_two_tasks_of_one_name_is_found() -> None:
    assert run(GOOD, TaskRecord("good", False, Outcome.LOST))["good"] is GOOD


def test_run_that_was_asked_by_name_is_still_equal_and_goes_through_a_pickle() -> None:
    asked = run(GOOD, NEVER)
    assert asked["good"] is GOOD
    assert asked == run(GOOD, NEVER) == pickle.loads(pickle.dumps(asked))


def test_output_stays_out_of_what_is_printed() -> None:
    assert "secret" not in repr(StreamRecord(6, tail=b"secret"))


def test_phases_are_those_of_the_report() -> None:
    assert [field.name for field in dataclasses.fields(Phases)] == [
        "start",
        "run",
        "interrupt",
        "preempt",
        "terminate",
        "kill",
        "reap",
    ]


def test_what_a_worker_reports_is_what_a_record_keeps() -> None:
    kept = {field.name for field in dataclasses.fields(AttemptRecord)}
    # A memory limit is kept as the reason.
    assert {field.name for field in dataclasses.fields(Report)} - {"out_of_memory"} <= kept


def test_record_goes_through_a_pickle_unchanged() -> None:
    assert pickle.loads(pickle.dumps(run(GOOD, NEVER))) == run(GOOD, NEVER)


def data_classes(module: Any) -> list[type]:
    found = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
    return [one for one in found if dataclasses.is_dataclass(one)]


@pytest.mark.parametrize("kind", data_classes(records) + data_classes(events), ids=lambda kind: kind.__name__)
def test_nobody_can_change_what_happened(kind: Any) -> None:
    assert kind.__dataclass_params__.frozen


def test_every_event_can_be_told() -> None:
    assert set(typing.get_args(events.Event)) == set(data_classes(events))
