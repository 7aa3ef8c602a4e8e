"""One small protocol over two engines. The supervisor never loads an engine; workers, fork servers and compilers do.

A worker compiles or loads, instantiates (which runs a start function, so guest code) and calls, in this order and in
one thread. A compiler serializes what it compiled. A fork server loads and never compiles: a child of a process that
has compiled hangs when it compiles too. Host functions get and return plain numbers; whatever one raises comes out of
`instantiate` or `call` as the same object. A trap of the guest's own is a `GuestTrap` with the same words on every
engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from procstop.errors import EngineError
from procstop.model import Value
from procstop.module import FuncType
from procstop.stopping import Flag


class GuestTrap(Exception):
    """The guest trapped; the text names the reason and the function."""


class HostFunction(NamedTuple):
    """What one imported function is bound to. i32 and i64 arrive as signed integers.

    `point` names the stopping point that it is, if it is one of procstop's own: an engine with a gate provides it.
    """

    module: str
    name: str
    type: FuncType
    call: Callable[..., Any]
    point: str | None = None


class Engine(Protocol):
    """One module in one engine."""

    name: str

    def compile(self, data: bytes) -> None:
        """Compile a module; raise `EngineError` where it cannot."""

    def serialize(self) -> bytes:
        """Return the compiled module as an artifact for `load`."""

    def load(self, artifact: bytes) -> None:
        """Take a compiled module; raise `EngineError` where the engine refuses it.

        An artifact that was changed can crash the process: whoever calls this has checked its seal.
        """

    def again(self) -> Engine:
        """Return an adapter for another instance of the same compiled module, in a store of its own."""

    def instantiate(self, functions: Sequence[HostFunction], flag: Flag) -> None:
        """Make the instance, with one host function for each import in the module's order.

        `flag` is the one whose stopping points are among them.
        """

    def call(self, name: str, type: FuncType, args: Sequence[Value]) -> tuple[Value, ...]:
        """Call an exported function with arguments of its own types; return its results."""

    def cap_memory(self, most: int) -> None:
        """Let the next instance's memories and tables have so many bytes together, as far as the engine can tell."""

    def is_out_of_memory(self, names: Sequence[str]) -> bool:
        """Tell whether one of these exported memories cannot get a sixteenth more, though its module says it may."""

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
