"""Print what came of the selftest: as a table for people, or as JSON for programs."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from typing import Any

from procstop.reporting.words import count
from procstop.selftest.run import BROKEN, HELD, LEFT_OUT, MISSING, Report, Result

SCHEMA = "procstop.selftest/1"
_TRIED, _ENGINE = 45, 8
PROMISES = {
    "P1": "bounded: a stop is over within its graces and a little",
    "P2": "no orphans: when a process of ours dies, nothing is left",
    "P3": "politeness: who leaves in time is only asked",
    "P4": "one outcome: what ended it and why are never confused",
    "P6": "containment: a guest has what its task grants",
    "P7": "one contract: the same on every engine",
}
"""The promises that are tried here. P5, that nothing is lost, is not."""
PROMISED_MS = {"P1": 50.0, "P2": 100.0}
"""What p99 is promised to stay under, on a machine that does nothing else."""


def heading() -> str:
    """Return the line over the table."""
    return _line("promise", "tried", "engine", "trials", "failed", "survivors", "p50", "p99", "")


def line(result: Result) -> str:
    """Return a row's line; one that did not hold says why."""
    counts = (result.trials, result.failures, result.survivors) if result.trials else ("-", "-", "-")
    times = [milliseconds(one) for one in (result.p50_ms, result.p99_ms)]
    note = f"{result.state}: {result.why}" if result.state != HELD else ""
    if is_slow(result):
        note = f"slow: {PROMISED_MS[result.promise]:g} ms are promised where nothing else runs"
    return _line(result.promise, result.tried, result.engine, *counts, *times, note)


def is_slow(result: Result) -> bool:
    """Tell whether a row that held took longer than is promised of a machine that does nothing else."""
    promised = PROMISED_MS.get(result.promise)
    return result.state == HELD and None not in (promised, result.p99_ms) and (result.p99_ms or 0) > (promised or 0)


def _line(promise: str, tried: str, engine: str, *rest: object) -> str:
    trials, failed, survivors, p50, p99, note = rest
    text = f"{promise:<8} {tried:<{_TRIED}} {engine:<{_ENGINE}} {trials:>6} {failed:>6} {survivors:>9}"
    return f"{text} {p50:>8} {p99:>8}  {note}".rstrip()


def milliseconds(ms: float | None) -> str:
    """Return a time with its unit; a dash where nothing was timed."""
    return "-" if ms is None else f"{ms:.1f} ms"


def summary(report: Report) -> str:
    """Return the last line: that all held, or which did not; and what was left out, of which nothing is known."""
    trials = sum(one.trials for one in report.results)
    left_out = [one for one in report.results if one.state == LEFT_OUT]
    rows = count(len(report.results) - len(left_out), "row")
    amount = f"{count(trials, 'trial')}, {rows}, {report.duration_s:.0f} s"
    if left_out:
        reasons = "; ".join(dict.fromkeys(str(one.why) for one in left_out))
        amount += f"; {count(len(left_out), 'row')} {'was' if len(left_out) == 1 else 'were'} left out ({reasons})"
    if report.held:
        slow = sum(map(is_slow, report.results))
        if slow:
            amount += (
                f"; {count(slow, 'row')} {'was' if slow == 1 else 'were'} slower than is promised of an idle machine"
            )
        return f"every promise {'that could be tried ' if left_out else ''}held: {amount}"
    said = []
    for state, words in ((BROKEN, "did not hold"), (MISSING, "cannot be kept here")):
        promises = sorted({one.promise for one in report.results if one.state == state})
        if promises:
            said.append(f"{', '.join(promises)} {words}")
    return f"not every promise held: {'; '.join(said)}: {amount}"


def as_json(report: Report) -> dict[str, Any]:
    """Return everything as JSON. No key is ever left out; what does not apply is null."""
    return {
        "schema": SCHEMA,
        "procstop": _version(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "engines": list(report.engines),
        "trials": report.trials,
        "duration_s": round(report.duration_s, 3),
        "held": report.held,
        "promises": PROMISES,
        "rows": [_rounded(asdict(one)) for one in report.results],
    }


def dumps(report: Report) -> str:
    """Return it as text."""
    return json.dumps(as_json(report), indent=1)


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}


def _version() -> str:
    from procstop import __version__

    return __version__
