"""Everyone who is measured, in the order in which they are named.

Each has a module of its own. Imports of what may not be installed wait until a contender is asked whether it is here.
"""

from __future__ import annotations

from benchmarks.alternatives.executor import Executor
from benchmarks.alternatives.extism_sdk import Extism
from benchmarks.alternatives.gnu_parallel import GnuParallel
from benchmarks.alternatives.pebble import Pebble
from benchmarks.alternatives.procstop import Procstop
from benchmarks.alternatives.timeout import Timeout
from benchmarks.alternatives.wasmtime_process import WasmtimeProcess
from benchmarks.contender import Contender


def contenders() -> dict[str, Contender]:
    """Return them by name: procstop in its ways on each engine, then the others."""
    everyone: list[Contender] = [
        Procstop("wasmer"),
        Procstop("wasmtime"),
        Procstop("wasmer", "reused"),
        Procstop("wasmtime", "reused"),
        Procstop("wasmer", "fresh"),
        Procstop("wasmtime", "fresh"),
        Pebble(),
        Pebble(new_store=True),
        Pebble(max_tasks=1),
        Executor(),
        GnuParallel(),
        Extism(),
        WasmtimeProcess(),
        Timeout(),
    ]
    return {one.name: one for one in everyone}
