"""Folded records: what comes out is what went in, in the order of the job, and next to nothing is kept of it."""

from __future__ import annotations

import pickle
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procstop import folding
from procstop.folding import FoldedTasks, count_ok, not_ok
from procstop.model import Outcome, Reason, Rung
from procstop.records import AttemptRecord, Phases, RunRecord, StoppingPoints, StreamRecord, TaskRecord


def task(number: int, ok: bool = True, **facts: Any) -> TaskRecord:
    outcome = Outcome.COMPLETED if ok else Outcome.TRAPPED
    attempt = AttemptRecord(
        1, "wasmtime", outcome, values=(number,), pid=4000 + number % 1000, wait=("exit", 0),
        phases=Phases(start=0.001 + number * 1e-7, run=1e-4 / (number + 1), reap=3e-4), cpu_s=0.0012, **facts,
    )  # fmt: skip
    return TaskRecord(f"task-{number}", ok, outcome, (attempt,))


def folded(records: list[TaskRecord], order: list[int] | None = None) -> FoldedTasks:
    tasks = FoldedTasks()
    for place in order or range(len(records)):
        tasks.put(place, records[place])
    return tasks


def bytes_folded(tasks: FoldedTasks) -> int:
    return sum(len(blob) for parts in tasks._folded.values() for blob in parts)


# Lone surrogates too, as names of files that are not UTF-8 have them.
texts = st.text(st.characters(exclude_categories=()), max_size=20)
seconds = st.none() | st.floats(allow_nan=False)
values = st.none() | st.lists(st.integers() | st.floats(allow_nan=False) | texts, max_size=3).map(tuple)
streams = st.builds(
    StreamRecord, st.integers(0), st.booleans(), st.none() | texts, st.binary(max_size=40) | st.just(b"x" * 16384)
)
attempts = st.builds(
    AttemptRecord,
    number=st.integers(1, 9),
    engine=st.none() | st.sampled_from(["wasmer", "wasmtime"]),
    outcome=st.sampled_from(Outcome),
    reason=st.none() | st.sampled_from(Reason),
    rung=st.none() | st.sampled_from(Rung),
    values=values,
    exit_code=st.none() | st.integers(),
    message=st.none() | texts,
    partial=values,
    pid=st.none() | st.integers(1, 2**22),
    wait=st.none() | st.tuples(st.sampled_from(["exit", "signal"]), st.integers(0, 255)),
    stopping_points=st.builds(StoppingPoints, st.integers(0), seconds, st.none() | st.integers(1)),
    phases=st.builds(Phases, seconds, seconds, seconds, seconds, seconds, seconds, seconds),
    peak_memory_bytes=st.none() | st.integers(0),
    cpu_s=seconds,
    stdout=streams,
    stderr=streams,
    engine_reason=st.none() | texts,
)
records = st.builds(
    TaskRecord,
    texts,
    st.booleans(),
    st.sampled_from(Outcome),
    st.lists(attempts, max_size=3).map(tuple),
    st.none() | texts,
    st.none() | texts,
)


@given(st.lists(records, max_size=12), st.integers(1, 5), st.integers(1, 40), st.randoms())
def test_what_comes_out_is_what_went_in(
    given_records: list[TaskRecord], block: int, most: int, shuffled: random.Random
) -> None:
    order = list(range(len(given_records)))
    shuffled.shuffle(order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "BLOCK", block)
        patch.setattr(folding, "MOST_UNFOLDED", most)
        tasks = folded(given_records, order)
        assert list(tasks) == given_records and len(tasks) == len(given_records)
        assert [tasks[place] for place in order] == [given_records[place] for place in order]
        # Equal is not enough: an outcome equals its word, and 1 equals True.
        assert [repr(one) for one in tasks] == [repr(one) for one in given_records]
        assert all(type(one.outcome) is Outcome for one in tasks)
        assert tasks == tuple(given_records) == tasks and hash(tasks) == hash(tuple(given_records))
        assert count_ok(tasks) == count_ok(given_records)
        assert list(not_ok(tasks)) == list(not_ok(given_records))
        assert pickle.loads(pickle.dumps(tasks)) == tasks


def test_it_reads_like_a_tuple() -> None:
    plain = tuple(task(number, number % 3 > 0) for number in range(600))
    tasks = folded(list(plain))
    assert (tasks[0], tasks[-1], tasks[255], tasks[256]) == (plain[0], plain[-1], plain[255], plain[256])
    assert tasks[250:260] == plain[250:260] and tasks[::-100] == plain[::-100]
    assert plain[7] in tasks and tasks.index(plain[300]) == 300
    assert tasks == plain and plain == tasks and tasks != plain[:-1] and tasks != list(plain)
    with pytest.raises(IndexError):
        tasks[600]
    record = RunRecord("01J", "job", "2026-11-20T12:00:00Z", 1.0, 1, None, tasks)
    assert record["task-599"] == plain[599] and not record.ok
    assert record == RunRecord("01J", "job", "2026-11-20T12:00:00Z", 1.0, 1, None, plain)
    assert repr(tasks) == "<600 task records>" and repr(folded([plain[0]])) == repr(plain[:1])


@pytest.mark.parametrize("spread", [1, 16, 5000])
def test_little_stays_unfolded_whatever_order_tasks_end_in(spread: int) -> None:
    order = sorted(range(5000), key=lambda place: place + random.Random(place).random() * spread)
    tasks = folded([task(number) for number in range(5000)], order)
    assert sum(map(len, tasks._open.values())) <= folding.MOST_UNFOLDED
    if spread < folding.BLOCK:
        assert bytes_folded(tasks) < 60 * 5000


def test_output_counts_for_what_it_takes() -> None:
    tail = random.Random(1).randbytes(16384)
    tasks = folded([task(number, stdout=StreamRecord(16384, tail=tail)) for number in range(250)])
    assert sum(map(len, tasks._open.values())) <= folding.MOST_UNFOLDED // 16


def test_place_is_taken_once() -> None:
    tasks = folded([task(0)])
    with pytest.raises(ValueError, match="place 0 is taken"):
        tasks.put(0, task(1))


def test_what_is_not_there_yet_is_left_out() -> None:
    tasks = FoldedTasks()
    tasks.put(2, task(2))
    assert list(tasks) == [task(2)] and len(tasks) == 1 and tasks[2] == task(2)
    with pytest.raises(IndexError, match="nothing is in place 1 yet"):
        tasks[1]
    tasks.append(task(3))
    assert tasks[3] == task(3)


def test_none_is_none() -> None:
    assert list(FoldedTasks()) == [] and FoldedTasks() == () and len(FoldedTasks()) == 0
