"""Time one engine's empty host function and its checkpoint, in turn; print nanoseconds for each call as JSON.

Both are bound as a worker binds them, but that the empty function is not wrapped as a user's would be: nothing that
enters Python can cost less. Usage: checks.py ENGINE ROUNDS
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from procstop.engines import HostFunction, load
from procstop.model import StrategyKind
from procstop.module import FuncType
from procstop.stopping import TICK_S, StopFlag, guest_functions
from procstop.worker.channel import SWITCH_INTERVAL_S

CALLS = 300_000
WAT = """(module (import "e" "c" (func $c)) (func (export "run")
  (local $n i32) (local.set $n (i32.const 300000))
  (loop $l (call $c) (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))"""
NOTHING = FuncType((), ())


def main() -> None:
    """Measure both in turn, as many rounds as asked for."""
    name, rounds = sys.argv[1], int(sys.argv[2])
    flag = StopFlag(StrategyKind.FINISH_CURRENT)
    over = threading.Event()

    def listen() -> None:
        # As a worker's listener does: it wakes now and then, and takes the GIL for it.
        while not over.wait(TICK_S):
            flag.tick(0.0)

    sys.setswitchinterval(SWITCH_INTERVAL_S)
    listener = threading.Thread(target=listen)
    listener.start()
    point = guest_functions(flag, lambda pointer, length: b"")["checkpoint"]
    empty, checkpoint = runner(name, flag, lambda: None), runner(name, flag, point, "checkpoint")
    figures: dict[str, list[float]] = {"empty": [], "checkpoint": []}
    for _ in range(rounds + 2):
        figures["empty"].append(empty())
        figures["checkpoint"].append(checkpoint())
    over.set()
    listener.join()
    # The first rounds warm up, and the flag begins in its careful mode.
    print(json.dumps({key: values[2:] for key, values in figures.items()}))


def runner(name: str, flag: StopFlag, call: Callable[..., Any], point: str | None = None) -> Callable[[], float]:
    """Return a function that runs the loop once and returns nanoseconds for each call."""
    engine = load(name)
    engine.compile(to_bytes(name))
    engine.instantiate([HostFunction("e", "c", NOTHING, call, point)], flag)

    def run() -> float:
        began = time.perf_counter_ns()
        engine.call("run", NOTHING, ())
        return (time.perf_counter_ns() - began) / CALLS

    return run


def to_bytes(name: str) -> bytes:
    """Turn the text into a module with the engine at hand."""
    if name == "wasmer":
        from wasmer import wat2wasm
    else:
        from wasmtime import wat2wasm
    return bytes(wat2wasm(WAT))


if __name__ == "__main__":
    main()
