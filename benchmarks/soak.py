"""Try the promises again and again in one process, and see whether anything of it piles up.

    python benchmarks/soak.py --minutes 120 [--trials 10] [--engine NAME]

Each round is a whole selftest, with a line of what this process has after it: children, descriptors, threads, files in
the directory for temporary ones, and resident memory. The second round is what the last one is held against, since the
first one imports and fills caches. It ends with 1 if a promise did not hold, or if anything has piled up: of memory,
more than `GROWTH` MiB.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import threading
import time
from dataclasses import astuple, dataclass, fields

import psutil

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from procstop.selftest.run import HELD, LEFT_OUT, Report, selftest  # noqa: E402

GROWTH = 16
_NAMES = ("procstop-worker", "procstop-forkse", "procstop-guardi", "procstop-compil")
"""As the kernel keeps them: 15 bytes."""


@dataclass(frozen=True)
class Holdings:
    """What there is after a round; `processes` are those of procstop on the whole machine."""

    children: int
    processes: int
    descriptors: int
    threads: int
    files: int
    memory_mib: int

    @classmethod
    def now(cls) -> Holdings:
        """Take stock."""
        gc.collect()
        own = psutil.Process()
        named = sum(one.info["name"] in _NAMES for one in psutil.process_iter(["name"]))
        files = len(os.listdir(tempfile.gettempdir()))
        memory = own.memory_info().rss >> 20
        return cls(len(own.children(recursive=True)), named, own.num_fds(), threading.active_count(), files, memory)

    def more_than(self, before: Holdings) -> list[str]:
        """Say what has piled up since then."""
        return [
            f"{field.name}: {then}, and {now} now"
            for field, then, now in zip(fields(self), astuple(before), astuple(self))
            if now > then + (GROWTH if field.name == "memory_mib" else 0)
        ]


def main() -> int:
    """Run rounds until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--engine")
    options = parser.parse_args()
    began = time.monotonic()
    trials, broken, rounds = 0, [], list[Holdings]()
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        # Files that others make meanwhile are none of ours.
        tempfile.tempdir = os.environ["TMPDIR"] = directory
        while not rounds or time.monotonic() - began < 60 * options.minutes:
            report = selftest(trials=options.trials, engine=options.engine)
            trials += sum(one.trials for one in report.results)
            broken += (now_broken := _broken(report))
            rounds.append(Holdings.now())
            told = ", ".join(f"{field.name} {value}" for field, value in zip(fields(Holdings), astuple(rounds[-1])))
            minutes = (time.monotonic() - began) / 60
            print(f"{minutes:6.1f} min: {trials} trials, {len(broken)} rows broken; {told}", flush=True)
            for line in now_broken:
                print(f"           {line}", flush=True)
    piled_up = rounds[-1].more_than(rounds[1]) if len(rounds) > 1 else []
    for line in piled_up:
        print(line)
    return 1 if broken or piled_up else 0


def _broken(report: Report) -> list[str]:
    return [
        f"{one.promise} {one.tried} ({one.engine}): {one.why}"
        for one in report.results
        if one.state not in (HELD, LEFT_OUT)
    ]


if __name__ == "__main__":
    sys.exit(main())
