"""Host functions: Python code of the user in the worker; what it does wrong is a host error, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from procstop import Job, JobFileError, Outcome, Reason, start
from support import hosts
from support.guests import Guests
from support.running import PATIENT, run_guest, run_record, task
from support.watching import Watcher

Write = Callable[[str, str], Path]


@pytest.mark.parametrize(
    ("work", "outcome", "code", "message"),
    [
        (hosts.nothing, Outcome.COMPLETED, None, None),
        (hosts.raises, Outcome.HOST_ERROR, None, "KeyError: 'no such colour'"),
        (hosts.raises_without_message, Outcome.HOST_ERROR, None, "ZeroDivisionError"),
        (hosts.raises_runtime_error, Outcome.HOST_ERROR, None, "RuntimeError: unreachable"),
        (hosts.raises_keyboard_interrupt, Outcome.HOST_ERROR, None, "KeyboardInterrupt"),
        (hosts.calls_sys_exit, Outcome.HOST_ERROR, None, "SystemExit: 5"),
        (hosts.exits_with_4, Outcome.EXITED, 4, None),
        (hosts.exits_with_message, Outcome.EXITED, None, "nothing to do"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_way_out_of_a_host_function(
    engine: str, guests: Guests, work: object, outcome: Outcome, code: int | None, message: str | None
) -> None:
    attempt = run_guest(guests["calls_host"], engine=engine, host={"env.work": work})
    assert (attempt.outcome, attempt.exit_code, attempt.message) == (outcome, code, message)
    assert attempt.wait == ("exit", 0)


def test_message_of_a_million_characters_is_cut(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["calls_host"], engine=engine, host={"env.work": hosts.raises_at_length})
    assert attempt.outcome is Outcome.HOST_ERROR
    assert attempt.message is not None and len(attempt.message) < 9_000
    assert attempt.message.startswith("ValueError: xxx") and "characters more" in attempt.message


def test_host_function_has_the_tasks_environment(engine: str, guests: Guests) -> None:
    attempt = run_guest(
        guests["calls_host"], engine=engine, host={"env.work": hosts.prints_variable}, env={"COLOUR": "red"}
    )
    assert (attempt.outcome, attempt.stdout.tail) == (Outcome.COMPLETED, b"red\n")


def test_host_function_can_pass_stopping_points(engine: str, guests: Guests) -> None:
    attempt = run_guest(
        guests["calls_host_in_loop"], engine=engine, host={"env.work": hosts.checkpoints}, time=0.3, stop=PATIENT
    )
    assert attempt.outcome is Outcome.INTERRUPTED and attempt.stopping_points.passed > 0


def test_sleep_of_a_host_function_is_interrupted_at_once(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    guest = task(guests["calls_host"], engine=engine, host={"env.work": hosts.sleeps_politely})
    with start(Job("test", [guest], stop=PATIENT), observers=[watcher]) as run:
        watcher.wait_for_output(b"asleep")
        run.stop()
        assert run.result().tasks[0].outcome is Outcome.INTERRUPTED


def test_host_module_without_stopping_points_is_not_waited_for(engine: str, guests: Guests) -> None:
    attempt = run_guest(
        guests["calls_host_in_loop"], engine=engine, host={"env.work": hosts.nothing}, time=0.3, stop=PATIENT
    )
    assert (attempt.outcome, attempt.phases.interrupt) == (Outcome.TERMINATED, None)


def test_thread_of_a_host_function_does_not_hold_the_worker_up(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["calls_host"], engine=engine, host={"env.work": hosts.starts_thread})
    assert (attempt.outcome, attempt.rung) == (Outcome.COMPLETED, None)


# Host files

WORK = "def work():\n    print('hello')\n\nimports = {'env.work': work}\n"


def test_host_file_is_run_in_the_worker(engine: str, guests: Guests, write: Write) -> None:
    attempt = run_guest(guests["calls_host"], engine=engine, host=str(write("host.py", WORK)))
    assert (attempt.outcome, attempt.stdout.tail) == (Outcome.COMPLETED, b"hello\n")


def test_host_file_can_import_what_lies_beside_it(engine: str, guests: Guests, write: Write, tmp_path: Path) -> None:
    write("beside.py", "def work():\n    print('beside')\n")
    host = write("host.py", "import beside\nimports = {'env.work': beside.work}\n")
    attempt = run_guest(guests["calls_host"], engine=engine, host=str(host))
    assert attempt.stdout.tail == b"beside\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beside.py", "host.py"]


@pytest.mark.parametrize(
    ("text", "outcome", "message"),
    [
        ("\nraise ValueError('not today')\n", Outcome.HOST_ERROR, "ValueError: not today, in host.py:2"),
        ("import sys\nsys.exit(3)\n", Outcome.HOST_ERROR, "SystemExit: 3, in host.py:2"),
        ("\n\nint('x' * 3)\n", Outcome.HOST_ERROR, "'xxx', in host.py:3"),
        ("def f():\n    assert False\n\nf()\n", Outcome.HOST_ERROR, "AssertionError: in host.py:2"),
        ("open('/proc/1/environ')\n", Outcome.HOST_ERROR, "PermissionError: [Errno 13] Permission denied: "),
        ("import nowhere_to_be_found\n", Outcome.HOST_ERROR, "ModuleNotFoundError: No module named"),
        ("imports = dict([('env.work', None)])\n", Outcome.REJECTED, "imports['env.work'] must be"),
        ("imports = 7\n", Outcome.REJECTED, 'has no mapping "imports"'),
        ("functions = {}\n", Outcome.REJECTED, 'has no mapping "imports"'),
        ("imports = dict([('env.play', print)])\n", Outcome.REJECTED, 'import "env.work" () -> (): nobody provides'),
    ],
)
def test_fault_of_a_host_file_is_told(
    engine: str, guests: Guests, write: Write, text: str, outcome: Outcome, message: str
) -> None:
    attempt = run_guest(guests["calls_host"], engine=engine, host=str(write("host.py", text)))
    assert attempt.outcome is outcome
    assert message in (attempt.message or "")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("def work(:\n", "line 1"),
        ("imports = {'env.play': print}\n", 'import "env.work" () -> (): nobody provides it'),
    ],
)
def test_fault_of_a_host_file_that_can_be_seen_is_refused_before_anything_runs(
    guests: Guests, write: Write, text: str, problem: str
) -> None:
    host = write("host.py", text)
    with pytest.raises(JobFileError) as caught:
        run_guest(guests["calls_host"], host=str(host), expect=Outcome.COMPLETED)
    assert problem in str(caught.value)


def test_missing_host_file_is_refused(guests: Guests, tmp_path: Path) -> None:
    with pytest.raises(JobFileError, match=r"cannot read .*No such file"):
        run_guest(guests["calls_host"], host=str(tmp_path / "nowhere.py"), expect=Outcome.COMPLETED)


def test_function_that_no_worker_could_import_is_refused(guests: Guests) -> None:
    def local() -> None:
        """It is made here."""

    for call, problem in (
        (local, "is made inside a function; a worker can only import one from the top of a module"),
        (lambda: None, "is made inside a function"),
        (hosts.Counter().work, "is not the same function when it is imported"),
        (7, "is no function that a worker could import"),
    ):
        with pytest.raises(JobFileError) as caught:
            run_guest(guests["calls_host"], host={"env.work": call}, expect=Outcome.COMPLETED)
        assert problem in str(caught.value)


def test_host_file_that_never_finishes_ends_at_the_start_limit(engine: str, guests: Guests, write: Write) -> None:
    """Before it is ready there is nothing in the worker that could hear an interrupt."""
    host = write("host.py", "import os\nos.read(os.pipe()[0], 1)\nimports = {}\n")
    attempt = run_guest(
        guests["calls_host"], engine=engine, host=str(host), imports={"env.work": "checkpoint"}, start=0.5, stop=PATIENT
    )
    assert (attempt.outcome, attempt.reason) == (Outcome.TERMINATED, Reason.START_LIMIT)
    assert attempt.phases.run is attempt.phases.interrupt is None


def test_attempts_do_not_share_a_host_module(engine: str, guests: Guests, write: Write) -> None:
    text = "count = 0\ndef work():\n    global count\n    count += 1\n    print(count)\nimports = {'env.work': work}\n"
    host = str(write("host.py", text))
    record = run_record(
        *(task(guests["calls_host"], name=name, engine=engine, host=host) for name in "ab"), concurrency=1
    )
    assert [one.attempts[0].stdout.tail for one in record.tasks] == [b"1\n", b"1\n"]
