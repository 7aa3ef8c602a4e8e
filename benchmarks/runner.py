"""Run a guest in this process, as somebody without procstop would: in a pool's worker, or as a script.

Usage: runner.py ENGINE MODULE [SIGN]

A guest's module is loaded once in a process. `SIGN` is a file that tells who runs it: the process id, and the
monotonic clock in nanoseconds at the start. The script prints the clock at which the guest told that it runs.
"""

from __future__ import annotations

import time

BEGAN = time.monotonic_ns()

import importlib  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

_loaded: dict[tuple[str, str], Any] = {}
_told: list[int] = []


def run(engine: str, path: str, sign: str | None = None, *, new_store: bool = False) -> int | None:
    """Run the guest's `run` in a new instance; return the clock at which it told that it runs, None if it told nothing.

    On wasmer a module belongs to a store, and is loaded again for a `new_store`, without being compiled again. On
    wasmtime every call has a store of its own.
    """
    if sign is not None:
        write_sign(sign, time.monotonic_ns())
    _told.clear()
    if engine == "wasmer":
        _run_in_wasmer(path, new_store)
    else:
        _run_in_wasmtime(path)
    return _told[0] if _told else None


def write_sign(sign: str, began: int) -> None:
    """Say who runs the guest and since when, all at once."""
    with open(f"{sign}.new", "w", encoding="ascii") as file:
        file.write(f"{os.getpid()} {began}")
    os.rename(f"{sign}.new", sign)


def load_engine(engine: str) -> None:
    """Import the engine, so that forked workers have it; nothing is compiled, or their compilers would hang."""
    importlib.import_module(engine)
    if engine == "wasmer":
        importlib.import_module("wasmer_compiler_cranelift")


def _functions() -> dict[tuple[str, str], Callable[[], None]]:
    return {
        ("e", "now"): lambda: _told.append(time.monotonic_ns()),
        ("e", "block"): lambda: time.sleep(60),
        ("procstop", "checkpoint"): lambda: None,
    }


def _run_in_wasmer(path: str, new_store: bool) -> None:
    import wasmer
    import wasmer_compiler_cranelift as cranelift

    found = _loaded.get(("wasmer", path))
    if found is None:
        with open(path, "rb") as file:
            store = wasmer.Store(wasmer.engine.Universal(cranelift.Compiler))
            module = wasmer.Module(store, file.read())
        found = _loaded["wasmer", path] = (store, module, module.serialize() if new_store else b"")
    store, module, artifact = found
    if new_store:
        store = wasmer.Store(wasmer.engine.Universal())
        module = wasmer.Module.deserialize(store, artifact)
    if any(one.module.startswith("wasi") for one in module.imports):
        version = wasmer.wasi.get_version(module, True)
        imports: Any = wasmer.wasi.StateBuilder("guest").finalize().generate_imports(store, version)
    else:
        imports = {}
        functions = _functions()
        for one in module.imports:
            function = wasmer.Function(store, functions[one.module, one.name], wasmer.FunctionType([], []))
            imports.setdefault(one.module, {})[one.name] = function
    wasmer.Instance(module, imports).exports.run()


def _run_in_wasmtime(path: str) -> None:
    import wasmtime

    found = _loaded.get(("wasmtime", path))
    if found is None:
        engine = wasmtime.Engine()
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        for (module_name, name), function in _functions().items():
            linker.define_func(module_name, name, wasmtime.FuncType([], []), function)
        found = _loaded["wasmtime", path] = (engine, linker, wasmtime.Module.from_file(engine, path))
    engine, linker, module = found
    store = wasmtime.Store(engine)
    wasi = wasmtime.WasiConfig()
    wasi.inherit_stdout()
    store.set_wasi(wasi)
    exports: Any = linker.instantiate(store, module).exports(store)
    exports["run"](store)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        write_sign(sys.argv[3], BEGAN)
    told = run(sys.argv[1], sys.argv[2])
    if told is not None:
        print(told)
