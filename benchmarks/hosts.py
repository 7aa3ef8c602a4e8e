"""The host functions of the guests, as procstop's users write them."""

from __future__ import annotations

import time
from typing import Any


def block() -> None:
    """Sleep where no message can reach the guest."""
    time.sleep(60)


def rest(guest: Any) -> None:
    """Sleep where a guest can be interrupted."""
    guest.sleep(600)


imports = {"e.block": block, "e.rest": rest}
