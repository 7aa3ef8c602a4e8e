"""wasmer 1.1.0 with its Cranelift compiler behind the `Engine` protocol.

Guest code and compiling hold the GIL: nothing of Python runs until the guest calls a host function.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import wasmer
from wasmer import engine as wasmer_engine
from wasmer_compiler_cranelift import Compiler

from procstop.engines import GuestTrap, HostFunction
from procstop.engines.traps import trap_reason, trap_text
from procstop.errors import EngineError, InternalError
from procstop.model import Value
from procstop.module import FuncType

# A stack exhaustion makes a text of 14.6 MB, one line for each frame.
_READ_CHARS = 2000
_FRAME = re.compile(r"\n\s*at (.*?) \([^\n]*\[(\d+)\]:0x")


class WasmerEngine:
    """One module in wasmer."""

    name = "wasmer"

    def __init__(self) -> None:
        self._store = wasmer.Store(wasmer_engine.Universal(Compiler))
        self._module: Any = None
        self._instance: Any = None
        self._memory: Any = None

    def compile(self, data: bytes) -> None:
        """Compile a module; raise `EngineError` where wasmer cannot."""
        try:
            self._module = wasmer.Module(self._store, data)
        except RuntimeError as error:
            raise EngineError(f"wasmer cannot compile it: {_one_line(error)}") from None
        except BaseException as error:
            _raise_panic(error, "compiling it")

    def instantiate(self, functions: Sequence[HostFunction]) -> None:
        """Make the instance and run a start function."""
        if self._module is None:
            raise InternalError("instantiate before compile")
        imports = wasmer.ImportObject()
        spaces: dict[str, dict[str, Any]] = {}
        bound: dict[tuple[str, str], FuncType] = {}
        for function in functions:
            key = (function.module, function.name)
            if bound.setdefault(key, function.type) != function.type:
                raise EngineError(f'wasmer cannot import "{".".join(key)}" with two types; wasmtime can')
            type = wasmer.FunctionType(_kinds(function.type.params), _kinds(function.type.results))
            space = spaces.setdefault(function.module, {})
            space[function.name] = wasmer.Function(self._store, function.call, type)
        for module, names in spaces.items():
            imports.register(module, names)
        self._instance = self._run(lambda: wasmer.Instance(self._module, imports), linking=True)

    def call(self, name: str, type: FuncType, args: Sequence[Value]) -> tuple[Value, ...]:
        """Call an exported function; return its results."""
        function = getattr(self._instance.exports, name)
        result = self._run(lambda: function(*args), linking=False)
        if not type.results:
            return ()
        return tuple(result) if len(type.results) > 1 else (result,)

    def memory(self) -> memoryview:
        """Return the exported memory as it is now."""
        if self._memory is None:
            if self._instance is None:
                raise EngineError(
                    "wasmer gives no memory to a host function that a start function calls; wasmtime does"
                )
            try:
                found = self._instance.exports.memory
            except LookupError:
                found = None
            if not isinstance(found, wasmer.Memory):
                raise EngineError('the module exports no memory named "memory"')
            self._memory = found
        return memoryview(self._memory.buffer)

    def _run(self, guest: Callable[[], Any], *, linking: bool) -> Any:
        """Run guest code; raise `GuestTrap` for a trap. What a host function raised comes out by itself."""
        try:
            return guest()
        except RuntimeError as error:
            text = str(error)[:_READ_CHARS]
            if linking and ("Error while importing" in text or "incompatible import" in text):
                raise EngineError(f"wasmer cannot instantiate it: {_one_line(error)}") from None
            frame = _FRAME.search(text)
            name = frame.group(1) if frame else None
            name = None if name in (None, "<unnamed>") else name
            reason = trap_reason(text.split("\n")[0])
            raise GuestTrap(trap_text(reason, int(frame.group(2)) if frame else None, name)) from None
        except BaseException as error:
            _raise_panic(error, "running it")


def _kinds(names: Sequence[str]) -> list[Any]:
    kinds = {"i32": wasmer.Type.I32, "i64": wasmer.Type.I64, "f32": wasmer.Type.F32, "f64": wasmer.Type.F64}
    try:
        return [kinds[name] for name in names]
    except KeyError as error:
        raise EngineError(f"a host function cannot take or return {error.args[0]}") from None


def _raise_panic(error: BaseException, doing: str) -> None:
    """Raise a panic of the engine as `EngineError`, and anything else as it is."""
    if type(error).__name__ == "PanicException":
        raise EngineError(f"wasmer panicked while {doing}: {_one_line(error)}") from None
    raise error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error)[:_READ_CHARS].split())[:500]
