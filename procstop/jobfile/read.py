"""Reads a TOML file into a table, or says in one line where it is not TOML."""

from __future__ import annotations

import re
import sys
from typing import Any

from procstop.errors import JobFileError
from procstop.jobfile.wording import line, printable, quoted

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_BYTES = 16 * 1024 * 1024
"""More than any job file; a disk image or /dev/zero given by mistake is not read to its end."""

_POSITION = re.compile(r"(.*) \(at line (\d+), column (\d+)\)", re.DOTALL)
_BARE_UNIT = re.compile(r"=\s*[0-9][0-9.]*\s*[A-Za-z]+\s*(?:#.*)?$")


def read_table(path: str) -> dict[str, Any]:
    """Read a file as TOML; raise `JobFileError` with one problem when it cannot be read or is not TOML."""
    text = _read_text(path)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise JobFileError([_not_toml(path, text, str(error))]) from None
    except RecursionError:
        raise JobFileError([line(printable(path), "lists or tables are nested too deeply")]) from None
    except ValueError:
        # Python reads no decimal integers of many thousand digits, and the decoder passes that on.
        raise JobFileError([line(printable(path), "holds a number that is too long to read")]) from None


def _read_text(path: str) -> str:
    name = printable(path)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise JobFileError([line(name, "no such file")]) from None
    except IsADirectoryError:
        raise JobFileError([line(name, "is a directory; name the job file in it")]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise JobFileError([line(name, f"cannot be read: {reason[:1].lower()}{reason[1:]}")]) from None
    if len(data) > MAX_BYTES:
        raise JobFileError([line(name, "is larger than 16 MiB, so it cannot be a job file")])
    if b"\0" in data:
        raise JobFileError([line(name, "holds NUL bytes, so it is not a text file; is this a job file?")])
    try:
        # Editors on Windows put a byte order mark first, and TOML knows none.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Counted from `error.object`: with a byte order mark, the position is one after it.
        row = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise JobFileError([line(f"{name}:{row}", f"not UTF-8, got byte 0x{byte:02x}; save it as UTF-8")]) from None


def _not_toml(path: str, text: str, message: str) -> str:
    """The problem's line: `file:line:column: what is wrong, in "the line"`."""
    found = _POSITION.fullmatch(message)
    if found is None:
        return line(printable(path), f"not TOML: {_lower(message)}")
    what, row, column = found[1], int(found[2]), int(found[3])
    # TOML's lines end in a newline only; splitlines() would also split at form feeds and the like.
    lines = text.split("\n")
    shown = lines[row - 1].strip() if row <= len(lines) else ""
    hint = "; durations and sizes are written in quotes" if _BARE_UNIT.search(shown) else ""
    where = f"{printable(path)}:{row}:{column}"
    return line(where, f"not TOML: {printable(_lower(what))}, in {quoted(shown)}{hint}")


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
