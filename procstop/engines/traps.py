"""One vocabulary for traps: what each engine says, and what a report says for it."""

from __future__ import annotations

# In this order: some engine texts hold the words of another reason.
_REASONS = (
    ("unreachable", ("unreachable",)),
    ("call stack exhausted", ("call stack exhausted", "stack overflow")),
    ("out of bounds table access", ("undefined element", "out of bounds table access", "table out of bounds")),
    ("indirect call to null", ("uninitialized element", "indirect call to null")),
    ("indirect call type mismatch", ("indirect call type mismatch", "indirect call signature mismatch")),
    ("out of bounds memory access", ("out of bounds memory access", "memory out of bounds")),
    ("unaligned atomic", ("unaligned atomic", "misaligned")),
    ("integer divide by zero", ("integer divide by zero",)),
    ("invalid conversion to integer", ("invalid conversion to integer",)),
    ("integer overflow", ("integer overflow",)),
)


def trap_reason(text: str) -> str:
    """Return the common words for an engine's trap text; its own first line where there are none."""
    for reason, spellings in _REASONS:
        if any(spelling in text for spelling in spellings):
            return reason
    lines = text.strip().splitlines()
    return lines[0][:500] if lines else "trap"


def trap_text(reason: str, function: int | None, name: str | None) -> str:
    """Say why and where: `unreachable, in function 3 "run"`."""
    if function is None:
        return reason
    return f'{reason}, in function {function} "{name}"' if name else f"{reason}, in function {function}"
