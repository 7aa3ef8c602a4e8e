"""The Python API: runs in this very process, beside whatever else it does."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import procstop
from procstop import InvalidValue, Job, JobFileError, Limits, Outcome, Reason, Rung, StopPolicy
from support import hosts
from support.guests import Guests
from support.places import ROOT
from support.running import PATIENT, QUICK, run_guest, run_record, task
from support.watching import Watcher


def test_run_module_returns_what_the_function_returned(engine: str, guests: Guests) -> None:
    record = procstop.run_module(guests["returns"], "run", 1, 7, engine=engine)
    assert (record.values, record.ok, record.task) == ((8,), True, "returns")


def test_run_module_takes_a_path_and_runs_start(engine: str, guests: Guests) -> None:
    record = procstop.run_module(Path(guests["prints_args"]), "_start", "one", engine=engine)
    assert record.attempts[0].stdout.tail == b"prints_args.wasm\none\n"


def test_stop_from_another_thread_ends_a_run(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    with procstop.start(Job("test", [task(guests["spins"], engine=engine)], stop=QUICK), observers=[watcher]) as run:
        watcher.wait_for_state("running")
        stopper = threading.Thread(target=run.stop)
        stopper.start()
        record = run.result()
        stopper.join()
    assert (record.reason, record.tasks[0].outcome) == (Reason.STOP_COMMAND, Outcome.TERMINATED)
    assert run.over and run.wait(0) and run.id == record.run


def test_end_of_the_block_stops_a_run(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    with procstop.start(Job("test", [task(guests["spins"], engine=engine)], stop=QUICK), observers=[watcher]) as run:
        watcher.wait_for_state("running")
        assert not run.over
    assert run.over and run.result().tasks[0].outcome is Outcome.TERMINATED


def test_error_in_the_block_stops_a_run_and_is_raised(engine: str, guests: Guests) -> None:
    with (
        pytest.raises(LookupError, match="mine"),
        procstop.start(Job("test", [task(guests["spins"], engine=engine)], stop=QUICK)) as run,
    ):
        raise LookupError("mine")
    assert run.over


def test_stop_of_a_run_that_is_over_does_nothing(engine: str, guests: Guests) -> None:
    with procstop.start(Job("test", [task(guests["returns"], "nothing", engine=engine)])) as run:
        first = run.result()
    run.stop(Rung.KILL)
    assert run.result() is first and first.reason is None


def test_rung_that_is_not_on_the_ladder_is_refused(guests: Guests) -> None:
    with procstop.start(Job("test", [task(guests["returns"], "nothing")])) as run:
        with pytest.raises(InvalidValue, match="must be one of interrupt, preempt, terminate, kill"):
            run.stop("nicely")
        run.stop("kill")


def test_keyboard_interrupt_stops_the_run_and_is_raised_on(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    job = Job("test", [task(guests["checks_in_loop"], engine=engine)], stop=PATIENT)

    def press(event: object) -> None:
        if getattr(event, "state", None) == "running":
            # As the kernel does it: the main thread is the first that it asks.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        procstop.run(job, observers=[watcher, press])
    assert watcher.states()[-2:] == ["exiting", "over"]


def test_run_async_gives_the_loop_its_time(engine: str, guests: Guests) -> None:
    async def main() -> tuple[int, object]:
        turns = 0
        work = asyncio.ensure_future(
            procstop.run_async(Job("test", [task(guests["sleeps"], "nap", 300_000_000, engine=engine)]))
        )
        while not work.done():
            await asyncio.sleep(0.01)
            turns += 1
        return turns, work.result().tasks[0].values

    turns, values = asyncio.run(main())
    assert turns > 3 and values == (0,)


def test_cancelling_an_awaiting_task_stops_the_run_first(engine: str, guests: Guests) -> None:
    watcher = Watcher()

    async def main() -> None:
        job = Job("test", [task(guests["checks_in_loop"], engine=engine)], stop=PATIENT)
        work = asyncio.ensure_future(procstop.run_async(job, observers=[watcher]))
        await asyncio.to_thread(watcher.wait_for_state, "running")
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(main())
    assert watcher.states()[-3:] == ["interrupting", "exiting", "over"]


def test_timeout_around_a_run_stops_it(engine: str, guests: Guests) -> None:
    watcher = Watcher()

    async def main() -> None:
        job = Job("test", [task(guests["spins"], engine=engine)], stop=QUICK)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(procstop.run_async(job, observers=[watcher]), 1.0)

    asyncio.run(main())
    assert watcher.states()[-1] == "over"


def test_cancelling_before_the_run_began_leaves_nothing(engine: str, guests: Guests) -> None:
    async def main() -> None:
        work = begin(guests, engine)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(main())
    assert not threads_of_runs()


def test_end_of_the_loop_stops_a_run_that_has_just_begun(engine: str, guests: Guests) -> None:
    async def main() -> asyncio.Future[object]:
        work = begin(guests, engine)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return work

    work = asyncio.run(main())
    assert work.cancelled() and not threads_of_runs()


def begin(guests: Guests, engine: str) -> asyncio.Future[object]:
    """Have the loop begin a run that spins for ever."""
    job = Job("test", [task(guests["spins"], engine=engine)], stop=QUICK)
    return asyncio.ensure_future(procstop.run_async(job))


def threads_of_runs() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("procstop")]


def test_runs_side_by_side_in_one_process_do_not_meet(engine: str, guests: Guests) -> None:
    """One is stopped while the others go on; each ends with what its own host functions left."""
    watchers = [Watcher() for _ in range(4)]
    tasks = [
        task(guests["calls_host_then_spins"], engine=engine, host={"env.work": hosts.starts_stubborn_escapee}),
        task(guests["spins"], engine=engine),
        task(guests["checks_in_loop"], engine=engine),
        task(guests["returns"], "run", 1, 2, engine=engine),
    ]
    runs = [
        procstop.start(Job(f"job {number}", [one], stop=QUICK), observers=[watcher])
        for number, (one, watcher) in enumerate(zip(tasks, watchers))
    ]
    try:
        assert runs[3].result().tasks[0].values == (3,)
        watchers[0].wait_for_output(b"child")
        for watcher in watchers[1:3]:
            watcher.wait_for_state("running")
        runs[1].stop()
        assert runs[1].result().tasks[0].outcome is Outcome.TERMINATED
        assert not runs[0].over and not runs[2].over
    finally:
        for run in runs:
            with run:
                pass
    assert runs[0].result().tasks[0].outcome is Outcome.TERMINATED


def test_children_of_the_user_are_neither_killed_nor_reaped(engine: str, guests: Guests) -> None:
    silent = [sys.executable, "-S", "-c", "input()"]
    living = subprocess.Popen(silent, stdin=subprocess.PIPE)
    detached = subprocess.Popen(silent, stdin=subprocess.PIPE, start_new_session=True)
    dead = subprocess.Popen([sys.executable, "-S", "-c", "raise SystemExit(23)"])
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
    run_record(
        task(guests["calls_host"], engine=engine, host={"env.work": hosts.starts_stubborn_escapee}),
        task(guests["spins"], name="spins", engine=engine),
        limits=Limits(time=0.5),
        stop=StopPolicy(interrupt=0, preempt=0, terminate=0, kill_wait=30),
    )
    assert (living.poll(), detached.poll(), dead.poll()) == (None, None, 23)
    living.communicate(b"\n")
    detached.communicate(b"\n")
    assert (living.returncode, detached.returncode) == (0, 0)


def test_signal_handlers_and_subreaper_are_as_before(engine: str, guests: Guests) -> None:
    from procstop import linux

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
    run_guest(guests["returns"], "nothing", engine=engine)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)] == before
    assert not linux.is_child_subreaper()


def test_run_from_a_thread_that_ends_is_not_ended_with_it(engine: str, guests: Guests) -> None:
    """The kernel ends a worker with the thread that started it, so that must be the run's own."""
    watcher, runs = Watcher(), []

    def begin() -> None:
        runs.append(procstop.start(Job("test", [task(guests["sleeps"], engine=engine)], stop=PATIENT),
                                   observers=[watcher]))  # fmt: skip

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    with runs[0] as run:
        watcher.wait_for_output(b"sleeping")
        run.stop()
        assert run.result().tasks[0].outcome is Outcome.INTERRUPTED


def test_problems_of_a_job_come_all_at_once(guests: Guests) -> None:
    tasks = [
        task(guests["returns"], "rum", name="a", expect=Outcome.COMPLETED),
        task(guests.garbage(), name="b", expect=Outcome.COMPLETED),
        task("/nowhere/at/all.wasm", name="c", expect=Outcome.COMPLETED),
        task(guests["needs_unknown_import"], name="d", expect=Outcome.COMPLETED),
    ]
    with pytest.raises(JobFileError) as caught:
        procstop.start(Job("test", tasks))
    for name in "abcd":
        assert any(f'task "{name}"' in problem for problem in caught.value.problems)


def test_script_with_functions_of_its_own_runs_once(engine: str, guests: Guests, tmp_path: Path) -> None:
    """Host functions of a script's own are loaded again in the worker, without its main part."""
    script = tmp_path / "script.py"
    script.write_text(
        "import procstop\n"
        "print('loaded', __name__)\n"
        "def work():\n    print('worked')\n"
        "if __name__ == '__main__':\n"
        f"    record = procstop.run_module({guests['calls_host']!r}, engine={engine!r}, host={{'env.work': work}})\n"
        "    print(record.outcome.value, record.attempts[0].stdout.tail.decode())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    answer = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout == "loaded __main__\ncompleted loaded __procstop_main__\nworked\n\n"
