"""P1: from the first rung of a stop, everything is over within the graces plus a small constant.

What is timed is the part beyond the graces, from the deadline until the worker was reaped: by the supervisor's own
account, which a trial does not take on trust. It looks itself whether the worker is gone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable

from procstop import api, linux
from procstop.events import AttemptMoved, AttemptStarted, Event, Output
from procstop.model import Job, Outcome, Reason, Rung, StopPolicy
from procstop.records import AttemptRecord
from procstop.selftest import hostile, processes
from procstop.selftest.bench import AT_ONCE, Bench, Trial, only
from procstop.selftest.outcomes import is_not
from procstop.selftest.processes import Identity

_LIMIT_S = 0.05
MOST_MS = 5000.0
"""More than this beyond the graces is no small constant on any machine. On an idle one it is under 50 ms."""
CLIMBING = StopPolicy(interrupt=0.05, preempt=0, terminate=0.05, kill_wait=10)
_WAIT_S = 20.0


def spins(bench: Bench) -> list[Trial]:
    """A guest that never comes back, killed at its deadline."""
    return _judge(bench.attempts("spins", time=_LIMIT_S, stop=AT_ONCE), AT_ONCE)


def blocks_in_host_call(bench: Bench) -> list[Trial]:
    """A guest that waits in a host function for what never comes."""
    return _judge(_call_host(bench, hostile.blocks, AT_ONCE), AT_ONCE)


def ignores_sigterm(bench: Bench) -> list[Trial]:
    """A host function that has SIGTERM ignored, and a guest that spins then."""
    policy = StopPolicy(interrupt=0, preempt=0, terminate=0.05, kill_wait=10)
    return _judge(_call_host(bench, hostile.ignores_sigterm, policy, "calls_host_then_spins"), policy)


def ignores_all_signals(bench: Bench) -> list[Trial]:
    """A host function that ignores all that can be ignored, and blocks."""
    policy = StopPolicy(interrupt=0, preempt=0, terminate=0.05, kill_wait=10)
    return _judge(_call_host(bench, hostile.ignores_everything_and_blocks, policy), policy)


def stands_still(bench: Bench) -> list[Trial]:
    """A worker that somebody stops with SIGSTOP at each rung, so that it cannot even notice."""
    pids: dict[str, int] = {}

    def watch(event: Event) -> None:
        if isinstance(event, AttemptStarted):
            pids[event.task] = event.pid
        elif isinstance(event, AttemptMoved) and event.state in ("interrupting", "terminating"):
            # A child that nobody reaped yet, or not ours any more.
            if pids.get(event.task) in (linux.children(os.getpid()) or ()):
                os.kill(pids[event.task], signal.SIGSTOP)

    attempts = bench.attempts(
        "asks_for_ever",
        host={"env.work": hostile.ignores_sigterm},
        time=_LIMIT_S,
        stop=CLIMBING,
        watch=watch,
    )
    return _judge(attempts, CLIMBING)


def has_descendants(bench: Bench) -> list[Trial]:
    """A tree of processes that ignore signals, one in a session of its own and without its parent.

    The worker goes at SIGTERM: what it leaves behind must be found without it.
    """
    policy = StopPolicy(interrupt=0, preempt=0, terminate=5, kill_wait=10)
    attempts = bench.attempts(
        "calls_host_then_spins",
        host={"env.work": hostile.starts_descendants},
        host_allow=("processes",),
        time=0.15,
        stop=policy,
    )
    return [_with_tree(attempt, trial) for attempt, trial in zip(attempts, _judge(attempts, None, 0.15))]


def helpers_stand_still(bench: Bench) -> list[Trial]:
    """A guest that spins while its fork server and its guardian were stopped with SIGSTOP."""
    return [_stop_helpers(bench) for _ in range(bench.trials)]


def _stop_helpers(bench: Bench) -> Trial:
    running, stopped = threading.Event(), list[Identity]()

    def watch(event: Event) -> None:
        if isinstance(event, AttemptMoved) and event.state == "running":
            running.set()

    def stop_them() -> bool:
        found = [processes.named(name, os.getpid()) for name in processes.HELPERS.values()]
        stopped[:] = [who for some in found for who in some]
        return all(found)

    with api.start(Job("selftest", [bench.task("spins", stop=AT_ONCE)]), observers=[watch]) as run:
        if not running.wait(_WAIT_S) or not processes.wait_until(stop_them):
            return Trial(fault="it did not come to run beside its helpers")
        processes.kill(stopped, signal.SIGSTOP)
        began = time.monotonic()
        run.stop(Rung.KILL)
        attempt = only(run.result().tasks[0].attempts)
        ms = (time.monotonic() - began) * 1000
    bench.check_gone(run.id)
    fault = is_not(attempt, Outcome.KILLED, Reason.STOP_COMMAND)
    return Trial(ms, fault or (f"it took {ms:.0f} ms" if ms > MOST_MS else None))


def is_traced(bench: Bench) -> list[Trial]:
    """A worker that a debugger holds while it is to be stopped."""
    return [_trace_one(bench) for _ in range(bench.trials)]


def _call_host(
    bench: Bench, work: Callable[[], None], stop: StopPolicy, guest: str = "calls_host"
) -> list[AttemptRecord]:
    return bench.attempts(guest, host={"env.work": work}, time=_LIMIT_S, stop=stop)


def _judge(attempts: list[AttemptRecord], stop: StopPolicy | None, limit: float = _LIMIT_S) -> list[Trial]:
    return [_judge_one(attempt, stop, limit) for attempt in attempts]


def _judge_one(attempt: AttemptRecord, stop: StopPolicy | None, limit: float) -> Trial:
    """Judge one that was to use up the graces of `stop` and be killed; None is for one that goes at SIGTERM."""
    phases = attempt.phases
    after = (phases.interrupt, phases.preempt, phases.terminate, phases.kill, phases.reap)
    granted = 0.0
    if stop is not None:
        granted += stop.interrupt if phases.interrupt is not None else 0
        granted += stop.terminate if phases.terminate is not None else 0
    beyond_ms = ((phases.run or 0.0) - limit + sum(filter(None, after)) - granted) * 1000
    # On a busy machine SIGTERM may come before it is ignored.
    hears = stop is None or (stop.terminate > 0 and hostile.DEAF.encode() not in attempt.stdout.tail)
    expected = Outcome.TERMINATED if hears and attempt.outcome is Outcome.TERMINATED else Outcome.KILLED
    fault = is_not(attempt, Outcome.TERMINATED if stop is None else expected, Reason.TIME_LIMIT)
    if fault is None and beyond_ms > MOST_MS:
        fault = f"it took {beyond_ms:.0f} ms beyond its graces"
    present = attempt.pid is not None and _is_child(attempt.pid)
    return Trial(max(0.0, beyond_ms), fault, int(present))


def _is_child(pid: int) -> bool:
    """Tell whether a worker of ours is there still, be it dead and not reaped."""
    return pid in (linux.children(os.getpid()) or ())


def _with_tree(attempt: AttemptRecord, trial: Trial) -> Trial:
    pids = described(attempt.stdout.tail)
    left = [pid for pid in pids if processes.identity(pid) is not None]
    fault = trial.fault or (None if len(pids) == 2 else "it did not start its descendants")
    if attempt.tree is None or attempt.tree.left:
        fault = fault or "its receipt does not say that its tree is gone"
    return Trial(trial.ms, fault, trial.survivors + len(left))


def described(output: bytes) -> list[int]:
    """Return the pids of descendants that a host function has told of."""
    return [int(word) for word in output.split() if word.isdigit()]


def descendants_of(event: Event) -> list[Identity]:
    """Return the descendants that an event tells of."""
    pids = described(event.data) if isinstance(event, Output) else []
    return [who for pid in pids if (who := processes.identity(pid)) is not None]


# A debugger


def may_not_trace(bench: Bench) -> str | None:
    """Say why no worker can be traced here; None where one can."""
    if os.geteuid() == 0 and not _has_right(_CAP_SYS_PTRACE):
        return "nobody here has the right to trace processes of another user"
    idle = os.fork()
    if idle == 0:
        linux.set_parent_death_signal(signal.SIGKILL)
        while True:
            signal.pause()
    fault, tracer = _trace(idle)
    os.kill(idle, signal.SIGKILL)
    for pid in (tracer, idle):
        os.waitpid(pid, 0)
    return "this system lets nobody trace a process that is not below it" if fault is not None else None


def _has_right(number: int) -> bool:
    with open("/proc/self/status", "rb") as status:
        return any(line.startswith(b"CapEff:") and int(line.split()[1], 16) >> number & 1 for line in status)


def _trace_one(bench: Bench) -> Trial:
    running, found = threading.Event(), []

    def watch(event: Event) -> None:
        if isinstance(event, AttemptStarted):
            found.append(event.pid)
        elif isinstance(event, AttemptMoved) and event.state == "running":
            running.set()

    job = Job("selftest", [bench.task("spins", stop=AT_ONCE)])
    with api.start(job, observers=[watch]) as run:
        if not running.wait(_WAIT_S):
            return Trial(fault="it did not come to run")
        fault, tracer = _trace(found[0])
        began = time.monotonic()
        run.stop(Rung.KILL)
        attempt = only(run.result().tasks[0].attempts)
        ms = (time.monotonic() - began) * 1000
    if tracer:
        os.kill(tracer, signal.SIGKILL)
        os.waitpid(tracer, 0)
    bench.check_gone(run.id)
    fault = fault or is_not(attempt, Outcome.KILLED, Reason.STOP_COMMAND)
    fault = fault or (f"it took {ms:.0f} ms" if ms > MOST_MS else None)
    return Trial(ms, fault)


def _trace(pid: int) -> tuple[str | None, int]:
    """Start a debugger that holds a process and waits for its end; return once it does, with its pid."""
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    ptrace.restype = ctypes.c_long
    read, write = os.pipe()
    tracer = os.fork()
    if tracer == 0:
        try:
            linux.set_parent_death_signal(signal.SIGKILL)
            held = ptrace(_PTRACE_ATTACH, pid, None, None) == 0
            os.waitpid(pid, 0)
            os.write(write, b"y" if held else b"n")
            # It stays where it was stopped. Its end is told to the debugger first.
            os.waitpid(pid, 0)
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        answer = pipe.read(1)
    return (None if answer == b"y" else "it could not be traced"), tracer


_PTRACE_ATTACH, _CAP_SYS_PTRACE = 16, 19
