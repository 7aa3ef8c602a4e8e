"""P3 politeness: a guest that reaches a stopping point within the grace is never terminated; its output is kept."""

from __future__ import annotations

import pytest

from procstop import Job, Outcome, Reason, Rung, start
from support import hosts
from support.guests import Guests
from support.running import PATIENT, task
from support.watching import Watcher

GUESTS = {
    "checks_in_loop": "_start",
    "checks_slowly": "_start",
    "checks_in_start": "_start",
    "asks_and_returns": "run",
    "asks_and_exits": "_start",
    "progresses": "_start",
    "sleeps": "_start",
    "writes_politely": "_start",
}


@pytest.mark.parametrize("guest", GUESTS)
def test_polite_guest_is_only_asked(engine: str, guests: Guests, guest: str) -> None:
    watcher = Watcher()
    with start(Job("test", [task(guests[guest], GUESTS[guest], engine=engine)], stop=PATIENT),
               observers=[watcher]) as run:  # fmt: skip
        watcher.wait_for_state("running")
        if guest in ("sleeps", "writes_politely"):
            watcher.wait_for_output(b"\n")
        run.stop()
        attempt = run.result().tasks[0].attempts[0]
    assert (attempt.outcome, attempt.reason, attempt.rung) == (
        Outcome.INTERRUPTED,
        Reason.STOP_COMMAND,
        Rung.INTERRUPT,
    )
    assert attempt.wait == ("exit", 0)
    assert watcher.states() == ["starting", "running", "interrupting", "exiting", "over"]
    assert attempt.stdout.bytes == len(watcher.written())
    if guest == "writes_politely":
        assert attempt.stdout.bytes == 64 * attempt.stopping_points.passed


def test_polite_guest_beside_rude_ones_is_only_asked(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    polite = task(guests["sleeps"], name="polite", engine=engine, stop=PATIENT)
    rude = [
        task(guests["calls_host_then_spins"], name=f"rude {number}", engine=engine, host={"env.work": hosts.says_so})
        for number in range(3)
    ]
    with start(Job("test", [*rude, polite], concurrency=4), observers=[watcher]) as run:
        watcher.wait_for_output(b"here", count=3)
        watcher.wait_for_output(b"sleeping")
        run.stop()
        record = run.result()
    assert record["polite"].outcome is Outcome.INTERRUPTED
    assert {record[f"rude {number}"].outcome for number in range(3)} == {Outcome.TERMINATED}
    assert record["polite"].attempts[0].stdout.tail == b"sleeping\n"
