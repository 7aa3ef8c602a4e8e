"""The queue: order, room, needs, and what an interrupt leaves of it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procstop.model import OnInterrupt, OnInterruptKind, Outcome, Reason
from procstop.records import AttemptRecord
from procstop.schedule import Cancelled, Schedule, find_cycle, may_retry

FINISH = OnInterrupt(OnInterruptKind.FINISH_CURRENT)
IGNORE = OnInterrupt(OnInterruptKind.IGNORE)


def next_n(n: int) -> OnInterrupt:
    return OnInterrupt(OnInterruptKind.NEXT, n)


def take_all(schedule: Schedule) -> list[str]:
    taken = []
    while (name := schedule.next()) is not None:
        taken.append(name)
    return taken


def names(cancelled: list[Cancelled]) -> list[str]:
    return [one.task for one in cancelled]


def alone(*tasks: str) -> dict[str, list[str]]:
    return {task: [] for task in tasks}


def test_tasks_start_in_the_order_of_the_job() -> None:
    assert take_all(Schedule(alone("c", "a", "b"), 9)) == ["c", "a", "b"]


def test_no_more_run_than_may_run_side_by_side() -> None:
    schedule = Schedule(alone("a", "b", "c"), 2)
    assert take_all(schedule) == ["a", "b"]
    schedule.ended("a", True)
    assert take_all(schedule) == ["c"]


def test_task_waits_for_all_that_it_needs() -> None:
    schedule = Schedule({"last": ["a", "b"], "a": [], "b": []}, 9)
    assert take_all(schedule) == ["a", "b"]
    schedule.ended("b", True)
    assert take_all(schedule) == []
    schedule.ended("a", True)
    assert take_all(schedule) == ["last"]


def test_need_that_is_named_twice_is_one() -> None:
    schedule = Schedule({"a": [], "b": ["a", "a"]}, 1)
    schedule.next()
    schedule.ended("a", True)
    assert schedule.next() == "b"


def test_failure_cancels_all_that_stands_on_it_and_says_why() -> None:
    schedule = Schedule({"a": [], "b": ["a"], "c": ["b"], "other": []}, 1)
    schedule.next()
    cancelled = schedule.ended("a", False)
    assert [(one.task, one.why) for one in cancelled] == [
        ("b", 'task "a", which it needs, did not end as expected'),
        ("c", 'task "b", which it needs, did not end as expected'),
    ]
    assert schedule.next() == "other"


def test_task_that_needs_two_failures_is_cancelled_once() -> None:
    schedule = Schedule({"a": [], "b": [], "c": ["a", "b"]}, 2)
    take_all(schedule)
    assert names(schedule.ended("a", False)) == ["c"]
    assert schedule.ended("b", False) == []
    assert schedule.over


def test_dependents_are_cancelled_in_the_order_of_the_job_each_level_after_the_one_before() -> None:
    schedule = Schedule({"d": ["c"], "z": ["a"], "c": ["a", "a"], "a": [], "b": ["a", "c"], "e": ["z"]}, 1)
    schedule.next()
    assert names(schedule.ended("a", False)) == ["z", "c", "b", "e", "d"]


class CountedName(str):
    """A name that counts how often anybody looked it up, in a set or a dictionary."""

    looks = 0

    def __hash__(self) -> int:
        CountedName.looks += 1
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other)


@pytest.mark.parametrize("ok", [True, False])
def test_end_of_a_task_looks_at_those_that_need_it_only(ok: bool) -> None:
    first = [CountedName(f"a{number}") for number in range(500)]
    needs = {name: [] for name in first} | {CountedName(f"b{name}"): [name] for name in first}
    schedule = Schedule(needs, 1)
    for _ in first:
        name = schedule.next()
        assert name is not None
        CountedName.looks = 0
        schedule.ended(name, ok)
        assert CountedName.looks < 20


def test_end_of_a_task_after_a_stop_looks_at_nothing_else() -> None:
    schedule = Schedule(alone(*(CountedName(number) for number in range(500))), 3)
    running = take_all(schedule)
    assert len(schedule.halt()) == 497
    for name in running:
        CountedName.looks = 0
        schedule.ended(name, True)
        assert schedule.next() is None and CountedName.looks < 20


def test_it_is_over_only_when_the_last_task_ended() -> None:
    schedule = Schedule(alone("a", "b"), 1)
    schedule.next()
    schedule.ended("a", True)
    schedule.next()
    assert not schedule.over
    schedule.ended("b", True)
    assert schedule.over


def test_no_tasks_are_over_at_once() -> None:
    assert Schedule({}, 1).over


@pytest.mark.parametrize("how", [FINISH, OnInterrupt(OnInterruptKind.STOP), next_n(0)])
def test_interrupt_cancels_all_that_waits_in_the_order_of_the_job(how: OnInterrupt) -> None:
    schedule = Schedule(alone("e", "a", "d", "b"), 1)
    schedule.next()
    assert [(one.task, one.why) for one in schedule.interrupt(how)] == [
        (task, "the run was stopped") for task in ("a", "d", "b")
    ]
    assert schedule.halted and schedule.next() is None and not schedule.over
    schedule.ended("e", True)
    assert schedule.over


@pytest.mark.parametrize("n", [1, 2, 3])
def test_next_n_lets_n_more_start(n: int) -> None:
    schedule = Schedule(alone(*"abcdefg"), 1)
    schedule.next()
    assert schedule.interrupt(next_n(n)) == []
    started, ended, running = [], [], "a"
    while not schedule.over:
        ended += names(schedule.ended(running, True))
        running = schedule.next() or ""
        started += [running] if running else []
    assert started == list("bcdefg"[:n])
    assert ended == list("bcdefg"[n:])


def test_next_n_takes_what_needs_a_running_task_too() -> None:
    schedule = Schedule({"a": [], "b": ["a"], "c": ["b"]}, 1)
    schedule.next()
    schedule.interrupt(next_n(1))
    schedule.ended("a", True)
    assert schedule.next() == "b"
    assert names(schedule.ended("b", True)) == ["c"]


def test_failure_of_the_last_that_may_start_cancels_the_rest() -> None:
    schedule = Schedule(alone("a", "b", "c"), 1)
    schedule.next()
    schedule.interrupt(next_n(1))
    schedule.ended("a", False)
    assert schedule.next() == "b"
    assert names(schedule.ended("b", False)) == ["c"]
    assert schedule.over


def test_ignored_interrupt_changes_nothing() -> None:
    schedule = Schedule(alone("a", "b"), 9)
    assert schedule.interrupt(IGNORE) == []
    assert not schedule.halted and take_all(schedule) == ["a", "b"]


def test_second_interrupt_never_allows_more_than_the_first() -> None:
    schedule = Schedule(alone(*"abc"), 1)
    schedule.next()
    schedule.interrupt(next_n(1))
    schedule.interrupt(next_n(5))
    schedule.interrupt(IGNORE)
    schedule.ended("a", True)
    assert schedule.next() == "b"
    assert names(schedule.ended("b", True)) == ["c"]


def test_halt_after_next_n_cancels_the_rest() -> None:
    schedule = Schedule(alone("a", "b"), 1)
    schedule.next()
    schedule.interrupt(next_n(3))
    assert names(schedule.halt()) == ["b"]


@pytest.mark.parametrize(
    ("outcome", "reason", "made", "retried"),
    [
        (Outcome.TRAPPED, None, 1, True),
        (Outcome.CRASHED, None, 2, True),
        (Outcome.COMPLETED, None, 1, True),
        (Outcome.TRAPPED, None, 3, False),
        (Outcome.KILLED, Reason.TIME_LIMIT, 1, False),
        (Outcome.TRAPPED, Reason.USER, 1, False),
        (Outcome.REJECTED, None, 1, False),
        (Outcome.CANCELLED, None, 1, False),
        (Outcome.LOST, None, 1, False),
    ],
)
def test_only_what_failed_by_itself_is_tried_again(
    outcome: Outcome, reason: Reason | None, made: int, retried: bool
) -> None:
    assert may_retry(AttemptRecord(made, "wasmer", outcome, reason), made, retries=2) is retried


def test_without_retries_nothing_is_tried_again() -> None:
    assert not may_retry(AttemptRecord(1, "wasmer", Outcome.TRAPPED), 1, retries=0)


# Cycles.


@pytest.mark.parametrize(
    ("needs", "cycle"),
    [
        ({}, None),
        ({"a": []}, None),
        ({"a": ["b"], "b": []}, None),
        ({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}, None),
        ({"a": ["nobody"]}, None),
        ({"a": ["a"]}, ["a", "a"]),
        ({"a": ["b"], "b": ["a"]}, ["a", "b", "a"]),
        ({"x": ["a"], "a": ["b"], "b": ["c"], "c": ["a"]}, ["a", "b", "c", "a"]),
    ],
)
def test_cycle_is_found_where_there_is_one(needs: dict[str, list[str]], cycle: list[str] | None) -> None:
    assert find_cycle(needs) == cycle


def test_long_chain_needs_no_recursion() -> None:
    needs = {str(n): [str(n + 1)] for n in range(20_000)}
    assert find_cycle(needs) is None
    needs["20000"] = ["0"]
    cycle = find_cycle(needs)
    assert cycle is not None and len(cycle) == 20_002


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    size = draw(st.integers(1, 7))
    everyone = [f"t{n}" for n in range(size)]
    return {name: draw(st.lists(st.sampled_from(everyone), max_size=3)) for name in everyone}


def has_cycle(needs: dict[str, list[str]]) -> bool:
    """By Kahn's algorithm: what can never be taken away is on a cycle, or needs one."""
    left = {task: set(needed) for task, needed in needs.items()}
    while free := [task for task, needed in left.items() if not needed & set(left)]:
        for task in free:
            del left[task]
    return bool(left)


@given(graphs())
def test_cycle_is_real_and_none_is_missed(needs: dict[str, list[str]]) -> None:
    cycle = find_cycle(needs)
    assert (cycle is not None) == has_cycle(needs)
    if cycle is not None:
        assert cycle[0] == cycle[-1] and len(set(cycle)) == len(cycle) - 1
        assert all(after in needs[before] for before, after in pairwise(cycle))


# Whole runs, with everything at random.


@st.composite
def jobs(draw: st.DrawFn) -> dict[str, list[str]]:
    """Needs that point backwards only, in a shuffled order."""
    size = draw(st.integers(0, 10))
    needs = {f"t{n}": [f"t{m}" for m in range(n) if draw(st.integers(0, 3)) == 0] for n in range(size)}
    return {name: needs[name] for name in draw(st.permutations(sorted(needs)))}


interrupts = st.builds(OnInterrupt, st.sampled_from(OnInterruptKind), st.integers(0, 4))


@given(needs=jobs(), concurrency=st.integers(1, 4), data=st.data())
def test_every_task_leaves_exactly_once(needs: dict[str, list[str]], concurrency: int, data: st.DataObject) -> None:
    schedule = Schedule(needs, concurrency)
    running: list[str] = []
    ended: dict[str, bool] = {}
    cancelled: dict[str, str] = {}
    allowed: int | None = None

    def leave(gone: list[Cancelled]) -> None:
        for one in gone:
            assert one.task not in cancelled and one.task not in ended and one.task not in running
            cancelled[one.task] = one.why

    for _ in range(4 * len(needs) + 4):
        if schedule.over:
            break
        if data.draw(st.integers(0, 5)) == 0:
            how = data.draw(interrupts)
            if how.kind is not OnInterruptKind.IGNORE:
                more = how.n if how.kind is OnInterruptKind.NEXT else 0
                allowed = more if allowed is None else min(allowed, more)
            leave(schedule.interrupt(how))
        while (name := schedule.next()) is not None:
            assert name not in running and name not in ended and name not in cancelled
            assert all(ended.get(need) for need in needs[name])
            running.append(name)
            assert len(running) <= concurrency
            if allowed is not None:
                allowed -= 1
                assert allowed >= 0
        if running:
            name = running.pop(data.draw(st.integers(0, len(running) - 1)))
            ended[name] = data.draw(st.booleans())
            leave(schedule.ended(name, ended[name]))
    assert schedule.over and not running
    assert set(ended) | set(cancelled) == set(needs) and not set(ended) & set(cancelled)
    for name, why in cancelled.items():
        failed = [need for need in needs[name] if need in cancelled or not ended[need]]
        assert failed if "which it needs" in why else allowed is not None
