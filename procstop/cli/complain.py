"""Say what went wrong, on standard error, in lines that can be acted on."""

from __future__ import annotations

import os
import sys
import traceback

from procstop.errors import JobFileError, ProcstopError
from procstop.reporting.text import printable


def complain(error: ProcstopError) -> None:
    """Print an error's lines."""
    lines = error.problems if isinstance(error, JobFileError) else str(error).splitlines()
    for line in lines:
        say(f"error: {line}")


def complain_of_fault(error: BaseException) -> None:
    """Print that procstop itself failed; the traceback only for those who ask."""
    say(f"internal error: {type(error).__name__}: {error}")
    if os.environ.get("PROCSTOP_DEBUG"):
        for lines in traceback.format_exception(type(error), error, error.__traceback__):
            for line in lines.splitlines():
                say(line)
    else:
        say("this is a fault of procstop; PROCSTOP_DEBUG=1 shows where it happened")


def say(text: str) -> None:
    """Print one line to standard error, nothing in it raw; whether anyone reads it does not matter."""
    try:
        print(printable(text), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass
