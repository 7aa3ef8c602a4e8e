"""Try the rows one after another, and say of each whether it held."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from procstop.errors import EngineError
from procstop.linux import ON_LINUX
from procstop.selftest.bench import Bench, Survived, Trial, choose_engines, make_bench
from procstop.selftest.rows import ROWS, Row

HELD, BROKEN, MISSING, LEFT_OUT = "held", "broken", "missing", "left out"
TRIALS = 10


@dataclass(frozen=True)
class Result:
    """What became of a row. `state` is one of the four above, `why` says what was wrong or is not here."""

    promise: str
    tried: str
    engine: str
    state: str
    trials: int = 0
    failures: int = 0
    survivors: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    why: str | None = None


@dataclass(frozen=True)
class Report:
    """All results, in the order of the table."""

    results: tuple[Result, ...]
    engines: tuple[str, ...]
    trials: int
    duration_s: float

    @property
    def held(self) -> bool:
        """Tell whether every promise held; a row that this machine cannot do counts as one that did not."""
        return all(one.state in (HELD, LEFT_OUT) for one in self.results)


def selftest(
    *,
    trials: int = TRIALS,
    engine: str | None = None,
    rows: Sequence[Row] = ROWS,
    on_row: Callable[[Row, str], None] = lambda row, engine: None,
    on_result: Callable[[Result], None] = lambda result: None,
) -> Report:
    """Try every row so many times on each engine that is here; `on_row` hears what begins, `on_result` how it ended.

    Raise `EngineError` where there is nothing to try. KeyboardInterrupt goes through, with nothing left behind.
    """
    if not ON_LINUX:
        raise EngineError("the selftest needs Linux: it finds survivors in /proc")
    began = time.monotonic()
    engines, absent = choose_engines(engine)
    results = []
    with make_bench(engines, absent, trials) as bench:
        for row, one in _each(rows, bench):
            on_row(row, one.engine or "both")
            result = try_row(row, one)
            results.append(result)
            on_result(result)
    return Report(tuple(results), engines, trials, time.monotonic() - began)


def _each(rows: Sequence[Row], bench: Bench) -> Iterator[tuple[Row, Bench]]:
    for row in rows:
        if row.together:
            yield row, bench
        else:
            for engine in bench.engines:
                yield row, replace(bench, engine=engine)


def try_row(row: Row, bench: Bench) -> Result:
    """Try one row on what the bench says; whatever it raises is a promise that did not hold."""
    result = Result(row.promise, row.tried, bench.engine or "both", HELD)
    try:
        lacking = row.lacks(bench) if row.lacks is not None else None
        if lacking is not None:
            return replace(result, state=MISSING, why=lacking)
        reason = row.leave_out(bench) if row.leave_out is not None else None
        if reason is not None:
            return replace(result, state=LEFT_OUT, why=reason)
        return judge(result, row.run(bench), bench.trials)
    except Survived as error:
        return replace(result, state=BROKEN, trials=bench.trials, failures=1, survivors=error.count, why=str(error))
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        return replace(result, state=BROKEN, trials=bench.trials, failures=bench.trials, why=why)


def judge(result: Result, trials: Sequence[Trial], expected: int) -> Result:
    """Return the result of a row's trials."""
    times = sorted(one.ms for one in trials if one.ms is not None)
    failures = [one for one in trials if one.fault is not None or one.survivors]
    survivors = sum(one.survivors for one in trials)
    said = [one.fault or f"{one.survivors} survived" for one in failures]
    if len(trials) != expected:
        said.insert(0, f"{len(trials)} of {expected} trials were made")
    return replace(
        result,
        state=BROKEN if said else HELD,
        trials=len(trials),
        failures=len(failures),
        survivors=survivors,
        p50_ms=percentile(times, 50),
        p99_ms=percentile(times, 99),
        why=said[0] if said else None,
    )


def percentile(ordered: Sequence[float], percent: int) -> float | None:
    """Return the least of the values that so many percent do not exceed; None of none."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else None
