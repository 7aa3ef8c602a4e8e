"""`procstop cache`: look at the compiled modules that are kept on this machine, and remove them.

The head of an artifact is not vouched for by anything until it is loaded, so what it says is only ever shown, escaped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from procstop.cache import Cache, Entry

T = TypeVar("T")

cache_app = typer.Typer(
    name="cache",
    help="Look at the compiled modules that are kept on this machine, and remove them.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@cache_app.command("list")
def list_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """List what is kept, last used first.

    Examples:

    ```
    procstop cache list
    ```
    """
    cache = _cache()
    entries = cache.entries()
    _warn(cache)
    if as_json:
        _list_json(cache, entries)
    else:
        _list_columns(entries)


@cache_app.command()
def prune(
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="Remove what was not used for so long: 30d.")
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option("--max-size", metavar="SIZE", help="Remove what was used longest ago until the rest fits: 2GiB."),
    ] = None,
) -> None:
    """Remove what was not used for a while, or until the rest fits.

    Examples:

    ```
    procstop cache prune --older-than 30d --max-size 2GiB
    ```
    """
    from procstop.errors import JobFileError
    from procstop.jobfile import parse_duration, parse_size

    if older_than is None and max_size is None:
        hint = "as in --older-than 30d, --max-size 2GiB or both; `procstop cache clear` removes everything"
        raise JobFileError([f"prune: say what to remove, {hint}"])
    age = None if older_than is None else _read("--older-than", parse_duration, "d", older_than)
    most = None if max_size is None else _read("--max-size", parse_size, "GiB", max_size)
    _remove(_cache(), age, most)


@cache_app.command()
def clear() -> None:
    """Remove all compiled modules. What runs goes on; the next run compiles anew.

    Examples:

    ```
    procstop cache clear
    ```
    """
    # Less than nothing: an empty file would fit into nothing.
    _remove(_cache(), None, -1)


@cache_app.command()
def where() -> None:
    """Print the directory, which need not be there yet.

    Examples:

    ```
    procstop cache where
    ```
    """
    # As it is, so that a shell can go there, whatever its name.
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(_cache().directory) + b"\n")
    sys.stdout.buffer.flush()


def _cache() -> Cache:
    from procstop.cache import Cache
    from procstop.places import cache_directory

    return Cache(cache_directory())


def _warn(cache: Cache) -> None:
    """Say on standard error that runs do not use the directory, if they do not."""
    from procstop.cli.complain import say

    distrust = cache.distrust()
    if distrust is not None:
        say(f"notice: {distrust}; runs do not use it")


def _read(option: str, parse: Callable[[object, str], T], unit: str, text: str) -> T:
    from procstop.errors import JobFileError

    try:
        return parse(text, unit)
    except ValueError as error:
        raise JobFileError([f"{option}: {error}"]) from None


def _remove(cache: Cache, age: float | None, most: int | None) -> None:
    from procstop.reporting.words import count, size

    removed = cache.prune(age, most)
    _warn(cache)
    for one in removed:
        _line(f"removed {_module(one)} ({_engine(one)}, {size(one.size)})")
    left = cache.entries()
    _line(
        f"removed {count(len(removed), 'module')}, {size(_total(removed))}; "
        f"left {count(len(left), 'module')}, {size(_total(left))}"
    )


def _list_columns(entries: Sequence[Entry]) -> None:
    from procstop.reporting.words import count, size

    if not entries:
        return _line("the cache is empty")
    rows = [("module", "engine", "size", "last used", "key")]
    rows += [
        (_module(one), _engine(one), size(one.size), _time(one.used_at, "%Y-%m-%d %H:%M"), _key(one)) for one in entries
    ]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        cells = [
            cell.rjust(width) if at == 2 else cell.ljust(width) for at, (cell, width) in enumerate(zip(row, widths))
        ]
        _line("  ".join(cells).rstrip())
    total = _total(entries)
    _line(f"{count(len(entries), 'module')}, {size(total)}" + (f" ({total} bytes)" if total >= 1024 else ""))


def _list_json(cache: Cache, entries: Sequence[Entry]) -> None:
    import json

    data = {
        "directory": _text(cache.directory),
        "bytes": _total(entries),
        "artifacts": [
            {
                "key": _text(one.name),
                "module": _text(one.about.get("label")),
                "sha256": _text(one.about.get("module")),
                "engine": _text(one.about.get("engine")),
                "build": _text(one.about.get("build")),
                "bytes": one.size,
                "used_at": _time(one.used_at, "%Y-%m-%dT%H:%M:%SZ", utc=True),
                "path": _text(one.path),
            }
            for one in entries
        ],
    }
    typer.echo(json.dumps(data, indent=2))


def _total(entries: Sequence[Entry]) -> int:
    return sum(one.size for one in entries)


def _module(entry: Entry) -> str:
    return _word(entry.about.get("label"), 60)


def _engine(entry: Entry) -> str:
    return _word(entry.about.get("engine"), 20)


def _key(entry: Entry) -> str:
    """Give the start of a key: enough to find the file by."""
    return _word(entry.name.rpartition("-")[2], 12)


def _word(value: Any, most: int) -> str:
    from procstop.reporting.text import one_line, printable

    if not isinstance(value, str) or not value:
        return "?"
    text = value if len(value) <= most else value[:most]
    return one_line(printable(text), most) or "?"


def _time(seconds: float, form: str, *, utc: bool = False) -> str:
    from datetime import datetime, timezone

    try:
        return datetime.fromtimestamp(seconds, timezone.utc if utc else None).strftime(form)
    except (OSError, OverflowError, ValueError):
        return "?"


def _text(value: Any) -> str | None:
    # A lone surrogate, from a file's name or a head, is nothing that strict readers take.
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None


def _line(text: str) -> None:
    from procstop.reporting.text import printable

    typer.echo(printable(text))
