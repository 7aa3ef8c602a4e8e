"""The rows that everyone is measured in, and what is done for each."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.contender import Contender, NotMeasured, Place
from benchmarks.figures import Figures


@dataclass(frozen=True)
class Effort:
    """How much is done for a figure: `batch_s` for a batch of tasks, `budget_s` for all samples of a row."""

    name: str
    batches: int
    batch_s: float
    samples: int
    stops: int
    budget_s: float
    patience_s: float
    tasks: int
    at_once: int
    functions: int


QUICK = Effort("quick", 2, 0.5, 20, 2, 2, 4, 2_000, 50, 300)
NORMAL = Effort("normal", 3, 1, 100, 10, 5, 4, 10_000, 1_000, 3_000)
FULL = Effort("full", 9, 3, 1_000, 50, 60, 8, 100_000, 1_000, 6_000)
EFFORTS = {effort.name: effort for effort in (QUICK, NORMAL, FULL)}

Measure = Callable[[Contender, Place, Effort], list[Figures]]


@dataclass(frozen=True)
class Row:
    """One question to everyone who can answer it. `best` says what is best: "low", "high", "yes", or "" for nothing."""

    key: str
    title: str
    short: str
    meaning: str
    measure: Measure
    best: str = "low"
    own: bool = False
    """Only procstop is asked, in `ways` of making workers."""
    ways: tuple[str, ...] = ("",)
    ratio: bool = True
    """Whether a ratio to the floor means anything."""
    limit_s: float = 240.0
    """How long the measurement may take before it is given up."""


def throughput(contender: Contender, place: Place, effort: Effort) -> list[Figures]:
    """Measure batches of trivial tasks; the first one warms up and says how large the others may be."""
    count = 8
    contender.many(place, count)
    # A batch is so long that what a run starts once, such as a fork server, hardly counts.
    once = contender.many(place, 1)
    while (took := contender.many(place, count) - once) < effort.batch_s * 0.8:
        count = int(count * min(8.0, max(1.25, effort.batch_s / max(took, 1e-6))))
    return [Figures("tasks/s", tuple(count / contender.many(place, count) for _ in range(effort.batches)))]


def _sampled(measure: Callable[[Place, int], list[float]], place: Place, effort: Effort) -> list[Figures]:
    began = time.monotonic()
    measure(place, 3)
    each = (time.monotonic() - began) / 3
    return [Figures("s", tuple(measure(place, max(5, min(effort.samples, int(effort.budget_s / each))))))]


def start(contender: Contender, place: Place, effort: Effort) -> list[Figures]:
    """Measure starts, as many as fit into the time."""
    return _sampled(contender.starts, place, effort)


def life(contender: Contender, place: Place, effort: Effort) -> list[Figures]:
    """Measure whole lives, as many as fit into the time."""
    return _sampled(contender.lives, place, effort)


def _stops(guest: str, grace: bool) -> Measure:
    def measure(contender: Contender, place: Place, effort: Effort) -> list[Figures]:
        until = time.monotonic() + effort.budget_s
        found: list[float] = []
        while len(found) < effort.stops and (len(found) < 2 or time.monotonic() < until):
            late = contender.stop(place, guest, grace=grace)
            if late is None:
                return [Figures("s", never=True, note=f"still runs {effort.patience_s:g} s after the deadline")]
            found.append(late)
        return [Figures("s", tuple(found))]

    return measure


def output(contender: Contender, place: Place, effort: Effort) -> list[Figures]:
    """See whether what a guest printed outlives it."""
    there, where = contender.keeps_output(place)
    if there is None:
        return [Figures("answer", answer="not stopped", note=where)]
    return [Figures("answer", answer="yes" if there else "no", note=where)]


def orphans(contender: Contender, place: Place, effort: Effort) -> list[Figures]:
    """Refuse: the process that asks is the one that is killed, so `processes.count_orphans` does it."""
    raise NotMeasured("measured from outside")


SHARED = (
    Row(
        "throughput",
        "tasks a second, trivial guest, two side by side",
        "tasks/s",
        "Batches of tasks that return at once, warmed up; the tail is the 1st percentile. The ratio is of the time "
        "for a task.",
        throughput,
        best="high",
    ),
    Row(
        "start",
        "start: asked until the guest runs",
        "start",
        "For others until the guest calls a host function; for procstop its report's `start` phase, which ends "
        "when the supervisor learns that the guest is about to run. Warm, one after the other.",
        start,
    ),
    Row(
        "life",
        "life: whole life of a warm trivial task",
        "life",
        "From the asking until the outcome is known, one after the other. For procstop and GNU parallel from one "
        "task to the next.",
        life,
    ),
    Row(
        "polite",
        "stop a polite guest: deadline to gone",
        "stop polite",
        "A guest that calls a host function in a loop, limit 0.2 s. For procstop that is a checkpoint, where the guest "
        "leaves by itself; everybody else ends it by force. Graces as they come with procstop, 1 s from SIGTERM to "
        "SIGKILL for GNU parallel and `timeout`.",
        _stops("polite", True),
    ),
    Row(
        "runaway",
        "stop a runaway, no graces: deadline to gone",
        "stop runaway",
        "A guest that spins, limit 0.2 s; over when nothing that ran it is left and the caller knows. The clock of "
        "a command starts with the command (of GNU parallel with its script), that of pebble with the call in its "
        "worker.",
        _stops("spins", False),
    ),
    Row(
        "blocked",
        "stop a guest in a blocking host call, no graces: deadline to gone",
        "stop blocked",
        "The same for a guest whose host function sleeps 60 s.",
        _stops("blocks", False),
    ),
    Row(
        "orphans",
        "processes left 1 s after kill -9 of the parent",
        "left after kill -9",
        "Four guests spin, then the process that started and watches them is killed: the Python process, GNU parallel, "
        "each `timeout`. The most of several trials.",
        orphans,
    ),
    Row(
        "output",
        "a stopped guest's output is there",
        "output kept",
        "The guest prints a line, spins, and is stopped at 0.2 s without graces. Extism shows output with "
        "EXTISM_ENABLE_WASI_OUTPUT=1.",
        output,
        best="yes",
    ),
)
