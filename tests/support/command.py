"""Run the command `procstop` as a user does, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.places import ROOT, WAIT_S
from support.watching import wait_until


@dataclass(frozen=True)
class Answer:
    """What a command that is over said."""

    code: int
    stdout: str
    stderr: str


class Started:
    """A command that runs. What it says is read all the time, so that it never waits for us."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self.popen = popen
        self.pid = popen.pid
        self._said = {"stdout": bytearray(), "stderr": bytearray()}
        self._readers = [
            threading.Thread(target=self._read, args=(name, stream))
            for name, stream in (("stdout", popen.stdout), ("stderr", popen.stderr))
            if stream is not None
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str, stream: Any) -> None:
        with stream:
            while data := stream.read1(65536):
                self._said[name] += data

    def said(self, name: str = "stderr") -> str:
        """Return what it has said so far."""
        return self._said[name].decode("utf-8", "replace")

    def wait_for(self, text: str, name: str = "stderr", count: int = 1) -> None:
        """Wait until it has said a text so many times."""
        wait_until(lambda: self.said(name).count(text) >= count or self._is_over(), f"it says {text!r}")
        assert self.said(name).count(text) >= count, f"it said {self.said('stdout')!r}, {self.said('stderr')!r}"

    def signal(self, number: int) -> None:
        """Send a signal to the command, and to nothing else."""
        self.popen.send_signal(number)

    def end(self) -> Answer:
        """Wait until it is over."""
        code = self.popen.wait(WAIT_S)
        for reader in self._readers:
            reader.join(WAIT_S)
            assert not reader.is_alive(), "somebody else holds its output open"
        return Answer(code, self.said("stdout"), self.said("stderr"))

    def close(self) -> None:
        """Kill it if it still runs."""
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        for reader in self._readers:
            reader.join(WAIT_S)

    def _is_over(self) -> bool:
        return not any(reader.is_alive() for reader in self._readers)


class Procstop:
    """Starts commands in a directory; at the end of its block none of them runs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._started: list[Started] = []

    def __enter__(self) -> Procstop:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._started:
            one.close()

    def start(self, *args: object, env: Mapping[str, str] | None = None, **options: Any) -> Started:
        """Start `procstop ARGS...` without waiting."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        popen = subprocess.Popen(
            [sys.executable, "-m", "procstop", *map(str, args)],
            cwd=self.directory,
            env={**self.environment, **(env or {})},
            **options,
        )
        started = Started(popen)
        self._started.append(started)
        return started

    def __call__(self, *args: object, **options: Any) -> Answer:
        """Run `procstop ARGS...` to its end."""
        return self.start(*args, **options).end()

    def report(self, name: str = "report.json") -> dict[str, Any]:
        """Read a report that a run wrote in the directory."""
        data: dict[str, Any] = json.loads((self.directory / name).read_text())
        return data

    def job(self, text: str, name: str = "job.toml") -> Path:
        """Write a job file."""
        path = self.directory / name
        path.write_text(text)
        return path


def attempt(report: Mapping[str, Any], task: str | None = None) -> dict[str, Any]:
    """Return the last attempt of a task in a report; of the only task if none is named."""
    tasks = [one for one in report["tasks"] if task in (None, one["task"])]
    assert len(tasks) == 1, report
    last: dict[str, Any] = tasks[0]["attempts"][-1]
    return last
