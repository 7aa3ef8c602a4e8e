"""P2: when a process of ours dies in any way, nothing of its run is left. Timed from the kill until all are gone."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence

from procstop import api
from procstop.events import AttemptMoved, AttemptStarted, Event
from procstop.model import Job, Outcome
from procstop.selftest import hostile, processes
from procstop.selftest.bench import Bench, Trial, only
from procstop.selftest.bounded import descendants_of
from procstop.selftest.processes import Identity
from procstop.selftest.victims import Request

MOST_MS = 5000.0
"""More than this is no promise kept. On an idle machine it is under 100 ms."""
_WAIT_S = 20.0
_SIDE_BY_SIDE = 10


def kills_supervisor(bench: Bench) -> list[Trial]:
    """SIGKILL of the supervisor of four guests that spin, at random moments of their start and after it."""
    return _kill(bench, ["supervisor"])


def kills_fresh_ones_supervisor(bench: Bench) -> list[Trial]:
    """The same, where workers are started anew instead of forked."""
    assert bench.engine is not None
    return _judge(bench, Request(bench.engine, bench.guests["spins"], ["supervisor"], bench.trials, 2, fresh=True))


def kills_fork_server(bench: Bench) -> list[Trial]:
    """SIGKILL of the fork server: the run goes on, and its supervisor is killed later."""
    return _kill(bench, ["fork server"])


def kills_guardian(bench: Bench) -> list[Trial]:
    """SIGKILL of the guardian: the run goes on, and its supervisor is killed later."""
    return _kill(bench, ["guardian"])


def kills_all_of_them(bench: Bench) -> list[Trial]:
    """SIGKILL of the supervisor, its fork server and its guardian together, in any order."""
    return _kill(bench, ["supervisor", *processes.HELPERS])


def kills_supervisor_of_descendants(bench: Bench) -> list[Trial]:
    """SIGKILL of the supervisor when host functions have started processes of their own."""
    assert bench.engine is not None
    module = bench.guests["calls_host_then_spins"]
    request = Request(bench.engine, module, ["supervisor"], bench.trials, workers=2, descendants=True)
    return _judge(bench, request)


def kills_all_but_a_guardian(bench: Bench) -> list[Trial]:
    """SIGKILL of that supervisor, its fork server and one of its two guardians together."""
    assert bench.engine is not None
    module = bench.guests["calls_host_then_spins"]
    whom = ["supervisor", *processes.HELPERS]
    return _judge(bench, Request(bench.engine, module, whom, bench.trials, workers=2, descendants=True))


def kills_supervisor_that_compiles(bench: Bench) -> list[Trial]:
    """SIGKILL of a supervisor at random moments while a compiler is at work for it, and before and after that."""
    assert bench.engine is not None
    return _judge(bench, Request(bench.engine, bench.guests["spins"], ["supervisor"], bench.trials, cold=True))


def stops_supervisor(bench: Bench) -> list[Trial]:
    """SIGSTOP of the supervisor for good: each worker ends by itself when its life is over. Timed from there."""
    assert bench.engine is not None
    trials: list[Trial] = []
    while len(trials) < bench.trials:
        # Side by side, but not so many that their time is over before the last of them runs.
        count = min(_SIDE_BY_SIDE, bench.trials - len(trials))
        trials += _judge(bench, Request(bench.engine, bench.guests["spins"], [], count, stop=True))
    return trials


def _kill(bench: Bench, whom: Sequence[str]) -> list[Trial]:
    assert bench.engine is not None
    return _judge(bench, Request(bench.engine, bench.guests["spins"], whom, bench.trials))


def _judge(bench: Bench, request: Request) -> list[Trial]:
    trials = []
    for told in bench.victims.ask(request):
        ms, fault = told["ms"], told["fault"]
        if fault is None and ms is not None and ms > MOST_MS:
            fault = f"it took {ms:.0f} ms"
        trials.append(Trial(ms, fault, told["survivors"]))
    return trials


def kills_worker(bench: Bench) -> list[Trial]:
    """SIGKILL of a worker that has started processes: they go with it."""
    return [_kill_worker(bench) for _ in range(bench.trials)]


def _kill_worker(bench: Bench) -> Trial:
    begun, tree, pids = threading.Event(), list[Identity](), list[int]()

    def watch(event: Event) -> None:
        if isinstance(event, AttemptStarted):
            pids.append(event.pid)
        tree.extend(descendants_of(event))
        if tree or (isinstance(event, AttemptMoved) and event.state == "over"):
            begun.set()

    task = bench.task(
        "calls_host_then_spins", host={"env.work": hostile.starts_descendants}, host_allow=("processes",), time=60.0
    )
    with api.start(Job("selftest", [task]), observers=[watch]) as run:
        if not begun.wait(_WAIT_S) or len(tree) != 2:
            return Trial(fault="it did not start its descendants")
        worker = processes.identity(pids[0])
        began = time.monotonic()
        os.kill(pids[0], signal.SIGKILL)
        everybody = [*tree, worker] if worker is not None else tree
        processes.wait_until(lambda: not any(map(processes.is_there, everybody)))
        ms = (time.monotonic() - began) * 1000
        survivors = sum(map(processes.is_there, everybody))
        attempt = only(run.result().tasks[0].attempts)
    bench.check_gone(run.id)
    fault = None
    if (attempt.outcome, attempt.reason) != (Outcome.CRASHED, None):
        fault = f"it is called {attempt.outcome.value}, which is a crash"
    return Trial(ms, fault, survivors)
