"""What guests write: counted, limited, kept, also when they are killed."""

from __future__ import annotations

from pathlib import Path

from procstop import Limits, Outcome, Reason, Rung
from support import hosts
from support.guests import Guests
from support.running import ANY, PATIENT, QUICK, run_guest, run_record, task
from support.watching import Watcher

LINE = b"0123456789012345678901234567890123456789012345678901234567890 x\n"


def test_output_within_the_limit_is_whole(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    attempt = run_guest(guests["writes_and_returns"], "run", 1_000, engine=engine, output=64_000, observers=[watcher])
    assert (attempt.outcome, attempt.stdout.bytes, attempt.stdout.truncated) == (Outcome.COMPLETED, 64_000, False)
    assert watcher.written() == LINE * 1_000
    assert attempt.stdout.tail == (LINE * 1_000)[-16 * 1024 :]


def test_output_without_end_is_stopped_and_cut_at_the_limit(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    attempt = run_guest(guests["writes_forever"], engine=engine, output=100_000, stop=PATIENT, observers=[watcher])
    assert (attempt.outcome, attempt.reason, attempt.rung) == (
        Outcome.TERMINATED,
        Reason.OUTPUT_LIMIT,
        Rung.TERMINATE,
    )
    assert (attempt.stdout.bytes, attempt.stdout.truncated) == (100_000, True)
    assert (attempt.stderr.bytes, attempt.stderr.truncated) == (0, False)
    assert watcher.written() == (LINE * 2_000)[:100_000]
    assert attempt.message == "stdout went beyond its limit"


def test_guest_that_writes_too_much_may_still_leave_politely(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["writes_politely"], engine=engine, output=10_000, stop=PATIENT)
    assert (attempt.outcome, attempt.reason) == (Outcome.INTERRUPTED, Reason.OUTPUT_LIMIT)
    assert (attempt.stdout.bytes, attempt.stdout.truncated) == (10_000, True)


def test_guest_that_wrote_too_much_in_a_rush_and_is_over_says_so(engine: str, guests: Guests) -> None:
    """It may be over before its output was read: completed then, but the record says what became of the rest."""
    attempt = run_guest(guests["writes_and_returns"], "run", 100, engine=engine, output=100, stop=PATIENT)
    assert (attempt.stdout.bytes, attempt.stdout.truncated) == (100, True)
    assert attempt.outcome in (Outcome.COMPLETED, Outcome.TERMINATED)
    assert attempt.reason is Reason.OUTPUT_LIMIT


def test_what_was_written_before_a_kill_is_kept(engine: str, guests: Guests, tmp_path: Path) -> None:
    attempt = run_guest(
        guests["writes_then_spins"], engine=engine, time=0.3, stop=QUICK, output_dir=str(tmp_path / "out")
    )
    assert attempt.outcome is Outcome.TERMINATED
    for stream, said in ((attempt.stdout, b"said so far.\n"), (attempt.stderr, b"and warned..\n")):
        assert (stream.bytes, stream.tail, stream.truncated) == (13, said, False)
        assert stream.path is not None and Path(stream.path).read_bytes() == said


def test_output_goes_to_a_file_for_each_attempt_and_stream(engine: str, guests: Guests, tmp_path: Path) -> None:
    record = run_record(
        task(guests["writes_and_returns"], "run", 3_000, name="a/b", engine=engine),
        task(guests["writes_then_spins"], name="spins", engine=engine, limits=Limits(time=0.3), stop=QUICK),
        task(guests["returns"], "nothing", name="silent", engine=engine),
        output_dir=str(tmp_path / "out"),
    )
    files = {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    assert files == {"a%2Fb.1.stdout": 192_000, "spins.1.stdout": 13, "spins.1.stderr": 13}
    assert record["a/b"].attempts[0].stdout.path == str(tmp_path / "out" / "a%2Fb.1.stdout")
    assert record["silent"].attempts[0].stdout.path is None


def test_each_retry_has_files_of_its_own(engine: str, guests: Guests, tmp_path: Path) -> None:
    failing = task(
        guests["calls_host"],
        engine=engine,
        host={"env.work": hosts.fails_once},
        env={"MARK": str(tmp_path / "mark")},
        retries=1,
        expect=Outcome.COMPLETED,
    )
    speaking = task(guests["writes_then_spins"], name="speaks", engine=engine, limits=Limits(time=0.3), stop=QUICK)
    record = run_record(failing, speaking, output_dir=str(tmp_path / "out"))
    assert [one.outcome for one in record["guest"].attempts] == [Outcome.HOST_ERROR, Outcome.COMPLETED]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["speaks.1.stderr", "speaks.1.stdout"]


def test_observer_that_raises_or_blocks_changes_nothing(engine: str, guests: Guests) -> None:
    def raises(_event: object) -> None:
        raise OSError("observer")

    attempt = run_guest(guests["writes_then_spins"], engine=engine, time=0.3, stop=QUICK, observers=[raises])
    assert (attempt.outcome, attempt.stdout.tail) == (Outcome.TERMINATED, b"said so far.\n")


def test_file_that_cannot_be_written_costs_the_output_and_not_the_run(
    engine: str, guests: Guests, tmp_path: Path
) -> None:
    (tmp_path / "guest.1.stdout").mkdir()
    record = run_record(
        task(guests["writes_and_returns"], "run", 10, engine=engine, expect=ANY), output_dir=str(tmp_path)
    )
    stream = record.tasks[0].attempts[0].stdout
    assert (record.tasks[0].outcome, stream.truncated, stream.path) == (Outcome.COMPLETED, True, None)
    assert record.exit_code == 3
