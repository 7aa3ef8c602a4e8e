"""Where procstop runs."""

from __future__ import annotations

import sys

from procstop.errors import ProcstopError


class UnsupportedPlatform(ProcstopError):
    """procstop cannot keep its promises here, and so does not start."""


def check_platform(platform: str = sys.platform) -> None:
    """Raise `UnsupportedPlatform` on Windows, which has none of what stopping is built on."""
    if platform in ("win32", "cygwin"):
        raise UnsupportedPlatform(
            "procstop does not run on Windows: it is built on POSIX signals, process groups and pipes; "
            "use Linux, macOS or the Windows Subsystem for Linux"
        )
