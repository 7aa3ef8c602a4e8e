"""How a job file's problems are put into words: values, keys and guesses, safe to print anywhere.

Everything here may come from a hostile file, so nothing is printed raw: control characters and lone
surrogates are escaped, and long texts are cut.
"""

from __future__ import annotations

import datetime
import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence

LONGEST = 80
"""Characters of a value that a message shows."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_NAMED_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    """Escape what a terminal could stumble over; leave quotes and backslashes as they are."""
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def is_one_line(text: str) -> bool:
    """Tell whether a text can stand in a table or a path of a report: no control characters.

    Narrower than `str.isprintable`, which refuses the odd spaces that file names of screenshots hold.
    """
    return not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in text)


def quoted(text: str) -> str:
    """Write a text as TOML would, on one line; cut it when it is long."""
    short = text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
    return '"' + printable(short.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def show(value: object) -> str:
    """Show a value as the user wrote it; of a list or table, say only that it is one."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        # Python refuses to print integers of many thousand digits, and TOML can hold them in hex.
        return str(value) if value.bit_length() <= 128 else f"an integer of {value.bit_length()} bits"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return f"the date or time {value.isoformat()}"
    if isinstance(value, (list, tuple)):
        return "a list" if value else "an empty list"
    if isinstance(value, dict):
        return "a table" if value else "an empty table"
    return f"a {type(value).__name__}"


def key_path(place: Sequence[str | int]) -> str:
    """Join keys as TOML does: `dirs."/out".write`, `args[0]`."""
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE_KEY.fullmatch(part) else quoted(part))
    return text


def line(*parts: str) -> str:
    """One problem's line: where, which task, which key, what; empty parts are left out."""
    return ": ".join(part for part in parts if part)


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, None when nothing is close."""
    plain = {_plain(name): name for name in known}
    # Only the start of a long word is compared: difflib takes quadratic time.
    found = difflib.get_close_matches(_plain(word[:LONGEST]), plain, n=1, cutoff=0.6)
    return plain[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str], offer: Iterable[str] | None = None) -> str:
    """End a sentence with a guess; without one, with the words on offer when they are few."""
    names = list(dict.fromkeys(known))
    found = closest(word, names)
    if found is not None:
        return f"; did you mean {quoted(found)}?"
    names = names if offer is None else list(offer)
    if 0 < len(names) <= 8:
        return f"; there {'is' if len(names) == 1 else 'are'} {listed(names, 'and')}"
    return ""


def listed(words: Sequence[str], joint: str) -> str:
    """Quote words and join them: `"a", "b" or "c"`."""
    return joined([quoted(word) for word in words], joint)


def joined(words: Sequence[str], joint: str) -> str:
    """Join words as they are: `a, b or c`."""
    return f" {joint} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")


def _escape(char: str) -> str:
    code = ord(char)
    return _NAMED_ESCAPES.get(char) or (f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
