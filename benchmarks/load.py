"""Rows about procstop on a busy machine, and about many attempts at once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import procstop
from benchmarks.alternatives.procstop import NO_GRACE, Procstop
from benchmarks.contender import Contender, NotMeasured, Place
from benchmarks.figures import Figures
from benchmarks.rows import Effort

WORKERS = 50
_LIMIT_S = 0.1
_PATIENCE_S = 200.0


def under_load(contender: Contender, place: Place, effort: Effort) -> list[Figures]:
    """Measure stops beside 50 guests that sleep, and beside 50 that spin, with a busy process for each core."""
    assert isinstance(contender, Procstop)
    spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        found = []
        for guest, what in (("sleeps", "50 asleep"), ("spins", "50 spinning")):
            late, reaped = _stops_beside(contender, place, guest, effort.stops)
            found.append(Figures("s", tuple(late), label=f"{what}: deadline to message"))
            found.append(Figures("s", tuple(reaped), label=f"{what}: kill to reaped"))
        return found
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def _stops_beside(contender: Procstop, place: Place, guest: str, rounds: int) -> tuple[list[float], list[float]]:
    """Run stops one at a time beside guests that fill all other places; return the delays of messages and of kills."""
    beside = [contender.task(place, f"beside-{number}", guest) for number in range(WORKERS)]
    limits = procstop.Limits(time=_LIMIT_S)
    polite = [contender.task(place, f"polite-{number}", "polite", limits=limits) for number in range(rounds)]
    hard = [contender.task(place, f"hard-{number}", "spins", limits=limits, stop=NO_GRACE) for number in range(rounds)]
    left = {task.name for task in (*polite, *hard)}
    done = threading.Event()

    def watch(event: object) -> None:
        if isinstance(event, procstop.events.TaskOver):
            left.discard(event.record.task)
            if not left:
                done.set()

    with procstop.start(contender.job([*beside, *polite, *hard], WORKERS + 1), observers=[watch]) as running:
        finished = done.wait(_PATIENCE_S)
        running.stop(procstop.Rung.KILL)
        record = running.result()
    if not finished:
        raise NotMeasured(f"the stops took more than {_PATIENCE_S:g} s")
    phases = {task.task: task.attempts[-1].phases for task in record.tasks}
    late = [(phases[task.name].run or 0.0) - _LIMIT_S for task in polite]
    return late, [(phases[task.name].kill or 0.0) + (phases[task.name].reap or 0.0) for task in hard]


def at_once(contender: Contender, place: Place, effort: Effort) -> list[Figures]:
    """Start sleeping guests, all at once, stop them together, and see how long both take."""
    assert isinstance(contender, Procstop)
    count = effort.at_once
    tasks = contender.tasks(place, count, "sleeps", expect=[procstop.Outcome.INTERRUPTED])
    running_now = threading.Semaphore(0)

    def watch(event: object) -> None:
        if isinstance(event, procstop.events.AttemptMoved) and event.state == "running":
            running_now.release()

    began = time.monotonic()
    with procstop.start(contender.job(tasks, count), observers=[watch]) as run:
        for _ in range(count):
            if not running_now.acquire(timeout=_PATIENCE_S):
                raise NotMeasured("not every attempt came to run")
        started = time.monotonic()
        run.stop()
        record = run.result()
        over = time.monotonic()
    ended = [task.outcome for task in record.tasks]
    interrupted = ended.count(procstop.Outcome.INTERRUPTED)
    note = "" if interrupted == count else f"{interrupted} of {count} were interrupted, the others were stopped harder"
    return [
        Figures("s", (started - began,), label=f"{count:,} attempts until all run"),
        Figures("s", (over - started,), label="stop until all are reaped", note=note),
    ]
