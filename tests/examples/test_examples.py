"""Every job and every script under examples/ runs and ends as its README says, on every engine.

Each test runs a copy, so that what an example writes does not land in the repository.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.command import Procstop, attempt
from support.places import ROOT, WAIT_S

EXAMPLES = ROOT / "examples"


@dataclass(frozen=True)
class Ran:
    """A job that was run: its report, and what its guests wrote to standard output."""

    report: dict[str, Any]
    stdout: str
    directory: Path

    def __getitem__(self, task: str) -> dict[str, Any]:
        return attempt(self.report, task)

    def lines(self, task: str) -> list[str]:
        prefix = f"{task} | "
        return [line[len(prefix) :] for line in self.stdout.splitlines() if line.startswith(prefix)]

    def outcomes(self) -> dict[str, str]:
        return {task["task"]: task["outcome"] for task in self.report["tasks"]}


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """A copy of examples/."""
    return Path(shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("words.txt")))


@pytest.fixture
def run_job(examples: Path, tmp_path: Path) -> Iterator[Callable[..., Ran]]:
    """Run the job of an example to its end; its exit code must be 0."""
    with Procstop(tmp_path) as command:

        def run(folder: str, *options: str) -> Ran:
            answer = command("run", examples / folder / "job.toml", "--report", "report.json", *options)
            assert answer.code == 0, answer.stderr
            return Ran(command.report(), answer.stdout, examples / folder)

        yield run


def run_script(examples: Path, name: str, engine: str) -> list[str]:
    """Run a script that leaves the choice of the engine to procstop; return the lines that it printed."""
    paths = [str(ROOT)]
    if engine == "wasmtime":
        # A wasmer that cannot be imported, as on systems that have none: the choice falls on wasmtime.
        hidden = examples.parent / "hidden" / "wasmer"
        hidden.mkdir(parents=True)
        (hidden / "__init__.py").write_text("raise ImportError('hidden by the test')\n")
        paths.insert(0, str(hidden.parent))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(examples / "python" / name)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        cwd=examples.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def was_interrupted(attempt: dict[str, Any]) -> int:
    """Check that it left at the stopping point that it passed last, by its time limit; return which one."""
    assert (attempt["outcome"], attempt["reason"], attempt["rung"]) == ("interrupted", "time_limit", "interrupt")
    assert attempt["wait"] == {"exit": 0}
    points = attempt["stopping_points"]
    assert points["stopped_at"] == points["passed"] >= 1
    at: int = points["stopped_at"]
    return at


def was_terminated(attempt: dict[str, Any]) -> None:
    assert (attempt["outcome"], attempt["reason"], attempt["rung"]) == ("terminated", "time_limit", "terminate")
    assert attempt["wait"] == {"signal": signal.SIGTERM}
    assert attempt["stopping_points"]["stopped_at"] is None


def primes_below(end: int) -> int:
    is_prime = bytearray(b"\0\0" + b"\1" * max(0, end - 2))[:end]
    for n in range(2, int(end**0.5) + 1):
        if is_prime[n]:
            is_prime[n * n :: n] = bytes(len(range(n * n, end, n)))
    return sum(is_prime)


def check_demo(ran: Ran) -> None:
    assert ran.outcomes() == {
        "divide": "completed",
        "words": "completed",
        "exit-early": "exited",
        "early-exit": "exited",
        "mandelbrot": "completed",
        "primes": "interrupted",
        "runaway": "killed",
    }
    assert ran["divide"]["values"] == [142, 6]
    assert ran.lines("words") == ['144 words, 74 of them different; "the" comes first with 17']
    written = (ran.directory / "out" / "words.txt").read_text().splitlines()
    assert written[:3] == ["17 the", "8 and", "8 ship"] and len(written) == 74
    assert [path.name for path in (ran.directory / "data").iterdir()] == ["harbour.txt"]
    assert len(ran.lines("mandelbrot")) == ran["mandelbrot"]["stopping_points"]["passed"] == 17
    # It asks before each thousand, and hands back the primes below the one at which it was told to stop.
    asked = was_interrupted(ran["primes"])
    assert ran["primes"]["partial"] == [primes_below(1000 * (asked - 1))]
    runaway = ran["runaway"]
    assert (runaway["reason"], runaway["rung"], runaway["wait"]) == ("time_limit", "kill", {"signal": signal.SIGKILL})


def test_demo(run_job: Callable[..., Ran], engine: str) -> None:
    ran = run_job("demo", "--engine", engine)
    check_demo(ran)
    assert {task["attempts"][0]["engine"] for task in ran.report["tasks"]} == {engine}


def test_demo_as_make_demo_runs_it(run_job: Callable[..., Ran]) -> None:
    check_demo(run_job("demo"))


def test_early_exit(run_job: Callable[..., Ran], engine: str) -> None:
    ran = run_job("early-exit", "--engine", engine)

    def said(task: str) -> tuple[Any, ...]:
        one = ran[task]
        return one["outcome"], one["values"], one["exit_code"], one["message"]

    assert {task: said(task) for task in ran.outcomes()} == {
        "interrupt-execution": ("exited", None, None, None),
        "early-exit": ("exited", None, None, None),
        "error-with-a-code": ("exited", None, 1, None),
        "error-with-code-and-message": ("exited", None, 1, "early exit asked for"),
        "error-with-a-message": ("host_error", None, None, "RuntimeError: oops"),
        "bound-to-exit": ("exited", None, 7, None),
        "fails-with-a-message": ("exited", None, None, "no number can be divided by 0"),
        "divides": ("completed", [3], None, None),
        "bound-to-checkpoint": ("completed", [8], None, None),
    }


def test_interruptibility(run_job: Callable[..., Ran], engine: str) -> None:
    ran = run_job("interruptibility", "--engine", engine)
    was_terminated(ran["none"])
    assert ran["none"]["stopping_points"]["passed"] == 0

    def steps(task: str, count: int) -> list[str]:
        assert count < 100
        return [f"step {step} of 100" for step in range(1, count + 1)]

    # Every step that was begun was finished: as many lines as checks.
    assert ran.lines("basic") == steps("basic", was_interrupted(ran["basic"]))

    checks = was_interrupted(ran["fine"])
    assert checks < 1000
    assert ran["fine"]["partial"] == [1000 * checks]

    iterations = was_interrupted(ran["fine-from-outside"])
    assert iterations % 1000 == 0 and iterations < 1_000_000

    iterations = was_interrupted(ran["next-3"])
    assert iterations % 1000 == 3

    last = was_interrupted(ran["next-2-steps"])
    assert last >= 3
    assert ran.lines("next-2-steps") == steps("next-2-steps", last)

    was_terminated(ran["ignore"])
    assert ran["ignore"]["phases_s"]["interrupt"] is None


def test_languages(run_job: Callable[..., Ran], engine: str) -> None:
    ran = run_job("languages", "--engine", engine)
    assert ran.lines("c") == ["837799 takes 524 steps, more than any other below 1000000"]
    assert ran["c"]["stopping_points"]["passed"] == 99
    world = ran.lines("rust")
    assert [line.count("#") for line in world] == [1, 1, 3] + 7 * [0]
    assert ran["rust"]["stopping_points"]["passed"] == 40
    assert ran["assemblyscript"]["values"] == [3.1416536]
    assert ran["assemblyscript"]["stopping_points"]["passed"] == 100
    for language in ("c", "rust", "assemblyscript"):
        was_interrupted(ran[f"{language}-without-end"])
    assert ran["assemblyscript-without-end"]["partial"] == [pytest.approx(3.14, abs=0.01)]
    assert ran["c-without-argument"]["outcome"] == "exited"
    assert ran["c-without-argument"]["message"] == "give one argument: where to end, 0 for never"


def test_host(run_job: Callable[..., Ran], engine: str) -> None:
    ran = run_job("host", "--engine", engine)
    assert ran["total"]["values"] == [200]
    assert ran.lines("order") == ["one loaf, please", "ONE LOAF, PLEASE"]
    assert ran["no-such-article"]["outcome"] == "host_error"
    assert ran["no-such-article"]["message"] == "ValueError: there is no article 13"
    was_interrupted(ran["search"])
    assert not (ran.directory / "__pycache__").exists()


PRINTED = {
    "build_a_job.py": [
        "cheap completed (160,) None",
        "unknown host_error None ValueError: there is no article 8",
        "endless interrupted None None",
        "all as expected",
    ],
    "stop_from_a_thread.py": ["interrupted because of stop_command on the rung interrupt"],
    "with_asyncio.py": ["to 1000 completed (1000,)", "to 2000 completed (2000,)", "endless was stopped"],
}


@pytest.mark.parametrize("script", sorted(PRINTED))
def test_script(examples: Path, script: str, engine: str) -> None:
    assert run_script(examples, script, engine) == PRINTED[script]
