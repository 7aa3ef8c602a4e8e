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
from procstop.stopping import Flag

# A stack exhaustion makes a text of 14.6 MB, one line for each frame.
_READ_CHARS = 2000
_FRAME = re.compile(r"\n\s*at (.*?) \([^\n]*\[(\d+)\]:0x")


class WasmerEngine:
    """One module in wasmer."""

    name = "wasmer"

    def __init__(self) -> None:
        # Without a compiler, which only `compile` needs: a fork server never makes one.
        self._engine = wasmer_engine.Universal()
        self._store = wasmer.Store(self._engine)
        self._module: Any = None
        self._instance: Any = None
        self._memory: Any = None

    def compile(self, data: bytes) -> None:
        """Compile a module; raise `EngineError` where wasmer cannot."""
        self._engine = wasmer_engine.Universal(Compiler)
        self._store = wasmer.Store(self._engine)
        try:
            self._module = wasmer.Module(self._store, data)
        except RuntimeError as error:
            raise EngineError(f"wasmer cannot compile it: {_one_line(error)}") from None
        except BaseException as error:
            _raise_panic(error, "compiling it")

    def serialize(self) -> bytes:
        """Return the compiled module as an artifact."""
        return bytes(self._module.serialize())

    def load(self, artifact: bytes) -> None:
        """Take a compiled module; raise `EngineError` where wasmer refuses it."""
        # An engine keeps the code of its modules for as long as it lives; with one for each, a module can be let go of.
        self._engine = wasmer_engine.Universal()
        self._store = wasmer.Store(self._engine)
        try:
            self._module = wasmer.Module.deserialize(self._store, artifact)
        except RuntimeError as error:
            raise EngineError(f"wasmer cannot load it: {_one_line(error)}") from None
        except BaseException as error:
            _raise_panic(error, "loading it")

    def again(self) -> WasmerEngine:
        """Return an adapter for another instance of the same module, in a store of its own."""
        other = WasmerEngine.__new__(WasmerEngine)
        other._engine, other._module = self._engine, self._module
        other._store = wasmer.Store(self._engine)
        other._instance = other._memory = None
        return other

    def instantiate(self, functions: Sequence[HostFunction], flag: Flag) -> None:
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

    def cap_memory(self, most: int) -> None:
        """Do nothing: wasmer has no limit of its own, the worker's holds."""

    def is_out_of_memory(self, names: Sequence[str]) -> bool:
        """Tell whether one of these exported memories cannot get a sixteenth more, though its module says it may."""
        return self._instance is not None and any(map(self._is_full, names))

    def _is_full(self, name: str) -> bool:
        memory = getattr(self._instance.exports, name)
        if not isinstance(memory, wasmer.Memory):
            return False
        most = memory.type.maximum
        if most is not None and memory.size >= most:
            return False
        # Programs ask for more than a page at a time.
        step = max(1, memory.size // 16)
        try:
            memory.grow(step if most is None else min(step, most - memory.size))
        except RuntimeError:
            return True
        return False

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
