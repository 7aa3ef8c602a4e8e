"""Where things are."""

from __future__ import annotations

from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
GUESTS = ROOT / "tests" / "guests"
SHIPPED_GUESTS = ROOT / "procstop" / "selftest" / "guests"
"""Those that procstop brings along for its selftest; tests have them too."""
SUPPORT = ROOT / "tests" / "support"

WAIT_S = 60.0
"""How long a test waits for something that must happen. It is never reached but by a fault."""


def below(pid: int | None = None) -> list[psutil.Process]:
    """Return all that is below a process, this one by default."""
    while True:
        try:
            return psutil.Process(pid).children(recursive=True)
        except IndexError:
            # psutil finds an empty /proc/PID/stat when a process ends at just that moment: look again.
            continue
