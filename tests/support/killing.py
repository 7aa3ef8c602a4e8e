"""Kill processes of runs at random moments and see what is left. Run as a script, in a process of its own.

Theory of operation. This process becomes the subreaper of all that is below it, so that whatever loses its parent
comes to it: not one process can escape its sight. For each trial it forks a supervisor that runs the job, and kills
some of its processes after a random time. A run whose supervisor was spared has to go on: once all of its guests run,
one guardian is there and nothing else of it, its supervisor is killed as well. Then this process waits until it has no
child left; every end is reaped here. What is still there at the deadline is a survivor.

    python killing.py SEED TRIALS LONGEST_MS CONCURRENCY ENGINE MODULE VICTIM[+VICTIM...]

where a victim is the supervisor, the server, the guardian or a worker,

prints, as JSON, a list of [milliseconds until the kill, processes below it then, seconds until nothing was left that
should not be there, survivors, which of them were there and killed].
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from typing import NoReturn

import psutil

from procstop import Job, Task, linux
from procstop.places import cache_directory
from procstop.preflight import Plan, prepare
from procstop.supervisor import Supervisor

DEADLINE_S = 20.0


def main() -> None:
    """Make the trials."""
    seed, trials, longest_ms, concurrency = map(int, sys.argv[1:5])
    engine, module, whom = sys.argv[5:8]
    linux.set_child_subreaper(True)
    tasks = [Task(f"task {number}", module, engine=engine) for number in range(concurrency)]
    plan = prepare(Job("killed", tasks, concurrency=concurrency)).check()
    chance = random.Random(seed)
    results = []
    for _ in range(trials):
        delay_ms = chance.uniform(0, longest_ms)
        supervisor = os.fork()
        if supervisor == 0:
            supervise(plan)
        # Chance is what this is about: here alone a sleep is not for luck.
        time.sleep(delay_ms / 1000)
        below = len(children()) - 1
        found = find(supervisor)
        names = chance.sample(whom.split("+"), whom.count("+") + 1)
        killed = [name for name in names if name in found]
        for name in killed:
            # What was killed before may have ended it already; it is no other's pid, since this process reaps.
            with contextlib.suppress(ProcessLookupError):
                os.kill(found[name], signal.SIGKILL)
        began = time.monotonic()
        left = concurrency - killed.count("worker")
        went_on = wait_until_it_goes_on(left, began + DEADLINE_S) if "supervisor" not in killed else []
        if "supervisor" not in killed:
            took = time.monotonic() - began
            os.kill(supervisor, signal.SIGKILL)
            survivors = went_on + wait_for_all(time.monotonic() + DEADLINE_S)
        else:
            survivors = wait_for_all(began + DEADLINE_S)
            took = time.monotonic() - began
        results.append([round(delay_ms, 3), below, took, survivors, killed])
    json.dump(results, sys.stdout)


def supervise(plan: Plan) -> NoReturn:
    """Be the supervisor of the job."""
    try:
        Supervisor(plan.job, plan.assignments, cache_directory=cache_directory()).run()
    finally:
        os._exit(0)


def find(supervisor: int) -> dict[str, int]:
    """Return the pids of the victims that are there."""
    found = {"supervisor": supervisor}
    servers = []
    for child in psutil.Process(supervisor).children():
        try:
            command = " ".join(child.cmdline())
            if child.name() == "procstop-worker":
                found["worker"] = child.pid
            elif "from guardian import" in command:
                found["guardian"] = child.pid
            elif "procstop.forkserver" in command:
                servers.append((child.create_time(), child.pid))
        except psutil.Error:
            continue
    if servers:
        # The oldest of its kind: workers begin as copies of it.
        found["server"] = min(servers)[1]
    return found


def wait_until_it_goes_on(workers: int, deadline: float) -> list[str]:
    """Wait until a run has all of its workers, a guardian, a fork server if it needs one, and no more.

    Return what it has if it does not come to that.
    """
    while True:
        names = [name for child in children() if (name := name_of(child)) is not None]
        # The supervisor, its guardian, its workers, and whatever is neither: one fork server at most.
        settled = names.count("procstop-worker") == workers and names.count("procstop-guardi") == 1
        if settled and len(names) in (workers + 2, workers + 3):
            return []
        if time.monotonic() > deadline:
            return [f"it has {names}"]
        time.sleep(0.001)


def name_of(process: psutil.Process) -> str | None:
    """Return a living process's name."""
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.name())
    except (psutil.Error, IndexError):
        return None


def wait_for_all(deadline: float) -> list[str]:
    """Reap children until there is none; at the deadline, kill and return those that are left."""
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return []
        if time.monotonic() > deadline:
            break
        time.sleep(0.001)
    left = []
    for child in children():
        left.append(f"{child.pid} {child.status()} {' '.join(child.cmdline())[-100:]}")
        child.kill()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return left


def children() -> list[psutil.Process]:
    """Return all that is below this process."""
    return psutil.Process().children(recursive=True)


if __name__ == "__main__":
    main()
