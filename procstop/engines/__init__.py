"""One small protocol over two engines. Only a worker loads an engine; the supervisor never does.

A worker compiles, instantiates (which runs a start function, so guest code) and calls, in this order and in
one thread. Host functions get and return plain numbers; whatever one raises comes out of `instantiate` or `call`
as the same object. A trap of the guest's own is a `GuestTrap` with the same words on every engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from procstop.errors import EngineError
from procstop.model import Value
from procstop.module import FuncType


class GuestTrap(Exception):
    """The guest trapped; the text names the reason and the function."""


class HostFunction(NamedTuple):
    """What one imported function is bound to. i32 and i64 arrive as signed integers."""

    module: str
    name: str
    type: FuncType
    call: Callable[..., Any]


class Engine(Protocol):
    """One module in one engine."""

    name: str

    def compile(self, data: bytes) -> None:
        """Compile a module; raise `EngineError` where it cannot."""

    def instantiate(self, functions: Sequence[HostFunction]) -> None:
        """Make the instance, with one host function for each import in the module's order."""

    def call(self, name: str, type: FuncType, args: Sequence[Value]) -> tuple[Value, ...]:
        """Call an exported function with arguments of its own types; return its results."""

    def memory(self) -> memoryview:
        """Return the memory exported as "memory" as it is now; it may grow or move at the next guest code."""


def load(name: str) -> Engine:
    """Import an engine and return an adapter for one module; raise `EngineError` where it is not there."""
    try:
        if name == "wasmer":
            from procstop.engines.wasmer import WasmerEngine

            return WasmerEngine()
        if name == "wasmtime":
            from procstop.engines.wasmtime import WasmtimeEngine

            return WasmtimeEngine()
    except ImportError as error:
        raise EngineError(f"{name} cannot be imported: {error}") from error
    raise EngineError(f"there is no engine {name!r}")
