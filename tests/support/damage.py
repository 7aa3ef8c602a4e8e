"""Ways in which a file's bytes go wrong, drawn at random from a seed."""

from __future__ import annotations

from random import Random

KINDS = (
    "flip a bit",
    "cut off",
    "append",
    "zero a range",
    "another file",
    "drop a byte",
    "double a byte",
    "swap halves",
)


def damage(random: Random, data: bytes, other: bytes = b"") -> bytes:
    """Return bytes that differ from `data`; `other` is what another file holds."""
    while True:
        changed = _damaged(random, random.choice(KINDS), data, other)
        # To zero what is zero already is no damage.
        if changed != data:
            return changed


def _damaged(random: Random, kind: str, data: bytes, other: bytes) -> bytes:
    at = random.randrange(len(data))
    if kind == "flip a bit":
        return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
    if kind == "cut off":
        return data[:at]
    if kind == "append":
        return data + random.randbytes(random.randint(1, 5000))
    if kind == "zero a range":
        end = min(len(data), at + random.randint(1, 5000))
        return data[:at] + bytes(end - at) + data[end:]
    if kind == "drop a byte":
        return data[:at] + data[at + 1 :]
    if kind == "double a byte":
        return data[:at] + data[at : at + 1] + data[at:]
    if kind == "swap halves":
        return data[at:] + data[:at]
    return other
