"""The types of WASI's functions, known without making a guest."""

from __future__ import annotations

from procstop.module import FuncType
from procstop.wasi import abi


def _types(missing: frozenset[str]) -> dict[str, FuncType]:
    kinds = {"i": "i32", "I": "i64"}
    return {
        name: FuncType(tuple(kinds[kind] for kind in signature), () if name == "proc_exit" else ("i32",))
        for name, signature in abi.SIGNATURES.items()
        if name not in missing
    }


SIGNATURES: dict[str, dict[str, FuncType]] = {
    version: _types(frozenset(layout.missing)) for version, layout in abi.LAYOUTS.items()
}
"""WASI version to function name to type."""
