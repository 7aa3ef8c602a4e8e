"""The row about one run of very many tasks: what grows in the supervisor, and whether time for a task does."""

from __future__ import annotations

import time

import psutil

import procstop
from benchmarks.alternatives.procstop import Procstop
from benchmarks.contender import CONCURRENCY, LIMIT_S, Contender, NotMeasured, Place
from benchmarks.figures import Figures
from benchmarks.rows import Effort

STEP = 1_000


def memory(contender: Contender, place: Place, effort: Effort) -> list[Figures]:
    """Run many trivial tasks, and compare the supervisor after every thousand."""
    assert isinstance(contender, Procstop)
    this = psutil.Process()
    marks: list[tuple[float, int, int]] = []
    over = 0

    def watch(event: object) -> None:
        nonlocal over
        if isinstance(event, procstop.events.TaskOver):
            over += 1
            if over % STEP == 0:
                marks.append((time.monotonic(), this.memory_info().rss, this.num_fds()))

    tasks = contender.tasks(place, effort.tasks, "trivial", limits=procstop.Limits(time=LIMIT_S))
    record = procstop.run(contender.job(tasks, CONCURRENCY), observers=[watch])
    if not record.ok:
        raise NotMeasured("a trivial task failed")
    first, last = marks[0], marks[-1]
    what = f"{STEP:,} to {effort.tasks:,} tasks"
    found = [
        Figures("MiB", ((last[1] - first[1]) / 2**20,), label=f"memory growth, {what}"),
        Figures("count", (last[2] - first[2],), label="descriptor growth"),
    ]
    if len(marks) > 2:
        ratio = (marks[-1][0] - marks[-2][0]) / (marks[1][0] - marks[0][0])
        found.append(Figures("x", (ratio,), label="time per task, last against second 1,000"))
    return found
