"""Host functions: Python code of the user that runs in the worker and that a guest imports.

A host module is a Python file with a mapping `imports` of "module.name" to a callable. A callable whose first
parameter is named `guest` gets a `Guest`, to read and write the guest's memory and to pass stopping points of its own.
Whatever a callable raises leaves the guest and becomes the outcome `host_error`; `procstop.Exit` leaves it as `exited`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import operator
import os
import struct
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from procstop.engines import Engine
from procstop.errors import GuestError
from procstop.module import FuncType
from procstop.stopping import HostError, Leave, StopFlag

MAIN_NAME = "__procstop_main__"
"""What a script is called when it is loaded again for its host functions; its `__main__` part does not run."""


class Guest:
    """What a host function may do with the guest that called it."""

    def __init__(self, engine: Engine, flag: StopFlag) -> None:
        self._engine = engine
        self.checkpoint = flag.checkpoint
        self.interrupted = flag.interrupted
        self._progress = flag.progress
        self.sleep = lambda seconds: flag.wait((), (), seconds) and None

    def progress(self, done: int, total: int) -> None:
        """Pass a stopping point and show progress; whole numbers of 64 bits, as a guest's own are."""
        for number in (done, total):
            if not -(2**63) <= operator.index(number) < 2**63:
                raise OverflowError(f"progress takes whole numbers of 64 bits, got {number}")
        self._progress(operator.index(done), operator.index(total))

    def read(self, pointer: int, length: int) -> bytes:
        """Copy bytes out of the guest's memory; raise `IndexError` outside of it."""
        return bytes(self._span(pointer, length))

    def write(self, pointer: int, data: bytes) -> None:
        """Copy bytes into the guest's memory; raise `IndexError` outside of it."""
        self._span(pointer, len(data))[:] = data

    def _span(self, pointer: int, length: int) -> memoryview:
        memory = self._engine.memory()
        pointer, length = pointer & 0xFFFFFFFF, length & 0xFFFFFFFF
        if pointer + length > len(memory):
            raise IndexError(f"{length} bytes at {pointer} are outside the guest's memory of {len(memory)}")
        return memory[pointer : pointer + length]


def load_host_file(path: str) -> dict[str, Callable[..., Any]]:
    """Run a host module and return its `imports`; raise `HostError` with whatever it raises."""
    return _check_imports(_load_file(path, "procstop_host"), path)


def load_references(references: Mapping[str, str], main_path: str | None) -> dict[str, Callable[..., Any]]:
    """Import host functions by "module:qualname"; raise `HostError` with whatever that raises."""
    functions = {}
    for name, reference in references.items():
        module_name, _, qualname = reference.partition(":")
        try:
            if module_name == "__main__":
                if MAIN_NAME not in sys.modules and main_path is not None:
                    _load_file(main_path, MAIN_NAME)
                module = sys.modules[MAIN_NAME]
            else:
                module = importlib.import_module(module_name)
            functions[name] = functools.reduce(getattr, qualname.split("."), module)
        except HostError:
            raise
        except BaseException as error:
            raise HostError(_with_place(error)) from None
    return functions  # type: ignore[return-value]


def adapt(call: Callable[..., Any], type: FuncType, guest: Guest) -> Callable[..., Any]:
    """Wrap a user's callable: give it the guest if it asks, check what it returns, mark what it raises."""
    if wants_guest(call):
        call = functools.partial(call, guest)

    def hosted(*args: Any) -> Any:
        try:
            return _fit(call(*args), type)
        except (Leave, HostError):
            raise
        except BaseException as error:
            raise HostError(error) from error

    return hosted


def wants_guest(call: Callable[..., Any]) -> bool:
    """Tell whether a callable's first parameter is named `guest`."""
    function = getattr(call, "__func__", call)
    code = getattr(function, "__code__", None)
    if code is None:
        # An object with a __call__ of its own: its first parameter is the object itself.
        code = getattr(getattr(type(call), "__call__", None), "__code__", None)  # noqa: B004
        if code is None:
            return False
        return bool(code.co_varnames[1:2] == ("guest",) and code.co_argcount > 1)
    first = 1 if function is not call else 0
    return bool(code.co_varnames[first : first + 1] == ("guest",) and code.co_argcount > first)


def _fit(value: Any, type: FuncType) -> Any:
    """Check what a host function returned against the import's type, alike on every engine."""
    results = type.results
    if not results:
        if value is not None:
            raise TypeError(f"it returned {value!r}, but its import {type} returns nothing")
        return None
    if len(results) == 1:
        return _fit_one(value, results[0], type)
    if not isinstance(value, (tuple, list)) or len(value) != len(results):
        raise TypeError(f"it returned {value!r}, but its import {type} returns {len(results)} values")
    return tuple(_fit_one(one, kind, type) for one, kind in zip(value, results))


def _fit_one(value: Any, kind: str, type: FuncType) -> Any:
    if kind in ("i32", "i64"):
        if isinstance(value, bool):
            return int(value)
        if not isinstance(value, int):
            raise TypeError(f"it returned {value!r}, but its import {type} returns {kind}")
        bits = 32 if kind == "i32" else 64
        if not -(1 << (bits - 1)) <= value < 1 << bits:
            raise OverflowError(f"it returned {value}, which does not fit {kind}")
        return value - (1 << bits) if value >= 1 << (bits - 1) else value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"it returned {value!r}, but its import {type} returns {kind}")
    if kind == "f32":
        return struct.unpack("<f", struct.pack("<f", value))[0]
    return float(value)


def _load_file(path: str, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise GuestError(f"host: {path!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # No .pyc file beside the user's file: a worker leaves nothing behind.
    sys.dont_write_bytecode = True
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        raise HostError(_with_place(error, path)) from error
    return module


def _with_place(error: BaseException, path: str | None = None) -> BaseException:
    """Return what a file raised while it was imported as an error of the same kind that also says where.

    The line is that of the host file, even if something that it called raised. What raised outside of any file of the
    user's, as a lookup of a name that is not there, stays as it is.
    """
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [one for one in frames if one[0] == path] or [one for one in frames if not _is_machinery(one[0])]
    # With no memory left there should be nothing made.
    if not own or isinstance(error, MemoryError):
        return error
    file, line = own[-1]
    try:
        text = str(error)
    except BaseException:
        text = ""
    text = f"{text}, in {os.path.basename(file)}:{line}" if text else f"in {os.path.basename(file)}:{line}"
    try:
        kind = type(type(error).__name__, (type(error),), {"__str__": lambda self: text})
        placed: BaseException = kind.__new__(kind, *error.args)
    except BaseException:
        # A class of the user's may want to be neither inherited from nor made like that.
        return error
    return placed


def _is_machinery(file: str) -> bool:
    """Tell frames of ours and of Python's import system from those of what is imported."""
    return file in (__file__, importlib.__file__) or file.startswith("<frozen ")


def _check_imports(module: Any, path: str) -> dict[str, Callable[..., Any]]:
    imports = getattr(module, "imports", None)
    if not isinstance(imports, Mapping):
        raise GuestError(f'host: {path!r} has no mapping "imports" of "module.name" to a callable')
    for name, call in imports.items():
        if not isinstance(name, str) or not callable(call):
            raise GuestError(f'host: {path!r}: imports[{name!r}] must be a "module.name" with a callable')
    return dict(imports)
