"""`procstop inspect`: what a module says about itself."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from procstop.engines.abilities import PREFERENCE, why_not
from procstop.errors import JobFileError
from procstop.linking import Link, Linked, link
from procstop.module import ModuleInfo
from procstop.preflight import engine_status, read_sources
from procstop.reporting.text import printable
from procstop.reporting.words import count
from procstop.wasi.signatures import SIGNATURES

_MOST_LINES = 200


def inspect_command(path: Path) -> int:
    """Print imports, exports, what is missing, and what is in an engine's way; raise `JobFileError` for no module."""
    source = read_sources([os.path.abspath(path)])[os.path.abspath(path)]
    if source.info is None:
        raise JobFileError([source.error or str(path)])
    info = source.info
    linked = link(info, {}, (), SIGNATURES)
    _line(f"{path}: {info.size} bytes{', from text' if isinstance(source.module, bytes) else ''}")
    _line(f"WASI: {info.wasi or 'none'}")
    _line(f"proposals: {', '.join(sorted(info.features)) or 'none beyond the first version'}")
    for memory in info.memories:
        most = "no maximum" if memory.maximum is None else f"at most {count(memory.maximum, 'page')}"
        _line(f"memory: {count(memory.minimum, 'page')} of {memory.page_size} bytes, {most}")
    if info.start is not None:
        _line(f"start function: function {info.start}, runs before any call")
    _imports(info, {(one.needed.module, one.needed.name): one for one in linked.links})
    exports = [f"{one.name}  {one.type or one.kind}" for one in info.exports.values()]
    _section("exports", exports)
    _section("missing", linked.problems)
    _section("engines", [_engine(name, info, linked) for name in PREFERENCE])
    return 0


def _imports(info: ModuleInfo, links: dict[tuple[str, str], Link]) -> None:
    lines = []
    for needed in info.imports:
        found = links.get((needed.module, needed.name))
        by = "MISSING" if found is None else found.provider
        if found is not None and found.provider == "procstop":
            by = f"procstop {found.function}"
        point = ", a stopping point" if found is not None and found.is_stopping_point else ""
        lines.append(f"{needed.module}.{needed.name}  {needed.type or needed.text}  <- {by}{point}")
    _section("imports", lines)


def _engine(name: str, info: ModuleInfo, linked: Linked) -> str:
    obstacle = why_not(name, info, linked.links)
    status = engine_status()[name]
    if obstacle is not None:
        return f"{name}: cannot run it: {obstacle}"
    if linked.problems:
        # The engine would do; what is missing has to come from the task, by `imports` or `host`.
        but = f", but {status.why_not}" if status.why_not is not None else ""
        return f"{name}: has the proposals it needs{but}"
    if status.why_not is not None:
        return f"{name}: could run it, but {status.why_not}"
    return f"{name}: can run it"


def _section(title: str, lines: list[str]) -> None:
    if not lines:
        _line(f"{title}: none")
        return
    _line(f"{title}:")
    for line in lines[:_MOST_LINES]:
        _line(f"  {line}")
    if len(lines) > _MOST_LINES:
        _line(f"  ... and {len(lines) - _MOST_LINES} more")


def _line(text: str) -> None:
    typer.echo(printable(text))
