"""What became of a run, at its end: what went wrong first, then a table, then the counts.

A task that ended as its `expect` says is fine, however it ended. Every line is made once, as plain text; the
terminal's form of it adds a table and colours, and no facts. However many tasks a run has, few are shown, and no more
of them are held in memory.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from procstop.folding import count_ok, not_ok
from procstop.model import Outcome
from procstop.records import AttemptRecord, RunRecord, TaskRecord
from procstop.reporting import words
from procstop.reporting.facts import JobFacts
from procstop.reporting.text import last_lines, one_line, printable

BIG_RUN = 50
"""Tasks above which the table lists only those that were not ok."""
MOST_ROWS = 100
MOST_TROUBLES = 20
LAST_LINES = 10
NARROW = 60
"""Columns of a terminal below which a table would be all folds."""

_HEADINGS = ("task", "outcome", "time", "attempts", "engine", "why")
_NUMERIC = frozenset({"time", "attempts"})


@dataclass(frozen=True)
class Row:
    """One task in the table."""

    ok: bool
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Trouble:
    """One task that was not ok: a sentence, and what its guest and its message said last."""

    head: str
    lines: tuple[str, ...]


def counts_line(record: RunRecord) -> str:
    """Say how many tasks ended as expected: "6 tasks: 5 as expected, 1 not; 1.93 s"."""
    total, fine = len(record.tasks), count_ok(record.tasks)
    line = words.count(total, "task")
    if total:
        line += ": all as expected" if fine == total else f": {fine:,} as expected, {total - fine:,} not"
    line += f"; {words.duration(record.duration_s)}"
    if record.reason is not None:
        line += f"; asked to stop by {words.asked_by(record.reason)}"
    return line


def rows(record: RunRecord, facts: JobFacts) -> tuple[list[Row], int]:
    """Give the table, what was not ok first, of a big run nothing else; and how many rows more there would be."""
    if len(record.tasks) > BIG_RUN:
        worst, total = _worst(not_ok(record.tasks), MOST_ROWS)
        tasks = [task for _, task in sorted(worst, key=operator.itemgetter(0))]
    else:
        tasks, total = sorted(record.tasks, key=lambda task: task.ok), len(record.tasks)
    return [Row(task.ok, _cells(task, facts)) for task in tasks], total - len(tasks)


def _worst(tasks: Iterable[TaskRecord], most: int) -> tuple[list[tuple[int, TaskRecord]], int]:
    """Choose at most so many, each with its number, and count all.

    What broke comes before what was only called off because of it.
    """
    broke: list[tuple[int, TaskRecord]] = []
    called_off: list[tuple[int, TaskRecord]] = []
    total = 0
    for task in tasks:
        chosen = called_off if task.outcome is Outcome.CANCELLED else broke
        if len(chosen) < most:
            chosen.append((total, task))
        total += 1
    return [*broke, *called_off][:most], total


def _cells(task: TaskRecord, facts: JobFacts) -> tuple[str, ...]:
    last = task.last
    took = [spent for spent in map(words.elapsed, task.attempts) if spent is not None]
    return (
        one_line(task.task, 60),
        task.outcome.value,
        words.duration(sum(took)) if took else "-",
        str(len(task.attempts)) if task.attempts else "-",
        one_line(last.engine) if last is not None and last.engine else "-",
        "; ".join(filter(None, [words.task_why(task, facts.limits(task.task)), *_remarks(task, facts)])),
    )


def _remarks(task: TaskRecord, facts: JobFacts) -> Iterable[str]:
    """Say what else a reader must know: what was expected, and whether output is missing."""
    expected = facts.expect(task.task)
    if task.ok and task.outcome is not Outcome.COMPLETED:
        yield "as expected"
    elif not task.ok and expected is not None and expected != (Outcome.COMPLETED,):
        yield f"expected {' or '.join(outcome.value for outcome in expected)}"
    if task.last is not None:
        yield from _cut_off(task.last)


def _cut_off(record: AttemptRecord) -> Iterable[str]:
    for name, stream in (("stdout", record.stdout), ("stderr", record.stderr)):
        if stream.error is not None:
            yield f"{name} was not kept as a whole: {one_line(stream.error)}"
        elif stream.truncated:
            yield f"{name} was cut off after {words.size(stream.bytes)}"


@dataclass(frozen=True)
class Told:
    """What whoever reads the summary was told during the run.

    `tasks`: of those that were not ok, each that had an attempt, as it ended. `stderr`: what the guests wrote there.
    """

    tasks: bool = False
    stderr: bool = False

    def of(self, task: TaskRecord) -> bool:
        """Tell whether a task that was not ok was told of."""
        return self.tasks and bool(task.attempts)


NOTHING_TOLD = Told()


def troubles(record: RunRecord, facts: JobFacts, told: Told = NOTHING_TOLD) -> tuple[list[Trouble], int]:
    """Tell of the tasks that were not ok, and how many more there are than are told of.

    Of one that was told of, only the lines that were not shown yet; without any it is left out.
    """
    bad = (task for task in not_ok(record.tasks) if not told.of(task) or _lines(task, told))
    worst, total = _worst(bad, MOST_TROUBLES)
    return [_trouble(task, facts, told) for _, task in worst], total - len(worst)


def _trouble(task: TaskRecord, facts: JobFacts, told: Told) -> Trouble:
    head = one_line(task.task, 60)
    if not told.of(task):
        phrase = words.task_phrase(task, facts.limits(task.task))
        head = "; ".join([f"{head}: {phrase}", *_remarks(task, facts)])
    return Trouble(head, tuple(_lines(task, told)))


def _lines(task: TaskRecord, told: Told) -> list[str]:
    """Give what the message and the guest said last, as far as it was not shown yet."""
    last, lines = task.last, []
    if last is not None:
        message = (last.message or "").strip()
        if message and one_line(message) != printable(message):
            lines += [f"message | {line}" for line in _first_lines(message)]
        if not told.stderr:
            lines += [f"stderr | {line}" for line in last_lines(last.stderr.tail, LAST_LINES)]
    return lines


def _first_lines(message: str, width: int = 400) -> list[str]:
    lines = message.splitlines()
    shown = [printable(line[:width]) + ("..." if len(line) > width else "") for line in lines[:LAST_LINES]]
    if len(lines) > LAST_LINES:
        shown.append(f"... and {words.count(len(lines) - LAST_LINES, 'more line')}")
    return shown


def plain_summary(record: RunRecord, facts: JobFacts, *, quiet: bool = False) -> str:
    """Give the summary as plain text that ends in a newline; quiet, it is empty when all is well."""
    if quiet and _all_ok(record):
        return ""
    lines: list[str] = []
    told, untold = troubles(record, facts)
    for trouble in told:
        lines += [f"not ok: {trouble.head}", *(f"    {line}" for line in trouble.lines)]
    if untold:
        lines.append(f"not ok: ... and {untold:,} more")
    table, left_out = ([], 0) if quiet else rows(record, facts)
    if table:
        lines += ["", *_aligned([_HEADINGS, *(row.cells for row in table)]), *_more(left_out), ""]
    lines.append(counts_line(record))
    return "".join(f"{line}\n" for line in lines)


def _all_ok(record: RunRecord) -> bool:
    return count_ok(record.tasks) == len(record.tasks)


def _more(left_out: int) -> list[str]:
    return [f"... and {left_out:,} more; see --report"] if left_out else []


def _aligned(table: list[tuple[str, ...]]) -> list[str]:
    # Cells, not characters: a name may hold wide ones.
    widths = [max(map(cell_len, column)) for column in zip(*table)]
    return [
        "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths)).rstrip() for row in table
    ]


def rich_summary(
    record: RunRecord, facts: JobFacts, *, quiet: bool = False, width: int = 80, told: Told = NOTHING_TOLD
) -> RenderableType:
    """Give the summary for a terminal; on a narrow one, lines instead of a table."""
    if quiet and _all_ok(record):
        return Group()
    parts: list[RenderableType] = []
    shown, untold = troubles(record, facts, told)
    for trouble in shown:
        parts.append(Text.assemble(("not ok: ", "bold red"), trouble.head))
        parts += [Text(f"    {line}", style="dim") for line in trouble.lines]
    if untold:
        parts.append(Text(f"not ok: ... and {untold:,} more", style="bold red"))
    table, left_out = ([], 0) if quiet else rows(record, facts)
    if table and width >= NARROW:
        parts.append(_table(table))
    elif table:
        parts += [_narrow(row) for row in table]
    parts += [Text(line, style="bold red") for line in _more(left_out)]
    parts.append(Text(counts_line(record), style="bold green" if _all_ok(record) else "bold red"))
    return Group(*parts)


def _table(table: list[Row]) -> Table:
    view = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), header_style="bold")
    for heading in _HEADINGS:
        fold = heading in ("task", "why")
        view.add_column(
            heading,
            justify="right" if heading in _NUMERIC else "left",
            no_wrap=not fold,
            overflow="fold" if fold else "ellipsis",
        )
    for row in table:
        cells = [Text(cell) for cell in row.cells]
        cells[1].stylize("green" if row.ok else "bold red")
        view.add_row(*cells)
    return view


def _narrow(row: Row) -> Text:
    task, outcome, *_, reason = row.cells
    return Text.assemble(task, " ", (outcome, "green" if row.ok else "bold red"), f" {reason}" if reason else "")
