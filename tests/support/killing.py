"""Kill processes of runs at random moments and see what is left. Run as a script, in a process of its own.

Theory of operation. This process becomes the subreaper of all that is below it, so that whatever loses its parent
comes to it: not one process can escape its sight. For each trial it forks a supervisor that runs the job, and kills
some of its processes after a random time. A run whose supervisor was spared has to go on: once all of its guests run,
one guardian is there and nothing else of it, its supervisor is killed as well. Then this process waits until it has no
child left; every end is reaped here. What is still there at the deadline is a survivor.

`procstop.selftest.victim` does the like for users, in less time. Here any two processes of a run are killed, workers
and those that have only just begun included, and a seed makes the same choices again.

    python killing.py SEED TRIALS LONGEST_MS CONCURRENCY ENGINE SPAWN MODULE VICTIM[+VICTIM...]

where SPAWN is "server" or "fresh", and a victim is the supervisor, the server, the guardian or a worker,

prints, as JSON, a list of [milliseconds until the kill, processes below it then, seconds until nothing was left that
should not be there, survivors, which of them were there and killed].
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from procstop import Job, Spawn, Task, Workers, linux
from procstop.places import cache_directory
from procstop.preflight import Plan, prepare
from procstop.selftest import processes
from procstop.selftest.processes import Identity
from procstop.supervisor import Supervisor

DEADLINE_S = 20.0


def main() -> None:
    """Make the trials."""
    seed, trials, longest_ms, concurrency = map(int, sys.argv[1:5])
    engine, spawn, module, whom = sys.argv[5:9]
    linux.set_child_subreaper(True)
    tasks = [Task(f"task {number}", module, engine=engine) for number in range(concurrency)]
    plan = prepare(Job("killed", tasks, concurrency=concurrency, workers=Workers(spawn=Spawn(spawn)))).check()
    chance = random.Random(seed)
    results = []
    for _ in range(trials):
        delay_ms = chance.uniform(0, longest_ms)
        supervisor = os.fork()
        if supervisor == 0:
            supervise(plan)
        # Chance is what this is about: here alone a sleep is not for luck.
        time.sleep(delay_ms / 1000)
        below = len(processes.below(os.getpid())) - 1
        found = find(supervisor)
        names = chance.sample(whom.split("+"), whom.count("+") + 1)
        killed = [name for name in names if name in found]
        began = time.monotonic()
        processes.kill(found[name] for name in killed)
        if "supervisor" in killed:
            left = wait_for_all()
            took = time.monotonic() - began
        else:
            # A worker that went with its fork server before that had told of it is made again; another has crashed.
            fewest = concurrency - killed.count("worker")
            left = wait_until_it_goes_on({fewest, concurrency} if "server" in killed else {fewest})
            took = time.monotonic() - began
            os.kill(supervisor, signal.SIGKILL)
            left += wait_for_all()
        results.append([round(delay_ms, 3), below, took, left, killed])
    json.dump(results, sys.stdout)


def supervise(plan: Plan) -> NoReturn:
    """Be the supervisor of the job, for as long as there is somebody to look after it."""
    linux.set_parent_death_signal(signal.SIGKILL)
    try:
        Supervisor(plan.job, plan.assignments, cache_directory=cache_directory()).run()
    finally:
        os._exit(0)


def find(supervisor: int) -> dict[str, Identity]:
    """Return who of the victims is there."""
    found = {}
    if (itself := processes.identity(supervisor)) is not None:
        found["supervisor"] = itself
    for who in sorted(processes.below(supervisor), key=lambda who: (who[1], who[0])):
        # By what they have before they have a name of their own.
        command = command_line(who)
        if processes.name_of(who[0]) == "procstop-worker":
            found["worker"] = who
        elif b"from guardian import" in command:
            found["guardian"] = who
        elif b"procstop.forkserver" in command:
            # The oldest of its kind: workers begin as copies of it.
            found.setdefault("server", who)
    return found


def command_line(who: Identity) -> bytes:
    """Return a process's command line; nothing for one that is gone."""
    try:
        return Path(f"/proc/{who[0]}/cmdline").read_bytes()
    except OSError:
        return b""


def wait_until_it_goes_on(counts: set[int]) -> list[str]:
    """Wait until a run has all of its workers, a guardian, a fork server if it needs one, and no more.

    There are as many workers as one of the `counts` says. Return what it has if it does not come to that.
    """
    names: list[str] = []

    def is_settled() -> bool:
        names[:] = [processes.name_of(pid) for pid, _ in processes.below(os.getpid())]
        # The supervisor, its guardian, its workers, and whatever is neither: one fork server at most.
        workers = names.count("procstop-worker")
        settled = workers in counts and names.count("procstop-guardi") == 1
        return settled and len(names) in (workers + 2, workers + 3)

    return [] if processes.wait_until(is_settled, DEADLINE_S) else [f"it has {names}"]


def wait_for_all() -> list[str]:
    """Reap children until there is none; at the deadline, kill and return those that are left."""

    def is_alone() -> bool:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return True
        return False

    if processes.wait_until(is_alone, DEADLINE_S):
        return []
    left = processes.below(os.getpid())
    survivors = [f"{who[0]} {command_line(who)[-100:]!r}" for who in left]
    processes.kill(left)
    processes.wait_until(is_alone)
    return survivors or ["a child that cannot be reaped"]


if __name__ == "__main__":
    main()
