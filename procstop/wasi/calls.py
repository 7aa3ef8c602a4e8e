"""Make a method of ours callable by an engine: mask the arguments, turn what goes wrong into an errno.

An engine hands over Python ints, negative where the guest meant large unsigned ones. What a guest can cause
ends as an errno, whichever exception Python has for it; anything else, BaseExceptions of the host first of
all, passes through and unwinds the guest.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from procstop.wasi import abi

Call = Callable[..., int]


def guarded(function: Call, signature: str) -> Call:
    """`function` with arguments masked by `signature`, see `abi.SIGNATURES`."""
    if signature == "iiii":
        # fd_read and fd_write: worth the few lines.
        def call4(a: int, b: int, c: int, d: int) -> int:
            try:
                return function(a & abi.U32, b & abi.U32, c & abi.U32, d & abi.U32)
            except _CAUGHT as error:
                return _number(error)

        return call4

    masks = tuple(abi.U64 if kind == "I" else abi.U32 for kind in signature)

    def call(*arguments: int) -> int:
        try:
            return function(*[value & mask for value, mask in zip(arguments, masks)])
        except _CAUGHT as error:
            return _number(error)

    return call


_CAUGHT = (abi.WasiError, OSError, struct.error, OverflowError, MemoryError, NotImplementedError)


def _number(error: Exception) -> int:
    if isinstance(error, abi.WasiError):
        return error.number
    if isinstance(error, OSError):
        return abi.from_host(error)
    if isinstance(error, struct.error):
        # Only pack_into and unpack_from with a pointer of the guest's raise it.
        return abi.FAULT
    if isinstance(error, OverflowError):
        return abi.OVERFLOW
    return abi.NOMEM if isinstance(error, MemoryError) else abi.NOTSUP
