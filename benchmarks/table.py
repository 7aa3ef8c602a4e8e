"""The table of a run, as text for a terminal and as Markdown. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.figures import Figures, Report, Result
from benchmarks.rows import Row
from benchmarks.stats import Summary, summarize

_WHO = 58


@dataclass(frozen=True)
class Line:
    """What is shown of one result."""

    who: str
    median: str
    tail: str
    count: str
    ratio: str
    note: str
    best: bool


def lines(row: Row, results: Sequence[Result]) -> list[Line]:
    """Return the lines of a row, the best first where there is a best; those that never end come last."""
    chosen = [result for result in results if result.row == row.key]
    best = _best(row, chosen)
    if row.best:
        chosen.sort(key=lambda result: _order(row, result.figures))
    return [_line(row, result, result in best) for result in chosen]


def as_text(rows: Sequence[Row], report: Report) -> str:
    """Return the table for a terminal; a star marks the best of a row."""
    floor = summarize(report.floor.samples)
    out = [
        f"{'':{_WHO}}{'median':>12}{'p99':>12}{'n':>6}{'to floor':>10}",
        f"{'the floor: posix_spawn(/bin/true) and wait':{_WHO}}"
        f"{show('s', floor.median):>12}{show('s', floor.tail):>12}{floor.count:>6}{'1.0x':>10}",
    ]
    for row in rows:
        shown = lines(row, report.results)
        if not shown:
            continue
        out += ["", row.title]
        for line in shown:
            mark = "*" if line.best else " "
            text = f"{f' {mark} {line.who}':{_WHO}}{line.median:>12}{line.tail:>12}{line.count:>6}{line.ratio:>10}"
            out.append(f"{text}  {line.note}".rstrip())
    if report.missing:
        out += ["", "not measured"]
        out += [f"   {who}: {why}" for who, why in report.missing]
    return "\n".join(out)


def as_markdown(rows: Sequence[Row], report: Report) -> str:
    """Return the same as one table in Markdown, the best of a row in bold."""
    floor = summarize(report.floor.samples)
    out = [
        "| | median | p99 | n | to floor | |",
        "|---|--:|--:|--:|--:|---|",
        f'| the floor: `posix_spawn("/bin/true")` and wait | {show("s", floor.median)} | {show("s", floor.tail)} '
        f"| {floor.count} | 1.0x | |",
    ]
    for row in rows:
        shown = lines(row, report.results)
        if shown:
            out.append(f"| **{row.title}** | | | | | |")
        for line in shown:
            who, median = (f"**{text}**" if line.best and text else text for text in (line.who, line.median))
            out.append(f"| {who} | {median} | {line.tail} | {line.count} | {line.ratio} | {line.note} |")
    return "\n".join(out)


def at_a_glance(rows: Sequence[Row], report: Report) -> str:
    """Return the medians in Markdown, a line for each contender and a column for each row."""
    names = list(dict.fromkeys(result.who for result in report.results if any(r.key == result.row for r in rows)))
    shown = {row.key: {line.who: line for line in lines(row, report.results)} for row in rows}
    out = [f"| | {' | '.join(row.short for row in rows)} |", f"|---|{'--:|' * len(rows)}"]
    for name in names:
        cells = []
        for row in rows:
            line = shown[row.key].get(name)
            text = line.median if line else "–"
            cells.append(f"**{text}**" if line and line.best else text)
        out.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(out)


def show(unit: str, value: float) -> str:
    """Show a value with about three digits."""
    if unit == "s":
        value, unit = value * 1000, " ms"
    elif unit == "tasks/s":
        unit = "/s"
    elif unit == "count":
        return f"{value:g}"
    elif unit != "x":
        unit = f" {unit}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}{unit}"


def ratio_to_floor(row: Row, result: Result) -> float | None:
    """Return how many times the floor it took, None where that means nothing."""
    figures = result.figures
    if not row.ratio or not figures.samples or not result.floor_s or figures.unit not in ("s", "tasks/s"):
        return None
    median = summarize(figures.samples).median
    return (1 / median if figures.unit == "tasks/s" else median) / result.floor_s


def _line(row: Row, result: Result, best: bool) -> Line:
    figures = result.figures
    who = result.who + (f": {figures.label}" if figures.label else "")
    if figures.never:
        return Line(who, "never", "", "", "", figures.note, best)
    if figures.answer is not None:
        return Line(who, figures.answer, "", "", "", figures.note, best)
    summary = _summary(row, figures)
    ratio = ratio_to_floor(row, result)
    tail = show(figures.unit, summary.tail) if summary.count > 1 and figures.unit != "count" else ""
    count = "" if figures.unit == "count" else str(summary.count)
    median = max(figures.samples) if figures.unit == "count" else summary.median
    shown = "" if ratio is None else f"{ratio:,.{0 if ratio >= 100 else 1 if ratio >= 2 else 2}f}x"
    return Line(who, show(figures.unit, median), tail, count, shown, figures.note, best)


def _summary(row: Row, figures: Figures) -> Summary:
    return summarize(figures.samples, more_is_better=row.best == "high")


def _order(row: Row, figures: Figures) -> tuple[bool, float]:
    if figures.never:
        return True, 0.0
    if figures.answer is not None:
        return figures.answer != "yes", 0.0
    median = max(figures.samples) if figures.unit == "count" else _summary(row, figures).median
    return False, -median if row.best == "high" else median


def _best(row: Row, results: Sequence[Result]) -> list[Result]:
    if not row.best or not results:
        return []
    least = min(_order(row, result.figures) for result in results)
    # Where nobody has a good end, nobody is best.
    return [result for result in results if _order(row, result.figures) == least and not least[0]]
