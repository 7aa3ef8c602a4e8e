"""Runs of several tasks: needs, concurrency, retries, what is expected, and what a stop does to the queue."""

from __future__ import annotations

from pathlib import Path

import pytest

from procstop import Job, JobFileError, Limits, OnInterrupt, OnInterruptKind, Outcome, Reason, Rung, RunRecord, start
from support import hosts
from support.guests import Guests
from support.running import PATIENT, QUICK, run_record, task
from support.watching import Watcher

OK = Outcome.COMPLETED


def test_tasks_run_side_by_side_up_to_the_concurrency(engine: str, guests: Guests) -> None:
    """Each of three sleeps until it is told to leave, so that three must be there at once for the run to go on."""
    watcher = Watcher()
    tasks = [task(guests["sleeps"], name=f"task {number}", engine=engine) for number in range(5)]
    with start(Job("test", tasks, concurrency=3, stop=PATIENT), observers=[watcher]) as run:
        watcher.wait_for_output(b"sleeping", count=3)
        run.stop()
        record = run.result()
    assert watcher.most_side_by_side() == 3
    outcomes = [one.outcome for one in record.tasks]
    assert outcomes == [Outcome.INTERRUPTED] * 3 + [Outcome.CANCELLED] * 2


def test_task_starts_when_all_that_it_needs_are_ok(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    tasks = [
        task(guests["returns"], "run", 1, 1, name="last", needs=["left", "right"], engine=engine, expect=OK),
        task(guests["returns"], "run", 1, 1, name="left", needs=["first"], engine=engine, expect=OK),
        task(guests["returns"], "run", 1, 1, name="right", needs=["first"], engine=engine, expect=OK),
        task(guests["traps"], name="first", engine=engine, expect=Outcome.TRAPPED),
    ]
    record = run_record(*tasks, observers=[watcher], concurrency=4)
    assert (record.exit_code, record.ok) == (0, True)
    started = [event.task for event in watcher.events if type(event).__name__ == "AttemptStarted"]
    assert (started[0], set(started[1:3]), started[3]) == ("first", {"left", "right"}, "last")


def test_what_follows_a_failure_is_cancelled_and_the_rest_runs(engine: str, guests: Guests) -> None:
    record = run_record(
        task(guests["traps"], name="bad", engine=engine, expect=OK),
        task(guests["returns"], "nothing", name="after", needs=["bad"], engine=engine, expect=OK),
        task(guests["returns"], "nothing", name="after that", needs=["after"], engine=engine, expect=OK),
        task(guests["returns"], "nothing", name="apart", engine=engine, expect=OK),
    )
    assert [one.outcome.value for one in record.tasks] == ["trapped", "cancelled", "cancelled", "completed"]
    assert record.exit_code == 1


def test_task_that_fails_once_is_tried_again(engine: str, guests: Guests, tmp_path: Path) -> None:
    failing = task(
        guests["calls_host"],
        engine=engine,
        host={"env.work": hosts.fails_once},
        env={"MARK": str(tmp_path / "mark")},
        retries=3,
        expect=OK,
    )
    record = run_record(failing)
    assert [one.outcome for one in record.tasks[0].attempts] == [Outcome.HOST_ERROR, Outcome.COMPLETED]
    assert [one.number for one in record.tasks[0].attempts] == [1, 2]
    assert (record.tasks[0].ok, record.exit_code) == (True, 0)


def test_task_that_always_fails_is_tried_as_often_as_it_may(engine: str, guests: Guests) -> None:
    record = run_record(task(guests["traps"], engine=engine, retries=2, expect=OK))
    assert [one.outcome for one in record.tasks[0].attempts] == [Outcome.TRAPPED] * 3


@pytest.mark.parametrize("guest", ["spins", "checks_in_loop"])
def test_attempt_that_was_stopped_is_never_tried_again(engine: str, guests: Guests, guest: str) -> None:
    record = run_record(task(guests[guest], engine=engine, retries=5, expect=OK), limits=Limits(time=0.2), stop=PATIENT)
    assert len(record.tasks[0].attempts) == 1
    assert record.exit_code == 124


def test_crash_is_tried_again(engine: str, guests: Guests) -> None:
    crashing = task(guests["calls_host"], engine=engine, host={"env.work": hosts.kills_itself}, retries=1, expect=OK)
    record = run_record(crashing)
    assert [one.outcome for one in record.tasks[0].attempts] == [Outcome.CRASHED] * 2
    assert record.exit_code == 1


def test_any_expected_outcome_is_ok(engine: str, guests: Guests) -> None:
    record = run_record(
        task(guests["traps"], name="traps", engine=engine, expect=[OK, Outcome.TRAPPED]),
        task(guests["returns"], "nothing", name="returns", engine=engine, expect=Outcome.TRAPPED),
    )
    assert [(one.outcome.value, one.ok) for one in record.tasks] == [("trapped", True), ("completed", False)]
    assert record.exit_code == 1


def test_task_that_could_not_be_stopped_in_time_is_a_limits_doing(engine: str, guests: Guests) -> None:
    stopped = task(guests["spins"], name="spins", engine=engine, expect=OK)
    after = task(guests["returns"], "nothing", name="after", needs=["spins"], engine=engine, expect=OK)
    record = run_record(stopped, after, limits=Limits(time=0.2), stop=QUICK)
    assert (record.exit_code, record.reason) == (124, None)
    bad = task(guests["traps"], name="traps", engine=engine, expect=OK)
    assert run_record(stopped, bad, limits=Limits(time=0.2), stop=QUICK).exit_code == 1


# What the first press does, by `on_interrupt`. The supervisor's own `press` is what a signal handler calls.


def press_run(guests: Guests, engine: str, mark: Path, how: OnInterrupt, count: int = 6) -> RunRecord:
    """Press while the first two of `count` tasks wait for a file, which is there only after the press was heard."""
    watcher = Watcher()
    tasks = [
        task(
            guests["calls_host"],
            name=str(number),
            engine=engine,
            host={"env.work": hosts.waits_for_mark},
            env={"MARK": str(mark)},
            expect=OK,
        )
        for number in range(count)
    ]
    with start(Job("test", tasks, concurrency=2, on_interrupt=how, stop=PATIENT), observers=[watcher]) as run:
        watcher.wait_for_output(b"waiting", count=2)
        run._supervisor.press()
        watcher.wait_until(lambda events: any(type(event).__name__ == "RunStopping" for event in events))
        mark.touch()
        return run.result()


def outcomes(record: RunRecord) -> list[str]:
    return [one.outcome.value for one in record.tasks]


def test_press_stops_what_runs_and_starts_nothing(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    tasks = [task(guests["sleeps"], name=str(number), engine=engine, expect=OK) for number in range(6)]
    with start(Job("test", tasks, concurrency=2, stop=PATIENT), observers=[watcher]) as run:
        watcher.wait_for_output(b"sleeping", count=2)
        run._supervisor.press()
        record = run.result()
    assert outcomes(record) == ["interrupted"] * 2 + ["cancelled"] * 4
    assert {one.message for one in record.tasks[2:]} == {"the run was stopped"}
    assert (record.reason, record.exit_code) == (Reason.USER, 130)


def test_press_with_finish_current_lets_what_runs_finish(engine: str, guests: Guests, tmp_path: Path) -> None:
    record = press_run(guests, engine, tmp_path / "mark", OnInterrupt(OnInterruptKind.FINISH_CURRENT))
    assert outcomes(record) == ["completed"] * 2 + ["cancelled"] * 4
    assert (record.reason, record.exit_code) == (Reason.USER, 130)


def test_press_with_next_starts_so_many_more(engine: str, guests: Guests, tmp_path: Path) -> None:
    record = press_run(guests, engine, tmp_path / "mark", OnInterrupt(OnInterruptKind.NEXT, 3))
    assert outcomes(record) == ["completed"] * 5 + ["cancelled"]
    assert record.exit_code == 130


def test_press_with_ignore_carries_on(engine: str, guests: Guests, tmp_path: Path) -> None:
    record = press_run(guests, engine, tmp_path / "mark", OnInterrupt(OnInterruptKind.IGNORE), count=3)
    assert (outcomes(record), record.exit_code) == (["completed"] * 3, 0)
    assert record.reason is Reason.USER


def test_stop_before_anything_started_cancels_everything(engine: str, guests: Guests) -> None:
    tasks = [task(guests["spins"], name=str(number), engine=engine, expect=OK) for number in range(3)]
    with start(Job("test", tasks, concurrency=1)) as run:
        run.stop(Rung.KILL)
        record = run.result()
    assert record.exit_code == 130
    assert {one.outcome for one in record.tasks} <= {Outcome.CANCELLED, Outcome.KILLED, Outcome.CRASHED}
    assert [one.outcome for one in record.tasks[1:]] == [Outcome.CANCELLED] * 2


@pytest.mark.parametrize(
    ("tasks", "problem"),
    [
        ([], "no task: nothing to run"),
        (["a", "a"], 'two tasks are named "a"'),
    ],
)
def test_job_that_cannot_be_is_refused(guests: Guests, tasks: list[str], problem: str) -> None:
    with pytest.raises(JobFileError) as caught:
        run_record(*(task(guests["returns"], "nothing", name=name, expect=OK) for name in tasks))
    assert problem in str(caught.value)


def test_needs_in_a_circle_are_refused(guests: Guests) -> None:
    first = task(guests["returns"], "nothing", name="a", needs=["b"], expect=OK)
    second = task(guests["returns"], "nothing", name="b", needs=["a", "c"], expect=OK)
    with pytest.raises(JobFileError) as caught:
        run_record(first, second)
    assert '"a" -> "b" -> "a"' in str(caught.value)
    assert 'task "b": needs "c": no such task' in str(caught.value)
