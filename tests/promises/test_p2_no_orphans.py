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
    guardian,
    guardians,
    is_gone,
    process_state,
    processes_marked,
    wait_until,
    wait_until_gone,
    workers,
)

TRIALS = int(os.environ.get("PROCSTOP_TRIALS", "24"))
"""Of each kind. More of them, by hand, say more of what is rare."""
LONGEST_MS = {"wasmer": 400, "wasmtime": 600}
"""From the fork of the supervisor until well after its guests run, which takes 30 to 150 ms."""
PAIRS = ["+".join(pair) for pair in itertools.combinations(["guardian", "server", "supervisor", "worker"], 2)]


@pytest.mark.slow
@pytest.mark.timeout(120 + 5 * TRIALS)
@pytest.mark.parametrize(
    ("guest", "whom"),
    [
        ("spins", "supervisor"),
        ("spins", "server"),
        ("spins_in_start", "supervisor"),
        *(("spins", two) for two in PAIRS),
    ],
)
def test_nothing_survives_kills_at_random_moments(engine: str, guests: Guests, guest: str, whom: str) -> None:
    """Of one of a run's processes, or of two; a run whose supervisor was spared goes on."""
    trials = TRIALS if guest == "spins" and "+" not in whom else max(1, TRIALS // 3)
    command = [SUPPORT / "killing.py", 20261120, trials, LONGEST_MS[engine], 4, engine, guests[guest], whom]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *map(str, command)], env=environment, capture_output=True, text=True, timeout=110 + 5 * trials
    )
    assert (done.returncode, done.stderr) == (0, "")
    results = json.loads(done.stdout)
    survivors = [result for result in results if result[3]]
    assert len(results) == trials and not survivors
    # Else the moments were all too early to mean anything: four workers, their fork server and the guardian.
    assert any(below == 6 and sorted(killed) == whom.split("+") for _, below, _, _, killed in results)


OFFSPRING = [
    hosts.starts_child,
    hosts.starts_stubborn_escapee,
    hosts.starts_child_in_session,
    hosts.starts_child_without_mark,
    hosts.starts_child_without_mark_in_session,
]


def start_offspring(
    procstop_command: Procstop, engine: str, guests: Guests, work: Callable[[], None], *options: str
) -> tuple[Started, int]:
    """Start a run whose host function starts a process; return it and that process's pid."""
    host = procstop_command.directory / "functions.py"
    host.write_text(
        f"import sys; sys.path.insert(0, {str(SUPPORT.parent)!r})\n"
        f"from support import hosts\nimports = {{'env.work': hosts.{work.__name__}}}\n"
    )
    task = f'module = "{guests["calls_host_then_spins"]}"\nengine = "{engine}"\n'
    task += f'host = "{host}"\nhost_allow = ["processes"]\n'
    command = procstop_command.start("run", procstop_command.job(f'[[task]]\nname = "starts"\n{task}'), *options)
    wait_until(lambda: re.search(r"child \d+\n", command.said("stdout")), "it has started a process")
    found = re.search(r"child (\d+)\n", command.said("stdout"))
    assert found is not None
    return command, int(found[1])


@pytest.mark.parametrize("spawn", ["server", "fresh"])
@pytest.mark.parametrize("work", OFFSPRING, ids=lambda one: one.__name__)
def test_what_a_host_function_started_does_not_survive(
    engine: str, guests: Guests, procstop_command: Procstop, work: Callable[[], None], spawn: str
) -> None:
    command, offspring = start_offspring(procstop_command, engine, guests, work, "--spawn", spawn)
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
    command, offspring = start_offspring(procstop_command, engine, guests, hosts.starts_child_without_mark)
    os.kill(guardian(command.pid), signal.SIGKILL)
    command.wait_for("the guardian is gone (signal 9); another takes its place")
    command.signal(signal.SIGKILL)
    command.end()
    wait_until_gone(offspring)


def test_guardian_that_stands_still_does_its_work_when_it_is_continued(
    engine: str, guests: Guests, procstop_command: Procstop
) -> None:
    command, offspring = start_offspring(procstop_command, engine, guests, hosts.starts_child_in_session)
    guard = guardian(command.pid)
    os.kill(guard, signal.SIGSTOP)
    command.signal(signal.SIGKILL)
    command.end()
    assert not is_gone(offspring)
    os.kill(guard, signal.SIGCONT)
    wait_until_gone(offspring)
    wait_until_gone(guard)


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
            guardian(program.pid)
            program.kill()
            wait_until_gone(offspring)
            assert not is_gone(holder)
        finally:
            os.kill(holder, signal.SIGKILL)


def test_guardian_spares_what_is_not_of_the_run(engine: str, guests: Guests, procstop_command: Procstop) -> None:
    command, offspring = start_offspring(procstop_command, engine, guests, hosts.starts_child)
    said = {"PROCSTOP_ATTEMPT": "01ANOTHERRUN-1"}
    with subprocess.Popen(["sleep", "1000"], env={**os.environ, **said}, start_new_session=True) as bystander:
        try:
            guard = guardian(command.pid)
            command.signal(signal.SIGKILL)
            command.end()
            wait_until_gone(offspring)
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
