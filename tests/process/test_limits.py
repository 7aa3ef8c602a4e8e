"""The limits on starting and on running, each with its reason, and modules that hurt."""

from __future__ import annotations

import pytest

from procstop import JobFileError, Limits, Outcome, Reason
from procstop.preflight import engine_status
from support.guests import Guests
from support.running import PATIENT, QUICK, run_guest


def test_time_limit_holds_for_a_start_function(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["spins_in_start"], engine=engine, time=0.3, stop=PATIENT)
    assert (attempt.outcome, attempt.reason) == (Outcome.TERMINATED, Reason.TIME_LIMIT)
    assert attempt.phases.start is not None and attempt.phases.run is not None


def test_time_limit_leaves_a_guest_alone_that_is_faster(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["returns"], "run", 1, 1, engine=engine, time=60.0)
    assert (attempt.outcome, attempt.reason) == (Outcome.COMPLETED, None)


def test_start_limit_holds_for_everything_before_the_guest(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["returns"], "run", 1, 1, engine=engine, start=0.001, stop=PATIENT)
    assert (attempt.outcome, attempt.reason) == (Outcome.TERMINATED, Reason.START_LIMIT)
    assert attempt.phases.run is None


def test_limits_of_a_task_replace_those_of_the_job(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["spins"], engine=engine, time=3600.0, limits=Limits(time=0.2), stop=QUICK)
    assert attempt.reason is Reason.TIME_LIMIT


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        ("empty", "empty"),
        ("garbage", "garbage"),
        ("noise", "noise"),
        ("component", "component"),
    ],
)
def test_file_that_is_no_module_is_refused_with_its_name(guests: Guests, make: str, problem: str) -> None:
    path = getattr(guests, make)()
    with pytest.raises(JobFileError) as caught:
        run_guest(path, expect=Outcome.COMPLETED)
    assert f"{problem}.wasm" in str(caught.value)
    assert run_guest(path).outcome is Outcome.REJECTED


def test_module_of_20_mb_runs(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests.huge(), "run", engine=engine)
    assert (attempt.outcome, attempt.values) == (Outcome.COMPLETED, (42,)), attempt.message


@pytest.mark.parametrize(
    ("guest", "args", "value", "feature"),
    [("tail_calls", (1_000_000,), 7, "tail-call"), ("two_memories", (), 5, "multi-memory")],
)
def test_module_that_one_engine_cannot_run_is_refused_and_the_other_named(
    guests: Guests, guest: str, args: tuple[int, ...], value: int, feature: str
) -> None:
    attempt = run_guest(guests[guest], "run", *args)
    assert (attempt.outcome, attempt.engine, attempt.values) == (Outcome.COMPLETED, "wasmtime", (value,))
    assert "wasmer cannot run it" in (attempt.engine_reason or "")
    with pytest.raises(JobFileError) as caught:
        run_guest(guests[guest], "run", *args, engine="wasmer", expect=Outcome.COMPLETED)
    assert "wasmtime can run it" in str(caught.value)
    if engine_status()["wasmer"].why_not is None:
        assert f"it does not have {feature}" in str(caught.value)


def test_import_that_is_no_function_is_refused(guests: Guests) -> None:
    with pytest.raises(JobFileError, match=r"procstop provides functions only"):
        run_guest(guests["needs_memory_import"], expect=Outcome.COMPLETED)
