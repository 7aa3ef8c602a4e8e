"""Where things are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GUESTS = ROOT / "tests" / "guests"
SUPPORT = ROOT / "tests" / "support"

WAIT_S = 60.0
"""How long a test waits for something that must happen. It is never reached but by a fault."""
