"""What the selftest prints: a line for each row, and a last one that says what held."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import procstop.selftest
from procstop.selftest import table
from procstop.selftest.bench import Trial
from procstop.selftest.rows import ROWS
from procstop.selftest.run import BROKEN, HELD, LEFT_OUT, MISSING, Report, Result, judge, percentile

HOLDS = Result("P1", "a guest that spins", "wasmer", HELD, 10, 0, 0, 2.345, 12.0)
BREAKS = Result("P2", "SIGKILL of both together", "wasmtime", BROKEN, 10, 1, 2, 3.0, 9.0, "2 survived")
SLOW = Result("P2", "SIGKILL of the supervisor", "wasmer", HELD, 10, 0, 0, 30.0, 130.0)
LACKS = Result("P6", "native code: fork", "wasmer", MISSING, why="no filter of system calls here")
TRACED = Result("P1", "a debugger", "wasmer", LEFT_OUT, why="nobody may trace here")
LEFT = Result("P7", "the same outcomes", "both", LEFT_OUT, why="wasmer is not here")


def report(*results: Result) -> Report:
    return Report(results, ("wasmer", "wasmtime"), 10, 61.4)


def test_line_has_a_column_for_each_number() -> None:
    assert table.heading().split() == ["promise", "tried", "engine", "trials", "failed", "survivors", "p50", "p99"]
    assert table.line(HOLDS).split() == [
        "P1",
        "a",
        "guest",
        "that",
        "spins",
        "wasmer",
        "10",
        "0",
        "0",
        "2.3",
        "ms",
        "12.0",
        "ms",
    ]
    ends = [table.heading().index(word) + len(word) for word in ("trials", "failed", "survivors", "p50", "p99")]
    assert [table.line(HOLDS)[:end].split()[-1] for end in ends] == ["10", "0", "0", "ms", "ms"]


def test_line_of_a_row_that_did_not_hold_says_why() -> None:
    assert table.line(BREAKS).endswith("  broken: 2 survived")
    assert table.line(LACKS).endswith("  missing: no filter of system calls here")
    assert " - " in table.line(LACKS) and "0" not in table.line(LACKS)


def test_line_of_a_row_that_was_slow_says_what_is_promised() -> None:
    assert table.line(SLOW).endswith("  slow: 100 ms are promised where nothing else runs")


def test_every_row_fits_its_column() -> None:
    assert max(len(row.tried) for row in ROWS) <= table._TRIED
    assert {row.promise for row in ROWS} == set(table.PROMISES)


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ((HOLDS, HOLDS), "every promise held: 20 trials, 2 rows, 61 s"),
        (
            (HOLDS, SLOW),
            "every promise held: 20 trials, 2 rows, 61 s; 1 row was slower than is promised of an idle machine",
        ),
        (
            (HOLDS, LEFT),
            "every promise that could be tried held: 10 trials, 1 row, 61 s; 1 row was left out (wasmer is not here)",
        ),
        (
            (HOLDS, LEFT, TRACED, LEFT),
            "every promise that could be tried held: 10 trials, 1 row, 61 s; 3 rows were left out (wasmer is not here; "
            "nobody may trace here)",
        ),
        (
            (BREAKS, LEFT),
            "not every promise held: P2 did not hold: 10 trials, 1 row, 61 s; 1 row was left out (wasmer is not here)",
        ),
        ((HOLDS, BREAKS), "not every promise held: P2 did not hold: 20 trials, 2 rows, 61 s"),
        ((BREAKS, LACKS), "not every promise held: P2 did not hold; P6 cannot be kept here: 10 trials, 2 rows, 61 s"),
    ],
)
def test_summary_says_what_held(results: tuple[Result, ...], said: str) -> None:
    assert table.summary(report(*results)) == said
    assert report(*results).held is said.startswith("every")


def test_json_leaves_no_key_out() -> None:
    said = json.loads(table.dumps(report(HOLDS, LACKS)))
    assert (said["schema"], said["held"], said["duration_s"]) == ("procstop.selftest/1", False, 61.4)
    assert [set(row) for row in said["rows"]] == [set(HOLDS.__dict__)] * 2
    assert (said["rows"][0]["p50_ms"], said["rows"][1]["p50_ms"]) == (2.345, None)


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(n) for n in range(1, 101)]
    assert (percentile(values, 50), percentile(values, 99), percentile([7.0], 99)) == (50.0, 99.0, 7.0)
    assert percentile([], 50) is None


def test_result_counts_trials_that_failed_and_all_who_survived() -> None:
    empty = Result("P2", "x", "wasmer", HELD)
    made = judge(empty, [Trial(1.0), Trial(2.0, "slow"), Trial(3.0, None, 2)], 3)
    assert (made.state, made.trials, made.failures, made.survivors, made.why) == (BROKEN, 3, 2, 2, "slow")
    assert (made.p50_ms, made.p99_ms) == (2.0, 3.0)
    assert judge(empty, [Trial()] * 3, 3).state == HELD
    assert judge(empty, [Trial()], 3).why == "1 of 3 trials were made"


def test_guests_are_shipped_beside_the_code() -> None:
    guests = Path(procstop.selftest.__file__).parent / "guests"
    names = {path.stem for path in guests.glob("*.wat")}
    assert {"spins", "escapes", "ends", "naps", "calls_host"} <= names
    assert all(path.read_text().startswith(";; ") for path in guests.glob("*.wat"))
