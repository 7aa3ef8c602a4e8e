"""Which engines are here, asked of a child process once."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import sys
from dataclasses import dataclass

from procstop.engines.abilities import PREFERENCE
from procstop.process import SpawnError, run_helper

_PROBE_S = 30.0
SETTINGS = 1
"""Counts the ways in which procstop has configured its engines: another one, another artifact."""


@dataclass(frozen=True)
class EngineStatus:
    """An engine's version, or why it is not there; `advice` says what to do about that."""

    name: str
    version: str | None
    why_not: str | None
    advice: str | None


def engine_build(name: str) -> str:
    """Return what a compiled module depends on besides the module: versions, settings, CPU features, platform."""
    version = engine_status()[name].version
    python = "" if name != "wasmer" else "cranelift, "
    return f"{name} {version}, {python}settings {SETTINGS}, {sys.platform} {_machine()}"


@functools.cache
def _machine() -> str:
    """Name the processor by what it can do: code for one may be more than another understands."""
    features = ""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.partition(":")[0].strip() in ("flags", "Features"):
                    features = " ".join(sorted(line.partition(":")[2].split()))
                    break
    except OSError:
        features = platform.processor()
    return f"{platform.machine()} {hashlib.sha256(features.encode()).hexdigest()[:16]}"


_known: dict[str, EngineStatus] = {}


def engine_status() -> dict[str, EngineStatus]:
    """Import every engine in a child and return what became of it; asked once in a process's life."""
    if not _known:
        answer, certain = _ask()
        status = {name: _status(name, answer[name]["version"], answer[name]["error"]) for name in PREFERENCE}
        if not certain:
            # No process could be started just now; the next time may be better.
            return status
        _known.update(status)
    return dict(_known)


def _ask() -> tuple[dict[str, dict[str, str | None]], bool]:
    """Return the child's answer, and whether it is one."""
    try:
        return run_helper("engines.probe", {"sys_path": module_path()}, timeout=_PROBE_S), True
    except SpawnError as error:
        return {name: {"version": None, "error": str(error)} for name in PREFERENCE}, False


def module_path() -> list[str]:
    """Return where a child finds what this process can import."""
    return list(dict.fromkeys(os.path.abspath(path) for path in sys.path))


def _status(name: str, version: str | None, error: str | None) -> EngineStatus:
    if error is None:
        return EngineStatus(name, version, None, None)
    if name == "wasmer":
        if sys.version_info >= (3, 11):
            advice = "wasmer 1.1.0 has wheels for CPython up to 3.10 only; use Python 3.10 or the engine wasmtime"
        elif os.uname().machine != "x86_64":
            advice = "wasmer 1.1.0 has wheels for x86_64 only; use the engine wasmtime"
        else:
            advice = "pip install wasmer==1.1.0 wasmer-compiler-cranelift==1.1.0"
    else:
        advice = "pip install 'wasmtime>=48'"
    return EngineStatus(name, None, f"it is not available here ({error})", advice)
