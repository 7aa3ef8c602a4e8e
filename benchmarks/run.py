"""Print one table: procstop and every alternative that is installed, side by side; `make bench` writes RESULTS.md too.

See README.md beside this file.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from types import FrameType

# The folder of this script would hide modules of the same names, such as pebble's.
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[0] = os.path.dirname(HERE)

from benchmarks import machine, processes, results, table  # noqa: E402
from benchmarks.alternatives import contenders  # noqa: E402
from benchmarks.alternatives.procstop import Procstop  # noqa: E402
from benchmarks.contender import Contender  # noqa: E402
from benchmarks.figures import Figures, Report, Result  # noqa: E402
from benchmarks.guests import write_guests  # noqa: E402
from benchmarks.own_rows import ROWS  # noqa: E402
from benchmarks.rows import EFFORTS, Effort, Row  # noqa: E402
from benchmarks.stats import summarize  # noqa: E402

FLOOR_ROUNDS = 20
ORPHAN_TRIALS = {"quick": 1, "normal": 5, "full": 20}


def main() -> int:
    """Measure what was asked for; print it, and write RESULTS.md if it is everything."""
    options = _options()
    effort = EFFORTS["full" if options.full else "quick" if options.quick else "normal"]
    rows = [ROWS[name] for name in options.rows] or list(ROWS.values())
    chosen = [one for one in contenders().values() if options.only.lower() in one.name.lower()]
    # SIGTERM sweeps as Ctrl-C does.
    signal.signal(signal.SIGTERM, _leave)
    processes.adopt_orphans()
    try:
        with tempfile.TemporaryDirectory() as folder:
            write_guests(folder)
            report = measure(rows, chosen, effort, folder, _progress)
    finally:
        processes.sweep()
    _progress("")
    print(table.as_text(rows, report))
    if not (options.quick or options.rows or options.only):
        path = os.path.join(HERE, "RESULTS.md")
        with open(path, "w", encoding="utf-8") as file:
            file.write(results.render(rows, list(contenders().values()), report))
        print("\nwritten to benchmarks/RESULTS.md")
    return 0


def measure(
    rows: Sequence[Row], chosen: Sequence[Contender], effort: Effort, folder: str, progress: Callable[[str], None]
) -> Report:
    """Measure row by row, and everyone in each, with the floor between them."""
    about = machine.describe()
    missing: dict[str, str] = {}
    here = []
    for one in chosen:
        why = one.why_not()
        if why is None:
            here.append(one)
        else:
            missing[one.name] = why + (f"; {one.install}" if one.install else "")
    found: list[Result] = []
    floors: list[float] = []
    for row in rows:
        floor = processes.time_floor(FLOOR_ROUNDS)
        of_row: list[tuple[str, Figures]] = []
        for one in here:
            if row.own and not (isinstance(one, Procstop) and one.way in row.ways):
                continue
            progress(f"{row.key}: {one.name}")
            try:
                of_row += [(one.name, figures) for figures in _figures(row, one, effort, folder)]
            except processes.GaveUp as error:
                missing[f"{row.short}: {one.name}"] = str(error)
                if error.details:
                    print(f"\n{error.details}", file=sys.stderr)
            floor += processes.time_floor(FLOOR_ROUNDS)
        floor_s = summarize(floor).median
        found += [Result(row.key, who, figures, floor_s) for who, figures in of_row]
        floors += floor
    return Report(tuple(found), Figures("s", tuple(floors)), about, tuple(missing.items()))


def _figures(row: Row, one: Contender, effort: Effort, folder: str) -> list[Figures]:
    if row.key != "orphans":
        return processes.run_cell(row.key, one.name, effort.name, folder, row.limit_s)
    trials = range(ORPHAN_TRIALS[effort.name])
    left = [processes.count_orphans(one.name, effort.name, folder, row.limit_s) for _ in trials]
    return [Figures("count", tuple(left))]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure procstop and its alternatives, side by side.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all by default")
    parser.add_argument("--only", default="", metavar="TEXT", help="only contenders whose name has this in it")
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--quick", action="store_true", help="few samples, to see that it works")
    effort.add_argument("--full", action="store_true", help="many samples, and 100,000 tasks in one run")
    options = parser.parse_args()
    unknown = [name for name in options.rows if name not in ROWS]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    return options


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


def _leave(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
