"""Extism's Python SDK with timeout_ms: the guest runs in this very process, on the engine that Extism brings along.

A compiled plugin is kept, and each task gets an instance of its own, as each gets one everywhere else.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.alternatives.pools import redirected
from benchmarks.contender import CONCURRENCY, DEADLINE_S, LIMIT_S, Contender, NotMeasured, Place
from benchmarks.guests import BLOCKED_S, PARTIAL

_WARM_UP = 5


class Extism(Contender):
    """`Plugin(...).call`, from two threads where two tasks run side by side."""

    name = "Extism"
    what = "`extism.Plugin` made of a compiled plugin for each task, manifest with `timeout_ms`; no process of its own"
    install = "pip install extism"

    def __init__(self) -> None:
        self._compiled: dict[tuple[str, float], Any] = {}
        self._told: list[int] = []
        self._functions: list[Any] | None = None

    def why_not(self) -> str | None:
        """See `Contender`."""
        return None if importlib.util.find_spec("extism") else "extism is not installed"

    def call(self, place: Place, guest: str, limit_s: float) -> bool:
        """Run a guest in a new instance; return whether it ran into its limit."""
        sdk = importlib.import_module("extism.extism")
        key = (guest, limit_s)
        if key not in self._compiled:
            with open(place.guest(guest), "rb") as file:
                manifest = {"wasm": [{"data": file.read()}], "timeout_ms": int(limit_s * 1000)}
            self._compiled[key] = sdk.CompiledPlugin(manifest, wasi=guest == "prints", functions=self.functions())
        with sdk.Plugin(self._compiled[key]) as plugin:
            try:
                plugin.call("run", b"")
            except sdk.Error as error:
                if "timeout" not in str(error):
                    raise
                return True
        return False

    def functions(self) -> list[Any]:
        """Return the host functions of the guests."""
        if self._functions is None:
            sdk = importlib.import_module("extism")
            bodies: dict[tuple[str, str], Any] = {
                ("e", "now"): lambda *_: self._told.append(time.monotonic_ns()),
                ("e", "block"): lambda *_: time.sleep(BLOCKED_S),
                ("procstop", "checkpoint"): lambda *_: None,
            }
            self._functions = [
                sdk.host_fn(name=name, namespace=module, signature=([], []))(body)
                for (module, name), body in bodies.items()
            ]
        return self._functions

    def many(self, place: Place, count: int) -> float:
        """See `Contender`."""
        self.call(place, "trivial", LIMIT_S)
        with ThreadPoolExecutor(CONCURRENCY) as threads:
            began = time.monotonic()
            list(threads.map(lambda _: self.call(place, "trivial", LIMIT_S), range(count)))
            return time.monotonic() - began

    def starts(self, place: Place, count: int) -> list[float]:
        """See `Contender`."""
        found = []
        for _ in range(count + _WARM_UP):
            began = time.monotonic_ns()
            self.call(place, "tells", LIMIT_S)
            found.append((self._told[-1] - began) / 1e9)
        return found[_WARM_UP:]

    def lives(self, place: Place, count: int) -> list[float]:
        """See `Contender`."""
        found = []
        for _ in range(count + _WARM_UP):
            began = time.monotonic()
            self.call(place, "trivial", LIMIT_S)
            found.append(time.monotonic() - began)
        return found[_WARM_UP:]

    def stop(self, place: Place, guest: str, *, grace: bool) -> float | None:
        """See `Contender`."""
        answers: list[tuple[bool, float]] = []

        def work() -> None:
            stopped = self.call(place, guest, DEADLINE_S)
            answers.append((stopped, time.monotonic()))

        began = time.monotonic()
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(DEADLINE_S + place.patience_s)
        if not answers:
            return None
        stopped, done = answers[0]
        if not stopped:
            raise NotMeasured("a guest that never ends came to an end")
        return done - began - DEADLINE_S

    def spin(self, place: Place, count: int) -> set[int]:
        """See `Contender`."""
        for _ in range(count):
            threading.Thread(target=self.call, args=(place, "spins", 600.0), daemon=True).start()
        time.sleep(DEADLINE_S)
        return {os.getpid()}

    def keeps_output(self, place: Place) -> tuple[bool | None, str]:
        """See `Contender`; a plugin's standard output is shown only if this variable is set."""
        os.environ["EXTISM_ENABLE_WASI_OUTPUT"] = "1"
        with redirected(place) as path:
            stopped = self.stop(place, "prints", grace=False) is not None
            with open(path, "rb") as file:
                there = PARTIAL in file.read()
        return (there if stopped else None), "among the parent's own output" if there else ""
