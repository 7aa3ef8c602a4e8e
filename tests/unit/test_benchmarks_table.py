"""The table of a benchmark, and the page that keeps it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.alternatives import contenders
from benchmarks.contender import Contender
from benchmarks.figures import Figures, Report, Result
from benchmarks.own_rows import ROWS
from benchmarks.results import render
from benchmarks.rows import Row
from benchmarks.table import as_markdown, as_text, at_a_glance, lines, ratio_to_floor, show

FLOOR_S = 0.0005
REPORT = Report(
    results=(
        Result("throughput", "procstop, wasmer", Figures("tasks/s", (1000.0, 1100.0, 900.0)), FLOOR_S),
        Result("throughput", "pebble", Figures("tasks/s", (4000.0,)), FLOOR_S),
        Result("runaway", "pebble", Figures("s", (3.1, 3.0, 3.2)), FLOOR_S),
        Result("runaway", "ProcessPoolExecutor", Figures("s", never=True, note="still runs"), FLOOR_S),
        Result("runaway", "procstop, wasmer", Figures("s", (0.004, 0.006, 0.005)), FLOOR_S),
        Result("orphans", "procstop, wasmer", Figures("count", (0, 0)), FLOOR_S),
        Result("orphans", "Extism", Figures("count", (0,)), FLOOR_S),
        Result("orphans", "pebble", Figures("count", (1, 4)), FLOOR_S),
        Result("output", "pebble", Figures("answer", answer="no"), FLOOR_S),
        Result("output", "procstop, wasmer", Figures("answer", answer="yes", note="in its record"), FLOOR_S),
        Result("check", "procstop, wasmer", Figures("ns", (90.0,), label="a checkpoint"), FLOOR_S),
    ),
    floor=Figures("s", (FLOOR_S, FLOOR_S)),
    machine=(("CPU", "one | two"), ("cores", "2")),
    missing=(("GNU parallel", "GNU parallel is not installed; apt-get install parallel"),),
)


def shown(key: str, report: Report = REPORT) -> list[tuple[str, str, bool]]:
    return [(line.who, line.median, line.best) for line in lines(ROWS[key], report.results)]


def test_best_comes_first_whoever_it_is() -> None:
    assert shown("throughput") == [("pebble", "4,000/s", True), ("procstop, wasmer", "1,000/s", False)]


def test_guest_that_never_stops_comes_last_and_is_not_best() -> None:
    assert shown("runaway") == [
        ("procstop, wasmer", "5.00 ms", True),
        ("pebble", "3,100 ms", False),
        ("ProcessPoolExecutor", "never", False),
    ]


def test_row_in_which_nobody_stops_has_no_best() -> None:
    report = replace(REPORT, results=(REPORT.results[3],))
    assert shown("runaway", report) == [("ProcessPoolExecutor", "never", False)]


def test_worst_count_is_shown_and_all_with_the_least_are_best() -> None:
    assert shown("orphans") == [("procstop, wasmer", "0", True), ("Extism", "0", True), ("pebble", "4", False)]


def test_yes_is_best() -> None:
    assert shown("output") == [("procstop, wasmer", "yes", True), ("pebble", "no", False)]


def test_row_about_procstop_alone_keeps_its_order_and_says_what_is_meant() -> None:
    assert shown("check") == [("procstop, wasmer: a checkpoint", "90.0 ns", False)]


@pytest.mark.parametrize(
    ("index", "ratio"), [(0, 2.0), (1, 0.5), (4, 10.0), (3, None), (5, None), (8, None), (10, None)]
)
def test_ratio_is_of_the_time_for_one_task(index: int, ratio: float | None) -> None:
    result = REPORT.results[index]
    found = ratio_to_floor(ROWS[result.row], result)
    assert found == (None if ratio is None else pytest.approx(ratio))


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        ("s", 0.00053, "0.53 ms"),
        ("s", 3.1, "3,100 ms"),
        ("s", 0.0321, "32.1 ms"),
        ("tasks/s", 3412.4, "3,412/s"),
        ("x", 1.25, "1.25x"),
        ("ns", 60.04, "60.0 ns"),
        ("MiB", -0.5, "-0.50 MiB"),
        ("count", 4, "4"),
    ],
)
def test_values_have_about_three_digits(unit: str, value: float, text: str) -> None:
    assert show(unit, value) == text


def test_text_names_the_floor_the_rows_and_who_is_missing() -> None:
    text = as_text(list(ROWS.values()), REPORT)
    floor = " ".join(text.splitlines()[1].split())
    assert floor == "the floor: posix_spawn(/bin/true) and wait 0.50 ms 0.50 ms 2 1.0x"
    assert " * pebble " in text
    assert "GNU parallel is not installed; apt-get install parallel" in text
    assert ROWS["start"].title not in text, "a row without figures is left out"
    assert max(map(len, text.splitlines())) < 130


def test_columns_of_the_text_are_aligned() -> None:
    rows = as_text([ROWS["runaway"]], REPORT).splitlines()[4:6]
    assert len({row.rindex("ms") for row in rows}) == 1


def test_markdown_has_as_many_cells_in_every_line() -> None:
    for table in (as_markdown(list(ROWS.values()), REPORT), at_a_glance([ROWS["runaway"], ROWS["output"]], REPORT)):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_glance_has_a_line_for_everyone_and_a_dash_for_what_is_not_known() -> None:
    glance = at_a_glance([ROWS["throughput"], ROWS["runaway"]], REPORT).splitlines()
    assert glance[0] == "| | tasks/s | stop runaway |"
    assert "| procstop, wasmer | 1,000/s | **5.00 ms** |" in glance
    assert "| ProcessPoolExecutor | – | never |" in glance


def test_page_has_the_table_the_machine_and_the_meaning_of_each_row() -> None:
    page = render(list(ROWS.values()), list(contenders().values()), REPORT)
    assert "| CPU | one \\| two |" in page
    assert ROWS["orphans"].meaning in page
    assert ROWS["blocked"].meaning not in page, "it was not measured"
    assert "| GNU parallel | GNU parallel is not installed; apt-get install parallel |" in page
    assert page.endswith("|\n") and "\n\n\n" not in page


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: str(row.key))
def test_row_says_what_it_means(row: Row) -> None:
    assert row.meaning.endswith(".") and "  " not in row.meaning and "|" not in row.meaning
    assert row.best in ("low", "high", "yes", "")


@pytest.mark.parametrize("contender", contenders().values(), ids=lambda one: str(one.name))
def test_contender_says_how_it_is_used(contender: Contender) -> None:
    assert contender.what and "|" not in contender.what
