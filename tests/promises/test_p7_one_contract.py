"""P7 one contract: a job gives the same outcome on every engine, or is refused before it starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from procstop import AttemptRecord, Dir, JobFileError, Limits, Outcome, Stdin, Task
from procstop.model import ENGINES
from procstop.preflight import engine_status
from support import hosts
from support.guests import Guests
from support.running import ANY, PATIENT, run_record

NAMES = [name for name in ENGINES if name != "auto"]


def tasks(guests: Guests, directory: Path) -> list[Task]:
    """One task of every kind whose outcome is no matter of chance."""
    (directory / "in.txt").write_text("from a directory")
    work = "env.work"
    plain = [
        ("returns", "run", (1, 7)),
        ("returns", "nothing", ()),
        ("returns", "same_i64", (2**63 - 1,)),
        ("returns", "same_f32", (0.1,)),
        ("returns", "same_f64", ("nan",)),
        ("returns_several", "run", (1, 2, 3.5, 4.25)),
        ("reads_unaligned", "run", ()),
        ("recurses", "run", (10_000,)),
        ("recurses", "_start", ()),
        ("grows_memory", "run", ()),
        ("traps", "_start", ()),
        ("traps_in_start", "_start", ()),
        ("divides_by_zero", "_start", ()),
        ("overflows", "_start", ()),
        ("converts_nan", "_start", ()),
        ("out_of_bounds", "_start", ()),
        ("calls_null", "_start", ()),
        ("calls_wrong_type", "_start", ()),
        ("calls_beyond_table", "_start", ()),
        ("exits_0", "_start", ()),
        ("exits_3", "_start", ()),
        ("exits_300", "_start", ()),
        ("exits_as_told", "run", (2**32 - 1,)),
        ("exits_as_told", "leave", (255,)),
        ("fails_with_message", "_start", ()),
        ("fails_with_message", "run", (2**32 - 1, 1)),
        ("early_exit_returns", "run", (1, 2)),
        ("early_exit_interrupts", "exit_early", ()),
        ("checks_in_loop", "run", (1000,)),
        ("progresses", "run", (100,)),
        ("sleeps", "nap", (1_000_000,)),
        ("prints_args", "_start", ("one", "two")),
        ("writes_and_returns", "run", (100,)),
        ("needs_unknown_import", "_start", ()),
        ("needs_memory_import", "_start", ()),
    ]
    made = [Task(f"{guest} {call} {args}", guests[guest], call, args, expect=ANY) for guest, call, args in plain]
    raising = (hosts.nothing, hosts.raises, hosts.raises_runtime_error, hosts.exits_with_4, hosts.returns_text)
    made += [Task(one.__name__, guests["calls_host"], host={work: one}, expect=ANY) for one in raising]
    return [
        *made,
        Task("env", guests["prints_env"], env={"A": "1", "B": ""}, expect=ANY),
        Task("stdin", guests["copies_stdin"], stdin=Stdin(text="text"), expect=ANY),
        Task("file", guests["prints_file"], dirs=[Dir("/data", str(directory))], expect=ANY),
        Task("no file", guests["prints_file"], expect=ANY),
        Task("read-only", guests["writes_file"], dirs=[Dir("/data", str(directory))], expect=ANY),
        Task("interrupted", guests["checks_in_loop"], limits=Limits(time=0.2), stop=PATIENT, expect=ANY),
        Task("terminated", guests["spins"], limits=Limits(time=0.2), stop=PATIENT, expect=ANY),
        Task("output", guests["writes_forever"], limits=Limits(output=1000), stop=PATIENT, expect=ANY),
    ]


def contract(attempt: AttemptRecord) -> tuple[object, ...]:
    """Return what must be alike: everything but times, pids, memory and how far chance let it go."""
    message = (attempt.message or "").replace("wasmer", "ENGINE").replace("wasmtime", "ENGINE")
    limited = attempt.reason is not None
    return (
        attempt.outcome,
        attempt.reason,
        attempt.rung,
        repr(attempt.values),
        attempt.exit_code,
        message,
        attempt.wait,
        None if limited else attempt.stopping_points.passed,
        attempt.stdout.bytes,
        attempt.stdout.tail,
        attempt.stdout.truncated,
        attempt.stderr.tail,
    )


def test_job_gives_the_same_outcomes_on_every_engine(guests: Guests, tmp_path: Path) -> None:
    here = [name for name in NAMES if engine_status()[name].why_not is None]
    if len(here) < 2:
        missing = next(name for name in NAMES if name not in here)
        pytest.skip(f"{missing}: {engine_status()[missing].why_not}")
    made = tasks(guests, tmp_path)
    records = [run_record(*(replace(one, engine=name) for one in made)) for name in here]
    for first, second in zip(*(record.tasks for record in records)):
        assert first.attempts and second.attempts
        assert contract(first.attempts[0]) == contract(second.attempts[0]), first.task


def test_outcomes_are_those_of_the_contract(engine: str, guests: Guests, tmp_path: Path) -> None:
    record = run_record(*(replace(one, engine=engine) for one in tasks(guests, tmp_path)))
    counted = {outcome: sum(one.outcome is outcome for one in record.tasks) for outcome in Outcome}
    assert {outcome.value: count for outcome, count in counted.items() if count} == {
        "completed": 19,
        "exited": 10,
        "trapped": 10,
        "host_error": 4,
        "interrupted": 1,
        "terminated": 2,
        "rejected": 2,
    }


@pytest.mark.parametrize("guest", ["tail_calls", "two_memories"])
def test_what_one_engine_cannot_do_is_refused_before_it_starts(guests: Guests, guest: str) -> None:
    args = (3,) if guest == "tail_calls" else ()
    one = Task("one", guests[guest], "run", args, engine="wasmer")
    with pytest.raises(JobFileError) as caught:
        run_record(one)
    assert "wasmer cannot run it" in str(caught.value) and "wasmtime can run it" in str(caught.value)
    assert run_record(replace(one, engine="auto")).tasks[0].attempts[0].engine == "wasmtime"
