"""Measure one row of one contender, and write what came out as JSON. Usage: cell.py ROW CONTENDER EFFORT FOLDER ANSWER

The process ends hard, with threads and workers still there: whoever started it ends them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from typing import Any

# The folder of this script would hide modules of the same names, such as pebble's.
sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

ORPHANS = 4


def main() -> None:
    """Measure, answer, and end; for `orphans` wait to be killed."""
    from benchmarks.alternatives import contenders
    from benchmarks.contender import NotMeasured, Place
    from benchmarks.figures import to_json
    from benchmarks.own_rows import ROWS
    from benchmarks.rows import EFFORTS

    row_name, who, effort_name, folder, answer = sys.argv[1:]
    effort = EFFORTS[effort_name]
    place = Place(folder, effort.patience_s)
    contender = contenders()[who]
    found: dict[str, Any]
    try:
        if row_name == "orphans":
            found = {"parents": sorted(contender.spin(place, ORPHANS))}
        else:
            found = {"figures": [to_json(one) for one in ROWS[row_name].measure(contender, place, effort)]}
    except NotMeasured as error:
        found = {"why_not": str(error)}
    except Exception as error:
        # Its text may name paths, which have no place in the table.
        found = {"why_not": f"failed with {type(error).__name__}", "details": traceback.format_exc()}
    with open(f"{answer}.new", "w", encoding="utf-8") as file:
        json.dump(found, file)
    os.rename(f"{answer}.new", answer)
    while row_name == "orphans":
        signal.pause()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that wait for guests that never end must not hold this up.
    os._exit(0)


if __name__ == "__main__":
    main()
