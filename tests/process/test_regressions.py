"""Faults that there once were; each stays mended."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

import procstop
from procstop import JobFileError, Outcome
from procstop.cli.signals import handle_signals
from procstop.model import Reason
from procstop.places import cache_directory
from procstop.preflight import prepare
from procstop.process import Worker
from procstop.supervisor import Supervisor
from support import hosts
from support.command import Procstop
from support.guests import Guests
from support.running import QUICK, run_guest, run_record, task
from support.watching import Watcher, wait_until


def test_descriptors_above_1023_are_descriptors_like_others(engine: str, guests: Guests) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("the hard limit of open files is below 4096")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        attempt = run_guest(guests["spins"], engine=engine, time=0.1, stop=QUICK)
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert attempt.outcome is Outcome.TERMINATED


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (hosts.progresses_by_halves, "TypeError: 'float' object cannot be interpreted as an integer"),
        (hosts.progresses_too_far, f"OverflowError: progress takes whole numbers of 64 bits, got {2**70}"),
        (hosts.exits_with_minus_1, "ValueError: an exit code is a whole number from 0 to 4294967295, got -1"),
        (hosts.raises_what_cannot_be_said, "_Speechless"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_odd_value_from_a_host_function_is_its_own_error(
    engine: str, guests: Guests, work: object, message: str
) -> None:
    attempt = run_guest(guests["calls_host"], engine=engine, host={"env.work": work})
    assert (attempt.outcome, attempt.message, attempt.reason) == (Outcome.HOST_ERROR, message, None)


def test_file_that_a_host_function_left_open_is_written(engine: str, guests: Guests, tmp_path: Path) -> None:
    left = tmp_path / "left"
    host = {"env.work": hosts.writes_a_file_and_leaves_it_open}
    attempt = run_guest(guests["calls_host"], engine=engine, host=host, env={"LEFT_OPEN": str(left)})
    assert (attempt.outcome, left.read_text()) == (Outcome.COMPLETED, "all of it")


def test_result_that_cannot_be_handed_over_is_refused_before_the_start(engine: str, tmp_path: Path) -> None:
    module = tmp_path / "vector.wat"
    module.write_text('(module (func (export "run") (result v128) (v128.const i64x2 1 2)))')
    with pytest.raises(JobFileError, match="run returns v128"):
        procstop.run_module(module, "run", engine=engine)


def test_pending_retry_does_not_start_after_a_stop(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    job = procstop.Job("test", [task(guests["traps"], engine=engine, retries=5, expect=Outcome.COMPLETED)])
    with Supervisor(job, prepare(job).check().assignments, observers=[watcher]) as supervisor:
        # The stop is heard in the turn in which the first attempt ends, before the retry gets its turn.
        over = supervisor._on_attempt_over

        def over_and_stop(*args: object) -> None:
            over(*args)  # type: ignore[arg-type]
            supervisor._stop_all(Reason.USER, procstop.Rung.INTERRUPT)

        supervisor._on_attempt_over = over_and_stop  # type: ignore[method-assign,assignment]
        record = supervisor.run()
        supervisor.wait_for_observers()
    assert [attempt.number for attempt in record.tasks[0].attempts] == [1]
    assert record.tasks[0].outcome is Outcome.TRAPPED


def test_child_from_before_an_exec_is_left_alone(engine: str, guests: Guests) -> None:
    # As `sleep 1000 & exec procstop run ...` in a shell: our child, and none of our business.
    before = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        job = procstop.Job("test", [task(guests["returns"], "run", 1, 7, engine=engine)])
        with Supervisor(job, prepare(job).check().assignments, owns_process=True) as supervisor:
            assert supervisor.run().ok
        assert psutil.Process(before.pid).status() != psutil.STATUS_ZOMBIE
    finally:
        before.communicate(b"\n")
    assert before.returncode == 0


def test_stop_is_heard_between_two_starts(engine: str, guests: Guests) -> None:
    tasks = [task(guests["spins"], name=f"t{number}", engine=engine, stop=QUICK) for number in range(20)]
    job = procstop.Job("test", tasks, concurrency=20)
    started: list[str] = []
    with Supervisor(job, prepare(job).check().assignments) as supervisor:
        start_attempt = supervisor._start_attempt

        def start_and_stop(name: str) -> None:
            start_attempt(name)
            started.append(name)
            supervisor.stop()

        supervisor._start_attempt = start_and_stop  # type: ignore[method-assign]
        record = supervisor.run()
    assert len(started) < 5
    assert {one.outcome for one in record.tasks} <= {Outcome.TERMINATED, Outcome.CANCELLED}


def test_interrupt_that_the_job_ignores_does_not_change_its_exit_code(engine: str, guests: Guests) -> None:
    ignore = procstop.OnInterrupt(procstop.OnInterruptKind.IGNORE)
    one = task(guests["traps"], engine=engine, expect=Outcome.COMPLETED)
    job = procstop.Job("test", [one], on_interrupt=ignore)
    with Supervisor(job, prepare(job).check().assignments) as supervisor:
        supervisor.press()
        record = supervisor.run()
    assert (record.exit_code, record.reason, record.tasks[0].outcome) == (1, Reason.USER, Outcome.TRAPPED)


def test_standard_input_goes_on_from_where_it_is(engine: str, guests: Guests, tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_bytes(b"first\nsecond\n")
    with lines.open("rb", buffering=0) as stdin:
        stdin.seek(len(b"first\n"))
        assert _copy(engine, guests, stdin.fileno()) == b"second\n"


def test_standard_input_may_be_a_socket(engine: str, guests: Guests) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"through a socket\n")
        ours.shutdown(socket.SHUT_WR)
        assert _copy(engine, guests, theirs.fileno()) == b"through a socket\n"


def _copy(engine: str, guests: Guests, stdin: int) -> bytes:
    command = [sys.executable, "-m", "procstop", "run", guests["copies_stdin"], "--engine", engine]
    answer = subprocess.run(command, stdin=stdin, capture_output=True, timeout=60, check=True)
    return answer.stdout.replace(b"copies_stdin | ", b"")


def test_signal_wakes_the_run_whichever_thread_it_hits(engine: str, guests: Guests) -> None:
    job = procstop.Job("test", [task(guests["sleeps"], engine=engine)])
    watcher = Watcher()

    def block_and_watch(event: object) -> None:
        watcher(event)  # type: ignore[arg-type]
        if isinstance(event, procstop.events.AttemptMoved) and event.state == "running":
            # From this thread, so that the main thread's own system call is not what is interrupted.
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    supervisor = Supervisor(job, prepare(job).check().assignments, observers=[block_and_watch])
    with supervisor, handle_signals(supervisor):
        record = supervisor.run()
        supervisor.wait_for_observers()
    assert (record.tasks[0].outcome, record.reason) == (Outcome.INTERRUPTED, Reason.SHUTDOWN)


def test_pause_waits_for_the_guards_of_a_worker(engine: str, guests: Guests) -> None:
    # It runs for a while, so that there is somebody to stand still.
    job = procstop.Job("test", [task(guests["spins_for_a_while"], "run", 500_000_000, engine=engine)])
    # With its module in the cache, so that a worker is on its way at once.
    assert procstop.run(job).ok
    assignments = prepare(job).check().assignments
    with Supervisor(job, assignments, cache_directory=cache_directory()) as supervisor:
        start_attempt = supervisor._start_attempt
        seen: list[bool] = []

        def start_and_pause(name: str) -> None:
            start_attempt(name)
            supervisor._on_pause(stopped)

        def stopped() -> None:
            worker = next(iter(supervisor._live.values())).worker
            assert worker is not None
            seen.append(worker.guarded)
            wait_until(lambda: psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED, "it stands still")
            supervisor.resume()

        supervisor._start_attempt = start_and_pause  # type: ignore[method-assign]
        record = supervisor.run()
    assert seen == [True]
    assert record.ok


def test_file_of_an_observer_that_blocks_does_not_hold_up_the_result(
    engine: str, guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr("procstop.api._OBSERVERS_S", 0.1)
    job = procstop.Job("test", [task(guests["returns"], "run", 1, 7, engine=engine)])
    running = procstop.start(job, observers=[lambda event: release.wait()])
    try:
        assert running.result().ok
    finally:
        release.set()


def test_engine_that_could_not_be_asked_for_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from procstop.preflight import available
    from procstop.process import SpawnError

    def fail(*_: object, **__: object) -> bytes:
        raise SpawnError("cannot start a process: Too many open files")

    monkeypatch.setattr(available, "_known", {})
    with monkeypatch.context() as patch:
        patch.setattr(available, "run_helper", fail)
        assert all(status.why_not for status in available.engine_status().values())
    assert any(status.why_not is None for status in available.engine_status().values())


def test_interrupt_while_modules_are_imported_ends_without_a_traceback(procstop_command: Procstop) -> None:
    code = "import os, signal, procstop.cli as c; import builtins; own = builtins.__import__\n" + (
        "def late(name, *a, **k):\n"
        "    if name == 'procstop.cli.app': os.kill(os.getpid(), signal.SIGINT)\n"
        "    return own(name, *a, **k)\n"
        "builtins.__import__ = late\nc.main()"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert (answer.returncode, answer.stderr) == (-signal.SIGINT, b"")


@pytest.mark.parametrize("missing", ["pidfds", "lists of children"])
def test_tree_is_cleared_without_what_new_kernels_have(
    engine: str, guests: Guests, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "pidfds":
        monkeypatch.setattr("procstop.process.tree.HAS_PIDFDS", False)
    else:
        monkeypatch.setattr("procstop.linux.children", lambda pid: None)
    host = {"env.work": hosts.ignores_sigterm}
    attempt = run_guest(guests["calls_host_then_spins"], engine=engine, host=host, time=0.2, stop=QUICK)
    assert attempt.outcome is Outcome.KILLED


def test_worker_that_outlives_its_kill_is_lost_and_the_run_goes_on(
    engine: str, guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    spared: list[Worker] = []
    kill = Worker.kill
    monkeypatch.setattr(Worker, "kill", lambda worker: kill(worker) if worker in spared else spared.append(worker))
    policy = procstop.StopPolicy(interrupt=0, terminate=0, kill_wait=0.2)
    limits = procstop.Limits(time=0.1)
    record = run_record(task(guests["spins"], engine=engine, expect=Outcome.COMPLETED), stop=policy, limits=limits)
    attempt = record.tasks[0].attempts[0]
    assert (attempt.outcome, attempt.reason, record.exit_code) == (Outcome.LOST, Reason.TIME_LIMIT, 3)
    assert len(spared) == 1


def test_settings_come_in_layers(engine: str, guests: Guests, procstop_command: Procstop, tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text('concurrency = 2\n[limits]\ntime = "100s"\n[stop]\ninterrupt = "0s"\n')
    command = ["run", guests["spins"], "--engine", engine, "--config", config, "--report", "report.json"]
    answer = procstop_command(*command, "--set", "limits.time=200ms", "--jobs", "1")
    assert answer.code == 124, answer.stderr
    (attempt,) = procstop_command.report()["tasks"][0]["attempts"]
    assert (attempt["reason"], attempt["rung"]) == ("time_limit", "terminate")


def test_shell_completes_a_command() -> None:
    asked = {"_PROCSTOP_COMPLETE": "complete_bash", "COMP_WORDS": "procstop ru", "COMP_CWORD": "1"}
    command = [sys.executable, "-m", "procstop"]
    answer = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, timeout=60, check=True)
    assert answer.stdout.split() == [b"run"]


def test_python_in_the_readme_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    block = readme.split("```python\n")[1].split("```")[0]
    add = '(func (export "run") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))'
    (tmp_path / "add.wat").write_text(f"(module {add})")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("completed (8,)\n")
