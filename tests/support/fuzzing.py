"""Try inputs made from numbers for as long as is asked, and say how to try the one again that failed.

`PROCSTOP_FUZZ_SECONDS` is how long each fuzzer goes on (2 by default, 3600 for an hour). Input number n of seed s is
made by a generator that is seeded with "s:n", so `PROCSTOP_FUZZ_INPUT=s:n` makes the same input again, and no other.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

SECONDS = float(os.environ.get("PROCSTOP_FUZZ_SECONDS", "2"))
TIMEOUT = int(SECONDS * 2 + 120)
"""For `pytest.mark.timeout`: a long hunt is no test that hangs."""


def fuzz(attempt: Callable[[random.Random], None]) -> int:
    """Try one input after the other; return how many. A failing one is named in the error that comes out."""
    if again := os.environ.get("PROCSTOP_FUZZ_INPUT"):
        attempt(random.Random(again))
        return 1
    seed, tried = random.SystemRandom().getrandbits(48), 0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        name = f"{seed}:{tried}"
        try:
            attempt(random.Random(name))
        except BaseException:
            print(f"to try this input again: PROCSTOP_FUZZ_INPUT={name}")
            raise
        tried += 1
    print(f"seed {seed}: {tried} inputs tried in {SECONDS:g} s")
    return tried
