"""RESULTS.md: the last table, what each row and each contender is, and the machine. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.contender import Contender
from benchmarks.figures import Report
from benchmarks.rows import Row
from benchmarks.table import as_markdown, at_a_glance

_HEAD = """# Results

Written by `make bench`; README.md beside this file says how. Absolute times of one machine say little: compare lines of
one table, or their ratios to the floor, the smallest process that can be started and waited for, timed between the
others. The best of each row is bold, whoever it is. p99 is the nearest rank, so of few samples it is the worst."""


def render(rows: Sequence[Row], contenders: Sequence[Contender], report: Report) -> str:
    """Return the page."""
    shared = [row for row in rows if not row.own]
    measured = {result.row for result in report.results}
    named = {result.who for result in report.results}
    parts = [
        _HEAD,
        "## The machine",
        _table(("", ""), report.machine),
        "## At a glance",
        "Medians.",
        at_a_glance(shared, report),
        "## The table",
        as_markdown(rows, report),
        "## What the rows mean",
        _table(("row", "meaning"), [(row.title, row.meaning) for row in rows if row.key in measured]),
        "## Who is measured",
        _table(("", "used as"), [(one.name, one.what) for one in contenders if one.name in named]),
    ]
    if report.missing:
        parts += ["## Not measured", _table(("", "why"), report.missing)]
    return "\n\n".join(parts) + "\n"


def _table(head: tuple[str, str], rows: Sequence[tuple[str, str]]) -> str:
    cells = [(one.replace("|", "\\|"), other.replace("|", "\\|")) for one, other in rows]
    return "\n".join([f"| {head[0]} | {head[1]} |", "|---|---|", *(f"| {one} | {other} |" for one, other in cells)])
