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
    masks = tuple(abi.U64 if kind == "I" else abi.U32 for kind in signature)

    def call(*arguments: int) -> int:
        try:
            return function(*[value & mask for value, mask in zip(arguments, masks, strict=True)])
        except _CAUGHT as error:
            return _number(error)

    # Clocks, reads and writes are called millions of times: without the loop they cost half as much.
    if len(masks) == 3:
        return _guarded3(function, *masks)
    if len(masks) == 4:
        return _guarded4(function, *masks)
    return call


def _guarded3(function: Call, mask_a: int, mask_b: int, mask_c: int) -> Call:
    def call(a: int, b: int, c: int) -> int:
        try:
            return function(a & mask_a, b & mask_b, c & mask_c)
        except _CAUGHT as error:
            return _number(error)

    return call


def _guarded4(function: Call, mask_a: int, mask_b: int, mask_c: int, mask_d: int) -> Call:
    def call(a: int, b: int, c: int, d: int) -> int:
        try:
            return function(a & mask_a, b & mask_b, c & mask_c, d & mask_d)
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
