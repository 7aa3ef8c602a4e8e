"""`procstop selftest`: try every promise on this machine, and say which held."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from procstop.cli.complain import complain, say
from procstop.errors import EngineError
from procstop.reporting.text import printable
from procstop.selftest import table
from procstop.selftest.rows import Row
from procstop.selftest.run import Result, selftest

HELD, DID_NOT, USAGE, INTERRUPTED = 0, 1, 2, 130


def selftest_command(trials: int, engine: str | None, json: bool) -> int:
    """Run it and print what came of it; return the exit code."""
    view = _View(json)
    try:
        with _signals_as_interrupts():
            report = selftest(trials=trials, engine=engine, on_row=view.begins, on_result=view.is_over)
    except EngineError as error:
        complain(error)
        return USAGE
    except KeyboardInterrupt:
        view.clear()
        say("interrupted; nothing is left running")
        return INTERRUPTED
    print(table.dumps(report) if json else f"\n{table.summary(report)}", flush=True)
    return HELD if report.held else DID_NOT


class _View:
    """A line for each row as it ends; on a terminal, a last line that says what is being tried."""

    def __init__(self, json: bool) -> None:
        # With JSON on standard output, people are told on standard error.
        self._stream = sys.stderr if json else sys.stdout
        self._is_live = self._stream.isatty()
        self._is_quiet = json and not self._is_live
        self._began = False

    def begins(self, row: Row, engine: str) -> None:
        """Tell of a row that begins."""
        self._head()
        if self._is_live:
            self._write(f"\r\x1b[K{row.promise:<8} {row.tried} ({engine}) ...")

    def is_over(self, result: Result) -> None:
        """Tell of a row that is over."""
        self.clear()
        self._write(printable(table.line(result)) + "\n")

    def clear(self) -> None:
        """Take the live line away."""
        if self._is_live:
            self._write("\r\x1b[K")

    def _head(self) -> None:
        if not self._began:
            self._began = True
            self._write(table.heading() + "\n")

    def _write(self, text: str) -> None:
        if not self._is_quiet:
            self._stream.write(text)
            self._stream.flush()


@contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end it as Ctrl-C does: what it has started must not be left behind."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
