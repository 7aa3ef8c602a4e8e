"""What the conversations share: what an untrusted message may hold at most, and what raises `ProtocolError`."""

from __future__ import annotations

import json
from typing import Any

from procstop.errors import ProcstopError
from procstop.model import Value

MAX_TEXT = 8 * 1024
"""Longest text of a report, in characters; wasmer writes trap messages of 14.6 MB."""
MAX_COUNT = 2**63

# Not as ASCII: its escapes would make a text of emoji three times as long, and too long for a message. Made once: what
# `json.dumps` makes for such options each time takes longer than most messages.
ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))
TRUE_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
"""Keeps what is no Unicode: an argument may be a path, and that any bytes."""


class ProtocolError(ProcstopError):
    """The other side broke the message format."""


def cut_text(text: str, most: int = MAX_TEXT) -> str:
    """Shorten a text to `most` characters, saying so where it was cut."""
    if len(text) <= most:
        return text
    return f"{text[:most]} ... ({len(text) - most} characters more)"


def encode_value(value: Value) -> Value:
    """Make a value safe for JSON: integers beyond 2^53 and floats that are not finite become strings."""
    if isinstance(value, int) and abs(value) > 2**53:
        return str(value)
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        return str(value)
    return value


# For decoders


def expect(right: bool, key: str) -> None:
    """Raise `ProtocolError` for a field that is not right."""
    if not right:
        raise ProtocolError(f'a message whose "{key}" is not as it must be')


def text_of(value: Any, key: str) -> str | None:
    """Return a field that is a text or null, cut and without what no terminal or file can take."""
    expect(value is None or isinstance(value, str), key)
    # JSON can spell half a surrogate pair.
    return None if value is None else cut_text(value.encode("utf-8", "replace").decode())


def is_count(value: Any) -> bool:
    """Tell whether it is a number of things."""
    return type(value) is int and 0 <= value < MAX_COUNT


def is_i64(value: Any) -> bool:
    """Tell whether it is an integer that a guest can have."""
    return type(value) is int and -MAX_COUNT <= value < MAX_COUNT


def is_seconds(value: Any) -> bool:
    """Tell whether a value is a length of time, or an instant, that could be true."""
    return type(value) in (int, float) and 0 <= value < 1e12


def is_pid(value: Any) -> bool:
    """Tell whether it can be the pid of a child."""
    return is_count(value) and 1 < value < 1 << 31
