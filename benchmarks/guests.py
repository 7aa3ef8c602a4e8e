"""The guests, the same for every contender, and what they import."""

from __future__ import annotations

import os

BLOCKED_S = 60.0
"""How long the host function of the guest `blocks` sleeps."""
PARTIAL = b"half of the work is done\n"
"""What the guest `prints` writes before it spins."""

TEXTS = {
    "trivial": '(module (func (export "run")))',
    # It tells the host that it runs: "start" is measured by this call.
    "tells": '(module (import "e" "now" (func $now)) (func (export "run") (call $now)))',
    "polite": '(module (import "procstop" "checkpoint" (func $c)) (func (export "run") (loop $l (call $c) (br $l))))',
    "spins": '(module (func (export "run") (loop $l (br $l))))',
    "blocks": '(module (import "e" "block" (func $b)) (func (export "run") (call $b)))',
    "sleeps": '(module (import "e" "rest" (func $r)) (func (export "run") (call $r)))',
    "prints": f"""(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "{PARTIAL.decode().strip()}\\n")
  (func (export "run")
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const {len(PARTIAL)}))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (loop $l (br $l))))""",
}


def write_guests(folder: str) -> None:
    """Make a binary module of every guest in `folder`."""
    from wasmtime import wat2wasm

    for name, text in TEXTS.items():
        with open(os.path.join(folder, f"{name}.wasm"), "wb") as file:
            file.write(bytes(wat2wasm(text)))


def large_module(functions: int) -> str:
    """Return the text of a module that takes a compiler a while: so many functions, each with loops and branches."""
    turns = []
    for n in range(12):
        mixed = f"(i32.mul (i32.add (local.get $a) (i32.const {n})) (i32.xor (local.get $b) (i32.const 7)))"
        again = f"(local.set $b (i32.sub (local.get $b) (i32.const 1))) (br $l{n})"
        test = "(i32.lt_u (local.get $a) (local.get $b))"
        turns.append(f"(loop $l{n} (local.set $a {mixed}) (if {test} (then {again})))")
    body = " ".join(turns)
    many = "\n".join(
        f"(func $f{n} (param $a i32) (param $b i32) (result i32) {body} (i32.add (local.get $a) (i32.const {n})))"
        for n in range(functions)
    )
    return f'(module {many}\n(func (export "run") (drop (call $f0 (i32.const 1) (i32.const 2)))))'
