"""What provides each import of a module, and which of them are stopping points. Pure.

In this order: the task's `imports` table, its host functions, the module "procstop", the two names that the
wasmer documentation uses for an early exit, and WASI. The supervisor asks before it starts anything, and the
worker asks again with the host functions that it loaded.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from procstop.module import FuncType, Import, ModuleInfo

ANY_RESULTS = ("any",)

SIGNATURES: dict[str, tuple[FuncType, ...]] = {
    "checkpoint": (FuncType((), ()),),
    "interrupted": (FuncType((), ("i32",)),),
    "progress": (FuncType(("i64", "i64"), ()),),
    # These two never return, so whatever an import declares as its results is right.
    "exit": (FuncType(("i32",), ANY_RESULTS), FuncType((), ANY_RESULTS)),
    "fail": (FuncType(("i32", "i32"), ANY_RESULTS),),
}
"""The functions of the import module "procstop", each with the types that an import of it may have."""

STOPPING_POINTS = frozenset({"checkpoint", "interrupted", "progress"})
LATER = frozenset({"save", "load"})
"""Planned, and not provided by this version."""

EARLY_EXITS = frozenset({"env.interrupt_execution", "env.early_exit"})
"""Bound to `exit` unless the task says otherwise, where they take no parameters."""

WASI_SLEEP = "poll_oneoff"


class Link(NamedTuple):
    """One import and what provides it: "procstop", "wasi" or "host", and which function of it."""

    needed: Import
    provider: str
    function: str

    @property
    def is_stopping_point(self) -> bool:
        """Tell whether a guest can be left there when it is asked to stop."""
        if self.provider == "procstop":
            return self.function in STOPPING_POINTS
        return self.provider == "wasi" and self.function == WASI_SLEEP


class Linked(NamedTuple):
    """All links in the order of the imports, and a sentence for each import that has none."""

    links: list[Link]
    problems: list[str]

    @property
    def stopping_points(self) -> list[Link]:
        """The links at which a guest can be left."""
        return [link for link in self.links if link.is_stopping_point]


def link(
    info: ModuleInfo,
    bindings: Mapping[str, str],
    host: Collection[str] | None,
    wasi: Mapping[str, Mapping[str, FuncType]],
) -> Linked:
    """Find what provides each import.

    `bindings` maps "module.name" to a function of procstop; `host` holds the names that host functions have,
    None if they are not known; `wasi` maps a WASI version to its functions' types.
    """
    links: list[Link] = []
    problems: list[str] = []
    names = {f"{needed.module}.{needed.name}" for needed in info.imports}
    for needed in info.imports:
        found, problem = _provide(needed, bindings, host, wasi)
        if found is not None:
            links.append(found)
        if problem is not None:
            problems.append(problem)
    for name in bindings:
        if name not in names:
            problems.append(f'imports: the module does not import "{name}"{_did_you_mean(name, names)}')
    return Linked(links, problems)


def _provide(
    needed: Import,
    bindings: Mapping[str, str],
    host: Collection[str] | None,
    wasi: Mapping[str, Mapping[str, FuncType]],
) -> tuple[Link | None, str | None]:
    name = f"{needed.module}.{needed.name}"
    if needed.type is None:
        return None, f'import "{name}" is a {needed.kind}; procstop provides functions only'
    if name in bindings:
        return _bind(needed, name, bindings[name])
    if host is not None and name in host:
        return Link(needed, "host", name), None
    if needed.module == "procstop":
        if needed.name in SIGNATURES:
            return _bind(needed, name, needed.name)
        if needed.name in LATER:
            return None, f'import "{name}": this version of procstop does not provide it yet'
        return None, f'import "{name}": procstop has no such function{_did_you_mean(needed.name, SIGNATURES)}'
    if name in EARLY_EXITS and not needed.type.params:
        return Link(needed, "procstop", "exit"), None
    if needed.module in wasi:
        return _bind_wasi(needed, name, wasi[needed.module])
    if host is None:
        return Link(needed, "host", name), None
    return None, (
        f'import "{name}" {needed.type}: nobody provides it; bind it in "imports" to one of '
        f'{", ".join(SIGNATURES)}, or give a host function for it in "host"'
    )


def _bind(needed: Import, name: str, function: str) -> tuple[Link | None, str | None]:
    assert needed.type is not None
    right = SIGNATURES.get(function)
    if right is None:
        return None, f'imports: "{name}" is bound to "{function}"; it must be one of {", ".join(SIGNATURES)}'
    for type in right:
        if type.params == needed.type.params and type.results in (needed.type.results, ANY_RESULTS):
            return Link(needed, "procstop", function), None
    spelled = " or ".join(_spell(type) for type in right)
    return None, f'import "{name}" is {needed.type}, but procstop\'s "{function}" is {spelled}'


def _bind_wasi(needed: Import, name: str, functions: Mapping[str, FuncType]) -> tuple[Link | None, str | None]:
    type = functions.get(needed.name)
    if type is None:
        return None, f'import "{name}": WASI has no such function{_did_you_mean(needed.name, functions)}'
    if type != needed.type:
        return None, f'import "{name}" is {needed.type}, but WASI\'s is {type}'
    return Link(needed, "wasi", needed.name), None


def _spell(type: FuncType) -> str:
    if type.results == ANY_RESULTS:
        return f"({', '.join(type.params)})"
    return str(type)


def _did_you_mean(name: str, names: Iterable[str]) -> str:
    close: Sequence[str] = difflib.get_close_matches(name, list(names), n=1)
    return f'; did you mean "{close[0]}"?' if close else ""
