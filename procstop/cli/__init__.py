"""The command `procstop`: wiring and exit codes.

Exit codes: 0 every task ended as expected; 1 some did not; 2 usage, or the job file; 3 procstop's own fault,
something is lost, or a report or output could not be written; 124 a limit stopped a task and nothing else went wrong;
130 the run was stopped.
"""

from __future__ import annotations

import os
import signal
import sys

from procstop.errors import ProcstopError
from procstop.platforms import UnsupportedPlatform, check_platform

_USAGE = 2
_FAULT = 3


def main() -> None:
    """Run the command line; every error becomes a message and an exit code, never a traceback."""
    # While modules are imported Ctrl-C just ends us: there is nothing yet to be stopped, and nothing to explain.
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if not ignored:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _open_closed_streams()
    try:
        check_platform()
    except UnsupportedPlatform as error:
        sys.stderr.write(f"procstop: {error}\n")
        sys.exit(_FAULT)
    # Only now: what follows needs modules that Windows does not have.
    from procstop.cli.app import app
    from procstop.cli.complain import complain, complain_of_fault, say

    if not ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = _FAULT
    try:
        app(prog_name="procstop", standalone_mode=True)
        return
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else (0 if exit.code is None else 1)
    except ProcstopError as error:
        complain(error)
        code = _USAGE
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        code = 1
    except OSError as error:
        # Standard output that is full, say. A fault of procstop's would be an error of another kind.
        what = "cannot write all output" if error.filename is None else f'"{error.filename}"'
        say(f"error: {what}: {error.strerror or error}")
        code = _FAULT
    except Exception as error:
        complain_of_fault(error)
    finally:
        _flush_quietly()
    # An observer that is stuck in a write to a full pipe must not hold up the end.
    os._exit(code)


def _open_closed_streams() -> None:
    """Put the null device where a standard stream is closed: the next pipe would get its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest free number is the stream's own.
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def _flush_quietly() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass  # Whoever read it has left.
