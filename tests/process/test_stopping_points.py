"""Stopping points: the functions, the strategies, `check_every`, and binding them to other names."""

from __future__ import annotations

import pytest

from procstop import Job, JobFileError, Outcome, Reason, Rung, Strategy, StrategyKind, start
from support import hosts
from support.guests import Guests
from support.running import PATIENT, QUICK, run_guest, task
from support.watching import Watcher

NEXT = StrategyKind.NEXT_N


def test_points_that_were_passed_are_counted(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["checks_in_loop"], "run", 12_345, engine=engine)
    assert (attempt.outcome, attempt.values) == (Outcome.COMPLETED, (12_345,))
    assert (attempt.stopping_points.passed, attempt.stopping_points.stopped_at) == (12_345, None)
    assert attempt.stopping_points.longest_gap_s is not None


def test_count_is_exact_after_a_million_points(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["checks_in_loop"], "run", 1_000_000, engine=engine)
    assert (attempt.values, attempt.stopping_points.passed) == ((1_000_000,), 1_000_000)


def test_guest_is_interrupted_after_millions_of_points(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    job = Job("test", [task(guests["checks_in_loop"], engine=engine)], stop=PATIENT)
    with start(job, observers=[watcher]) as run:
        watcher.wait_until(lambda events: any(getattr(e, "passed", 0) > 3_000_000 for e in events))
        run.stop()
        attempt = run.result().tasks[0].attempts[0]
    assert attempt.outcome is Outcome.INTERRUPTED
    assert attempt.stopping_points.stopped_at == attempt.stopping_points.passed > 3_000_000


def test_guest_without_points_passes_none(engine: str, guests: Guests) -> None:
    points = run_guest(guests["returns"], "nothing", engine=engine).stopping_points
    assert (points.passed, points.longest_gap_s, points.stopped_at) == (0, None, None)


@pytest.mark.parametrize("guest", ["checks_in_loop", "checks_slowly", "checks_in_start", "progresses", "sleeps"])
def test_guest_leaves_at_its_next_point(engine: str, guests: Guests, guest: str) -> None:
    attempt = run_guest(guests[guest], engine=engine, time=0.3, stop=PATIENT)
    assert (attempt.outcome, attempt.rung) == (Outcome.INTERRUPTED, Rung.INTERRUPT)
    assert attempt.stopping_points.stopped_at == attempt.stopping_points.passed > 0


def test_guest_that_asks_returns_what_it_has_so_far(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["asks_and_returns"], "run", engine=engine, time=0.3, stop=PATIENT)
    assert (attempt.outcome, attempt.reason, attempt.values) == (Outcome.INTERRUPTED, Reason.TIME_LIMIT, None)
    assert attempt.partial == (attempt.stopping_points.stopped_at,)


def test_guest_that_asks_and_goes_on_is_terminated(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["asks_and_goes_on"], engine=engine, time=0.3, stop=QUICK)
    assert (attempt.outcome, attempt.rung) == (Outcome.TERMINATED, Rung.TERMINATE)
    assert attempt.phases.interrupt is not None and attempt.phases.interrupt >= 0.2


@pytest.mark.parametrize("n", [0, 1, 1000])
def test_strategy_next_stops_so_many_points_after_the_one_that_learned(engine: str, guests: Guests, n: int) -> None:
    """How many are passed before is chance; what is sure is that it leaves, and not before n points."""
    attempt = run_guest(guests["checks_slowly" if n < 10 else "checks_in_loop"], engine=engine, time=0.3, stop=PATIENT,
                        strategy=Strategy(NEXT, n))  # fmt: skip
    assert attempt.outcome is Outcome.INTERRUPTED
    assert (attempt.stopping_points.stopped_at or 0) > n


def test_strategy_next_with_too_large_a_number_ends_on_the_next_rung(engine: str, guests: Guests) -> None:
    attempt = run_guest(
        guests["checks_slowly"], engine=engine, time=0.3, stop=QUICK, strategy=Strategy(NEXT, 1_000_000)
    )
    assert attempt.outcome is Outcome.TERMINATED


def test_strategy_ignore_does_not_hear_a_user(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    job = Job("test", [task(guests["checks_in_loop"], engine=engine, strategy=Strategy(StrategyKind.IGNORE))])
    with start(job, observers=[watcher]) as run:
        watcher.wait_for_state("running")
        run.stop()
        assert not run.wait(0.3)
        run.stop(Rung.TERMINATE)
        attempt = run.result().tasks[0].attempts[0]
    assert (attempt.outcome, attempt.reason, attempt.rung) == (Outcome.TERMINATED, Reason.STOP_COMMAND, Rung.TERMINATE)


def test_strategy_ignore_is_no_way_around_a_limit(engine: str, guests: Guests) -> None:
    attempt = run_guest(
        guests["checks_in_loop"], engine=engine, time=0.2, stop=PATIENT, strategy=Strategy(StrategyKind.IGNORE)
    )
    assert (attempt.outcome, attempt.reason) == (Outcome.TERMINATED, Reason.TIME_LIMIT)
    assert attempt.phases.interrupt is None


def test_check_every_looks_at_every_nth_point_only(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["checks_in_loop"], engine=engine, time=0.3, stop=PATIENT, check_every=1000)
    assert attempt.outcome is Outcome.INTERRUPTED
    assert (attempt.stopping_points.stopped_at or 1) % 1000 == 0


def test_sleep_goes_on_to_its_end_where_nobody_interrupts(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["sleeps"], "nap", 400_000_000, engine=engine)
    assert (attempt.outcome, attempt.values) == (Outcome.COMPLETED, (0,))
    assert attempt.stopping_points.passed > 0
    # The supervisor's clock begins when it reads that the guest runs, which may be some time after that.
    assert attempt.phases.run is not None and attempt.phases.run >= 0.2


def test_sleep_ends_at_once_when_it_is_interrupted(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    with start(Job("test", [task(guests["sleeps"], engine=engine)], stop=PATIENT), observers=[watcher]) as run:
        watcher.wait_for_output(b"sleeping")
        run.stop()
        attempt = run.result().tasks[0].attempts[0]
    assert (attempt.outcome, attempt.stdout.tail) == (Outcome.INTERRUPTED, b"sleeping\n")


def test_progress_is_told_to_observers(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    with start(Job("test", [task(guests["progresses"], engine=engine)], stop=PATIENT), observers=[watcher]) as run:
        watcher.wait_until(
            lambda events: any((getattr(e, "done", None), getattr(e, "total", None)) == (3, 8) for e in events)
        )
        run.stop()
        assert run.result().tasks[0].outcome is Outcome.INTERRUPTED
    assert run_guest(guests["progresses"], "run", 100, engine=engine).values == (100,)


# Leaving by one's own call


def test_early_exit_of_the_documentation_is_bound_by_default(engine: str, guests: Guests) -> None:
    for guest, call, args in (("early_exit_returns", "run", (1, 2)), ("early_exit_interrupts", "exit_early", ())):
        attempt = run_guest(guests[guest], call, *args, engine=engine)
        assert (attempt.outcome, attempt.exit_code, attempt.values) == (Outcome.EXITED, None, None)


@pytest.mark.parametrize("code", [0, 1, 125, 126, 255, 256, 300, 2**31, 2**32 - 1])
@pytest.mark.parametrize("call", ["run", "leave"])
def test_exit_code_of_32_bits_is_kept(engine: str, guests: Guests, call: str, code: int) -> None:
    attempt = run_guest(guests["exits_as_told"], call, code, engine=engine)
    ended = Outcome.COMPLETED if (call, code) == ("run", 0) else Outcome.EXITED
    assert (attempt.outcome, attempt.exit_code) == (ended, code)


def test_any_import_can_be_bound(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["early_exit_with_code"], "run", 6, engine=engine, imports={"env.bail_out": "exit"})
    assert (attempt.outcome, attempt.exit_code) == (Outcome.EXITED, 6)
    attempt = run_guest(
        guests["calls_host_in_loop"], engine=engine, imports={"env.work": "checkpoint"}, time=0.3, stop=PATIENT
    )
    assert attempt.outcome is Outcome.INTERRUPTED


def test_binding_wins_over_what_is_bound_by_default(engine: str, guests: Guests) -> None:
    attempt = run_guest(
        guests["early_exit_returns"], "run", 1, 2, engine=engine, imports={"env.early_exit": "checkpoint"}
    )
    assert (attempt.outcome, attempt.values, attempt.stopping_points.passed) == (Outcome.COMPLETED, (3,), 1)


def test_host_function_wins_over_what_is_bound_by_default(engine: str, guests: Guests) -> None:
    attempt = run_guest(
        guests["early_exit_returns"], "run", 1, 2, engine=engine, host={"env.early_exit": hosts.nothing}
    )
    assert attempt.values == (3,)


@pytest.mark.parametrize(
    ("imports", "problem"),
    [
        ({"env.bail_out": "checkpoint"}, 'import "env.bail_out" is (i32) -> (), but procstop\'s "checkpoint" is'),
        ({"env.bail_out": "leave"}, '"env.bail_out" is bound to "leave"; it must be one of checkpoint, interrupted'),
        ({"env.bail_ut": "exit"}, 'the module does not import "env.bail_ut"; did you mean "env.bail_out"?'),
        ({}, 'import "env.bail_out" (i32) -> (): nobody provides it; bind it in "imports"'),
    ],
)
def test_binding_that_does_not_fit_is_refused(
    engine: str, guests: Guests, imports: dict[str, str], problem: str
) -> None:
    with pytest.raises(JobFileError) as caught:
        run_guest(guests["early_exit_with_code"], "run", 6, engine=engine, imports=imports, expect=Outcome.EXITED)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("args", "message"),
    [((100, 14), "no such colour"), ((0, 0), ""), ((100, 4), "no s"), ((118, 2), "\ufffd\ufffd")],
)
def test_message_is_read_from_the_guests_memory(
    engine: str, guests: Guests, args: tuple[int, int], message: str
) -> None:
    attempt = run_guest(guests["fails_with_message"], "run", *args, engine=engine)
    assert attempt.outcome is Outcome.EXITED
    assert (attempt.message or "") == message


@pytest.mark.parametrize("args", [(65_536, 1), (2**32 - 1, 1), (65_530, 7), (40_000, 2**32 - 1)])
def test_message_outside_of_memory_is_a_host_error(engine: str, guests: Guests, args: tuple[int, int]) -> None:
    attempt = run_guest(guests["fails_with_message"], "run", *args, engine=engine)
    assert attempt.outcome is Outcome.HOST_ERROR
    assert "outside the guest's memory of 65536" in (attempt.message or "")


def test_message_as_large_as_the_memory_is_cut(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["fails_with_message"], "run", 0, 65_536, engine=engine)
    assert attempt.outcome is Outcome.EXITED
    assert attempt.message is not None and len(attempt.message) < 9_000
