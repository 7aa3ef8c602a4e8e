"""What is known of engines without loading one: traps in common words, and which module each can run."""

from __future__ import annotations

import pytest

from procstop.engines import load
from procstop.engines.abilities import FEATURES, PREFERENCE, why_not
from procstop.engines.traps import trap_reason, trap_text
from procstop.errors import EngineError
from procstop.linking import Link
from procstop.module import FuncType, Import, ModuleInfo

NONE = FuncType((), ())
ONE = FuncType(("i32",), ())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("unreachable", "unreachable"),
        ("wasm trap: wasm `unreachable` instruction executed", "unreachable"),
        ("call stack exhausted", "call stack exhausted"),
        ("wasm trap: call stack exhausted", "call stack exhausted"),
        ("out of bounds memory access", "out of bounds memory access"),
        ("wasm trap: out of bounds memory access", "out of bounds memory access"),
        ("undefined element: out of bounds table access", "out of bounds table access"),
        ("wasm trap: undefined element: out of bounds table access", "out of bounds table access"),
        ("uninitialized element", "indirect call to null"),
        ("indirect call to null", "indirect call to null"),
        ("wasm trap: indirect call type mismatch", "indirect call type mismatch"),
        ("indirect call signature mismatch", "indirect call type mismatch"),
        ("integer divide by zero", "integer divide by zero"),
        ("wasm trap: integer overflow", "integer overflow"),
        ("wasm trap: invalid conversion to integer", "invalid conversion to integer"),
        ("unaligned atomic", "unaligned atomic"),
        ("something new\nwith a trace", "something new"),
        ("x" * 9000, "x" * 500),
        ("", "trap"),
        (" \n ", "trap"),
    ],
)
def test_traps_have_one_spelling(text: str, reason: str) -> None:
    assert trap_reason(text) == reason


@pytest.mark.parametrize(
    ("function", "name", "text"),
    [
        (None, None, "unreachable"),
        (None, "run", "unreachable"),
        (3, None, "unreachable, in function 3"),
        (3, "", "unreachable, in function 3"),
        (0, "run", 'unreachable, in function 0 "run"'),
    ],
)
def test_trap_says_where(function: int | None, name: str | None, text: str) -> None:
    assert trap_text("unreachable", function, name) == text


def info(*features: str, start: int | None = None) -> ModuleInfo:
    return ModuleInfo((), {}, start, (), frozenset(features), None, 8)


def link_of(provider: str, function: str = "f", type: FuncType = NONE) -> Link:
    return Link(Import("env", "f", "func", type, str(type)), provider, function)


def test_every_engine_has_its_features() -> None:
    assert set(FEATURES) == set(PREFERENCE)


@pytest.mark.parametrize("engine", PREFERENCE)
def test_plain_module_runs_everywhere(engine: str) -> None:
    assert why_not(engine, info("multi-value", "simd", "unknown-opcode"), [link_of("host")]) is None


def test_what_is_missing_is_named() -> None:
    assert why_not("wasmer", info("tail-call", "simd", "gc"), []) == "it does not have gc, tail-call"
    assert why_not("wasmtime", info("tail-call", "simd", "gc"), []) is None
    assert why_not("wasmtime", info("legacy-exceptions"), []) == "it does not have legacy-exceptions"


def test_one_name_with_two_types_is_for_wasmtime_only() -> None:
    twice = [link_of("host"), link_of("host", type=ONE)]
    assert why_not("wasmer", info(), twice) == 'it cannot import "env.f" with two types'
    assert why_not("wasmtime", info(), twice) is None
    assert why_not("wasmer", info(), [link_of("host"), link_of("host")]) is None


@pytest.mark.parametrize(
    ("provider", "function", "start", "runs"),
    [
        ("wasi", "fd_write", 0, False),
        ("procstop", "fail", 0, False),
        ("procstop", "checkpoint", 0, True),
        ("host", "f", 0, True),
        ("wasi", "fd_write", None, True),
        ("procstop", "fail", None, True),
    ],
)
def test_start_function_that_needs_its_memory_is_for_wasmtime_only(
    provider: str, function: str, start: int | None, runs: bool
) -> None:
    links = [link_of(provider, function)]
    assert (why_not("wasmer", info(start=start), links) is None) is runs
    assert why_not("wasmtime", info(start=start), links) is None


def test_unknown_engine_is_an_engine_error() -> None:
    with pytest.raises(EngineError, match="there is no engine 'v8'"):
        load("v8")
