"""wasmtime behind the `Engine` protocol.

Host functions are bound through the C API's unchecked calls: the Python binding's own way costs 1.5 µs for a call
and 3 µs more for each argument. The binding is used for everything that is not on that path. Stopping points are
provided by a gate, so that most of them are no host calls at all.
"""

from __future__ import annotations

import ctypes
import resource
import struct
from collections.abc import Callable, Sequence
from typing import Any

import wasmtime
from wasmtime import _ffi as ffi  # type: ignore[attr-defined,unused-ignore]

from procstop.engines import GuestTrap, HostFunction, gate
from procstop.engines.traps import trap_reason, trap_text
from procstop.errors import EngineError, InternalError
from procstop.model import Value
from procstop.module import FuncType
from procstop.stopping import Flag, StopFlag

_MOST_STACK = 8 * 1024 * 1024
_LENGTH_BYTES = 4
_RESERVE = 1024 * 1024
"""What Python and host functions need of the thread's stack; the rest is the guest's, as it is on wasmer."""

# wasmtime_val_raw_t is a 16-byte union, little-endian on every platform. Read as pairs of int64.
_Callback = ctypes.CFUNCTYPE(
    ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int64), ctypes.c_size_t
)
_NO_FINALIZER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(0)
_KINDS: dict[str, Callable[[], wasmtime.ValType]] = {
    "i32": wasmtime.ValType.i32,
    "i64": wasmtime.ValType.i64,
    "f32": wasmtime.ValType.f32,
    "f64": wasmtime.ValType.f64,
}


class WasmtimeEngine:
    """One module in wasmtime."""

    name = "wasmtime"

    def __init__(
        self,
        engine: wasmtime.Engine | None = None,
        module: wasmtime.Module | None = None,
        gate: wasmtime.Module | None = None,
    ) -> None:
        self._store = wasmtime.Store(engine or _make_engine())
        self._module = module
        self._gate = gate
        self._instance: wasmtime.Instance | None = None
        self._memory: Any = None
        self._view: memoryview | None = None
        self._at: tuple[int | None, int] = (None, 0)
        self._caller: int | None = None
        self._raised: BaseException | None = None
        self._keep: list[Any] = []

    def compile(self, data: bytes) -> None:
        """Compile a module; raise `EngineError` where wasmtime cannot."""
        try:
            self._module = wasmtime.Module(self._store.engine, data)
            self._gate = wasmtime.Module(self._store.engine, gate.BYTES)
        except wasmtime.WasmtimeError as error:
            raise EngineError(f"wasmtime cannot compile it: {_one_line(error)}") from None

    def serialize(self) -> bytes:
        """Return the compiled module as an artifact, with the gate that goes with it."""
        if self._module is None or self._gate is None:
            raise InternalError("serialize before compile")
        first = bytes(self._gate.serialize())
        return len(first).to_bytes(_LENGTH_BYTES, "big") + first + bytes(self._module.serialize())

    def load(self, artifact: bytes) -> None:
        """Take a compiled module; raise `EngineError` where wasmtime refuses it."""
        end = _LENGTH_BYTES + int.from_bytes(artifact[:_LENGTH_BYTES], "big")
        try:
            self._gate = wasmtime.Module.deserialize(self._store.engine, artifact[_LENGTH_BYTES:end])
            self._module = wasmtime.Module.deserialize(self._store.engine, artifact[end:])
        except wasmtime.WasmtimeError as error:
            raise EngineError(f"wasmtime cannot load it: {_one_line(error)}") from None

    def again(self) -> WasmtimeEngine:
        """Return an adapter for another instance of the same module, in a store of its own."""
        return WasmtimeEngine(self._store.engine, self._module, self._gate)

    def instantiate(self, functions: Sequence[HostFunction], flag: Flag) -> None:
        """Make the instance and run a start function."""
        if self._module is None:
            raise InternalError("instantiate before compile")
        has_points = any(function.point for function in functions)
        points = self._open_gate(flag) if has_points and isinstance(flag, StopFlag) else {}
        imports = [points[one.point] if one.point else self._bind(one) for one in functions]
        module = self._module
        self._instance = self._run(lambda: wasmtime.Instance(self._store, module, imports), linking=True)

    def call(self, name: str, type: FuncType, args: Sequence[Value]) -> tuple[Value, ...]:
        """Call an exported function; return its results."""
        function = self._export(name)
        if not isinstance(function, wasmtime.Func):
            raise InternalError(f"{name!r} is not an exported function")
        result = self._run(lambda: function(self._store, *args), linking=False)
        if not type.results:
            return ()
        return tuple(result) if len(type.results) > 1 else (result,)

    def cap_memory(self, most: int) -> None:
        """Let each memory of the next instance have so many bytes, and tables of as many together."""
        # A gate's memory is of one page and comes first. An element of a table takes a pointer.
        self._store.set_limits(memory_size=most, table_elements=max(most // 8, 1))

    def is_out_of_memory(self, names: Sequence[str]) -> bool:
        """Tell whether one of these exported memories cannot get a sixteenth more, though its module says it may."""
        return self._instance is not None and any(map(self._is_full, names))

    def _is_full(self, name: str) -> bool:
        memory = self._export(name)
        if not isinstance(memory, wasmtime.Memory):
            return False
        most = memory.type(self._store).limits.max
        if most is not None and memory.size(self._store) >= most:
            return False
        # Programs ask for more than a page at a time.
        step = max(1, memory.size(self._store) // 16)
        try:
            memory.grow(self._store, step if most is None else min(step, most - memory.size(self._store)))
        except wasmtime.WasmtimeError:
            return True
        return False

    def memory(self) -> memoryview:
        """Return the exported memory as it is now."""
        context = self._store._context()
        if self._memory is None:
            self._memory = self._find_memory()
        # Both may have changed since the last call: growing can move a memory.
        size = ffi.wasmtime_memory_data_size(context, self._memory)
        data = ctypes.cast(ffi.wasmtime_memory_data(context, self._memory), ctypes.c_void_p).value
        if self._view is None or (data, size) != self._at:
            self._at = (data, size)
            self._view = memoryview((ctypes.c_ubyte * size).from_address(data or 0)).cast("B")
        return self._view

    def _find_memory(self) -> Any:
        item: Any
        if self._instance is not None:
            item = self._export("memory")
            if isinstance(item, wasmtime.Memory):
                return ctypes.byref(item._memory)
        elif self._caller is not None:
            # During a start function there is no instance yet, but the caller knows its exports.
            extern = ffi.wasmtime_extern_t()
            caller = ctypes.cast(self._caller, ctypes.POINTER(ffi.wasmtime_caller_t))
            if ffi.wasmtime_caller_export_get(caller, ctypes.create_string_buffer(b"memory"), 6, ctypes.byref(extern)):
                found = wasmtime._extern.wrap_extern(extern)  # type: ignore[attr-defined,unused-ignore]
                if isinstance(found, wasmtime.Memory):
                    return ctypes.byref(found._memory)
        raise EngineError('the module exports no memory named "memory"')

    def _export(self, name: str) -> Any:
        """Return one export by name: the binding's own way makes a wrapper for every export there is."""
        if self._instance is None:
            raise InternalError("no instance yet")
        raw = name.encode()
        extern = ffi.wasmtime_extern_t()
        found = ffi.wasmtime_instance_export_get(
            self._store._context(),
            ctypes.byref(self._instance._instance),
            ctypes.create_string_buffer(raw, len(raw) + 1),
            len(raw),
            ctypes.byref(extern),
        )
        return wasmtime._extern.wrap_extern(extern) if found else None  # type: ignore[attr-defined,unused-ignore]

    def _run(self, guest: Callable[[], Any], *, linking: bool) -> Any:
        """Run guest code; raise what a host function raised, or `GuestTrap`."""
        try:
            return guest()
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            # What a host function raised was put aside while the guest was unwound.
            if self._raised is not None:
                raised, self._raised = self._raised, None
                raise raised from None
            if isinstance(error, wasmtime.Trap):
                raise GuestTrap(_describe(error)) from None
            if linking and "wasm trap" not in str(error):
                raise EngineError(f"wasmtime cannot instantiate it: {_one_line(error)}") from None
            raise GuestTrap(trap_reason(str(error))) from None

    def _open_gate(self, flag: StopFlag) -> dict[str, wasmtime.Func]:
        """Instantiate the gate, have it share its cells with the flag, and return the stopping points."""
        if self._gate is None:
            raise InternalError("instantiate before compile")
        hosts = (
            HostFunction("procstop", "pass", FuncType((), ()), flag.passed_gate),
            HostFunction("procstop", "ask", FuncType((), ("i32",)), flag.asked_gate),
        )
        instance = wasmtime.Instance(self._store, self._gate, [self._bind(host) for host in hosts])
        exports = instance.exports(self._store)
        memory = exports["cells"]
        assert isinstance(memory, wasmtime.Memory)
        base = ctypes.cast(memory.data_ptr(self._store), ctypes.c_void_p).value
        assert base is not None
        cells = gate.Cells.from_address(base)
        # The listener looks at them to the end of the process, when this adapter may be gone.
        cells.keep = self._store
        flag.share(cells)
        points = {name: exports[name] for name in gate.POINTS}
        return {name: point for name, point in points.items() if isinstance(point, wasmtime.Func)}

    def _bind(self, function: HostFunction) -> wasmtime.Func:
        type = wasmtime.FuncType([_kind(p) for p in function.type.params], [_kind(r) for r in function.type.results])
        callback = self._callback(function)
        raw = ffi.wasmtime_func_t()
        ffi.wasmtime_func_new_unchecked(
            self._store._context(),
            type.ptr(),
            ctypes.cast(callback, ffi.wasmtime_func_unchecked_callback_t),
            None,
            _NO_FINALIZER,
            ctypes.byref(raw),
        )
        self._keep.append(callback)
        return wasmtime.Func._from_raw(raw)

    def _callback(self, function: HostFunction) -> Any:
        call, params, results = function.call, function.type.params, function.type.results
        read = _readers(params)

        def bare(_env: int, caller: int, _raw: Any, _count: int) -> int:
            try:
                self._caller = caller
                call()
                return 0
            except BaseException as error:
                return self._unwind(error)

        def one_integer(_env: int, caller: int, raw: Any, _count: int) -> int:
            try:
                self._caller = caller
                raw[0] = call(*read(raw))
                return 0
            except BaseException as error:
                return self._unwind(error)

        def general(_env: int, caller: int, raw: Any, _count: int) -> int:
            try:
                self._caller = caller
                returned = call(*read(raw))
                values = returned if len(results) > 1 else (returned,)
                for index, (kind, value) in enumerate(zip(results, values)):
                    raw[2 * index] = _to_bits(kind, value)
                return 0
            except BaseException as error:
                return self._unwind(error)

        if not params and not results:
            return _Callback(bare)
        if results in (("i32",), ("i64",)):
            return _Callback(one_integer)
        return _Callback(general)

    def _unwind(self, error: BaseException) -> int:
        # Nothing may be raised through the engine's frames: put it aside, and have the engine trap.
        self._raised = error
        trap = ffi.wasmtime_trap_new(ctypes.create_string_buffer(b"left"), 4)
        return ctypes.cast(trap, ctypes.c_void_p).value or 0


def _make_engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    stack = _MOST_STACK if stack == resource.RLIM_INFINITY else min(stack, _MOST_STACK)
    # wasmtime wants the stacks of asynchronous calls, which are never made here, to be as large.
    ffi.wasmtime_config_async_stack_size_set(config.ptr(), stack)
    config.max_wasm_stack = max(stack // 2, stack - _RESERVE)
    return wasmtime.Engine(config)


def _kind(name: str) -> wasmtime.ValType:
    try:
        return _KINDS[name]()
    except KeyError:
        raise EngineError(f"a host function cannot take or return {name}") from None


def _readers(params: tuple[str, ...]) -> Callable[[Any], Sequence[Any]]:
    """Return a function that reads the arguments out of the raw array."""
    count = len(params)
    if not count:
        return lambda raw: ()
    end = 2 * count
    if all(kind == "i32" for kind in params):
        # The upper half of an i32's slot is not defined.
        return lambda raw: [((bits & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000 for bits in raw[0:end:2]]
    if all(kind == "i64" for kind in params):
        return lambda raw: raw[0:end:2]
    return lambda raw: [_from_bits(kind, bits) for kind, bits in zip(params, raw[0:end:2])]


def _from_bits(kind: str, bits: int) -> Value:
    if kind == "i32":
        return ((bits & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000
    if kind == "f32":
        return float(struct.unpack("<f", struct.pack("<I", bits & 0xFFFFFFFF))[0])
    if kind == "f64":
        return float(struct.unpack("<d", struct.pack("<q", bits))[0])
    return bits


def _to_bits(kind: str, value: Any) -> int:
    if kind == "f32":
        return int(struct.unpack("<I", struct.pack("<f", value))[0])
    if kind == "f64":
        return int(struct.unpack("<q", struct.pack("<d", value))[0])
    return int(value)


def _describe(trap: wasmtime.Trap) -> str:
    frames = trap.frames
    reason = trap_reason(trap.message)
    if len(frames) > 1 and frames[0].module_name == gate.MODULE_NAME:
        # The stack ended in the gate: the guest's function that called it is at fault.
        frames = frames[1:]
    if not frames:
        return reason
    return trap_text(reason, frames[0].func_index, frames[0].func_name)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
