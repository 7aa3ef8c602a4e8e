"""P7: a job gives the same outcomes on every engine."""

from __future__ import annotations

from procstop.model import Task
from procstop.records import AttemptRecord
from procstop.selftest import hostile
from procstop.selftest.bench import PATIENT, Bench, Trial, only

_CALLS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("adds", (3, 4)), ("exits", ()), ("traps", ()), ("divides", ()), ("reaches_out", ()), ("recurses", ()),
)  # fmt: skip


def has_one_engine(bench: Bench) -> str | None:
    """Say which engine is missing for a comparison."""
    if len(bench.engines) > 1:
        return None
    return "; ".join(f"{name} is not here: {why}" for name, why in bench.absent.items()) or "one engine was asked for"


def gives_the_same(bench: Bench) -> list[Trial]:
    """Ends of every kind on each engine: whatever is no matter of time or chance has to be alike."""
    return [_compare(bench) for _ in range(bench.trials)]


def _compare(bench: Bench) -> Trial:
    each = [[only(one.attempts) for one in bench.run(_tasks(bench, engine)).tasks] for engine in bench.engines]
    names = [task.name for task in _tasks(bench, bench.engines[0])]
    for name, first, second in zip(names, *each):
        if contract(first) != contract(second):
            return Trial(fault=f"{name}: {contract(first)} on one and {contract(second)} on the other")
    return Trial()


def _tasks(bench: Bench, engine: str) -> list[Task]:
    options = {"engine": engine}
    work = {"env.work": hostile.does_nothing}
    return [
        *(bench.task("ends", call, *args, name=call, **options) for call, args in _CALLS),
        bench.task("calls_host", name="calls a host function", host=work, **options),
        bench.task("escapes", "run", name="escapes", **options),
        bench.task("ends", "checks", name="interrupted", time=0.05, stop=PATIENT, **options),
        bench.task("spins", name="terminated", time=0.05, stop=PATIENT, **options),
        bench.task("writes_forever", name="output", output=1000, stop=PATIENT, **options),
    ]


def contract(attempt: AttemptRecord) -> tuple[object, ...]:
    """Return what must be alike: everything but times, pids, memory and how far chance let it go."""
    message = (attempt.message or "").replace("wasmer", "ENGINE").replace("wasmtime", "ENGINE")
    return (
        attempt.outcome.value,
        attempt.reason and attempt.reason.value,
        attempt.rung and attempt.rung.value,
        repr(attempt.values),
        attempt.exit_code,
        message,
        attempt.wait,
        attempt.stdout.bytes,
        attempt.stdout.tail,
    )
