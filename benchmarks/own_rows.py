"""The rows that only procstop is measured in: its own promises of speed, and how it stands load and numbers."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys

import procstop
from benchmarks.alternatives.procstop import NO_GRACE, Procstop, overrun
from benchmarks.contender import Contender, NotMeasured, Place
from benchmarks.figures import Figures
from benchmarks.guests import large_module
from benchmarks.load import at_once, under_load
from benchmarks.rows import SHARED, Effort, Row
from benchmarks.scale import memory

_HERE = os.path.dirname(os.path.abspath(__file__))
_SHORT_S = 0.05


def own(contender: Contender) -> Procstop:
    """Return procstop; the other rows' contenders are not asked."""
    if not isinstance(contender, Procstop):
        raise NotMeasured("procstop's own row")
    return contender


def interrupt(contender: Contender, place: Place, effort: Effort) -> list[Figures]:
    """Measure the polite way out."""
    limits = procstop.Limits(time=_SHORT_S)
    records = own(contender).attempts(place, effort.samples, "polite", limits=limits)
    if any(record.outcome is not procstop.Outcome.INTERRUPTED for record in records):
        raise NotMeasured("an attempt was not interrupted")
    return [Figures("s", tuple((one.phases.interrupt or 0.0) + (one.phases.reap or 0.0) for one in records))]


def kill(contender: Contender, place: Place, effort: Effort) -> list[Figures]:
    """Measure the hard way out."""
    limits = procstop.Limits(time=_SHORT_S)
    records = own(contender).attempts(place, effort.samples, "spins", limits=limits, stop=NO_GRACE)
    return [Figures("s", tuple(overrun(record, _SHORT_S) for record in records))]


def check(contender: Contender, place: Place, effort: Effort) -> list[Figures]:
    """Measure a stopping point and an empty host function in turn, in a process of their own."""
    rounds = max(5, effort.samples // 10)
    command = [sys.executable, os.path.join(_HERE, "checks.py"), own(contender).engine, str(rounds)]
    figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    empty, point = figures["empty"], figures["checkpoint"]
    return [
        Figures("ns", tuple(empty), label="an empty host function"),
        Figures("ns", tuple(point), label="a checkpoint"),
        Figures("x", tuple(one / other for one, other in zip(point, empty)), label="their ratio"),
    ]


def containment(contender: Contender, place: Place, effort: Effort) -> list[Figures]:
    """Measure warm trivial attempts with the sandbox and without, in turn."""
    mine = own(contender)
    took: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(max(4, effort.samples // 10)):
        for sandbox in (True, False):
            job = mine.job(mine.tasks(place, 12, "trivial"), 1)
            record = procstop.run(dataclasses.replace(job, containment=procstop.Containment(sandbox=sandbox)))
            if not record.ok:
                raise NotMeasured("a trivial task failed")
            # Without the first ones, for which the fork server was still loading.
            took[sandbox] += [sum(_phases(task.attempts[-1])) for task in record.tasks][4:]
    full, bare = (statistics.median(took[sandbox]) for sandbox in (True, False))
    return [
        Figures("s", tuple(took[False]), label="sandbox open"),
        Figures("s", tuple(took[True]), label="full containment"),
        Figures("x", (full / bare,), label="their ratio"),
    ]


def _phases(record: procstop.AttemptRecord) -> list[float]:
    phases = record.phases
    return [phase for phase in (phases.start, phases.run, phases.reap) if phase is not None]


def compile_once(contender: Contender, place: Place, effort: Effort) -> list[Figures]:
    """Start a large module with an empty cache, and again, in this run and as in another one."""
    if not hasattr(procstop, "Workers"):
        raise NotMeasured("this version has no cache of compiled modules")
    from wasmtime import wat2wasm

    # A cache of its own, which is empty.
    os.environ["XDG_CACHE_HOME"] = os.path.join(place.folder, f"cache-{os.getpid()}")
    path = place.guest("large")
    with open(path, "wb") as file:
        file.write(bytes(wat2wasm(large_module(effort.functions))))
    size = f"{os.path.getsize(path) / 2**20:.1f} MiB"
    found = []
    for _ in range(1 + effort.batches):
        record = procstop.run(own(contender).job([own(contender).task(place, "t", "large")], 1))
        if not record.ok:
            raise NotMeasured(f"the large module ended as {record.tasks[0].outcome.value}")
        found.append(record.tasks[0].attempts[-1].phases.start or 0.0)
    return [
        Figures("s", (found[0],), label=f"first run of {size}"),
        Figures("s", tuple(found[1:]), label="a later run"),
    ]


OWN = (
    Row(
        "interrupt",
        "interrupt to outcome, a guest that checks in a loop",
        "interrupt",
        "The phases `interrupt` and `reap` of an attempt that ran into a limit of 50 ms.",
        interrupt,
        own=True,
    ),
    Row(
        "kill",
        "deadline to reaped, a runaway, graces 0",
        "kill",
        "What an attempt with a limit of 50 ms took beyond it, until nothing of its worker's tree was left.",
        kill,
        own=True,
    ),
    Row(
        "check",
        "a checkpoint that finds no interrupt",
        "check",
        "A call of `procstop.checkpoint` against one of an empty host function of the same engine, in turn.",
        check,
        best="",
        own=True,
        ratio=False,
    ),
    Row(
        "containment",
        "what full containment costs an attempt",
        "containment",
        "All phases of a warm trivial attempt with its sandbox closed (as root, also another user) and with "
        "`containment.sandbox` false, in turn.",
        containment,
        best="",
        own=True,
        ratio=False,
    ),
    Row(
        "load",
        "latency with every core busy and 50 workers running",
        "load",
        "A process spins for each core, and 50 guests of the same run sleep, or spin as well. Then from a limit's "
        "deadline to the interrupt message, and from the decision to kill to the reaped worker, one attempt at a "
        "time.",
        under_load,
        best="",
        own=True,
    ),
    Row(
        "at-once",
        "many sleeping attempts at once",
        "at once",
        "From the start of the run until all guests sleep; from one stop request until all were interrupted and "
        "reaped and the run is over.",
        at_once,
        best="",
        own=True,
        ratio=False,
    ),
    Row(
        "memory",
        "the supervisor in one run of many tasks",
        "memory",
        "Resident memory and descriptors of the supervisor at the end against those after 1,000 tasks, and the "
        "time for the last 1,000 tasks against the second 1,000. `--full` runs 100,000 tasks.",
        memory,
        best="",
        own=True,
        ratio=False,
        ways=("", "reused"),
        limit_s=3600.0,
    ),
    Row(
        "compile",
        "a large generated module: compiled once",
        "compile",
        "The phase `start` of a run with an empty cache of compiled modules, and of later runs.",
        compile_once,
        best="",
        own=True,
        ratio=False,
    ),
)

ROWS = {row.key: row for row in (*SHARED, *OWN)}
