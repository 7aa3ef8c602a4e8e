"""Where procstop runs."""

from __future__ import annotations

import os
import sys

from procstop.errors import ProcstopError


class UnsupportedPlatform(ProcstopError):
    """procstop cannot keep its promises here, and so does not start."""


def check_platform(platform: str = sys.platform, proc: str = "/proc") -> None:
    """Raise `UnsupportedPlatform` where it takes more than good will to stop what runs.

    Windows has none of what stopping is built on; a Linux without its `proc`, or with that of another PID namespace,
    does not say which processes are whose.
    """
    if platform in ("win32", "cygwin"):
        raise UnsupportedPlatform(
            "procstop does not run on Windows: it is built on POSIX signals, process groups and pipes; "
            "use Linux, macOS or the Windows Subsystem for Linux"
        )
    if platform == "linux":
        try:
            own = os.readlink(f"{proc}/self")
        except OSError:
            own = None
        if own != str(os.getpid()):
            what = "is not mounted here" if own is None else "tells of another PID namespace than this one"
            raise UnsupportedPlatform(
                f"{proc} {what}, so it cannot be known which processes are whose; mount it: mount -t proc proc {proc}"
            )
