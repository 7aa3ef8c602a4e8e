"""A worker that lies, or breaks the message format: it is killed, and the supervisor goes on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import procstop
from procstop import Job, Outcome, Reason, Rung
from procstop.events import AttemptOver, AttemptProgress
from procstop.supervisor.port import REST_S
from support import hosts
from support.guests import Guests
from support.running import PATIENT, QUICK, run_guest, run_record, task
from support.watching import Watcher


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (hosts.reports_garbage, "a message of 4294967295 bytes; the most is 65536"),
        (hosts.reports_garbage_json, "a message"),
        (hosts.reports_for_another, "a message about another attempt"),
        (hosts.reports_final_for_another, "a message about another attempt"),
        (hosts.reports_megabytes_of_garbage, "a message that is not JSON"),
        (hosts.reports_ready_again, "Ready cannot come while running"),
        (hosts.reports_killed, "a report of killed while running"),
        (hosts.reports_interrupted, "a report of interrupted that nobody asked for"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_breach_ends_in_a_kill_that_says_protocol(
    engine: str, guests: Guests, work: Callable[[], None], message: str
) -> None:
    attempt = run_guest(guests["calls_host_then_spins"], engine=engine, host={"env.work": work}, stop=PATIENT)
    assert (attempt.outcome, attempt.reason, attempt.rung) == (Outcome.KILLED, Reason.PROTOCOL, Rung.KILL)
    assert message in (attempt.message or "")


def test_breach_of_one_worker_does_not_touch_another(engine: str, guests: Guests) -> None:
    record = run_record(
        task(guests["calls_host"], name="bad", engine=engine, host={"env.work": hosts.reports_garbage}),
        task(guests["returns"], "run", 1, 2, name="good", engine=engine),
        concurrency=2,
    )
    assert record["good"].values == (3,)
    # A worker that leaves at once may be gone before it is killed: by our kill, or with a second report that
    # nobody reads any more. It is never taken for a success.
    assert record["bad"].attempts[0].reason is Reason.PROTOCOL


def test_message_that_never_ends_does_not_hold_up_the_time_limit(engine: str, guests: Guests) -> None:
    attempt = run_guest(
        guests["calls_host_then_spins"],
        engine=engine,
        host={"env.work": hosts.reports_half_a_message},
        time=0.3,
        stop=QUICK,
    )
    assert (attempt.outcome, attempt.reason) == (Outcome.TERMINATED, Reason.TIME_LIMIT)


def test_worker_that_closes_its_report_pipe_is_still_limited(engine: str, guests: Guests) -> None:
    attempt = run_guest(
        guests["calls_host_then_spins"], engine=engine, host={"env.work": hosts.closes_report}, time=0.3, stop=QUICK
    )
    assert (attempt.outcome, attempt.reason) == (Outcome.TERMINATED, Reason.TIME_LIMIT)


def test_worker_that_cannot_report_any_more_is_crashed(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["calls_host"], engine=engine, host={"env.work": hosts.closes_report})
    assert (attempt.outcome, attempt.wait, attempt.reason) == (Outcome.CRASHED, ("exit", 0), None)


def test_flood_of_heartbeats_does_not_hold_up_the_time_limit(engine: str, guests: Guests) -> None:
    attempt = run_guest(
        guests["calls_host"], engine=engine, host={"env.work": hosts.floods_report}, time=0.5, stop=QUICK
    )
    assert (attempt.outcome, attempt.reason) == (Outcome.TERMINATED, Reason.TIME_LIMIT)


@pytest.mark.parametrize("work", [hosts.floods_report, hosts.floods_with_guarded], ids=lambda work: work.__name__)
def test_flood_costs_nobody_else_anything(engine: str, guests: Guests, work: Callable[[], None]) -> None:
    """The others end while it goes on, a stop is heard, and observers are not told of each beat."""
    watcher = Watcher()
    good = [task(guests["returns"], "run", 1, number, name=f"good {number}", engine=engine) for number in range(5)]
    flood = task(guests["calls_host"], name="flood", engine=engine, host={"env.work": work}, stop=QUICK)
    run = procstop.start(Job("test", (flood, *good), concurrency=2), observers=[watcher])
    with run:
        watcher.wait_for_output(b"floods")
        watcher.wait_until(lambda told: sum(isinstance(event, AttemptOver) for event in told) == len(good))
        run.stop()
        record = run.result()
    assert [record[one.name].values for one in good] == [(1 + number,) for number in range(5)]
    assert record["flood"].outcome is Outcome.TERMINATED
    beats = sum(isinstance(event, AttemptProgress) for event in watcher.events)
    # Two may come at once before it is left to itself for a moment; more come as it ends.
    assert beats <= 2 * record.duration_s / REST_S + 40


def test_flood_after_the_report_ends_with_the_exit_grace(engine: str, guests: Guests) -> None:
    attempt = run_guest(
        guests["calls_host"], engine=engine, host={"env.work": hosts.reports_completed_and_floods}, stop=QUICK
    )
    assert (attempt.outcome, attempt.reason, attempt.rung) == (Outcome.COMPLETED, None, Rung.TERMINATE)


def test_half_a_message_before_the_report_is_no_success(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["calls_host"], engine=engine, host={"env.work": hosts.reports_half_a_message})
    # It may have left before our kill, by itself.
    assert attempt.outcome in (Outcome.KILLED, Outcome.CRASHED)
    assert (attempt.reason, attempt.rung, attempt.values) == (Reason.PROTOCOL, Rung.KILL, None)


def test_second_report_is_a_breach_and_the_first_one_stays(engine: str, guests: Guests) -> None:
    attempt = run_guest(
        guests["calls_host_then_spins"], engine=engine, host={"env.work": hosts.reports_completed_twice}, stop=PATIENT
    )
    assert (attempt.outcome, attempt.reason, attempt.rung) == (Outcome.COMPLETED, Reason.PROTOCOL, Rung.KILL)


def test_worker_that_closes_all_its_descriptors_is_still_limited(engine: str, guests: Guests) -> None:
    attempt = run_guest(
        guests["calls_host_then_spins"], engine=engine, host={"env.work": hosts.closes_everything}, time=0.3, stop=QUICK
    )
    assert (attempt.outcome, attempt.reason) == (Outcome.TERMINATED, Reason.TIME_LIMIT)


def test_report_of_success_does_not_let_a_guest_go_on(engine: str, guests: Guests) -> None:
    attempt = run_guest(
        guests["calls_host_then_spins"],
        engine=engine,
        host={"env.work": hosts.reports_completed_and_goes_on},
        stop=QUICK,
    )
    # It is believed, as any report of success must be; but after the exit grace the worker goes.
    assert (attempt.outcome, attempt.reason, attempt.rung) == (Outcome.COMPLETED, None, Rung.TERMINATE)
