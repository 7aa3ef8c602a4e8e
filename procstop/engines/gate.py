"""The gate: a tiny module of our own through which a guest passes its stopping points without entering Python.

It is instantiated in the guest's store and provides `checkpoint`, `interrupted` and `progress`. Each counts in a
memory of its own, and calls the host only while the word `attention` is set there. So a point that has nothing to
learn is a call from Wasm to Wasm, some nanoseconds. A thread of the host may set the word, and read the counts, at
any time: the memory has one page for ever, so it never moves, and an aligned word is read and written whole.

This needs an engine that lets go of the GIL while a guest runs; without that, nobody could set the word.
"""

from __future__ import annotations

import ctypes
from typing import Any

MODULE_NAME = "procstop_gate"
"""The gate's name in the frames of a trap: the stack may end there, but the guest's function is at fault."""
POINTS = ("checkpoint", "interrupted", "progress")

TEXT = """
(module $procstop_gate
  (import "procstop" "pass" (func $pass))
  (import "procstop" "ask" (func $ask (result i32)))
  (memory (export "cells") 1 1) ;; as `Cells` has it: attention 0, told 4, passed 8, done 16, total 24
  (func (export "checkpoint")
    (i64.store (i32.const 8) (i64.add (i64.load (i32.const 8)) (i64.const 1)))
    (if (i32.load (i32.const 0)) (then (call $pass))))
  (func (export "interrupted") (result i32)
    (i64.store (i32.const 8) (i64.add (i64.load (i32.const 8)) (i64.const 1)))
    (if (result i32) (i32.load (i32.const 0)) (then (call $ask)) (else (i32.const 0))))
  (func (export "progress") (param $done i64) (param $total i64)
    (i64.store (i32.const 16) (local.get $done))
    (i64.store (i32.const 24) (local.get $total))
    (i32.store (i32.const 4) (i32.const 1))
    (i64.store (i32.const 8) (i64.add (i64.load (i32.const 8)) (i64.const 1)))
    (if (i32.load (i32.const 0)) (then (call $pass)))))
"""
"""Where `BYTES` comes from: wat2wasm, held equal by a test."""

BYTES = bytes.fromhex(
    "0061736d01000000010d036000006000017f60027e7e000220020870726f6373746f70047061737300000870726f6373746f7003"
    "61736b0001030403000102050401010101072f040563656c6c7302000a636865636b706f696e7400020b696e7465727275707465"
    "6400030870726f677265737300040a670319004108410829030042017c3703004100280200044010000b0b1c0041084108290300"
    "42017c3703004100280200047f10010541000b0b2e00411020003703004118200137030041044101360200410841082903004201"
    "7c3703004100280200044010000b0b0035046e616d65000e0d70726f6373746f705f67617465010c02000470617373010361736b"
    "02100104020004646f6e650105746f74616c"
)


class Cells(ctypes.Structure):
    """The gate's memory as the host sees it: `Cells.from_address`. Valid while `keep` holds the store alive.

    The gate alone writes `passed`, the host alone `attention`. `done` and `total` are read one after the other, so
    that a beat may show one call's `done` with the next one's `total`.
    """

    _fields_ = [
        ("attention", ctypes.c_int32),
        ("told", ctypes.c_int32),
        ("passed", ctypes.c_int64),
        ("done", ctypes.c_int64),
        ("total", ctypes.c_int64),
    ]
    attention: int
    told: int
    passed: int
    done: int
    total: int
    keep: Any
