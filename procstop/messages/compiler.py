"""What a compiler says to the supervisor: one answer, and no more.

The module that it compiled may have taken it over, so it is untrusted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from procstop.messages.bounds import ENCODER, ProtocolError, expect, text_of


@dataclass(frozen=True)
class Compiled:
    """What a compiler says: whether the cache has the artifact, and why not; or why there is none.

    `out_of_memory` says that it is for its own limit that there is none.
    """

    stored: bool = False
    note: str | None = None
    error: str | None = None
    out_of_memory: bool = False


def encode_compiled(compiled: Compiled) -> bytes:
    """Write a compiler's answer as JSON."""
    return ENCODER.encode(list(vars(compiled).values())).encode("utf-8", "replace")


def decode_compiled(data: bytes) -> Compiled:
    """Read a compiler's answer; raise `ProtocolError` for anything else."""
    try:
        stored, note, error, out_of_memory = json.loads(data)
    except (ValueError, TypeError, RecursionError):
        raise ProtocolError("an answer that is no answer") from None
    expect(type(stored) is bool, "stored")
    expect(type(out_of_memory) is bool, "out_of_memory")
    return Compiled(stored, text_of(note, "note"), text_of(error, "error"), out_of_memory)
