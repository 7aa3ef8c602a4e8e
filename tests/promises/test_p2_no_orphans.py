"""P2 no orphans: when the supervisor dies in any way, nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from support.command import Procstop
from support.guests import Guests
from support.places import ROOT, SUPPORT
from support.watching import children, processes_marked, wait_until, wait_until_gone

TRIALS = 50
LONGEST_MS = {"wasmer": 250, "wasmtime": 400}
"""From the fork of the supervisor until well after its guests run, which takes 30 to 150 ms."""


@pytest.mark.slow
@pytest.mark.parametrize("guest", ["spins", "spins_in_start"])
def test_nothing_survives_a_supervisor_that_is_killed_at_a_random_moment(
    engine: str, guests: Guests, guest: str
) -> None:
    trials = TRIALS if guest == "spins" else TRIALS // 5
    command = [SUPPORT / "killing.py", 20261120, trials, LONGEST_MS[engine], 4, engine, guests[guest]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *map(str, command)], env=environment, capture_output=True, text=True, timeout=110
    )
    assert (done.returncode, done.stderr) == (0, "")
    results = json.loads(done.stdout)
    survivors = [result for result in results if result[3]]
    assert len(results) == trials and not survivors
    # Else the moments were all too early to mean anything.
    assert any(workers == 4 for _, workers, _, _ in results)


@pytest.mark.parametrize("guest", ["spins", "sleeps", "writes_forever"])
def test_nothing_survives_a_command_that_is_killed(
    engine: str, guests: Guests, procstop_command: Procstop, guest: str
) -> None:
    tasks = "".join(
        f'[[task]]\nname = "{number}"\nmodule = "{guests[guest]}"\nengine = "{engine}"\n' for number in range(3)
    )
    command = procstop_command.start("run", procstop_command.job(f"concurrency = 3\n{tasks}"))
    command.wait_for("attempt 1 started", count=3)
    workers = children(command.pid)
    assert len(workers) >= 3
    command.signal(signal.SIGKILL)
    command.end()
    for pid in workers:
        wait_until_gone(pid)


def test_nothing_survives_a_supervisor_that_is_killed_while_it_is_stopped(
    engine: str, guests: Guests, procstop_command: Procstop
) -> None:
    command = procstop_command.start("run", guests["spins"], "--engine", engine)
    command.wait_for("attempt 1 started")
    workers = children(command.pid)
    command.signal(signal.SIGSTOP)
    command.signal(signal.SIGKILL)
    command.end()
    for pid in workers:
        wait_until_gone(pid)


def test_worker_that_stands_still_does_not_survive_either(
    engine: str, guests: Guests, procstop_command: Procstop
) -> None:
    command = procstop_command.start("run", guests["writes_then_spins"], "--engine", engine)
    command.wait_for("said so far", "stdout")
    (worker,) = children(command.pid)
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
