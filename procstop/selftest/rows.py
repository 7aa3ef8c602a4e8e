"""The table of what is tried, in the order of the promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from procstop.selftest import bounded, contract, hostile, inside, orphans, outcomes
from procstop.selftest.bench import Bench, Trial

Ask = Callable[[Bench], "str | None"]


@dataclass(frozen=True)
class Row:
    """Something that is tried as often as there are trials, on each engine in turn unless it takes them `together`.

    `lacks` says what the machine lacks for it: without that, the promise does not hold here. `leave_out` says why there
    is nothing to be tried, which breaks no promise. Both return None where all is well.
    """

    promise: str
    tried: str
    run: Callable[[Bench], list[Trial]]
    lacks: Ask | None = None
    leave_out: Ask | None = None
    together: bool = False


def _native(what: str, work: Callable[[], None]) -> Row:
    return Row("P6", f"native code: {what}", inside.contained(work), lacks=inside.lacks_layers)


ROWS = (
    Row("P1", "a guest that spins", bounded.spins),
    Row("P1", "a guest blocked in a host call", bounded.blocks_in_host_call),
    Row("P1", "a host function that ignores SIGTERM", bounded.ignores_sigterm),
    Row("P1", "a host function that ignores every signal", bounded.ignores_all_signals),
    Row("P1", "a worker stopped by SIGSTOP on each rung", bounded.stands_still),
    Row("P1", "descendants: double fork, setsid, deaf", bounded.has_descendants),
    Row("P1", "a worker whose helpers stand still", bounded.helpers_stand_still),
    Row("P1", "a worker that a debugger holds", bounded.is_traced, leave_out=bounded.may_not_trace),
    Row("P2", "SIGKILL of the supervisor", orphans.kills_supervisor),
    Row("P2", "the same, its workers started anew", orphans.kills_fresh_ones_supervisor),
    Row("P2", "SIGKILL of its fork server, of it later", orphans.kills_fork_server),
    Row("P2", "SIGKILL of its guardian, and of it later", orphans.kills_guardian),
    Row("P2", "SIGKILL of all three together", orphans.kills_all_of_them),
    Row("P2", "SIGKILL of a worker with descendants", orphans.kills_worker),
    Row("P2", "SIGKILL of the supervisor of descendants", orphans.kills_supervisor_of_descendants),
    Row("P2", "the same, with a guardian and a fork server", orphans.kills_all_but_a_guardian),
    Row("P2", "SIGKILL of a supervisor that compiles", orphans.kills_supervisor_that_compiles),
    Row("P2", "SIGSTOP of the supervisor for good", orphans.stops_supervisor),
    Row("P3", "a guest that writes between stopping points", outcomes.is_polite),
    Row("P3", "a guest that sleeps", outcomes.sleeps_politely),
    Row("P4", "our SIGKILL is no crash", outcomes.we_kill),
    Row("P4", "somebody else's SIGKILL is one", outcomes.they_kill),
    Row("P4", "somebody's SIGKILL of a compiler is one", outcomes.they_kill_compiler),
    Row("P4", "an answer on the stroke of its limit", outcomes.answers_in_time),
    Row("P4", "an answer in time", outcomes.answers_early),
    Row("P6", "limit: memory", inside.memory),
    Row("P6", "limit: cpu", inside.cpu),
    Row("P6", "limit: output", inside.output),
    Row("P6", "limit: stall", inside.stall),
    Row("P6", "limit: open_files", inside.open_files),
    Row("P6", "limit: file_size", inside.file_size),
    Row("P6", "escapes through WASI, no directory", inside.escapes(False, False)),
    Row("P6", "escapes through WASI, one to read", inside.escapes(True, False)),
    Row("P6", "escapes through WASI, one to write to", inside.escapes(False, True)),
    Row("P6", "escapes through WASI, one of each", inside.escapes(True, True)),
    _native("fork", hostile.forks),
    _native("exec", hostile.executes),
    _native("sockets", hostile.opens_socket),
    _native("a connection", hostile.connects),
    _native("kill of the supervisor", hostile.kills_parent),
    _native("trace of the supervisor", hostile.traces_parent),
    _native("its parent-death signal", hostile.clears_parent_death_signal),
    _native("its lifeline", hostile.cuts_lifeline),
    _native("its timers and limits", hostile.sets_timers),
    _native("/proc", hostile.writes_to_proc),
    _native("files outside", hostile.opens_files),
    _native("chmod, unlink and rename outside", hostile.changes_files),
    Row("P7", "the same outcomes on both engines", contract.gives_the_same, leave_out=contract.has_one_engine,
        together=True),
)  # fmt: skip
