"""SIGKILL the processes of runs at random moments, and count what survives.

    python benchmarks/kills.py [--trials 200] [--workers 20] [--engine NAME]

For each engine, and for each process of a run and each pair of them: so many runs of guests that spin, each of which
is killed at a random moment between its start and well after all guests run, by `tests/support/killing.py`. The table
has the kills that found all of their victims there already, and the processes that were left 20 s later. Where the
supervisor was killed, it has how long it took until none was left; where it was not, its run had to go on, whole again.
It ends with 1 if there was any survivor.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[0] = ROOT

from benchmarks.stats import summarize  # noqa: E402

SPINS = os.path.join(ROOT, "procstop", "selftest", "guests", "spins.wat")
EACH = ("supervisor", "server", "guardian", "worker")
VICTIMS = (*EACH, *map("+".join, itertools.combinations(EACH, 2)))
LONGEST_MS = {"wasmer": 400, "wasmtime": 600}
"""From the fork of a supervisor until a few of its guests run, on an idle machine."""
_MORE_MS = 10
"""How much longer it takes for each worker more."""
_SEED = 20261121


def main() -> int:
    """Make the trials, and print a line for each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--workers", type=int, default=20)
    parser.add_argument("--engine", choices=sorted(LONGEST_MS))
    options = parser.parse_args()
    survivors = 0
    print(f"{'':31} {'trials':>7} {'all there':>9} {'survivors':>9} {'p50':>9} {'p99':>9}")
    for engine in [options.engine] if options.engine else sorted(LONGEST_MS):
        for whom in VICTIMS:
            survivors += _try(engine, whom, options.trials, options.workers)
    return 1 if survivors else 0


def _try(engine: str, whom: str, trials: int, workers: int) -> int:
    """Make the trials of one kind; return how many processes survived."""
    longest_ms = LONGEST_MS[engine] + _MORE_MS * workers
    script = os.path.join(ROOT, "tests", "support", "killing.py")
    command = [script, _SEED, trials, longest_ms, workers, engine, "server", SPINS, whom]
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        env={**os.environ, "PYTHONPATH": ROOT},
        stdout=subprocess.PIPE,
        check=True,
    )
    results = json.loads(done.stdout)
    left = sum(len(result[3]) for result in results)
    for result in results:
        if result[3]:
            print(result, file=sys.stderr)
    met = sum(sorted(result[4]) == sorted(whom.split("+")) for result in results)
    took = "its run goes on"
    if "supervisor" in whom:
        summary = summarize([result[2] * 1000 for result in results if "supervisor" in result[4]])
        took = f"{summary.median:6.1f} ms {summary.tail:6.1f} ms"
    print(f"{engine + ', ' + whom:31} {len(results):7} {met:9} {left:9} {took}", flush=True)
    return left


if __name__ == "__main__":
    sys.exit(main())
