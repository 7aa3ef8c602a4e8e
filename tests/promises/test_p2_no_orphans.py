"""P2 no orphans: when the supervisor dies in any way, nothing of it is left."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from support import hosts
from support.command import Procstop, Started
from support.guests import Guests
from support.places import ROOT, SUPPORT
from support.watching import (
    children,
    fork_servers,
    guardians,
    is_gone,
    listening_guardians,
    process_state,
    processes_marked,
    wait_until,
    wait_until_gone,
    workers,
)

BY_HAND = os.environ.get("PROCSTOP_TRIALS")
"""So many of each kind: more of them say more of what is rare."""
TRIALS = int(BY_HAND or "18")
LONGEST_MS = {"wasmer": 400, "wasmtime": 600}
"""From the fork of the supervisor until well after its guests run, which takes 30 to 150 ms."""
PAIRS = ["+".join(pair) for pair in itertools.combinations(["guardian", "server", "supervisor", "worker"], 2)]


@pytest.mark.slow
@pytest.mark.timeout(120 + 5 * TRIALS)
@pytest.mark.parametrize(
    ("guest", "spawn", "whom"),
    [
        ("spins", "server", "supervisor"),
        ("spins", "server", "server"),
        ("spins", "server", "guardian"),
        ("spins", "server", "worker"),
        ("spins", "fresh", "supervisor"),
        ("spins_in_start", "server", "supervisor"),
        *(("spins", "server", two) for two in PAIRS),
    ],
)
def test_nothing_survives_kills_at_random_moments(
    engine: str, guests: Guests, guest: str, spawn: str, whom: str
) -> None:
    """Of one of a run's processes, or of two; a run whose supervisor was spared goes on."""
    often = BY_HAND is not None or ((guest, spawn) == ("spins", "server") and whom in ("supervisor", "server"))
    trials = TRIALS if often else max(1, TRIALS // 3)
    longest_ms = LONGEST_MS[engine] * (1 if spawn == "server" else 4)
    command = [SUPPORT / "killing.py", 20261120, trials, longest_ms, 4, engine, spawn, guests[guest], whom]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *map(str, command)], env=environment, capture_output=True, text=True, timeout=110 + 5 * trials
    )
    assert (done.returncode, done.stderr) == (0, "")
    results = json.loads(done.stdout)
    survivors = [result for result in results if result[3]]
    assert len(results) == trials and not survivors
    # Else the moments were all too early to mean anything: four workers, a guardian, and a fork server if any.
    everybody = 6 if spawn == "server" else 5
    assert any(below == everybody and sorted(killed) == whom.split("+") for _, below, _, _, killed in results)


OFFSPRING = [
    hosts.starts_child,
    hosts.starts_stubborn_escapee,
    hosts.starts_child_in_session,
    hosts.starts_child_without_mark,
    hosts.starts_child_without_mark_in_session,
]


def start_offspring(
    procstop_command: Procstop, engine: str, guests: Guests, *works: Callable[[], None], head: str = "", spawn: str = ""
) -> tuple[Started, list[int]]:
    """Start a run, whose job begins with `head`, of host functions that start a process each; return both."""
    job = head
    for work in works:
        host = procstop_command.directory / f"{work.__name__}.py"
        host.write_text(
            f"import sys; sys.path.insert(0, {str(SUPPORT.parent)!r})\n"
            f"from support import hosts\nimports = {{'env.work': hosts.{work.__name__}}}\n"
        )
        job += f'[[task]]\nname = "{work.__name__}"\nmodule = "{guests["calls_host_then_spins"]}"\n'
        job += f'engine = "{engine}"\nhost = "{host}"\nhost_allow = ["processes"]\n'
    command = procstop_command.start("run", procstop_command.job(job), *(["--spawn", spawn] if spawn else []))

    def said() -> list[int]:
        return [int(pid) for pid in re.findall(r"child (\d+)\n", command.said("stdout"))]

    wait_until(lambda: len(said()) == len(works), "they have started their processes")
    return command, said()


@pytest.mark.parametrize("spawn", ["server", "fresh"])
@pytest.mark.parametrize("work", OFFSPRING, ids=lambda one: one.__name__)
def test_what_a_host_function_started_does_not_survive(
    engine: str, guests: Guests, procstop_command: Procstop, work: Callable[[], None], spawn: str
) -> None:
    command, (offspring,) = start_offspring(procstop_command, engine, guests, work, spawn=spawn)
    if work is hosts.starts_child_without_mark_in_session:
        # Nothing but what is below the worker tells whose it is: that is looked at five times in this second.
        time.sleep(1)
    below = [*children(command.pid), *guardians(command.pid)]
    assert not is_gone(offspring)
    command.signal(signal.SIGKILL)
    command.end()
    for pid in (*below, offspring):
        wait_until_gone(pid)


def test_guardian_that_took_the_place_of_another_knows_as_much(
    engine: str, guests: Guests, procstop_command: Procstop
) -> None:
    command, (offspring,) = start_offspring(procstop_command, engine, guests, hosts.starts_child_without_mark)
    for count, guard in enumerate(listening_guardians(command.pid, 2), 1):
        os.kill(guard, signal.SIGKILL)
        command.wait_for("the guardian is gone (signal 9); another takes its place", count=count)
    command.signal(signal.SIGKILL)
    command.end()
    wait_until_gone(offspring)


def test_guardian_that_stands_still_does_its_work_when_it_is_continued(
    engine: str, guests: Guests, procstop_command: Procstop
) -> None:
    command, (offspring,) = start_offspring(procstop_command, engine, guests, hosts.starts_child_in_session)
    both = listening_guardians(command.pid, 2)
    for guard in both:
        os.kill(guard, signal.SIGSTOP)
    command.signal(signal.SIGKILL)
    command.end()
    assert not is_gone(offspring)
    os.kill(both[0], signal.SIGCONT)
    wait_until_gone(offspring)
    wait_until_gone(both[0])
    os.kill(both[1], signal.SIGCONT)
    wait_until_gone(both[1])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=lambda one: one.name)
@pytest.mark.parametrize("work", OFFSPRING[:4], ids=lambda one: one.__name__)
def test_guardian_that_goes_with_its_supervisor_leaves_another(
    engine: str, guests: Guests, procstop_command: Procstop, work: Callable[[], None], number: signal.Signals
) -> None:
    """Either of the two, in one moment with the supervisor and its fork server."""
    command, (offspring,) = start_offspring(procstop_command, engine, guests, work)
    guard, *others = listening_guardians(command.pid, 2)
    os.kill(command.pid, signal.SIGSTOP)
    for server in fork_servers(command.pid):
        os.kill(server, number)
    os.kill(guard, number)
    command.signal(signal.SIGKILL)
    command.end()
    wait_until_gone(offspring)
    for one in others:
        wait_until_gone(one)
    if number is signal.SIGSTOP:
        os.kill(guard, signal.SIGCONT)
    wait_until_gone(guard)


def test_nothing_survives_its_deadline_while_the_supervisor_stands_still(
    engine: str, guests: Guests, procstop_command: Procstop
) -> None:
    """Nor does it if one of the guardians does the same: the workers' timers end them, and the other one the rest."""
    head = 'concurrency = 5\n[limits]\ntime = "1s"\n[stop]\ninterrupt = "0s"\npreempt = "0s"\nterminate = "0s"\n'
    command, offspring = start_offspring(procstop_command, engine, guests, *OFFSPRING, head=head + 'kill_wait = "1s"\n')
    # A process that was forked has its worker's name.
    below = set(workers(command.pid)) - set(offspring)
    (guard, _) = listening_guardians(command.pid, 2)
    assert len(below) == len(OFFSPRING)
    for pid in (command.pid, guard):
        os.kill(pid, signal.SIGSTOP)
    for pid in (*below, *offspring):
        wait_until_gone(pid)
    assert process_state(command.pid) == "T"
    for pid in (command.pid, guard):
        os.kill(pid, signal.SIGCONT)
    assert command.end().code == 124


def test_guardian_sees_the_end_of_a_supervisor_whose_pipes_somebody_else_holds(
    engine: str, guests: Guests, procstop_command: Procstop
) -> None:
    """A program that forks hands on all that it has open; only what it executes does without."""
    script = procstop_command.directory / "program.py"
    script.write_text(
        f"import os, sys, time; sys.path.insert(0, {str(SUPPORT.parent)!r})\n"
        "import procstop\nfrom support import hosts\n"
        "def watch(event):\n"
        "    if b'child' in getattr(event, 'data', b''):\n"
        "        pid = os.fork()\n"
        "        if pid == 0:\n"
        "            os.closerange(0, 3); time.sleep(1e6)\n"
        "        print(event.data.decode().split()[1], pid, flush=True)\n"
        f"task = procstop.Task('starts', {guests['calls_host_then_spins']!r}, engine={engine!r},\n"
        "                     host={'env.work': hosts.starts_child}, host_allow=['processes'])\n"
        "if __name__ == '__main__':\n"
        "    procstop.run(procstop.Job('killed', [task]), observers=[watch])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        offspring, holder = map(int, program.stdout.readline().split())
        try:
            listening_guardians(program.pid, 2)
            program.kill()
            wait_until_gone(offspring)
            assert not is_gone(holder)
        finally:
            os.kill(holder, signal.SIGKILL)


def test_guardian_spares_what_is_not_of_the_run(engine: str, guests: Guests, procstop_command: Procstop) -> None:
    command, (offspring,) = start_offspring(procstop_command, engine, guests, hosts.starts_child)
    said = {"PROCSTOP_ATTEMPT": "01ANOTHERRUN-1"}
    with subprocess.Popen(["sleep", "1000"], env={**os.environ, **said}, start_new_session=True) as bystander:
        try:
            both = listening_guardians(command.pid, 2)
            command.signal(signal.SIGKILL)
            command.end()
            wait_until_gone(offspring)
            for guard in both:
                wait_until_gone(guard)
            assert bystander.poll() is None and process_state(bystander.pid) == "S"
        finally:
            bystander.kill()


@pytest.mark.parametrize("guest", ["spins", "sleeps", "writes_forever"])
def test_nothing_survives_a_command_that_is_killed(
    engine: str, guests: Guests, procstop_command: Procstop, guest: str
) -> None:
    tasks = "".join(
        f'[[task]]\nname = "{number}"\nmodule = "{guests[guest]}"\nengine = "{engine}"\n' for number in range(3)
    )
    command = procstop_command.start("run", procstop_command.job(f"concurrency = 3\n{tasks}"))
    command.wait_for("attempt 1 started", count=3)
    below = [*children(command.pid), *guardians(command.pid)]
    assert len(below) >= 3
    command.signal(signal.SIGKILL)
    command.end()
    for pid in below:
        wait_until_gone(pid)


def test_nothing_survives_a_supervisor_that_is_killed_while_it_is_stopped(
    engine: str, guests: Guests, procstop_command: Procstop
) -> None:
    command = procstop_command.start("run", guests["spins"], "--engine", engine)
    command.wait_for("attempt 1 started")
    below = [*children(command.pid), *guardians(command.pid)]
    command.signal(signal.SIGSTOP)
    command.signal(signal.SIGKILL)
    command.end()
    for pid in below:
        wait_until_gone(pid)


def test_worker_that_stands_still_does_not_survive_either(
    engine: str, guests: Guests, procstop_command: Procstop
) -> None:
    command = procstop_command.start("run", guests["writes_then_spins"], "--engine", engine)
    command.wait_for("said so far", "stdout")
    (worker,) = workers(command.pid)
    os.kill(worker, signal.SIGSTOP)
    command.signal(signal.SIGKILL)
    command.end()
    wait_until_gone(worker)


def test_nothing_survives_a_python_program_that_is_killed(
    engine: str, guests: Guests, procstop_command: Procstop
) -> None:
    """The run is a thread of somebody's program here; an exit without a word must do as well as a signal."""
    for ending in ("os.kill(os.getpid(), 9)", "os._exit(0)", "os.abort()"):
        script = procstop_command.directory / "program.py"
        script.write_text(
            "import os, procstop\n"
            "def watch(event):\n"
            "    if getattr(event, 'state', None) == 'running':\n"
            f"        {ending}\n"
            f"task = procstop.Task('spins', {guests['spins']!r}, engine={engine!r}, env={{'MARK': 'of P2'}})\n"
            "if __name__ == '__main__':\n"
            "    procstop.run(procstop.Job('killed', [task]), observers=[watch])\n"
        )
        # The worker's command line names the place where it finds procstop: make that one of our own.
        place = procstop_command.directory / f"place-{len(ending)}"
        place.mkdir(exist_ok=True)
        (place / "procstop").symlink_to(ROOT / "procstop")
        done = subprocess.run(
            [sys.executable, str(script)],
            env={**os.environ, "PYTHONPATH": str(place)},
            cwd=procstop_command.directory,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode in (-9, 0, -6), done.stderr
        wait_until(lambda place=place: not processes_marked(str(place)), "nothing of the program is left")
