"""The limits on starting and on running, each with its reason, and modules that hurt."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from procstop import AttemptRecord, Dir, Job, JobFileError, Limits, Outcome, Reason, Rung, Workers
from procstop.preflight import engine_status, prepare
from procstop.supervisor.meters import Meters
from support import hosts
from support.command import Procstop
from support.guests import Guests
from support.running import PATIENT, QUICK, run_guest, run_record, task
from support.watching import is_gone, wait_until, workers

FBIG, MFILE = 22, 33
"""Errnos of WASI."""
MIB = 1 << 20


def test_time_limit_holds_for_a_start_function(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["spins_in_start"], engine=engine, time=0.3, stop=PATIENT)
    assert (attempt.outcome, attempt.reason) == (Outcome.TERMINATED, Reason.TIME_LIMIT)
    assert attempt.phases.start is not None and attempt.phases.run is not None


def test_time_limit_leaves_a_guest_alone_that_is_faster(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["returns"], "run", 1, 1, engine=engine, time=60.0)
    assert (attempt.outcome, attempt.reason) == (Outcome.COMPLETED, None)


def test_start_limit_holds_for_everything_before_the_guest(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["returns"], "run", 1, 1, engine=engine, start=0.001, stop=PATIENT)
    # Terminated with its compiler, before there was anything to terminate, or too late: its worker was just being made.
    assert attempt.outcome in (Outcome.TERMINATED, Outcome.CANCELLED, Outcome.COMPLETED)
    assert (attempt.reason, attempt.phases.run) == (Reason.START_LIMIT, None)


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


# Memory


def limited(guests: Guests, guest: str, *args: Any, engine: str, **limits: Any) -> AttemptRecord:
    """Run a guest with limits."""
    options = {key: limits.pop(key) for key in ("stop", "dirs", "strategy", "host") if key in limits}
    call, arguments = (args[0], args[1:]) if args else ("_start", ())
    return run_guest(guests[guest], call, *arguments, engine=engine, limits=Limits(**limits), **options)


def test_guest_that_gets_no_more_memory_ends_with_its_limit_as_the_reason(engine: str, guests: Guests) -> None:
    attempt = limited(guests, "needs_memory", engine=engine, memory=32 * MIB)
    assert (attempt.outcome, attempt.reason, attempt.rung) == (Outcome.TRAPPED, Reason.MEMORY_LIMIT, None)
    # On wasmer its worker is what is limited, with room for the rest of it.
    assert attempt.peak_memory_bytes is not None and attempt.peak_memory_bytes < (32 + 64 + 64) * MIB


def test_guest_that_can_do_with_less_memory_is_told_so(engine: str, guests: Guests) -> None:
    attempt = limited(guests, "grows_memory_forever", "run", 1 << 16, engine=engine, memory=32 * MIB)
    assert (attempt.outcome, attempt.reason) == (Outcome.COMPLETED, None)
    assert attempt.values is not None and 512 <= int(attempt.values[0]) <= 512 + 1024


def test_memory_of_any_name_is_looked_at(engine: str, guests: Guests) -> None:
    attempt = limited(guests, "needs_other_memory", engine=engine, memory=32 * MIB)
    assert (attempt.outcome, attempt.reason) == (Outcome.TRAPPED, Reason.MEMORY_LIMIT)


def test_attempts_that_share_a_worker_have_memory_each(engine: str, guests: Guests) -> None:
    tasks = [
        task(
            guests["grows_memory_forever"],
            "run",
            1000,
            name=f"{n}",
            engine=engine,
            group="all",
            limits=Limits(memory=80 * MIB),
        )
        for n in range(8)
    ]
    record = run_record(*tasks, workers=Workers(reuse=8), concurrency=1)
    assert {one.values for one in record.tasks} == {(1000,)}
    assert {one.attempts[0].worker for one in record.tasks} == {1}


def test_table_is_memory_too(engine: str, guests: Guests) -> None:
    attempt = limited(guests, "needs_table", engine=engine, memory=32 * MIB)
    # wasmer gives up as a whole where a table gets no memory.
    assert (attempt.outcome, attempt.reason) in (
        (Outcome.TRAPPED, None),
        (Outcome.CRASHED, Reason.MEMORY_LIMIT),
    )
    assert (attempt.peak_memory_bytes or 0) < (32 + 64 + 64) * MIB


def test_trap_of_a_guest_that_has_memory_left_is_its_own(engine: str, guests: Guests) -> None:
    attempt = limited(guests, "traps", engine=engine, memory=32 * MIB)
    assert (attempt.outcome, attempt.reason) == (Outcome.TRAPPED, None)


def test_module_that_begins_with_more_memory_is_rejected(engine: str, guests: Guests) -> None:
    attempt = limited(guests, "begins_large", "run", engine=engine, memory=16 * MIB)
    assert attempt.outcome is Outcome.REJECTED
    assert attempt.message == 'limits.memory: is 16MiB, and its memories begin with 32MiB; give "32MiB" or more'


def test_memory_limit_ends_a_run_with_the_exit_code_of_limits(engine: str, guests: Guests) -> None:
    guest = task(guests["needs_memory"], engine=engine, limits=Limits(memory=32 * MIB), expect=Outcome.COMPLETED)
    assert run_record(guest).exit_code == 124


# CPU time


def test_guest_that_uses_up_its_cpu_time_is_stopped_for_it(engine: str, guests: Guests) -> None:
    attempt = limited(guests, "spins", engine=engine, cpu=0.2, stop=PATIENT)
    assert (attempt.outcome, attempt.reason, attempt.rung) == (Outcome.TERMINATED, Reason.CPU_LIMIT, Rung.TERMINATE)
    assert attempt.cpu_s is not None and attempt.cpu_s >= 0.2


def test_guest_that_uses_up_its_cpu_time_may_leave_politely(engine: str, guests: Guests) -> None:
    attempt = limited(guests, "checks_in_loop", engine=engine, cpu=0.2, stop=PATIENT)
    assert (attempt.outcome, attempt.reason) == (Outcome.INTERRUPTED, Reason.CPU_LIMIT)


def test_guest_that_sleeps_uses_no_cpu_time(engine: str, guests: Guests) -> None:
    attempt = limited(guests, "sleeps", "nap", 600_000_000, engine=engine, cpu=0.3)
    assert (attempt.outcome, attempt.reason) == (Outcome.COMPLETED, None)


def test_cpu_time_ends_where_nobody_looks(engine: str, guests: Guests, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel does it by itself, later: the supervisor may be stopped, or hang."""
    monkeypatch.setattr(Meters, "begin", lambda self, **_: None)
    attempt = limited(guests, "spins", engine=engine, cpu=0.1, stop=QUICK)
    assert (attempt.outcome, attempt.reason) == (Outcome.TERMINATED, Reason.CPU_LIMIT)
    assert attempt.wait == ("signal", signal.SIGXCPU)


def test_cpu_time_ends_where_nobody_looks_and_the_warning_is_ignored(
    engine: str, guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Meters, "begin", lambda self, **_: None)
    host = {"env.work": hosts.ignores_sigxcpu}
    attempt = limited(guests, "calls_host_then_spins", engine=engine, cpu=0.1, stop=QUICK, host=host)
    assert (attempt.outcome, attempt.reason, attempt.rung) == (Outcome.KILLED, Reason.CPU_LIMIT, Rung.KILL)
    assert attempt.wait == ("signal", signal.SIGKILL)


def test_attempts_that_share_a_worker_have_cpu_time_each(engine: str, guests: Guests) -> None:
    limits = Limits(cpu=0.5)
    tasks = [
        task(guests["spins_for_a_while"], "run", 60_000_000, name=f"{n}", engine=engine, limits=limits, group="all")
        for n in range(8)
    ]
    record = run_record(*tasks, workers=Workers(reuse=8), concurrency=1)
    assert {one.outcome for one in record.tasks} == {Outcome.COMPLETED}
    assert {one.attempts[0].worker for one in record.tasks} == {1}


# Stalls


def test_guest_that_passes_no_more_stopping_points_is_stopped_for_it(engine: str, guests: Guests) -> None:
    attempt = limited(guests, "points_then_spins", engine=engine, stall=0.3, stop=QUICK)
    assert (attempt.outcome, attempt.reason) == (Outcome.TERMINATED, Reason.STALL)
    assert attempt.phases.run is not None and attempt.phases.run >= 0.3


def test_guest_that_passes_stopping_points_does_not_stall(engine: str, guests: Guests) -> None:
    attempt = limited(guests, "checks_in_loop", engine=engine, stall=0.5, time=1.5, stop=PATIENT)
    assert (attempt.outcome, attempt.reason) == (Outcome.INTERRUPTED, Reason.TIME_LIMIT)


def test_guest_does_not_stall_while_its_supervisor_stands_still(
    engine: str, guests: Guests, procstop_command: Procstop
) -> None:
    run = procstop_command.start("run", guests["checks_in_loop"], "--engine", engine, "--set=limits.stall=500ms",
                                 "--set=limits.time=4s", "--report", "report.json")  # fmt: skip
    wait_until(lambda: workers(run.pid), "there is a worker")
    run.signal(signal.SIGSTOP)
    time.sleep(1.2)
    run.signal(signal.SIGCONT)
    assert run.end().code == 124
    assert procstop_command.report()["tasks"][0]["attempts"][0]["reason"] == "time_limit"


def test_guest_that_sleeps_does_not_stall(engine: str, guests: Guests) -> None:
    attempt = limited(guests, "sleeps", "nap", 2_000_000_000, engine=engine, stall=0.6)
    assert (attempt.outcome, attempt.reason) == (Outcome.COMPLETED, None)


def test_guest_without_stopping_points_cannot_stall(engine: str, guests: Guests) -> None:
    attempt = limited(guests, "spins", engine=engine, stall=0.1, time=0.6, stop=QUICK)
    assert attempt.reason is Reason.TIME_LIMIT


# Files


def test_guest_has_no_more_files_open_than_it_may(engine: str, guests: Guests, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("x")
    dirs = [Dir("/data", tmp_path)]
    attempt = limited(guests, "opens_many", "run", 100, engine=engine, open_files=5, dirs=dirs)
    assert attempt.values == (5 * 100 + MFILE,)
    attempt = limited(guests, "opens_many", "run", 100, engine=engine, open_files=100, dirs=dirs)
    assert attempt.values == (100 * 100,)


def test_file_gets_no_larger_than_it_may(engine: str, guests: Guests, tmp_path: Path) -> None:
    dirs = [Dir("/out", tmp_path, write=True)]
    attempt = limited(guests, "fills_file", "run", engine=engine, file_size=300_000, dirs=dirs)
    assert attempt.values == (FBIG,)
    assert (tmp_path / "out.txt").stat().st_size == 300_000


def test_file_size_does_not_limit_what_goes_to_standard_output(engine: str, guests: Guests) -> None:
    attempt = limited(guests, "writes_forever", engine=engine, file_size=1, output=MIB, stop=PATIENT)
    assert (attempt.reason, attempt.stdout.bytes) == (Reason.OUTPUT_LIMIT, MIB)


# The time that a worker may be there at all


def test_worker_ends_by_itself_when_its_supervisor_stands_still(
    engine: str, guests: Guests, procstop_command: Procstop
) -> None:
    short = [f"--set={key}=500ms" for key in ("limits.start", "limits.time")]
    short += [f"--set=stop.{key}=100ms" for key in ("interrupt", "preempt", "terminate")]
    # Once before, so that there is nothing to compile.
    assert procstop_command("run", guests["spins"], "--engine", engine, "--set=limits.time=100ms").code == 124
    run = procstop_command.start("run", guests["spins"], "--engine", engine, *short, "--report", "report.json")
    wait_until(lambda: workers(run.pid), "there is a worker")
    (worker,) = workers(run.pid)
    run.signal(signal.SIGSTOP)
    wait_until(lambda: is_gone(worker), "its life is over")
    run.signal(signal.SIGCONT)
    assert run.end().code == 124
    attempt = procstop_command.report()["tasks"][0]["attempts"][0]
    assert (attempt["outcome"], attempt["reason"]) == ("killed", "time_limit")
    assert attempt["wait"] == {"signal": signal.SIGKILL}


def test_worker_that_may_run_for_ever_has_no_such_end(engine: str, guests: Guests) -> None:
    plan = prepare(Job("test", [task(guests["spins"], engine=engine)]))
    assert plan.assignments[0].order.life is None
