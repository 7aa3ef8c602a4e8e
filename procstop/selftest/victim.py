"""Make supervisors and kill them: a program of its own, since one must be free to die here.

    python -m procstop.selftest.victim PID

Theory of operation. PID is the selftest's; each line of standard input is a `Request`, answered by one line with a list
of what became of each trial. This process is the subreaper of all that is below it, so that whatever loses its parent
comes to it, and nothing escapes its sight. For each trial it forks a supervisor that runs the job, kills the one or the
other after a random time, and waits until it has no child left; each end is reaped here. Whoever is there at the
deadline, or bears the mark of the run, is a survivor.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from typing import Any, NoReturn

from procstop import api, linux
from procstop.events import AttemptMoved, Event, Output
from procstop.model import Job, Limits, Spawn, StopPolicy, Task, Workers
from procstop.preflight import prepare
from procstop.selftest import hostile, processes
from procstop.selftest.processes import GONE_S, Identity
from procstop.selftest.victims import Request

_START_S = 20.0
_ATTEMPTS = 5
_QUICK = StopPolicy(interrupt=0.02, preempt=0.02, terminate=0.02)


def main() -> None:
    """Answer requests until there are no more."""
    _die_with(int(sys.argv[1]))
    linux.set_child_subreaper(True)
    # Ours alone: nothing that a supervisor prints gets between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    chance = random.Random()
    for line in sys.stdin:
        request = Request(**json.loads(line))
        job = _make_job(request)
        life = prepare(job).check().assignments[0].order.life
        if request.stop:
            told = _stop_in_time(request, job, life or 0.0)
        else:
            told = [
                _kill(request, job, chance, number % 2 == 0 and not request.cold) for number in range(request.trials)
            ]
        print(json.dumps(told), file=answers, flush=True)


def _die_with(parent: int) -> None:
    linux.set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _make_job(request: Request) -> Job:
    count = request.trials if request.stop else request.workers
    options: dict[str, Any] = {"engine": request.engine}
    if request.descendants:
        options |= {"host": {"env.work": hostile.starts_descendants}, "host_allow": ("processes",)}
    if request.stop:
        options |= {"limits": Limits(start=1.0, time=1.2), "stop": _QUICK}
    tasks = [Task(f"{n}", request.module, **options) for n in range(count)]
    workers = Workers(cache=not request.cold, spawn=Spawn.FRESH if request.fresh else Spawn.SERVER)
    return Job("victim", tasks, concurrency=count, workers=workers)


class Supervisor:
    """A forked supervisor, and what it says: a line with its run's id, then a line for each guest that runs."""

    def __init__(self, job: Job) -> None:
        read, write = os.pipe()
        helper = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(read)
            _supervise(job, write, helper)
        os.close(write)
        os.set_blocking(read, False)
        self._read, self._said = read, b""
        self.who = processes.identity(self.pid)

    def said(self) -> bytes:
        """Return what it has said so far."""
        try:
            while data := os.read(self._read, 65536):
                self._said += data
        except BlockingIOError:
            pass
        return self._said

    def run_id(self) -> str | None:
        """Return its run's id, if it came to have one."""
        for line in self.said().splitlines():
            if line.startswith(b"run "):
                return line[4:].decode()
        return None

    def close(self) -> None:
        """Close what is held of it."""
        os.close(self._read)


def _supervise(job: Job, tell: int, helper: int) -> NoReturn:
    """Be a supervisor: a Python program in which a run goes on."""
    try:
        _die_with(helper)

        def watch(event: Event) -> None:
            if isinstance(event, AttemptMoved) and event.state == "running":
                os.write(tell, b"running\n")
            if isinstance(event, Output) and b"descendants" in event.data:
                os.write(tell, b"descendants\n")

        with api.start(job, observers=[watch]) as run:
            os.write(tell, f"run {run.id}\n".encode())
            run.result()
    finally:
        os._exit(0)


def _kill(request: Request, job: Job, chance: random.Random, running: bool) -> dict[str, Any]:
    """Make one trial: the milliseconds until nothing was left, how many survived, and what else was wrong.

    It strikes when all guests are `running`, or at a random moment of their start.
    """
    supervisor = Supervisor(job)
    fault = None
    if request.descendants:
        fault = _wait_for(supervisor, b"descendants", request.workers)
    elif running and not request.cold:
        fault = _wait_for(supervisor, b"running", request.workers)
    else:
        # Any moment will do, and chance is what this is about.
        time.sleep(chance.uniform(0, request.longest_ms) / 1000)
    victims = _victims(request, supervisor.pid)
    chance.shuffle(victims)
    began = time.monotonic()
    processes.kill(victims)
    if "supervisor" not in request.whom:
        fault = fault or _wait_until_it_goes_on(supervisor, request.workers)
        began = time.monotonic()
        os.kill(supervisor.pid, signal.SIGKILL)
    survivors = _wait_until_alone()
    ms = (time.monotonic() - began) * 1000
    run = supervisor.run_id()
    marked = processes.marked(run) if run is not None else []
    processes.kill(marked)
    supervisor.close()
    return {"ms": ms, "survivors": survivors + len(marked), "fault": fault}


def _victims(request: Request, supervisor: int) -> list[Identity]:
    found = []
    if "supervisor" in request.whom and (who := processes.identity(supervisor)) is not None:
        found.append(who)
    for helper, name in processes.HELPERS.items():
        if helper in request.whom:
            # A worker begins as a copy of the fork server, name and all: the oldest is the one.
            found += processes.named(name, supervisor)[:1]
    return found


def _wait_for(supervisor: Supervisor, word: bytes, count: int) -> str | None:
    came = processes.wait_until(lambda: supervisor.said().count(word + b"\n") >= count, _START_S)
    return None if came else f"it did not come to {count} guests that run"


def _wait_until_it_goes_on(supervisor: Supervisor, workers: int) -> str | None:
    """A run that has lost its helpers has to get all of its workers nevertheless."""
    fault = _wait_for(supervisor, b"running", workers)
    if fault is None and len(processes.named("procstop-worker", supervisor.pid)) != workers:
        return "it lost workers with its helpers"
    return fault


def _stop_in_time(request: Request, job: Job, life: float) -> list[dict[str, Any]]:
    """Stop a supervisor for good while all of its workers run; on a slow machine that may take another attempt."""
    for _ in range(_ATTEMPTS):
        supervisor = Supervisor(job)
        fault = _wait_for(supervisor, b"running", request.trials)
        os.kill(supervisor.pid, signal.SIGSTOP)
        workers = processes.named("procstop-worker", supervisor.pid)
        told = _wait_for_lives(workers, life) if len(workers) == request.trials else None
        os.kill(supervisor.pid, signal.SIGKILL)
        _wait_until_alone()
        supervisor.close()
        if told is not None:
            return told
    fault = fault or "its workers were over before it could be stopped"
    return [{"ms": None, "survivors": 0, "fault": fault}] * request.trials


def _wait_for_lives(workers: list[Identity], life: float) -> list[dict[str, Any]]:
    """Wait until each worker has ended by itself; tell by how many milliseconds it outlived its life."""
    left = {who: processes.started_at(who) + life for who in workers}
    over: dict[Identity, float] = {}

    def look() -> bool:
        for who in left:
            if who not in over and not processes.is_there(who):
                over[who] = time.clock_gettime(time.CLOCK_BOOTTIME)
        return len(over) == len(left)

    processes.wait_until(look, life + GONE_S)
    told: list[dict[str, Any]] = []
    for who, due in left.items():
        if who in over:
            told.append({"ms": max(0.0, over[who] - due) * 1000, "survivors": 0, "fault": None})
        else:
            told.append({"ms": None, "survivors": 1, "fault": "it outlived its life"})
    return told


def _wait_until_alone() -> int:
    """Reap children until there is none; at the deadline, kill those that are left, and return how many they were."""

    def is_alone() -> bool:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return True
        return False

    if processes.wait_until(is_alone):
        return 0
    left = processes.below(os.getpid())
    processes.kill(left)
    processes.wait_until(is_alone)
    return len(left)


if __name__ == "__main__":
    main()
