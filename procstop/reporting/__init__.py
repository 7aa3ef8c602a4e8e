"""What people and programs are told of a run: a live view, plain lines, a summary, the JSON report.

Everything here observes and nothing decides. A reporter takes events, in a thread of its own, and never lets
trouble with its streams reach the run: it goes silent and remembers why.
"""

from __future__ import annotations

import os
import stat
from typing import Protocol, TextIO

from procstop.events import Event
from procstop.reporting.live import LiveReporter
from procstop.reporting.plain import PlainReporter
from procstop.reporting.raw import RawOutput
from procstop.reporting.report import check_report_path, run_to_json, settle_report_path, write_report
from procstop.reporting.streams import QuietStream

__all__ = [
    "RawOutput",
    "Reporter",
    "check_report_path",
    "make_reporter",
    "run_to_json",
    "settle_report_path",
    "write_report",
]


class Reporter(Protocol):
    """An observer that shows a run; `close` gives the terminal back and may be called more than once."""

    @property
    def failed(self) -> OSError | None:
        """Why writing stopped on one of the streams, None while both work."""

    def __call__(self, event: Event) -> None:
        """Show one event."""

    def close(self) -> None:
        """Give the terminal back; write nothing more."""


def make_reporter(
    *, quiet: bool, stdout: TextIO, stderr: TextIO, show_output: bool = True, plain: bool = False
) -> Reporter:
    """Make the reporter that fits the streams: a live view on a terminal, plain lines elsewhere or if asked for.

    With `show_output` False the guests' output is left to others, such as files.
    """
    out, err = QuietStream(stdout), QuietStream(stderr)
    dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    if plain or quiet or dumb or not err.isatty() or _is_pipe(out):
        return PlainReporter(quiet=quiet, stdout=out, stderr=err, show_output=show_output)
    return LiveReporter(stdout=out, stderr=err, show_output=show_output)


def _is_pipe(stream: QuietStream) -> bool:
    """Tell whether another program reads it: `cat` or `tee` would write to the terminal that the view is on."""
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
