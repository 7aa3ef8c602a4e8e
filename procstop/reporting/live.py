"""A live view for terminals: a line per running attempt, the counts, and above them what the guests write.

rich draws it from a thread of its own, eight times a second. The view is taken off the terminal while the run
is paused and before the summary, and the cursor is given back whenever it is.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from procstop import events
from procstop.reporting.plain import run_line
from procstop.reporting.streams import QuietStream
from procstop.reporting.summary import Told, rich_summary
from procstop.reporting.text import LineCutter, one_line, printable
from procstop.reporting.view import Running, RunView
from procstop.reporting.words import count, duration, task_phrase

REFRESHES_PER_SECOND = 8

_COLOURS = ("cyan", "magenta", "blue", "green", "yellow", "bright_cyan", "bright_magenta", "bright_blue")


class LiveReporter:
    """An observer that keeps a live view on a terminal, and leaves the summary on it.

    The guests' stdout goes above the view when stdout is a terminal too, else to stdout in plain lines.
    """

    def __init__(
        self,
        *,
        stdout: QuietStream,
        stderr: QuietStream,
        show_output: bool = True,
        clock: Callable[[], float] = time.monotonic,
        console: Console | None = None,
    ) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._show_output = show_output
        self._stdout_above = stdout.isatty()
        self._console = console or Console(
            file=stderr.file(), force_terminal=True, force_jupyter=False, highlight=False
        )
        self._view = RunView(clock)
        self._cutter = LineCutter()
        self._live: Live | None = None
        # rich's refresh thread never takes it, so it may be held while rich's own lock is waited for.
        self._lock = threading.Lock()
        self._closed = False

    @property
    def failed(self) -> OSError | None:
        """Why writing stopped on one of the streams, None while both work."""
        return self._stderr.failed or self._stdout.failed

    def __call__(self, event: events.Event) -> None:
        """Show what one event changes."""
        with self._lock:
            if self._closed:
                return
            self._view.take(event)
            if isinstance(event, events.Output):
                if self._show_output:
                    lines = self._cutter.feed(event.task, event.stream, event.data)
                    self._guest(event.task, event.stream, lines)
            elif isinstance(event, events.AttemptOver):
                for stream, line in self._cutter.flush(event.task):
                    self._guest(event.task, stream, [line])
            elif isinstance(event, events.TaskOver):
                self._task_over(event)
            elif isinstance(event, events.RunOver):
                self._stop()
                width = self._console.width
                told = Told(tasks=True, stderr=self._show_output)
                self._console.print(rich_summary(event.record, self._view.facts, width=width, told=told))
            else:
                self._run(event)

    def close(self) -> None:
        """Take the view off the terminal and give the cursor back; nothing is written after it."""
        with self._lock:
            self._closed = True
            self._stop()

    def _run(self, event: events.Event) -> None:
        if isinstance(event, events.RunStarted):
            self._start()
        elif isinstance(event, events.RunPaused):
            # The shell gets its terminal as it lent it.
            self._stop()
            self._say(run_line(event))
        elif isinstance(event, events.RunResumed):
            self._start()
        elif isinstance(event, events.Notice):
            self._say(run_line(event))

    def _start(self) -> None:
        if self._live is None:
            # A new one each time: a stopped one would go up over lines that are not its own any more.
            self._live = Live(
                Region(self._view),
                console=self._console,
                refresh_per_second=REFRESHES_PER_SECOND,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start(refresh=True)

    def _stop(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _task_over(self, event: events.TaskOver) -> None:
        record = event.record
        # News while others run; what was only called off can wait for the summary.
        if not record.ok and record.attempts:
            phrase = task_phrase(record, self._view.facts.limits(record.task))
            self._print(Text.assemble(("not ok: ", "bold red"), f"{one_line(record.task, 60)}: {phrase}"))

    def _guest(self, task: str, stream: str, lines: list[str]) -> None:
        name = printable(task)
        if stream == "stdout" and not self._stdout_above:
            self._stdout.write("".join(f"{name} | {line}\n" for line in lines))
        elif lines:
            self._print(GuestLines(name, colour(task), "red" if stream == "stderr" else "dim", lines))

    def _say(self, line: str | None) -> None:
        if line is not None:
            self._print(Text(line))

    def _print(self, text: Text | GuestLines) -> None:
        # Left to the terminal to wrap, so that a long line can still be copied as one.
        self._console.print(text, soft_wrap=True)


def colour(task: str) -> str:
    """Give a task's colour, the same in every run."""
    return _COLOURS[zlib.crc32(task.encode("utf-8", "replace")) % len(_COLOURS)]


@dataclass(frozen=True)
class GuestLines:
    """Lines of a guest, each after its task's name. `Text` would do, at a tenth of the speed."""

    name: str
    style: str
    bar: str
    lines: list[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        style, bar = console.get_style(self.style), console.get_style(self.bar)
        for line in self.lines:
            yield Segment(self.name, style)
            yield Segment(" | ", bar)
            yield Segment(line + "\n")


@dataclass(frozen=True)
class Region:
    """The live part of the terminal; drawing it never raises."""

    view: RunView

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = max(1, options.max_width), max(1, options.size.height)
        try:
            lines = self._lines(console, width, height, ascii_only=options.ascii_only)
        except Exception as error:
            # It would end rich's thread with a traceback over the terminal; the run goes on regardless.
            lines = [Text(one_line(f"the live view broke: {type(error).__name__}: {error}", width))]
        for line in lines:
            line.truncate(width, overflow="crop")
            line.no_wrap = True
            yield line

    def _lines(self, console: Console, width: int, height: int, *, ascii_only: bool) -> list[Text]:
        footer: list[Text] = []
        footer += Text(self.view.counts(), style="bold").wrap(console, width)
        for said in self.view.stopping():
            footer += Text(said, style="bold yellow").wrap(console, width)
        # One line stays free: a full screen would scroll at every refresh.
        room = max(0, height - 1 - len(footer))
        if self.view.running > room:
            room = max(0, room - 1)
        rows, hidden, now = self.view.rows(room)
        lines = layout(rows, now, width, ascii_only=ascii_only)
        if hidden:
            lines.append(Text(f"... and {hidden:,} more", style="dim"))
        return [*lines, *footer][-height:]


# What a line shows, richest first: the bar's width (None for terse words too), stopping points, progress.
_LEVELS = (
    (24, True, True),
    (12, True, True),
    (0, True, True),
    (0, False, True),
    (0, False, False),
    (None, False, False),
)


def layout(rows: list[Running], now: float, width: int, *, ascii_only: bool = False) -> list[Text]:
    """Give a line per attempt, in columns, with as much as fits in `width`."""
    if not rows:
        return []
    lines: list[Text] = []
    for bar, points, progress in _LEVELS:
        table = [_cells(row, now, max(5, width // 4), bar, points, progress, ascii_only) for row in rows]
        lines = _columns(table)
        if max(line.cell_len for line in lines) <= width:
            break
    return lines


def _cells(
    row: Running, now: float, name_width: int, bar: int | None, points: bool, progress: bool, ascii_only: bool
) -> list[Text]:
    name = Text(printable(row.task), style=colour(row.task))
    name.truncate(name_width, overflow="crop" if ascii_only else "ellipsis")
    cells = [name, _status(row, now, bar, ascii_only)]
    if points:
        cells.append(Text(count(row.passed, "stopping point"), style="dim"))
    if progress:
        cells.append(Text(_progress(row)))
    return cells


def _columns(table: list[list[Text]]) -> list[Text]:
    widths = [max(cell.cell_len for cell in column) for column in zip(*table)]
    lines = []
    for cells in table:
        line = Text()
        for cell, width in zip(cells, widths):
            line.append_text(cell).append(" " * (width - cell.cell_len + 2))
        line.rstrip()
        lines.append(line)
    return lines


def _status(row: Running, now: float, bar: int | None, ascii_only: bool) -> Text:
    """Say where an attempt is: elapsed against its limit, or the rung and what comes next when."""
    spent = max(0.0, now - row.entered)
    if row.rung is not None:
        text = row.rung.value
        if row.deadline is not None:
            left = max(0.0, row.deadline - now)
            if bar is None:
                text += f" {ticking(left)}"
            else:
                text += f", {row.following} in {ticking(left)}" if row.following else f", {ticking(left)} left"
        return Text(text, style="yellow" if row.rung.height <= 2 else "bold red")
    status = Text("" if bar is None else f"{row.state:<8} ")
    if row.deadline is None:
        return status.append(ticking(spent))
    limit = max(row.deadline - row.entered, 1e-9)
    if bar:
        filled = round(min(1.0, spent / limit) * bar)
        full, empty = ("#", "-") if ascii_only else ("\u2501", "\u2500")
        status.append(full * filled, style="red" if spent > 0.8 * limit else "green")
        status.append(empty * (bar - filled), style="dim").append(" ")
    return status.append(f"{ticking(spent)} of {duration(limit)}")


def _progress(row: Running) -> str:
    """Show what the guest says of its progress; it may say anything."""
    if row.done is None:
        return ""
    if row.total is None or row.total <= 0:
        return f"{row.done:,} done"
    if 0 <= row.done <= row.total:
        return f"{row.done * 100 // row.total}%"
    return f"{row.done:,} of {row.total:,}"


def ticking(seconds: float) -> str:
    """Give a time that is read while it changes: a tenth of a second, so that its width keeps still."""
    return f"{seconds:.1f} s" if seconds < 59.95 else duration(round(seconds))
