"""Compilers: a module is compiled once, by a process that can be limited, stopped and killed like any other."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from procstop import Job, Limits, Outcome, Reason, Rung, StopPolicy, Workers, start
from procstop.cache import Cache
from procstop.places import cache_directory
from procstop.preflight import prepare
from procstop.supervisor import Supervisor
from support.command import Procstop, attempt
from support.guests import Guests
from support.running import ANY, QUICK, run_record, task
from support.watching import Watcher, children, compilers, is_gone, process_state, wait_until

PLENTY = Limits(start=100.0)


@pytest.fixture
def large(guests: Guests, request: pytest.FixtureRequest) -> str:
    """A module that was never compiled before, and takes a while."""
    return guests.large(request.node.nodeid)


@contextlib.contextmanager
def nobody_compiles() -> Iterator[None]:
    """Keep compilers waiting, as if somebody else were compiling whatever they want to."""
    cache = Cache(cache_directory())
    cache.secret()
    fd = os.open(os.path.join(cache.directory, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def is_waiting(compiler: int) -> bool:
    """Tell whether a compiler waits for another's lock."""
    with open("/proc/locks") as locks:
        return any("->" in line and str(compiler) in line.split() for line in locks)


# Once


def test_module_is_compiled_once_for_all_attempts_that_want_it(engine: str, large: str) -> None:
    watcher = Watcher()
    tasks = [task(large, "run", name=f"{n}", engine=engine) for n in range(8)]
    record = run_record(*tasks, observers=[watcher], concurrency=4, limits=PLENTY)
    assert [one.values for one in record.tasks] == [(42,)] * 8
    assert len(watcher.compilers()) == 4 and len(set(watcher.compilers())) == 1
    # Nor is it compiled again by the next run.
    again = Watcher()
    assert run_record(tasks[0], observers=[again], limits=PLENTY).ok
    assert again.compilers() == []


def test_module_is_compiled_once_without_a_cache_as_well(engine: str, large: str) -> None:
    workers = Workers(cache=False)
    for _ in range(2):
        watcher = Watcher()
        tasks = [task(large, "run", name=f"{n}", engine=engine) for n in range(6)]
        record = run_record(*tasks, observers=[watcher], concurrency=3, limits=PLENTY, workers=workers)
        assert [one.values for one in record.tasks] == [(42,)] * 6
        # Each run by itself: nothing of it stays.
        assert len(set(watcher.compilers())) == 1
    assert large_artifacts(large) == []


def test_different_modules_are_compiled_side_by_side(
    engine: str, guests: Guests, request: pytest.FixtureRequest
) -> None:
    modules = [guests.large(f"{request.node.nodeid} {n}") for n in range(3)]
    watcher = Watcher()
    tasks = [task(module, "run", name=f"{n}", engine=engine) for n, module in enumerate(modules)]
    with nobody_compiles():
        run = start(Job("test", tasks, concurrency=3, limits=PLENTY), observers=[watcher])
        pids = watcher.wait_for_compilers(3)
        wait_until(lambda: all(map(is_waiting, pids)), "three compilers are at work")
        assert sorted(compilers(os.getpid())) == sorted(pids)
    with run:
        assert [one.values for one in run.result().tasks] == [(42,)] * 3
    assert len(set(pids)) == 3


def test_two_runs_of_different_processes_compile_a_module_once(
    engine: str, large: str, procstop_command: Procstop
) -> None:
    """Both ask before either has it; that it is made a second time would show as another file under its name."""
    started = []
    made: set[int] = set()
    with nobody_compiles():
        for n in range(2):
            command = ("run", large, "--call", "run", "--engine", engine, "--set=limits.start=100s")
            started.append(procstop_command.start(*command, "--report", f"{n}.json"))
        for one in started:
            wait_until(lambda one=one: any(map(is_waiting, compilers(one.pid))), "its compiler waits")
        # The first of them has the lock for itself when we let go.
    while any(one.popen.poll() is None for one in started):
        for path in large_artifacts(large):
            with contextlib.suppress(FileNotFoundError):
                made.add(path.stat().st_ino)
    assert [one.end().code for one in started] == [0, 0]
    assert [attempt(procstop_command.report(f"{n}.json"))["values"] for n in range(2)] == [[42], [42]]
    assert len(made) == 1


def large_artifacts(module: str) -> list[Path]:
    """Return the files of the cache that hold a module's artifact."""
    found = Cache(cache_directory()).entries()
    return [Path(entry.path) for entry in found if entry.about.get("label") == os.path.basename(module)]


def test_compiler_that_dies_leaves_its_turn_to_the_next(engine: str, large: str, procstop_command: Procstop) -> None:
    command = ("run", large, "--call", "run", "--engine", engine, "--set=limits.start=100s")
    first = procstop_command.start(*command, "--report", "first.json")
    wait_until(lambda: compilers(first.pid), "the first compiles")
    (killed,) = compilers(first.pid)
    os.kill(killed, signal.SIGSTOP)
    second = procstop_command.start(*command, "--report", "second.json")
    wait_until(lambda: compilers(second.pid), "the second would compile")
    os.kill(killed, signal.SIGKILL)
    assert (first.end().code, second.end().code) == (1, 0)
    assert attempt(procstop_command.report("first.json"))["outcome"] == "crashed"
    assert attempt(procstop_command.report("second.json"))["values"] == [42]


# Limits and stops


AT_ONCE = StopPolicy(interrupt=0, preempt=0, terminate=0, kill_wait=30.0)


@pytest.mark.parametrize("policy", [QUICK, AT_ONCE], ids=["terminated", "killed"])
def test_compiling_counts_against_the_start_limit(engine: str, large: str, policy: StopPolicy) -> None:
    watcher = Watcher()
    with nobody_compiles():
        record = run_record(
            task(large, "run", engine=engine, stop=policy), observers=[watcher], limits=Limits(start=0.5)
        )
    attempt = record.tasks[0].attempts[0]
    ended = (Outcome.KILLED, signal.SIGKILL) if policy is AT_ONCE else (Outcome.TERMINATED, signal.SIGTERM)
    assert (attempt.outcome, attempt.wait) == (ended[0], ("signal", ended[1]))
    assert (attempt.reason, attempt.message) == (Reason.START_LIMIT, "its module was still being compiled")
    assert [attempt.pid] == watcher.compilers() and is_gone(attempt.pid or 0)
    assert children(os.getpid()) == []


@pytest.mark.parametrize("rung", list(Rung), ids=lambda rung: rung.value)
def test_stop_while_compiling_ends_the_compiler(engine: str, large: str, rung: Rung) -> None:
    watcher = Watcher()
    with (
        nobody_compiles(),
        start(Job("test", [task(large, "run", engine=engine)], stop=QUICK), observers=[watcher]) as run,
    ):
        (compiler,) = watcher.wait_for_compilers()
        run.stop(rung)
        attempt = run.result().tasks[0].attempts[0]
    assert attempt.outcome is (Outcome.KILLED if rung is Rung.KILL else Outcome.TERMINATED)
    assert (attempt.reason, attempt.pid) == (Reason.STOP_COMMAND, compiler)
    assert is_gone(compiler)


def test_compiler_that_stands_still_is_stopped_all_the_same(engine: str, large: str) -> None:
    watcher = Watcher()
    with start(Job("test", [task(large, "run", engine=engine)], stop=QUICK), observers=[watcher]) as run:
        (compiler,) = watcher.wait_for_compilers()
        os.kill(compiler, signal.SIGSTOP)
        wait_until(lambda: process_state(compiler) == "T", "it stands still")
        run.stop()
        assert run.result().tasks[0].outcome is Outcome.TERMINATED


def test_ctrl_c_while_compiling_leaves_nothing(engine: str, large: str, procstop_command: Procstop) -> None:
    with nobody_compiles():
        command = procstop_command.start("run", large, "--call", "run", "--engine", engine, "--report", "report.json")
        wait_until(lambda: any(map(is_waiting, compilers(command.pid))), "it compiles")
        (compiler,) = compilers(command.pid)
        command.signal(signal.SIGINT)
        answer = command.end()
    assert answer.code == 130
    last = attempt(procstop_command.report())
    assert (last["outcome"], last["reason"]) == ("terminated", "user")
    assert is_gone(compiler)
    # A second attempt is not disturbed by the first.
    assert procstop_command("run", large, "--call", "run", "--engine", engine).code == 0


def test_supervisor_that_is_killed_while_compiling_leaves_nothing(
    engine: str, large: str, procstop_command: Procstop
) -> None:
    command = procstop_command.start("run", large, "--call", "run", "--engine", engine)
    wait_until(lambda: compilers(command.pid), "it compiles")
    below = children(command.pid)
    command.signal(signal.SIGKILL)
    command.end()
    wait_until(lambda: all(map(is_gone, below)), "the compiler is gone")


def test_attempt_that_waits_no_longer_does_not_take_the_compiler_from_another(engine: str, large: str) -> None:
    tasks = [
        task(large, "run", name="hasty", engine=engine, limits=Limits(start=0.3)),
        task(large, "run", name="patient", engine=engine, limits=PLENTY),
    ]
    watcher = Watcher()
    with nobody_compiles():
        run = start(Job("test", tasks, concurrency=2), observers=[watcher])
        watcher.wait_for_state("over")
    with run:
        record = run.result()
    hasty = record["hasty"].attempts[0]
    assert (hasty.outcome, hasty.reason, hasty.pid) == (Outcome.CANCELLED, Reason.START_LIMIT, None)
    assert hasty.message == "its module was still being compiled"
    assert record["patient"].values == (42,)
    assert len(set(watcher.compilers())) == 1


def test_pause_does_not_wait_for_a_compiler(engine: str, large: str) -> None:
    watcher = Watcher()
    seen: list[str] = []
    with nobody_compiles():
        run = start(Job("test", [task(large, "run", engine=engine)], limits=PLENTY), observers=[watcher])
        watcher.wait_for_compilers()
        run._supervisor.pause(lambda: seen.append("paused"))
        wait_until(lambda: seen, "the run stands still")
    # Its compiler goes on meanwhile; what it made is used when the run goes on.
    wait_until(lambda: not compilers(os.getpid()), "the compiler is done")
    assert watcher.pids() == []
    run._supervisor.resume()
    with run:
        assert run.result().tasks[0].values == (42,)


# Faults


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT], ids=lambda number: number.name)
def test_compiler_that_somebody_kills_has_crashed(engine: str, large: str, number: signal.Signals) -> None:
    watcher = Watcher()
    tasks = [task(large, "run", name=f"{n}", engine=engine) for n in range(2)]
    with nobody_compiles(), start(Job("test", tasks, concurrency=2), observers=[watcher]) as run:
        compiler, _ = watcher.wait_for_compilers(2)
        wait_until(lambda: is_waiting(compiler), "it compiles")
        os.kill(compiler, number)
        record = run.result()
    for one in record.tasks:
        attempt = one.attempts[0]
        assert (attempt.outcome, attempt.wait, attempt.pid) == (Outcome.CRASHED, ("signal", number), compiler)
        assert (attempt.reason, attempt.rung) == (None, None)
        assert (attempt.message or "").startswith(f"the compiler was ended by {number.name}")


def test_retry_after_a_compiler_was_killed_compiles_anew(engine: str, large: str) -> None:
    watcher = Watcher()
    guest = task(large, "run", engine=engine, retries=1, expect=Outcome.COMPLETED)
    with start(Job("test", [guest], limits=PLENTY), observers=[watcher]) as run:
        os.kill(watcher.wait_for_compilers()[0], signal.SIGKILL)
        record = run.result()
    assert [one.outcome for one in record.tasks[0].attempts] == [Outcome.CRASHED, Outcome.COMPLETED]
    assert len(set(watcher.compilers())) == 2


# Lack of memory shows in two ways, by whose allocation is the first to be refused: Python raises, an engine aborts.


@pytest.mark.parametrize("mebibytes", [4, 16])
def test_compiler_that_may_not_even_hold_the_module_rejects_it(engine: str, guests: Guests, mebibytes: int) -> None:
    limits = Limits(start=100.0, compile_memory=mebibytes << 20)
    # Larger than the limit, so that reading it fails, whatever is free already; the engine never comes to see it.
    guest = task(guests.huge(), "run", engine=engine, expect=Outcome.COMPLETED)
    record = run_record(guest, limits=limits, workers=Workers(cache=False))
    attempt = record.tasks[0].attempts[0]
    assert (attempt.outcome, attempt.reason, attempt.wait) == (Outcome.REJECTED, Reason.MEMORY_LIMIT, None)
    assert record.exit_code == 124
    assert attempt.message == f"the compiler is out of memory; it may use {mebibytes} MiB (limits.compile_memory)"


def test_compiler_that_its_engine_takes_down_says_how_much_it_might_use(engine: str, large: str) -> None:
    """At which limit an engine aborts, and does not fail in some other way, is its allocator's to say: so we do it."""
    watcher = Watcher()
    guest = task(large, "run", engine=engine, limits=Limits(start=100.0, compile_memory=512 << 20))
    with nobody_compiles(), start(Job("test", [guest]), observers=[watcher]) as run:
        (compiler,) = watcher.wait_for_compilers()
        wait_until(lambda: is_waiting(compiler), "it has its limit, and compiles")
        os.kill(compiler, signal.SIGABRT)
        attempt = run.result().tasks[0].attempts[0]
    assert (attempt.outcome, attempt.reason, attempt.wait) == (Outcome.CRASHED, None, ("signal", signal.SIGABRT))
    assert attempt.message == "the compiler was ended by SIGABRT; it may use 512 MiB (limits.compile_memory)"


def test_module_that_cannot_be_compiled_is_rejected_for_each_that_wants_it(engine: str, guests: Guests) -> None:
    tasks = [task(guests.invalid_body(), name=f"{n}", engine=engine) for n in range(3)]
    record = run_record(*tasks, concurrency=3)
    for one in record.tasks:
        assert one.outcome is Outcome.REJECTED and one.attempts[0].message


@pytest.mark.parametrize("compiled", [False, True], ids=["new", "in the cache"])
def test_module_that_changes_after_the_check_does_not_run(
    engine: str, guests: Guests, large: str, tmp_path: Path, compiled: bool
) -> None:
    module = tmp_path / "module.wasm"
    shutil.copy(large, module)
    if compiled:
        assert run_record(task(str(module), "run", engine=engine), limits=PLENTY).ok
    job = Job("test", [task(str(module), "run", engine=engine)], limits=PLENTY)
    assignments = prepare(job).check().assignments
    shutil.copy(guests["returns"], module)
    with Supervisor(job, assignments, cache_directory=cache_directory()) as supervisor:
        attempt = supervisor.run().tasks[0].attempts[0]
    assert attempt.outcome is Outcome.REJECTED
    assert "has changed since it was checked" in (attempt.message or "")


def test_module_that_goes_after_the_check_is_rejected(engine: str, large: str, tmp_path: Path) -> None:
    module = tmp_path / "module.wasm"
    shutil.copy(large, module)
    job = Job("test", [task(str(module), "run", engine=engine, expect=ANY)], limits=PLENTY)
    assignments = prepare(job).check().assignments
    module.unlink()
    with Supervisor(job, assignments, cache_directory=cache_directory()) as supervisor:
        attempt = supervisor.run().tasks[0].attempts[0]
    assert (attempt.outcome, attempt.message) == (
        Outcome.REJECTED,
        f'cannot open "{module}": No such file or directory',
    )


@pytest.mark.parametrize("spoil", [lambda path: os.chmod(path, 0o500), lambda path: os.chmod(path, 0o755)],
                         ids=["read-only", "open to others"])  # fmt: skip
def test_cache_that_cannot_be_used_costs_a_line_and_no_outcome(
    engine: str, large: str, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    directory = tmp_path / "cache"
    Cache(str(directory)).secret()
    spoil(directory)
    watcher = Watcher()
    job = Job("test", [task(large, "run", name=f"{n}", engine=engine) for n in range(3)], limits=PLENTY)
    assignments = prepare(job).check().assignments
    with Supervisor(job, assignments, observers=[watcher], cache_directory=str(directory)) as supervisor:
        record = supervisor.run()
        supervisor.wait_for_observers()
    assert [one.values for one in record.tasks] == [(42,)] * 3
    # Root may write anywhere.
    spoiled = os.stat(directory).st_mode & 0o077 or os.geteuid() != 0
    assert len(watcher.notices()) == bool(spoiled)
    assert len(set(watcher.compilers())) == 1


def test_too_few_descriptors_make_compilers_wait(engine: str, procstop_command: Procstop) -> None:
    count = 24
    for n in range(count):
        text = f'(module (func (export "run") (result i32) (i32.const {n})))'
        (procstop_command.directory / f"{n}.wat").write_text(text)
    tasks = "".join(
        f'[[task]]\nname = "{n}"\nmodule = "{n}.wat"\ncall = "run"\nengine = "{engine}"\n' for n in range(count)
    )
    job = procstop_command.job(f"concurrency = {count}\n{tasks}")
    # Enough for a few compilers at a time, each with its pipe, its pidfd and two files in memory.
    answer = procstop_command("run", job, "--report", "report.json", preexec_fn=lambda: limit_descriptors(60))
    outcomes = [one["attempts"][0]["outcome"] for one in procstop_command.report()["tasks"]]
    assert (answer.code, outcomes) == (0, ["completed"] * count), answer.stderr[-2000:]


def limit_descriptors(most: int) -> None:
    """Have so many descriptors at most from now on."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def test_compile_memory_can_be_lifted(engine: str, guests: Guests) -> None:
    # Without the cache, so that there is something to compile.
    guest = task(guests["returns"], "run", 1, 7, engine=engine, limits=Limits(compile_memory=None))
    assert run_record(guest, workers=Workers(cache=False)).tasks[0].values == (8,)
