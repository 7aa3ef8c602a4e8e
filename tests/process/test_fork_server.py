"""Fork servers: workers come from them and owe them nothing; whatever one does, the run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from procstop import Job, Limits, Outcome, Reason, Run, Rung, Spawn, StopPolicy, Task, Workers, start
from procstop.events import RunPaused
from procstop.messages.forkserver import ForkRequest
from procstop.places import cache_directory
from procstop.preflight import prepare
from procstop.process.server import ForkServer
from procstop.supervisor import Supervisor
from support import faulty_servers, hosts, surroundings
from support.command import Procstop
from support.faulty_servers import take_the_place
from support.guests import Guests
from support.running import QUICK, run_guest, run_record, task
from support.watching import (
    Watcher,
    children,
    fork_servers,
    is_gone,
    process_state,
    wait_until,
    wait_until_gone,
    workers,
)

SPAWNS = [Spawn.SERVER, Spawn.FRESH]
LAST = "workers are started without one"
BEFORE = "another takes its place"


def fork_server() -> int:
    """Return the pid of the fork server of this process's run, once there is one."""
    wait_until(lambda: fork_servers(os.getpid()), "there is a fork server")
    (server,) = fork_servers(os.getpid())
    return server


def waits_for(mark: Path, guests: Guests, engine: str, name: str = "waits", **options: Any) -> Task:
    """Make a task whose guest runs until there is a file."""
    host = {"env.work": hosts.waits_for_mark}
    return task(guests["calls_host"], name=name, engine=engine, host=host, env={"MARK": str(mark)}, **options)


def open_requests(run: Run) -> int:
    """Return how many requests the fork servers of a run have not answered."""
    crew = run._supervisor._crew
    return 0 if crew is None else len(crew.spawner.unanswered())


@pytest.fixture
def bystander() -> Iterator[int]:
    """Start a process that is nobody's business: no child of ours."""
    script = "import os, signal\nif os.fork(): os._exit(0)\nos.setsid(); print(os.getpid(), flush=True)\n"
    script += "os.close(1); signal.pause()"
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True, timeout=60)
    process = psutil.Process(int(done.stdout))
    yield process.pid
    process.kill()
    wait_until(lambda: is_gone(process.pid), "the bystander is gone")


# Whose child it is, and how it ended


def test_worker_is_a_child_of_the_supervisor_and_not_of_the_fork_server(engine: str, guests: Guests) -> None:
    watcher = Watcher()
    tasks = [task(guests["spins"], name=f"{n}", engine=engine, stop=QUICK) for n in range(2)]
    with start(Job("test", tasks, concurrency=2), observers=[watcher]) as run:
        watcher.wait_for_state("running", count=2)
        server = fork_server()
        assert sorted(workers(os.getpid())) == sorted(watcher.pids())
        assert {psutil.Process(pid).ppid() for pid in (server, *watcher.pids())} == {os.getpid()}
        assert children(server) == []
        run.stop(Rung.KILL)
    assert is_gone(server)


@pytest.mark.parametrize("spawn", SPAWNS, ids=lambda spawn: spawn.value)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_worker_that_somebody_kills_has_crashed_by_that_signal(
    engine: str, guests: Guests, spawn: Spawn, number: signal.Signals
) -> None:
    watcher = Watcher()
    job = Job("test", [task(guests["calls_host"], engine=engine, host={"env.work": hosts.blocks})],
              workers=Workers(spawn=spawn))  # fmt: skip
    with start(job, observers=[watcher]) as run:
        watcher.wait_for_output(b"blocked")
        os.kill(watcher.pids()[0], number)
        attempt = run.result().tasks[0].attempts[0]
    assert (attempt.outcome, attempt.wait) == (Outcome.CRASHED, ("signal", number))
    assert (attempt.reason, attempt.rung, attempt.pid) == (None, None, watcher.pids()[0])


@pytest.mark.parametrize("spawn", SPAWNS, ids=lambda spawn: spawn.value)
def test_worker_that_exits_without_a_word_has_crashed_with_its_code(engine: str, guests: Guests, spawn: Spawn) -> None:
    tasks = [
        task(guests["calls_host"], name=f"{code}", engine=engine, host={"env.work": work})
        for code, work in ((7, hosts.exits_the_process), (0, hosts.exits_the_process_well))
    ]
    record = run_record(*tasks, workers=Workers(spawn=spawn))
    for code in (7, 0):
        attempt = record[f"{code}"].attempts[0]
        assert (attempt.outcome, attempt.wait, attempt.reason) == (Outcome.CRASHED, ("exit", code), None)
        assert attempt.cpu_s is not None


def test_fresh_workers_need_no_fork_server(engine: str, guests: Guests, tmp_path: Path) -> None:
    watcher = Watcher()
    job = Job("test", [waits_for(tmp_path / "mark", guests, engine)], workers=Workers(spawn="fresh"))  # type: ignore[arg-type]
    with start(job, observers=[watcher]) as run:
        watcher.wait_for_output(b"waiting")
        assert workers(os.getpid()) == watcher.pids() == children(os.getpid())
        (tmp_path / "mark").touch()
        assert run.result().ok


# Fork servers that die


def test_death_of_the_fork_server_costs_guests_nothing(engine: str, guests: Guests, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    tasks = [waits_for(first, guests, engine, name=f"{n}") for n in range(2)]
    tasks += [waits_for(second, guests, engine, name="late", needs=("0",))]
    watcher = Watcher()
    with start(Job("test", tasks, concurrency=2), observers=[watcher]) as run:
        watcher.wait_for_output(b"waiting", count=2)
        server = fork_server()
        os.kill(server, signal.SIGKILL)
        watcher.wait_for_notice(BEFORE)
        assert len(workers(os.getpid())) == 2
        first.touch()
        watcher.wait_for_output(b"waiting", count=3)
        assert fork_server() != server
        second.touch()
        record = run.result()
    assert {one.outcome for one in record.tasks} == {Outcome.COMPLETED}
    assert [len(one.attempts) for one in record.tasks] == [1, 1, 1]
    (notice,) = watcher.notices()
    assert notice.startswith(f"the fork server for {engine} is gone: ")


@pytest.mark.parametrize("count", [3, 12], ids=["as many as it is asked at a time", "more"])
def test_death_with_requests_open_leaves_no_attempt_without_a_worker(
    engine: str, guests: Guests, tmp_path: Path, count: int
) -> None:
    tasks = [waits_for(tmp_path / "mark", guests, engine)]
    tasks += [task(guests["returns"], "run", n, 1, name=f"{n}", engine=engine, needs=("waits",)) for n in range(count)]
    watcher = Watcher()
    with start(Job("test", tasks, concurrency=count), observers=[watcher]) as run:
        watcher.wait_for_output(b"waiting")
        server = fork_server()
        os.kill(server, signal.SIGSTOP)
        (tmp_path / "mark").touch()
        wait_until(lambda: open_requests(run) == min(count, 4), "it was asked for as many as it has room for")
        os.kill(server, signal.SIGKILL)
        record = run.result()
    assert [one.values for one in record.tasks[1:]] == [(n + 1,) for n in range(count)]
    assert {len(one.attempts) for one in record.tasks} == {1}
    assert len(watcher.notices()) == 1


def test_worker_that_was_made_and_not_told_says_so_itself(
    engine: str, guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_the_place(monkeypatch, faulty_servers.dies_before_it_tells)
    watcher = Watcher()
    with start(Job("test", [task(guests["spins"], engine=engine, stop=QUICK)]), observers=[watcher]) as run:
        watcher.wait_for_state("running")
        # The guardian is told from a worker by its command line, which it has a moment after its birth.
        wait_until(lambda: children(os.getpid()) == watcher.pids(), "there is the worker alone")
        run.stop(Rung.KILL)
        attempt = run.result().tasks[0].attempts[0]
    assert attempt.outcome is Outcome.KILLED
    assert len(watcher.notices()) == 1


def test_guest_of_a_worker_that_was_made_and_not_told_does_not_run_twice(
    engine: str, guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One attempt is one worker that runs the guest once, also where that worker is lost on its way."""
    take_the_place(monkeypatch, faulty_servers.dies_before_it_tells)
    host = {"env.work": surroundings.appends_a_line}
    guest = task(guests["calls_host"], engine=engine, host=host, env={"LINES": str(tmp_path / "lines")})
    job = Job("test", [guest])
    assignments = prepare(job).check().assignments
    with Supervisor(job, assignments, cache_directory=cache_directory(), owns_process=True) as supervisor:
        attempt = supervisor.run().tasks[0].attempts[0]
    lines = (tmp_path / "lines").read_text().splitlines() if (tmp_path / "lines").exists() else []
    assert len(lines) <= 1
    assert attempt.outcome is (Outcome.COMPLETED if lines else Outcome.CRASHED)


def test_worker_that_was_made_and_not_told_and_has_ended_is_reaped(
    engine: str, guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_the_place(monkeypatch, faulty_servers.dies_before_it_tells)
    assert run_guest(guests["returns"], "run", 1, 7, engine=engine).values == (8,)
    left = children(os.getpid())
    for pid in left:
        os.waitpid(pid, 0)
    assert left == []


def test_fork_servers_that_die_again_and_again_are_done_without(
    engine: str, guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_the_place(monkeypatch, faulty_servers.hangs_up_with_a_word)
    watcher = Watcher()
    tasks = [task(guests["returns"], "run", n, 1, name=f"{n}", engine=engine) for n in range(6)]
    record = run_record(*tasks, observers=[watcher], concurrency=3)
    assert [one.values for one in record.tasks] == [(n + 1,) for n in range(6)]
    assert [LAST in notice for notice in watcher.notices()] == [False, False, True]
    assert all("no libengine.so here" in notice for notice in watcher.notices())


# Fork servers that stand still, and that talk nonsense


def test_fork_server_that_is_stopped_is_replaced(
    engine: str, guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("procstop.supervisor.forkservers.ANSWER_S", 1.0)
    tasks = [waits_for(tmp_path / "mark", guests, engine)]
    tasks += [task(guests["returns"], "run", n, 1, name=f"{n}", engine=engine, needs=("waits",)) for n in range(5)]
    watcher = Watcher()
    with start(Job("test", tasks, concurrency=5), observers=[watcher]) as run:
        watcher.wait_for_output(b"waiting")
        server = fork_server()
        os.kill(server, signal.SIGSTOP)
        (tmp_path / "mark").touch()
        record = run.result()
    assert [one.values for one in record.tasks[1:]] == [(n + 1,) for n in range(5)]
    assert "it has said nothing for 1 s" in watcher.notices()[0]
    assert is_gone(server)


def test_fork_server_that_is_stopped_while_nobody_asks_is_left_alone(
    engine: str, guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("procstop.supervisor.forkservers.ANSWER_S", 0.01)
    watcher = Watcher()
    with start(Job("test", [waits_for(tmp_path / "mark", guests, engine)]), observers=[watcher]) as run:
        watcher.wait_for_output(b"waiting")
        if not (told := watcher.notices()):
            os.kill(fork_server(), signal.SIGSTOP)
        (tmp_path / "mark").touch()
        assert run.result().ok
    assert watcher.notices() == told


@pytest.mark.parametrize("fault", [faulty_servers.stands_still, faulty_servers.says_nothing], ids=lambda f: f.__name__)
def test_fork_server_that_never_greets_is_replaced(
    engine: str, guests: Guests, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], None]
) -> None:
    monkeypatch.setattr("procstop.supervisor.forkservers.HELLO_S", 0.3)
    take_the_place(monkeypatch, fault)
    watcher = Watcher()
    attempt = run_guest(guests["returns"], "run", 1, 7, engine=engine, observers=[watcher])
    assert (attempt.outcome, attempt.values) == (Outcome.COMPLETED, (8,))
    assert ["it has said nothing for 0.3 s" in notice for notice in watcher.notices()] == [True] * 3


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (faulty_servers.hangs_up, "it has ended"),
        (faulty_servers.greets_with_garbage, "it sent an answer that is no answer"),
        (faulty_servers.answers_with_garbage, "it sent an answer that is no answer"),
        (faulty_servers.answers_what_it_was_not_asked, "it answered what it was not asked"),
        (faulty_servers.greets_again, "it answered what it was not asked"),
        (faulty_servers.names_itself, "it named "),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_fork_server_that_makes_no_sense_is_done_without(
    engine: str, guests: Guests, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], None], why: str
) -> None:
    take_the_place(monkeypatch, fault)
    watcher = Watcher()
    tasks = [task(guests["returns"], "run", n, 1, name=f"{n}", engine=engine) for n in range(3)]
    record = run_record(*tasks, observers=[watcher], concurrency=3, limits=Limits(start=60.0))
    assert [one.values for one in record.tasks] == [(n + 1,) for n in range(3)]
    assert all(why in notice for notice in watcher.notices())
    assert [LAST in notice for notice in watcher.notices()] == [False, False, True]


def test_process_that_a_fork_server_names_and_has_not_made_is_left_alone(
    engine: str, guests: Guests, monkeypatch: pytest.MonkeyPatch, bystander: int
) -> None:
    """A supervisor that believed it would send SIGTERM to a stranger when the attempt is to stop."""
    take_the_place(monkeypatch, faulty_servers.names, bystander)
    watcher = Watcher()
    attempt = run_guest(guests["returns"], "run", 1, 7, engine=engine, observers=[watcher], start=2.0)
    assert not is_gone(bystander)
    assert (attempt.outcome, attempt.values) == (Outcome.COMPLETED, (8,))
    assert all("it named " in notice for notice in watcher.notices())


def test_pid_that_nobody_has_is_no_worker(engine: str, guests: Guests, monkeypatch: pytest.MonkeyPatch) -> None:
    take_the_place(monkeypatch, faulty_servers.names, 2**22 - 1)
    attempt = run_guest(guests["returns"], "run", 1, 7, engine=engine, start=20.0)
    assert attempt.outcome in (Outcome.COMPLETED, Outcome.CRASHED)
    assert attempt.reason is None


def test_fork_server_that_refuses_is_believed(engine: str, guests: Guests, monkeypatch: pytest.MonkeyPatch) -> None:
    take_the_place(monkeypatch, faulty_servers.refuses)
    watcher = Watcher()
    attempt = run_guest(guests["returns"], "run", 1, 7, engine=engine, observers=[watcher])
    assert (attempt.outcome, attempt.message) == (Outcome.REJECTED, "cannot start a worker: not today")
    assert watcher.notices() == []


@pytest.mark.parametrize("ends_first", [False, True], ids=["asked", "gone"])
def test_fork_server_without_its_engine_is_not_tried_again(
    engine: str, guests: Guests, monkeypatch: pytest.MonkeyPatch, ends_first: bool
) -> None:
    take_the_place(monkeypatch, faulty_servers.has_no_engine)
    if ends_first:
        ask = ForkServer.request

        def ask_when_it_is_over(server: ForkServer, request: ForkRequest, fds: Sequence[int]) -> bool:
            wait_until_gone(server.pid)
            return ask(server, request, fds)

        monkeypatch.setattr(ForkServer, "request", ask_when_it_is_over)
    watcher = Watcher()
    assert run_guest(guests["returns"], "run", 1, 7, engine=engine, observers=[watcher]).values == (8,)
    (notice,) = watcher.notices()
    assert "the engine is not to be had" in notice and LAST in notice


def test_fork_server_that_is_short_of_processes_is_asked_again(
    engine: str, guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_the_place(monkeypatch, faulty_servers.is_short_of_processes, 3, 1)
    watcher = Watcher()
    tasks = [waits_for(tmp_path / "mark", guests, engine)]
    tasks += [task(guests["returns"], "run", n, 7, name=f"{n}", engine=engine) for n in range(3)]
    with start(Job("test", tasks, concurrency=4), observers=[watcher]) as run:
        watcher.wait_for_state("over", count=3)
        (tmp_path / "mark").touch()
        record = run.result()
    assert [one.outcome for one in record.tasks] == [Outcome.COMPLETED] * 4
    assert watcher.notices() == []


def test_shortage_that_nobody_can_end_is_told(engine: str, guests: Guests, monkeypatch: pytest.MonkeyPatch) -> None:
    take_the_place(monkeypatch, faulty_servers.is_short_of_processes, 1, 0)
    attempt = run_guest(guests["returns"], "run", 1, 7, engine=engine)
    assert attempt.outcome is Outcome.REJECTED
    assert attempt.message == "cannot start a worker: Resource temporarily unavailable"


def test_fork_server_that_hangs_does_not_hold_up_the_end_of_another_attempt(
    engine: str, guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the other attempt left could be a worker that the fork server has not told of."""
    monkeypatch.setattr("procstop.supervisor.forkservers.ANSWER_S", 600.0)
    mark, last = tmp_path / "mark", tmp_path / "last"
    leaves = task(guests["calls_host"], name="leaves", engine=engine, env={"MARK": str(last)},
                  host={"env.work": hosts.dies_at_mark_with_an_escapee})  # fmt: skip
    tasks = [leaves, waits_for(mark, guests, engine)]
    tasks += [task(guests["returns"], "run", 1, 7, name="next", engine=engine, needs=("waits",))]
    watcher = Watcher()
    with start(Job("test", tasks, concurrency=3), observers=[watcher]) as run:
        watcher.wait_for_output(b"waiting", count=2)
        escapee = int(watcher.written().partition(b"child ")[2].split()[0])
        server = fork_server()
        os.kill(server, signal.SIGSTOP)
        mark.touch()
        wait_until(lambda: open_requests(run) == 1, "a worker was asked for")
        last.touch()
        watcher.wait_for_state("over", count=2)
        os.kill(server, signal.SIGCONT)
        record = run.result()
    assert record["leaves"].outcome is Outcome.CRASHED
    assert record["next"].attempts[0].values == (8,)
    assert is_gone(escapee) and children(os.getpid()) == []


# Stops while a worker is on its way


@pytest.mark.parametrize("rung", list(Rung), ids=lambda rung: rung.value)
def test_stop_of_an_attempt_that_waits_for_its_worker(
    engine: str, guests: Guests, monkeypatch: pytest.MonkeyPatch, rung: Rung
) -> None:
    guest = task(guests["returns"], "run", 1, 7, engine=engine, stop=QUICK)
    # With its module in the cache, so that a worker is what it waits for.
    assert run_record(guest).ok
    take_the_place(monkeypatch, faulty_servers.says_nothing)
    watcher = Watcher()
    with start(Job("test", [guest]), observers=[watcher]) as run:
        wait_until(lambda: open_requests(run) == 1, "a worker was asked for")
        run.stop(rung)
        record = run.result()
    attempt = record.tasks[0].attempts[0]
    assert (attempt.outcome, attempt.reason) == (Outcome.CANCELLED, Reason.STOP_COMMAND)
    assert (attempt.pid, attempt.wait, attempt.message) == (None, None, "it had no worker yet")
    assert watcher.pids() == [] == children(os.getpid())


def test_start_limit_of_an_attempt_that_waits_for_its_worker(
    engine: str, guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_guest(guests["returns"], "run", 1, 7, engine=engine).values == (8,)
    take_the_place(monkeypatch, faulty_servers.says_nothing)
    attempt = run_guest(guests["returns"], "run", 1, 7, engine=engine, start=0.3)
    assert (attempt.outcome, attempt.reason, attempt.pid) == (Outcome.CANCELLED, Reason.START_LIMIT, None)


def test_worker_that_comes_after_the_stop_is_ended_by_it(engine: str, guests: Guests, tmp_path: Path) -> None:
    """The fork server stands still when it is asked, and goes on when the attempts are already to end."""
    stop = StopPolicy(interrupt=0.0, preempt=0.0, terminate=30.0, kill_wait=30.0)
    others = [task(guests["spins"], name=f"{n}", engine=engine, needs=("waits",), limits=Limits(start=0.2), stop=stop)
              for n in range(3)]  # fmt: skip
    mark, last = tmp_path / "mark", tmp_path / "last"
    tasks = [waits_for(mark, guests, engine), waits_for(last, guests, engine, name="last"), *others]
    watcher = Watcher()
    with start(Job("test", tasks, concurrency=5), observers=[watcher]) as run:
        watcher.wait_for_output(b"waiting", count=2)
        server = fork_server()
        os.kill(server, signal.SIGSTOP)
        mark.touch()
        watcher.wait_for_state("terminating", count=3)
        os.kill(server, signal.SIGCONT)
        watcher.wait_for_state("over", count=4)
        last.touch()
        record = run.result()
    attempts = [record[f"{n}"].attempts[0] for n in range(3)]
    # Whether their guests had begun by then is nobody's to say: so they were stopped, and not cancelled.
    assert [one.outcome for one in attempts] == [Outcome.TERMINATED] * 3
    assert [one.reason for one in attempts] == [Reason.START_LIMIT] * 3
    assert [one.wait for one in attempts] == [("signal", signal.SIGTERM)] * 3
    assert record["last"].ok and set(watcher.pids()) >= {one.pid for one in attempts}
    assert watcher.notices() == [] and children(os.getpid()) == []


def test_fork_server_that_stands_still_does_not_hold_up_a_kill(engine: str, guests: Guests, tmp_path: Path) -> None:
    others = [task(guests["spins"], name=f"{n}", engine=engine, needs=("waits",), limits=Limits(start=0.2), stop=QUICK)
              for n in range(3)]  # fmt: skip
    mark = tmp_path / "mark"
    watcher = Watcher()
    with start(Job("test", [waits_for(mark, guests, engine), *others], concurrency=4), observers=[watcher]) as run:
        watcher.wait_for_output(b"waiting")
        os.kill(fork_server(), signal.SIGSTOP)
        mark.touch()
        record = run.result()
    attempts = [record[f"{n}"].attempts[0] for n in range(3)]
    assert [(one.outcome, one.reason, one.pid) for one in attempts] == [
        (Outcome.CANCELLED, Reason.START_LIMIT, None)
    ] * 3
    (notice,) = watcher.notices()
    assert "it did not answer within 0.1 s for an attempt to kill" in notice
    assert children(os.getpid()) == []


def test_fork_server_that_stands_still_costs_no_more_than_the_kill_wait(
    engine: str, guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("procstop.supervisor.forkservers.HURRY_S", 60.0)
    stop = StopPolicy(interrupt=0.0, preempt=0.0, terminate=0.0, kill_wait=0.2)
    late = task(guests["spins"], name="late", engine=engine, needs=("waits",), limits=Limits(start=0.2), stop=stop)
    mark = tmp_path / "mark"
    watcher = Watcher()
    with start(Job("test", [waits_for(mark, guests, engine), late]), observers=[watcher]) as run:
        watcher.wait_for_output(b"waiting")
        os.kill(fork_server(), signal.SIGSTOP)
        mark.touch()
        record = run.result()
    attempt = record["late"].attempts[0]
    assert (attempt.outcome, attempt.message) == (Outcome.KILLED, "its worker was only just being made")
    assert children(os.getpid()) == []


@pytest.mark.parametrize("kill_it", [False, True], ids=["stopped", "killed"])
def test_pause_takes_hold_though_the_fork_server_does_not_answer(
    engine: str, guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_it: bool
) -> None:
    """Ctrl-Z while a worker is on its way, and does not come: the run stands still all the same."""
    monkeypatch.setattr("procstop.supervisor.forkservers.ANSWER_S", 1.0)
    tasks = [waits_for(tmp_path / "mark", guests, engine)]
    tasks += [task(guests["returns"], "run", 1, 7, name="next", engine=engine, needs=("waits",))]
    watcher, paused = Watcher(), threading.Event()
    with start(Job("test", tasks), observers=[watcher]) as run:
        watcher.wait_for_output(b"waiting")
        server = fork_server()
        os.kill(server, signal.SIGSTOP)
        (tmp_path / "mark").touch()
        wait_until(lambda: open_requests(run) == 1, "a worker was asked for")
        run._supervisor.pause(paused.set)
        watcher.wait_until(lambda events: any(isinstance(event, RunPaused) for event in events))
        if kill_it:
            os.kill(server, signal.SIGKILL)
        assert paused.wait(4), "it does not stand still"
        run._supervisor.resume()
        assert run.result()["next"].values == (8,)


@pytest.mark.parametrize("spawn", list(Spawn), ids=lambda spawn: spawn.value)
def test_pause_takes_hold_while_a_host_module_is_imported(
    engine: str, guests: Guests, tmp_path: Path, spawn: Spawn
) -> None:
    (tmp_path / "functions.py").write_text(
        f"import os, time\nopen({str(tmp_path / 'begun')!r}, 'x').close()\n"
        f"while not os.path.exists({str(tmp_path / 'go')!r}):\n    time.sleep(0.005)\n"
        "imports = {'env.work': lambda: None}\n"
    )
    guest = task(guests["calls_host"], engine=engine, host=tmp_path / "functions.py")
    with start(Job("test", [guest], workers=Workers(spawn=spawn))) as run:
        wait_until((tmp_path / "begun").exists, "the import has begun")
        paused = threading.Event()
        run._supervisor.pause(paused.set)
        wait_until(paused.is_set, "it stands still")
        (worker,) = workers(os.getpid())
        wait_until(lambda: process_state(worker) == "T", "the worker stands still")
        run._supervisor.resume()
        (tmp_path / "go").touch()
        assert run.result().tasks[0].outcome is Outcome.COMPLETED


def test_pause_of_a_run_that_starts_many_workers_takes_hold_every_time(engine: str, guests: Guests) -> None:
    tasks = [task(guests["returns"], "run", n, 1, name=f"{n}", engine=engine) for n in range(60)]
    watcher = Watcher()
    with start(Job("test", tasks, concurrency=4), observers=[watcher]) as run:
        while not run.over:
            paused = threading.Event()
            run._supervisor.pause(paused.set)
            wait_until(lambda paused=paused: paused.is_set() or run.over, "it stands still, or is over")
            if paused.is_set():
                # A zombie has ended; it is reaped when the run goes on.
                wait_until(
                    lambda: {process_state(pid) for pid in workers(os.getpid())} <= {"T", "X"}, "workers stand still"
                )
            run._supervisor.resume()
        record = run.result()
    assert [one.values for one in record.tasks] == [(n + 1,) for n in range(60)]


# What a worker has around it


@pytest.fixture(params=[1, 5], ids=["one attempt", "several"])
def surroundings_of(
    request: pytest.FixtureRequest, engine: str, guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[Spawn, Any]:
    """What workers that may host so many attempts have around them, by how they were made."""
    monkeypatch.chdir(tmp_path)
    said = {}
    mask = os.umask(0o027)
    try:
        for spawn in SPAWNS:
            host = {"env.work": surroundings.describes_itself}
            guest = task(guests["calls_host"], engine=engine, host=host, env={"COLOUR": "blue"}, group="g")
            record = run_record(guest, workers=Workers(spawn=spawn, reuse=request.param))
            assert record.ok, record
            said[spawn] = json.loads(record.tasks[0].attempts[0].stdout.tail)
    finally:
        os.umask(mask)
    return said


def test_forked_worker_has_around_it_what_a_fresh_one_has(surroundings_of: dict[Spawn, Any], tmp_path: Path) -> None:
    forked, fresh = surroundings_of[Spawn.SERVER], surroundings_of[Spawn.FRESH]
    # What was there when the server began is not looked through again, so that its pages stay shared.
    assert (forked.pop("frozen"), fresh.pop("frozen")) == ("as a fork server froze it", False)
    del forked["descriptors"]
    assert {key: (value, fresh[key]) for key, value in forked.items() if value != fresh[key]} == {}
    assert forked["leads its session"] and forked["leads its group"] and not forked["has a terminal"]
    assert (forked["parent-death signal"], forked["is a subreaper"]) == (signal.SIGKILL, True)
    assert (forked["umask"], forked["directory"]) == ("0o27", str(tmp_path))
    assert forked["environment"].keys() == {"PROCSTOP_ATTEMPT", "COLOUR"}


def test_forked_worker_has_no_descriptor_that_a_fresh_one_has_not(surroundings_of: dict[Spawn, Any]) -> None:
    forked, fresh = (surroundings_of[spawn]["descriptors"] for spawn in SPAWNS)
    # Where a fresh one, inside of its sandbox, reads how much memory it had.
    assert forked == [one for one in fresh if one != "- /proc/N/status r"]


def test_two_forked_workers_draw_different_numbers(engine: str, guests: Guests) -> None:
    host = {"env.work": surroundings.says_random_things}
    tasks = [task(guests["calls_host"], name=f"{n}", engine=engine, host=host) for n in range(3)]
    record = run_record(*tasks)
    drawn = [json.loads(one.attempts[0].stdout.tail) for one in record.tasks]
    for kind in zip(*drawn, strict=True):
        assert len(set(kind)) == 3, kind


@pytest.mark.parametrize("spawn", SPAWNS, ids=lambda spawn: spawn.value)
@pytest.mark.parametrize(
    "work",
    [
        surroundings.computes_in_a_thread,
        surroundings.computes_in_a_forked_process,
        surroundings.computes_in_a_spawned_process,
        surroundings.computes_in_another_program,
        surroundings.leaves_a_pool,
    ],
    ids=lambda work: work.__name__,
)
def test_host_function_may_start_threads_and_processes(
    engine: str, guests: Guests, spawn: Spawn, work: Callable[[], None]
) -> None:
    guest = task(guests["calls_host"], engine=engine, host={"env.work": work})
    record = run_record(guest, workers=Workers(spawn=spawn), limits=Limits(time=60.0), stop=QUICK)
    attempt = record.tasks[0].attempts[0]
    assert (attempt.outcome, attempt.stdout.tail.split()) == (Outcome.COMPLETED, [b"42"] * 2), attempt
    assert children(os.getpid()) == []


# Shortages


def test_too_few_descriptors_make_attempts_wait(engine: str, guests: Guests, procstop_command: Procstop) -> None:
    tasks = "".join(
        f'[[task]]\nname = "{n}"\nmodule = "{guests["sleeps"]}"\ncall = "nap"\nargs = [50_000_000]\n'
        f'engine = "{engine}"\n'
        for n in range(40)
    )
    job = procstop_command.job(f"concurrency = 40\n{tasks}")
    # Enough for a few workers at a time, each with its four pipes and its pidfd.
    command = ["sh", "-c", 'ulimit -n 56; exec "$@"', "sh", sys.executable, "-m", "procstop", "run", str(job)]
    done = subprocess.run(
        [*command, "--report", "report.json"],
        cwd=procstop_command.directory,
        env=procstop_command.environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    attempts = [one["attempts"][0]["outcome"] for one in procstop_command.report()["tasks"]]
    assert attempts == ["completed"] * 40


def test_supervisor_that_does_not_wait_for_children_still_tells_how_guests_ended(engine: str, guests: Guests) -> None:
    """Where SIGCHLD is ignored the kernel reaps, perhaps before a fork server has told the pid."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        tasks = [task(guests["returns"], "run", n, 1, name=f"{n}", engine=engine) for n in range(60)]
        job = Job("test", tasks, concurrency=8)
        with Supervisor(job, prepare(job).check().assignments, cache_directory=cache_directory()) as supervisor:
            record = supervisor.run()
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert [one.values for one in record.tasks] == [(n + 1,) for n in range(60)]
