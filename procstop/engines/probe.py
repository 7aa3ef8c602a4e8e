"""A one-shot child that says which engines can be imported here.

The supervisor never imports an engine: neither its start-up time nor a crash of it shall be the supervisor's.
To the request {"sys_path": [...]} it answers (see `oneshot`) for each engine its "version" or the "error" that
importing it was.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from typing import Any

from procstop.oneshot import answer_once


def main() -> None:
    """Answer one request."""
    answer_once(lambda request: {"wasmer": _wasmer(), "wasmtime": _wasmtime()})


def _wasmer() -> dict[str, Any]:
    # The wheel for systems without wasmer is an empty stub, so only importing tells.
    try:
        wasmer = importlib.import_module("wasmer")
        importlib.import_module("wasmer_compiler_cranelift")
    except BaseException as error:
        return {"version": None, "error": _reason(error)}
    version = f"{wasmer.__version__} (core {wasmer.__core_version__})"
    return {"version": version, "error": None}


def _wasmtime() -> dict[str, Any]:
    try:
        importlib.import_module("wasmtime")
    except BaseException as error:
        return {"version": None, "error": _reason(error)}
    # The package does not know its own version; its metadata does.
    return {"version": importlib.metadata.version("wasmtime"), "error": None}


def find_reader() -> Callable[[str], bytes] | None:
    """Return what turns WebAssembly text into bytes, and raises what its engine does; None if there is nothing."""
    # wasmtime's reader first: it knows the text format as it is today.
    for name in ("wasmtime", "wasmer"):
        try:
            wat2wasm = importlib.import_module(name).wat2wasm
        except BaseException:
            continue
        return lambda text: bytes(wat2wasm(text))
    return None


def _reason(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        return "not installed"
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
