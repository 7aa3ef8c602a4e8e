"""What each engine can and cannot run, judged from a module's bytes. Pure.

The lists were found by compiling one module for each proposal: with wasmer 1.1.0, and with wasmtime 48 to 50 as
procstop configures it. "unknown-opcode" is left for the engine to judge.
"""

from __future__ import annotations

from procstop.linking import Link
from procstop.module import ModuleInfo

PREFERENCE = ("wasmer", "wasmtime")
"""The order in which "auto" tries engines."""

_COMMON = frozenset(
    {
        "mutable-global",
        "sign-extension",
        "nontrapping-fptoint",
        "multi-value",
        "bulk-memory",
        "reference-types",
        "simd",
        "unknown-opcode",
    }
)
FEATURES: dict[str, frozenset[str]] = {
    "wasmer": _COMMON,
    "wasmtime": _COMMON
    | {
        "relaxed-simd",
        "tail-call",
        "exceptions",
        "threads",
        "multi-memory",
        "memory64",
        "extended-const",
        "gc",
        "function-references",
        "wide-arithmetic",
    },
}
"""The proposals that each engine runs, by their usual names."""


def why_not(engine: str, info: ModuleInfo, links: list[Link]) -> str | None:
    """Say in a clause why this engine cannot run the module; None if nothing is known to be in the way."""
    missing = sorted(info.features - FEATURES[engine])
    if missing:
        return f"it does not have {', '.join(missing)}"
    if engine == "wasmer":
        types: dict[tuple[str, str], object] = {}
        for link in links:
            key = (link.needed.module, link.needed.name)
            if types.setdefault(key, link.needed.type) != link.needed.type:
                return f'it cannot import "{".".join(key)}" with two types'
        if info.start is not None and any(_needs_memory(link) for link in links):
            return "it gives host functions no memory while a start function runs"
    return None


def _needs_memory(link: Link) -> bool:
    return link.provider == "wasi" or (link.provider == "procstop" and link.function == "fail")
