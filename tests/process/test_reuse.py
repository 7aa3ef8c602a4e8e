"""Workers that host one attempt after another: nothing of one is left in the next, and no stop of one hits the next."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import procstop
from procstop import (
    AttemptRecord,
    Dir,
    Job,
    Limits,
    Outcome,
    Reason,
    Rung,
    RunRecord,
    Spawn,
    Stdin,
    StopPolicy,
    Strategy,
    StrategyKind,
    Task,
    Workers,
)
from procstop.events import AttemptProgress, AttemptStarted, Output
from procstop.messages.worker import Interrupt, encode
from procstop.preflight import prepare
from procstop.supervisor import Supervisor
from support import hosts
from support.guests import Guests
from support.running import PATIENT, QUICK, run_record, task
from support.watching import Watcher, is_gone, process_state, wait_until

LINE = b"0123456789012345678901234567890123456789012345678901234567890 x\n"
RETURN, TRAP, EXIT_0, EXIT_3, LEAVE, CALL_HOST, CHECK, SPIN = range(8)
"""What `ends_as_told` can be told."""
spawns = pytest.mark.parametrize("spawn", list(Spawn), ids=lambda spawn: spawn.value)


def group(module: str, call: str, *each: tuple[Any, ...], reuse: int | None = 1000, **options: Any) -> list[Task]:
    """Make one task for each tuple of arguments, all of one group."""
    options.setdefault("group", "all")
    return [task(module, call, *args, name=f"t{number}", reuse=reuse, **options) for number, args in enumerate(each)]


def run(tasks: list[Task], concurrency: int = 1, **options: Any) -> list[AttemptRecord]:
    """Run tasks and return the attempt of each."""
    record = run_record(*tasks, concurrency=concurrency, **options)
    return [one.attempts[-1] for one in record.tasks]


def workers(attempts: list[AttemptRecord]) -> list[int | None]:
    """Return the numbers of the attempts' workers."""
    return [attempt.worker for attempt in attempts]


# Sharing


@spawns
def test_tasks_of_a_group_share_a_worker(engine: str, guests: Guests, spawn: Spawn) -> None:
    tasks = group(guests["returns"], "run", *((number, 1) for number in range(20)), engine=engine)
    attempts = run(tasks, workers=Workers(spawn=spawn))
    assert [attempt.values for attempt in attempts] == [(number + 1,) for number in range(20)]
    assert len(set(workers(attempts))) == len({attempt.pid for attempt in attempts}) == 1
    # Its worker went on, so that there was no end to tell of.
    assert {attempt.wait for attempt in attempts[:-1]} == {None}
    assert all(attempt.cpu_s is not None and attempt.peak_memory_bytes for attempt in attempts)


@spawns
@pytest.mark.parametrize("of_the_job", [True, False], ids=["the job's", "the task's"])
def test_worker_hosts_no_more_than_it_may(engine: str, guests: Guests, spawn: Spawn, of_the_job: bool) -> None:
    reuse = None if of_the_job else 4
    tasks = group(guests["returns"], "run", *((number, 1) for number in range(18)), engine=engine, reuse=reuse)
    attempts = run(tasks, 3, workers=Workers(spawn=spawn, reuse=4 if of_the_job else 1))
    hosted = collections.Counter(workers(attempts))
    assert max(hosted.values()) == 4 and len(hosted) < 10
    assert len({(attempt.worker, attempt.pid) for attempt in attempts}) == len(hosted)
    assert all(attempt.outcome is Outcome.COMPLETED for attempt in attempts)


def test_worker_that_is_full_ends_by_itself(engine: str, guests: Guests) -> None:
    attempts = run(group(guests["returns"], "run", (1, 7), (2, 7), engine=engine, reuse=2))
    assert [attempt.wait for attempt in attempts] == [None, ("exit", 0)]


def test_every_attempt_has_a_worker_of_its_own_by_default(engine: str, guests: Guests) -> None:
    attempts = run(group(guests["returns"], "run", *[(1, 7)] * 5, engine=engine, reuse=None))
    assert len(set(workers(attempts))) == 5
    assert {attempt.wait for attempt in attempts} == {("exit", 0)}


def test_tasks_without_a_group_share_nothing(engine: str, guests: Guests) -> None:
    tasks = [task(guests["returns"], "run", 1, 7, name=f"t{n}", engine=engine, reuse=100) for n in range(4)]
    assert len(set(workers(run(tasks, workers=Workers(reuse=100))))) == 4


DIFFERENT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "group": ({"group": "one"}, {"group": "other"}),
    "call": ({"call": "run"}, {"call": "nothing"}),
    "environment": ({"env": {"A": "1"}}, {"env": {"A": "2"}}),
    "grant to write": ({"dirs": [Dir("/d", "/tmp")]}, {"dirs": [Dir("/d", "/tmp", write=True)]}),
    "directory": ({"dirs": [Dir("/d", "/tmp")]}, {"dirs": [Dir("/d", "/usr")]}),
    "time limit": ({"limits": Limits(time=30)}, {"limits": Limits(time=31)}),
    "output limit": ({"limits": Limits(output=3000)}, {"limits": Limits(output=3001)}),
    "grace": ({"stop": StopPolicy(interrupt=1)}, {"stop": StopPolicy(interrupt=2)}),
    "host function": ({"host": {"env.work": hosts.nothing}}, {"host": {"env.work": hosts.says_so}}),
    "host": ({}, {"host": {"env.work": hosts.nothing}}),
    "strategy": ({"strategy": Strategy(StrategyKind.IGNORE)}, {}),
    "check_every": ({"check_every": 1}, {"check_every": 2}),
    "reuse": ({"reuse": 10}, {"reuse": 11}),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_tasks_that_differ_share_nothing(engine: str, guests: Guests, what: str) -> None:
    tasks = []
    for number, options in enumerate(DIFFERENT[what]):
        options = {"call": "_start", "group": "all", "reuse": 10, **options}
        call = options.pop("call")
        args = (1, 7) if call == "run" else ()
        tasks.append(task(guests["returns"], call, *args, name=f"t{number}", engine=engine, **options))
    attempts = run(tasks)
    assert [attempt.outcome for attempt in attempts] == [Outcome.COMPLETED] * 2
    assert attempts[0].worker != attempts[1].worker


def test_different_modules_share_nothing(engine: str, guests: Guests) -> None:
    tasks = [task(guests[name], name=name, engine=engine, group="all", reuse=10) for name in ("returns", "prints_args")]
    assert len(set(workers(run(tasks)))) == 2


def test_different_engines_share_nothing(guests: Guests) -> None:
    names = [name for name, status in procstop.preflight.engine_status().items() if status.why_not is None]
    tasks = [task(guests["returns"], name=name, engine=name, group="all", reuse=10) for name in names]
    assert len(set(workers(run(tasks)))) == len(names)


# Nothing is left of the one before


def test_every_attempt_has_a_new_instance(engine: str, guests: Guests) -> None:
    """Globals, memory and its size, tables: all as the module says."""
    attempts = run(group(guests["keeps_state"], "run", *[()] * 40, engine=engine))
    assert [(attempt.outcome, attempt.values) for attempt in attempts] == [(Outcome.COMPLETED, (1,))] * 40
    assert len(set(workers(attempts))) == 1


def test_every_attempt_has_descriptors_and_directories_of_its_own(engine: str, guests: Guests, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("content")
    attempts = run(
        group(guests["opens_and_leaves_open"], "run", *[()] * 30, engine=engine, dirs=[Dir("/data", str(tmp_path))])
    )
    assert len({attempt.values for attempt in attempts}) == 1
    assert attempts[0].values is not None and attempts[0].values[0] > 3  # type: ignore[operator]
    assert len(set(workers(attempts))) == 1


def test_every_attempt_has_its_own_arguments_and_output(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    each = [(f"a{number}" * (number + 1),) for number in range(30)]
    attempts = run(group(guests["prints_args"], "_start", *each, engine=engine), observers=[watcher])
    said = [f"prints_args.wasm\n{args[0]}\n".encode() for args in each]
    assert [attempt.stdout.tail for attempt in attempts] == said
    assert len(set(workers(attempts))) == 1
    told: dict[str, bytes] = collections.defaultdict(bytes)
    for event in watcher.events:
        if isinstance(event, Output):
            told[event.task] += event.data
    assert [told[f"t{number}"] for number in range(30)] == said


def test_every_attempt_has_its_own_environment_and_no_more(engine: str, guests: Guests) -> None:
    attempts = run(group(guests["prints_env"], "_start", (), (), engine=engine, env={"A": "1"}))
    assert [attempt.stdout.tail for attempt in attempts] == [b"A=1\n"] * 2
    assert attempts[0].worker == attempts[1].worker


@spawns
def test_every_attempt_reads_its_own_standard_input(engine: str, guests: Guests, tmp_path: Path, spawn: Spawn) -> None:
    (tmp_path / "long").write_bytes(b"l" * 100_000)
    (tmp_path / "short").write_bytes(b"short")
    inputs = [
        Stdin(path=str(tmp_path / "long")),
        None,
        Stdin(text="a text"),
        Stdin(path=str(tmp_path / "short")),
        # Once more from its start, not from where the one before has left it.
        Stdin(path=str(tmp_path / "short")),
        None,
        None,
        Stdin(text=""),
        Stdin(text="z" * 70_000),
        None,
    ]
    common: dict[str, Any] = {"engine": engine, "group": "all", "reuse": 100}
    tasks = [task(guests["copies_stdin"], name=f"t{n}", stdin=stdin, **common) for n, stdin in enumerate(inputs)]
    attempts = run(tasks, workers=Workers(spawn=spawn))
    assert [attempt.stdout.bytes for attempt in attempts] == [100_000, 0, 6, 5, 5, 0, 0, 0, 70_000, 0]
    assert [attempts[n].stdout.tail for n in (2, 3, 4)] == [b"a text", b"short", b"short"]
    assert len(set(workers(attempts))) == 1


def test_standard_input_that_is_gone_is_one_attempts_trouble(engine: str, guests: Guests, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.write_text("")
    common: dict[str, Any] = {"engine": engine, "group": "all", "reuse": 100}
    tasks = [
        task(guests["copies_stdin"], name=f"t{number}", stdin=stdin, **common)
        for number, stdin in enumerate([Stdin(text="a"), Stdin(path=str(gone)), Stdin(text="b")])
    ]
    job = Job("test", tasks, concurrency=1)
    assignments = prepare(job).check().assignments
    gone.unlink()
    with Supervisor(job, assignments) as supervisor:
        attempts = [one.attempts[0] for one in supervisor.run().tasks]
    assert [attempt.outcome for attempt in attempts] == [Outcome.COMPLETED, Outcome.REJECTED, Outcome.COMPLETED]
    assert [attempts[n].stdout.tail for n in (0, 2)] == [b"a", b"b"]


def test_output_is_never_another_attempts(engine: str, guests: Guests, tmp_path: Path) -> None:
    """Up to the limit and beyond it: what one wrote too much is not the next one's."""
    lines = [3000, 0, 1, 1563, 1562, 2000, 5, 1562, 0, 2500, 1]
    watcher = Watcher()
    tasks = group(
        guests["writes_and_returns"], "run", *((n,) for n in lines), engine=engine, limits=Limits(output=100_000)
    )
    attempts = run(tasks, observers=[watcher], output_dir=str(tmp_path / "out"))
    for attempt, count in zip(attempts, lines):
        whole = LINE * count
        assert (attempt.stdout.bytes, attempt.stdout.truncated) == (min(len(whole), 100_000), len(whole) > 100_000)
        assert attempt.stdout.tail == whole[:100_000][-16 * 1024 :]
        if attempt.stdout.path is not None:
            assert Path(attempt.stdout.path).read_bytes() == whole[:100_000]
        if len(whole) <= 100_000:
            assert (attempt.outcome, attempt.reason) == (Outcome.COMPLETED, None)
    assert len(set(workers(attempts))) < len(lines)


def test_output_is_read_on_after_an_observer_that_was_slow(
    engine: str, guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While observers lag behind, output stays in its pipe; the next attempt of that worker is heard again."""
    monkeypatch.setattr("procstop.supervisor.announcer.CROWDED", 1000)
    release = threading.Event()

    def blocks(event: object) -> None:
        if isinstance(event, Output):
            release.wait()

    tasks = group(
        guests["writes_and_returns"], "run", (600,), (4000,), engine=engine, limits=Limits(time=20), stop=QUICK
    )
    with procstop.start(Job("test", tasks, concurrency=1), observers=[blocks]) as running:
        try:
            wait_until(lambda: "t1" in running._supervisor._live, "the second has begun")
        finally:
            release.set()
        attempts = [one.attempts[0] for one in running.result().tasks]
    assert attempts[0].worker == attempts[1].worker
    assert [(one.outcome, one.stdout.bytes) for one in attempts] == [
        (Outcome.COMPLETED, 600 * 64),
        (Outcome.COMPLETED, 4000 * 64),
    ]


def test_every_attempt_counts_its_own_stopping_points(engine: str, guests: Guests) -> None:
    counts = [1000, 1, 50_000, 3, 1000]
    attempts = run(group(guests["checks_in_loop"], "run", *((n,) for n in counts), engine=engine))
    assert [attempt.stopping_points.passed for attempt in attempts] == counts
    assert {attempt.stopping_points.stopped_at for attempt in attempts} == {None}
    assert len(set(workers(attempts))) == 1


def test_every_attempt_tells_its_own_progress(engine: str, guests: Guests) -> None:
    totals = [(3_000_000 if engine == "wasmer" else 150_000_000) + number for number in range(3)]
    watcher = Watcher()
    attempts = run(group(guests["progresses"], "run", *((n,) for n in totals), engine=engine), observers=[watcher])
    assert len(set(workers(attempts))) == 1
    for number, total in enumerate(totals):
        beats = [e for e in watcher.events if isinstance(e, AttemptProgress) and e.task == f"t{number}"]
        assert {beat.total for beat in beats} <= {total, None}
        assert [beat.passed for beat in beats] == sorted(beat.passed for beat in beats)
        assert all(beat.passed <= total for beat in beats)
    assert any(isinstance(event, AttemptProgress) for event in watcher.events)


def test_every_attempt_has_the_whole_time_limit(engine: str, guests: Guests) -> None:
    attempts = run(
        group(guests["sleeps"], "nap", *[(300_000_000,)] * 5, engine=engine, limits=Limits(time=1.2), stop=PATIENT)
    )
    # Together they take longer than one of them may.
    assert [attempt.outcome for attempt in attempts] == [Outcome.COMPLETED] * 5
    assert len(set(workers(attempts))) == 1


def test_longest_gap_does_not_count_the_time_between_two_attempts(engine: str, guests: Guests, tmp_path: Path) -> None:
    with idle(guests, engine, tmp_path, guests["checks_in_loop"], "run", 1000) as (running, _):
        threading.Event().wait(0.5)
    last = running.result()["second"].attempts[0]
    assert last.stopping_points.longest_gap_s is not None and last.stopping_points.longest_gap_s < 0.4


# Who is not taken again


@pytest.mark.parametrize(
    ("how", "work", "outcome"),
    [
        pytest.param(TRAP, hosts.nothing, Outcome.TRAPPED, id="trap"),
        pytest.param(EXIT_0, hosts.nothing, Outcome.COMPLETED, id="exit with 0"),
        pytest.param(EXIT_3, hosts.nothing, Outcome.EXITED, id="exit with 3"),
        pytest.param(LEAVE, hosts.nothing, Outcome.EXITED, id="early exit"),
        pytest.param(CALL_HOST, hosts.raises, Outcome.HOST_ERROR, id="host error"),
        pytest.param(CALL_HOST, hosts.exits_with_4, Outcome.EXITED, id="exit of a host function"),
        pytest.param(CALL_HOST, hosts.starts_thread, Outcome.COMPLETED, id="a thread that is left"),
        pytest.param(CALL_HOST, hosts.starts_native_thread, Outcome.COMPLETED, id="a native thread that is left"),
        pytest.param(CALL_HOST, hosts.starts_child, Outcome.COMPLETED, id="a child that is left"),
        pytest.param(CALL_HOST, hosts.starts_stubborn_escapee, Outcome.COMPLETED, id="an escapee that is left"),
        pytest.param(CALL_HOST, hosts.exits_the_process_well, Outcome.CRASHED, id="the end of its process"),
        pytest.param(CALL_HOST, hosts.kills_itself, Outcome.CRASHED, id="a kill"),
        pytest.param(CALL_HOST, hosts.reports_completed_and_goes_on, Outcome.COMPLETED, id="a false report"),
        pytest.param(CALL_HOST, hosts.naps, Outcome.COMPLETED, id="an interrupt that came too late"),
        pytest.param(CHECK, hosts.nothing, Outcome.INTERRUPTED, id="an interrupt"),
        pytest.param(SPIN, hosts.nothing, Outcome.TERMINATED, id="a termination"),
    ],
)
def test_worker_is_not_taken_again_after(
    engine: str, guests: Guests, how: int, work: Callable[[], None], outcome: Outcome
) -> None:
    stop = QUICK if how == SPIN else PATIENT
    options: dict[str, Any] = {"host": {"env.work": work}, "limits": Limits(time=0.4), "stop": stop}
    each = [(RETURN,), (RETURN,), (how,), (RETURN,), (RETURN,)]
    attempts = run(group(guests["ends_as_told"], "run", *each, engine=engine, **options))
    assert [attempt.outcome for attempt in attempts] == [Outcome.COMPLETED] * 2 + [outcome] + [Outcome.COMPLETED] * 2
    first, second, odd, third, fourth = workers(attempts)
    assert first == second == odd != third == fourth
    assert [attempts[n].reason for n in (0, 1, 3, 4)] == [None] * 4


def test_worker_whose_host_function_is_well_behaved_is_taken_again(engine: str, guests: Guests) -> None:
    each = [(CALL_HOST,)] * 5
    attempts = run(group(guests["ends_as_told"], "run", *each, engine=engine, host={"env.work": hosts.says_so}))
    assert [attempt.stdout.tail for attempt in attempts] == [b"here\n"] * 5
    assert len(set(workers(attempts))) == 1


def test_retry_does_not_get_the_worker_that_failed(engine: str, guests: Guests, tmp_path: Path) -> None:
    options: dict[str, Any] = {"host": {"env.work": hosts.fails_once}, "env": {"MARK": str(tmp_path / "mark")}}
    tasks = group(
        guests["ends_as_told"],
        "run",
        *[(CALL_HOST,)] * 3,
        engine=engine,
        retries=1,
        expect=Outcome.COMPLETED,
        **options,
    )
    record = run_record(*tasks, concurrency=1)
    first = record.tasks[0].attempts
    assert [attempt.outcome for attempt in first] == [Outcome.HOST_ERROR, Outcome.COMPLETED]
    assert first[0].worker != first[1].worker
    assert {one.attempts[-1].worker for one in record.tasks} == {first[1].worker}


# A stop hits one attempt


def test_limit_at_the_very_end_of_an_attempt_does_not_hit_the_next(engine: str, guests: Guests) -> None:
    limit = 0.02
    each = [(int((limit + (number % 11 - 5) * 0.0008) * 1e9),) if number % 2 else (100_000,) for number in range(150)]
    attempts = run(
        group(guests["sleeps"], "nap", *each, engine=engine, limits=Limits(time=limit), stop=PATIENT), concurrency=2
    )
    for attempt in attempts:
        assert attempt.outcome in (Outcome.COMPLETED, Outcome.INTERRUPTED), attempt
        assert attempt.reason in (None, Reason.TIME_LIMIT)
        if attempt.outcome is Outcome.INTERRUPTED:
            assert attempt.reason is Reason.TIME_LIMIT and attempt.phases.run is not None
            assert attempt.phases.run >= limit
    # Whoever was asked was its worker's last.
    last = {attempt.worker: number for number, attempt in enumerate(attempts)}
    assert all(attempt.reason is None or last[attempt.worker] == number for number, attempt in enumerate(attempts))
    assert any(attempt.outcome is Outcome.INTERRUPTED for attempt in attempts)
    assert len(set(workers(attempts))) < len(attempts)


def test_interrupt_for_another_attempt_is_not_heard(engine: str, guests: Guests) -> None:
    """As if it had been on its way for long: one for the attempt before comes in the middle of this one."""
    tasks = group(guests["checks_in_loop"], "run", *[(3000,)] * 60, engine=engine)
    job = Job("test", tasks, concurrency=1)
    tokens: list[str] = []
    with Supervisor(job, prepare(job).check().assignments) as supervisor:
        start_attempt = supervisor._start_attempt

        def start_and_interrupt_the_last(name: str) -> None:
            start_attempt(name)
            attempt = supervisor._live[name]
            if attempt.worker is not None:
                for token in tokens[-3:]:
                    os.write(attempt.worker.control, encode(Interrupt(token)))
            tokens.append(attempt.token)

        supervisor._start_attempt = start_and_interrupt_the_last  # type: ignore[method-assign]
        record = supervisor.run()
    attempts = [one.attempts[0] for one in record.tasks]
    assert {(attempt.outcome, attempt.values) for attempt in attempts} == {(Outcome.COMPLETED, (3000,))}
    assert len(set(workers(attempts))) == 1


def test_stop_of_a_run_ends_the_attempt_that_runs_and_the_workers_that_wait(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    each = [(RETURN,)] * 3 + [(CHECK,)] * 5
    tasks = group(guests["ends_as_told"], "run", *each, engine=engine, host={"env.work": hosts.nothing}, stop=PATIENT)
    with procstop.start(Job("test", tasks, concurrency=1), observers=[watcher]) as running:
        watcher.wait_until(lambda events: sum(isinstance(e, AttemptStarted) for e in events) == 4)
        watcher.wait_for_state("running", 4)
        running.stop()
        record = running.result()
    outcomes = [one.outcome for one in record.tasks]
    assert outcomes == [Outcome.COMPLETED] * 3 + [Outcome.INTERRUPTED] + [Outcome.CANCELLED] * 4


@pytest.mark.parametrize("rung", [Rung.TERMINATE, Rung.KILL])
def test_harder_stop_ends_reused_workers_too(engine: str, guests: Guests, rung: Rung) -> None:
    watcher = Watcher()
    tasks = group(guests["ends_as_told"], "run", (RETURN,), (SPIN,), engine=engine, host={"env.work": hosts.nothing})
    with procstop.start(Job("test", tasks, concurrency=1), observers=[watcher]) as running:
        watcher.wait_for_state("running", 2)
        running.stop(rung)
        last = running.result().tasks[1].attempts[0]
    assert last.outcome is (Outcome.TERMINATED if rung is Rung.TERMINATE else Outcome.KILLED)


# A worker that waits


@contextlib.contextmanager
def idle(
    guests: Guests,
    engine: str,
    tmp_path: Path,
    module: str,
    call: str,
    *args: Any,
    then: tuple[Any, ...] | None = None,
    **options: Any,
) -> Iterator[tuple[procstop.Run, int]]:
    """Run "first"; in the block its worker, whose pid is given, waits; after it "second" of the same group runs."""
    watcher = Watcher()
    mark = tmp_path / "mark"
    common: dict[str, Any] = {"engine": engine, "group": "all", "reuse": 10, **options}
    gate = task(
        guests["calls_host"],
        name="gate",
        engine=engine,
        host={"env.work": hosts.waits_for_mark},
        env={"MARK": str(mark)},
        needs=["first"],
    )
    first = task(module, call, *args, name="first", **common)
    second = task(module, call, *(args if then is None else then), name="second", needs=["gate"], **common)
    third = task(module, call, *(args if then is None else then), name="third", needs=["second"], **common)
    with procstop.start(Job("test", [first, gate, second, third], concurrency=2), observers=[watcher]) as running:
        watcher.wait_for_output(b"waiting\n")
        try:
            yield running, watcher.pids()[0]
        finally:
            mark.touch()
        running.wait()


def last_two(record: RunRecord) -> list[AttemptRecord]:
    """Return what came after a worker had waited."""
    return [record[name].attempts[0] for name in ("second", "third")]


def test_worker_waits_and_is_taken_again(engine: str, guests: Guests, tmp_path: Path) -> None:
    with idle(guests, engine, tmp_path, guests["returns"], "run", 1, 7) as (running, pid):
        assert not is_gone(pid)
    assert [(one.values, one.pid) for one in last_two(running.result())] == [((8,), pid)] * 2


def test_worker_that_dies_while_it_waits_is_replaced(engine: str, guests: Guests, tmp_path: Path) -> None:
    with idle(guests, engine, tmp_path, guests["returns"], "run", 1, 7) as (running, pid):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: is_gone(pid), "it is gone")
    record = running.result()
    assert [one.values for one in last_two(record)] == [(8,)] * 2
    assert pid not in [one.pid for one in last_two(record)]
    assert record["first"].attempts[0].outcome is Outcome.COMPLETED


def test_worker_that_stands_still_while_it_waits_does_not_hold_up_the_run(
    engine: str, guests: Guests, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"limits": Limits(start=3.0), "stop": QUICK}
    with idle(guests, engine, tmp_path, guests["returns"], "run", 1, 7, **options) as (running, pid):
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: process_state(pid) == "T", "it stands still")
    second, third = last_two(running.result())
    assert second.outcome is Outcome.COMPLETED or second.reason is Reason.START_LIMIT
    assert (third.outcome, third.values) == (Outcome.COMPLETED, (8,))
    assert is_gone(pid)


@pytest.mark.parametrize("work", [hosts.writes_later, hosts.reports_later], ids=lambda work: work.__name__)
def test_worker_that_says_something_while_it_waits_is_replaced(
    engine: str, guests: Guests, tmp_path: Path, work: Callable[[], None]
) -> None:
    options: dict[str, Any] = {"host": {"env.work": work}, "then": (RETURN,)}
    with idle(guests, engine, tmp_path, guests["ends_as_told"], "run", CALL_HOST, **options) as (running, pid):
        wait_until(lambda: is_gone(pid), "it is gone")
    record = running.result()
    assert [(one.outcome, one.stdout.bytes) for one in last_two(record)] == [(Outcome.COMPLETED, 0)] * 2
    assert record["first"].attempts[0].stdout.bytes == 0


def test_worker_that_lies_about_being_free_costs_no_other_attempt_its_outcome(engine: str, guests: Guests) -> None:
    host = {"env.work": hosts.reports_twice_and_waits}
    each = [(CALL_HOST,), (RETURN,), (RETURN,)]
    options: dict[str, Any] = {"limits": Limits(start=5.0), "stop": QUICK}
    attempts = run(group(guests["ends_as_told"], "run", *each, engine=engine, host=host, **options))
    assert [(attempt.outcome, attempt.values) for attempt in attempts[1:]] == [(Outcome.COMPLETED, (0,))] * 2


# Growth


def test_memory_of_a_worker_does_not_grow_with_what_it_hosted(engine: str, guests: Guests) -> None:
    attempts = run(group(guests["keeps_state"], "run", *[()] * 500, engine=engine))
    assert len(set(workers(attempts))) == 1
    peaks = [attempt.peak_memory_bytes or 0 for attempt in attempts]
    assert peaks[-1] - peaks[100] < 8 * 1024 * 1024, f"from {peaks[100] >> 10} KiB to {peaks[-1] >> 10} KiB"


def test_descriptors_of_a_worker_do_not_grow_with_what_it_hosted(engine: str, guests: Guests, tmp_path: Path) -> None:
    """Each opens a file and leaves it open; more than a process may have open would be an error of the guest."""
    (tmp_path / "in.txt").write_text("content")
    tasks = group(
        guests["opens_and_leaves_open"],
        "run",
        *[()] * 1200,
        engine=engine,
        reuse=1200,
        dirs=[Dir("/data", str(tmp_path))],
    )
    attempts = run(tasks)
    assert len({attempt.values for attempt in attempts}) == len(set(workers(attempts))) == 1
