"""wasmtime in a Python process for each task: `subprocess.run` with a timeout, which kills that process."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import threading

from benchmarks.alternatives.commands import Command


class WasmtimeProcess(Command):
    """`subprocess.run(..., timeout=)`, on wasmtime."""

    name = "wasmtime in a subprocess"
    what = "`subprocess.run(timeout=)` of a Python script that runs the guest in wasmtime; a SIGKILL at the timeout"
    install = "pip install wasmtime"
    engine = "wasmtime"

    def why_not(self) -> str | None:
        """See `Contender`."""
        return None if importlib.util.find_spec("wasmtime") else "wasmtime is not installed"

    def call(self, command: list[str], limit_s: float, *, grace: bool = False) -> tuple[bool, bytes]:
        """See `Command`."""
        try:
            done = subprocess.run(command, capture_output=True, timeout=limit_s, check=True)
        except subprocess.TimeoutExpired as error:
            return True, error.output or b""
        return False, done.stdout

    def begin(self, command: list[str]) -> int:
        """See `Command`."""
        threading.Thread(target=self.call, args=(command, 600.0), daemon=True).start()
        return os.getpid()
