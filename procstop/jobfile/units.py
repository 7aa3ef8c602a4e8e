"""Durations and sizes as a job file writes them: a number with a unit, never a bare number.

Durations are `2s`, `500ms`, `1m`, `1h30m`, `1.5s`, `30d`: larger units first, each at most once, a fraction
only in the last. Sizes are `512B`, `10MB` (1000 to a step) and `256MiB` (1024 to a step), whole bytes.
Parsing is exact, so what `format_duration` and `format_size` write reads back as the same number. Every
`ValueError` raised here is a sentence for the user, without the name of the key.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

from procstop.jobfile.wording import quoted, show

_SECONDS = {
    "d": Fraction(86400),
    "h": Fraction(3600),
    "m": Fraction(60),
    "s": Fraction(1),
    "ms": Fraction(1, 1000),
}
_BYTES = {
    "B": 1,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
}

MAX_DURATION = 36500 * 86400.0
"""A hundred years; more is a slip of the pen, and overflows the clocks further down."""
MAX_SIZE = 2**53
"""Above this JSON numbers are no longer exact."""
_MAX_TEXT = 64
_SURELY_BYTES = 1 << 16
"""A size without a unit from here on was meant in bytes: nobody has so many MiB in mind."""

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_DURATION_PART = re.compile(rf"({_NUMBER})(ms|[dhms])")
DURATION_PATTERN = rf"(?:{_NUMBER}(?:d|h|ms|m|s))+"
"""For the JSON schema, which editors read: a little wider than what `parse_duration` takes."""
SIZE_PATTERN = rf"{_NUMBER}(?:{'|'.join(_BYTES)})"

_DURATION_ALIASES = {
    "d": ("day", "days"),
    "h": ("hour", "hours", "hr", "hrs"),
    "m": ("min", "mins", "minute", "minutes"),
    "s": ("sec", "secs", "second", "seconds"),
    "ms": ("msec", "msecs", "millis", "millisecond", "milliseconds"),
}
_SIZE_ALIASES = {"kB": ("k",), "MB": ("m",), "GB": ("g",), "TB": ("t",), "B": ("byte", "bytes")}


def parse_duration(value: object, unit: str = "s") -> float:
    """Read a duration; return seconds. The value may be of any type: what is no duration is explained.

    `unit` is the one to propose for a bare number.
    """
    text = _text_with_unit(value, "duration", unit)
    if text.startswith("-"):
        raise ValueError(f"a duration cannot be negative, got {show(value)}")
    seconds = _duration(text)
    if seconds is None:
        meant = _plain_duration(text)
        raise ValueError(f"not a duration, got {show(value)}; write {meant}")
    if seconds > MAX_DURATION:
        raise ValueError(f"must be at most {format_duration(MAX_DURATION)}, got {show(value)}")
    return float(seconds)


def format_duration(seconds: float) -> str:
    """Write seconds so that they read back exactly: 5400.0 is `1h30m`, 0.5 is `500ms`."""
    # repr is the shortest text of the float, so 0.1 is a tenth here and not its binary neighbour.
    rest = Decimal(repr(float(seconds)))
    if rest == 0:
        return "0s"
    if rest < 1:
        return _decimal(rest * 1000) + "ms"
    text = ""
    for unit in ("d", "h", "m"):
        count, rest = divmod(rest, int(_SECONDS[unit]))
        if count:
            text += f"{count:f}{unit}"
    return text + (_decimal(rest) + "s" if rest else "")


def parse_size(value: object, unit: str = "MiB") -> int:
    """Read a size; return bytes. The value may be of any type: what is no size is explained.

    `unit` is the one to propose for a bare number.
    """
    text = _text_with_unit(value, "size", unit)
    if text.startswith("-"):
        raise ValueError(f"a size cannot be negative, got {show(value)}")
    found = re.fullmatch(rf"({_NUMBER})([A-Za-z]+)", text) if len(text) <= _MAX_TEXT else None
    if found is None or found[2] not in _BYTES:
        raise ValueError(f"not a size, got {show(value)}; write {_plain_size(text)}")
    size = Fraction(found[1]) * _BYTES[found[2]]
    if size > MAX_SIZE:
        raise ValueError(f"must be at most {format_size(MAX_SIZE)}, got {show(value)}")
    if size.denominator != 1:
        raise ValueError(f"must be a whole number of bytes, got {show(value)}")
    return int(size)


def format_size(size: int) -> str:
    """Write bytes in the unit that gives the smallest whole number: 268435456 is `256MiB`."""
    if size == 0:
        return "0B"
    unit = max((unit for unit in _BYTES if size % _BYTES[unit] == 0), key=_BYTES.__getitem__)
    return f"{size // _BYTES[unit]}{unit}"


def _text_with_unit(value: object, what: str, unit: str) -> str:
    """The stripped text of a value, or the reason why it cannot be a number with a unit."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if isinstance(value, int) and value.bit_length() > 64:
            raise ValueError(f"a {what} needs a unit, got {show(value)}")
        raise ValueError(f"a {what} needs a unit, got {show(value)}; write {_with_unit(show(value), what, unit)}")
    if not isinstance(value, str):
        raise ValueError(f"must be a {what} such as {quoted('10' + unit)}, got {show(value)}")
    text = value.strip()
    if len(text) <= _MAX_TEXT and re.fullmatch(_NUMBER, text):
        raise ValueError(f"a {what} needs a unit, got {show(value)}; write {_with_unit(text, what, unit)}")
    return text


def _with_unit(number: str, what: str, unit: str) -> str:
    """A bare number with the unit that was probably meant, quoted."""
    if what == "size" and number.isdecimal() and _SURELY_BYTES <= int(number) <= MAX_SIZE:
        return quoted(format_size(int(number)))
    return quoted(number + unit)


def _duration(text: str) -> Fraction | None:
    """Seconds of a well-formed duration, None for anything else."""
    if not text or len(text) > _MAX_TEXT or not re.fullmatch(DURATION_PATTERN, text):
        return None
    parts = _DURATION_PART.findall(text)
    units = [unit for _, unit in parts]
    order = list(_SECONDS)
    if [order.index(unit) for unit in units] != sorted({order.index(unit) for unit in units}):
        return None
    if any("." in number for number, _ in parts[:-1]):
        return None
    return sum((Fraction(number) * _SECONDS[unit] for number, unit in parts), Fraction(0))


def _plain_duration(text: str) -> str:
    """A duration that the text may have meant, quoted; else examples."""
    number, word = _number_and_word(text)
    for unit, aliases in _DURATION_ALIASES.items():
        if word == unit or word in aliases:
            return quoted(number + unit)
    return 'a number and a unit, as in "500ms", "10s" or "1h30m"'


def _plain_size(text: str) -> str:
    """A size that the text may have meant, quoted; else examples."""
    number, word = _number_and_word(text)
    for unit in _BYTES:
        if word == unit.lower() or word in _SIZE_ALIASES.get(unit, ()):
            return quoted(number + unit)
    return 'a number and a unit, as in "64KiB", "10MB" or "256MiB"'


def _number_and_word(text: str) -> tuple[str, str]:
    found = re.fullmatch(rf"({_NUMBER})\s*([a-z]+)", text.lower()) if len(text) <= _MAX_TEXT else None
    return (found[1], found[2]) if found is not None else ("", "")


def _decimal(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
