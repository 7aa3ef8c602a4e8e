"""Time one engine's empty host function and its checkpoint, in turn; print nanoseconds for each call as JSON.

Usage: checks.py ENGINE ROUNDS
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable

from procstop.engines import HostFunction, load
from procstop.model import StrategyKind
from procstop.module import FuncType
from procstop.stopping import TICK_S, StopFlag

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

    listener = threading.Thread(target=listen)
    listener.start()
    empty, checkpoint = runner(name, lambda: None), runner(name, flag.checkpoint)
    figures: dict[str, list[float]] = {"empty": [], "checkpoint": []}
    for _ in range(rounds + 2):
        figures["empty"].append(empty())
        figures["checkpoint"].append(checkpoint())
    over.set()
    listener.join()
    # The first rounds warm up, and the flag is still in its careful mode.
    print(json.dumps({key: values[2:] for key, values in figures.items()}))


def runner(name: str, call: Callable[[], None]) -> Callable[[], float]:
    """Return a function that runs the loop once and returns nanoseconds for each call."""
    engine = load(name)
    engine.compile(to_bytes(name))
    engine.instantiate([HostFunction("e", "c", NOTHING, call)])

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
