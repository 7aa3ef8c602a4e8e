"""Kill supervisors at random moments and see what is left of them. Run as a script, in a process of its own.

Theory of operation. This process becomes the subreaper of all that is below it, so that whatever loses its parent
comes to it: not one process can escape its sight. For each trial it forks a supervisor that runs the job, kills that
after a random time, and waits until it has no child left; every end is reaped here. What is still there at the
deadline is a survivor.

    python killing.py SEED TRIALS LONGEST_MS CONCURRENCY ENGINE MODULE

prints, as JSON, a list of [milliseconds until the kill, workers seen then, seconds until nothing was left, survivors].
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time

import psutil

from procstop import Job, Task, linux
from procstop.preflight import prepare
from procstop.supervisor import Supervisor

DEADLINE_S = 20.0


def main() -> None:
    """Make the trials."""
    seed, trials, longest_ms, concurrency = map(int, sys.argv[1:5])
    engine, module = sys.argv[5:7]
    linux.set_child_subreaper(True)
    tasks = [Task(f"task {number}", module, engine=engine) for number in range(concurrency)]
    plan = prepare(Job("killed", tasks, concurrency=concurrency)).check()
    chance = random.Random(seed)
    results = []
    for _ in range(trials):
        delay_ms = chance.uniform(0, longest_ms)
        supervisor = os.fork()
        if supervisor == 0:
            try:
                Supervisor(plan.job, plan.assignments).run()
            finally:
                os._exit(0)
        # Chance is what this is about: here alone a sleep is not for luck.
        time.sleep(delay_ms / 1000)
        workers = len(children()) - 1
        os.kill(supervisor, signal.SIGKILL)
        began = time.monotonic()
        survivors = wait_for_all(began + DEADLINE_S)
        results.append([round(delay_ms, 3), workers, time.monotonic() - began, survivors])
    json.dump(results, sys.stdout)


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
