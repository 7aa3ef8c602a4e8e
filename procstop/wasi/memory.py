"""Read and write the guest's memory. A pointer that leads outside is an errno, never an exception of Python's.

`Struct.unpack_from` and `pack_into` check bounds themselves (`struct.error` becomes FAULT in `calls`); a slice
of a memoryview does not, it just comes out shorter, so everything that slices goes through `view`.
"""

from __future__ import annotations

from typing import Final

from procstop.wasi import abi

# IOV_MAX of Linux. More vectors than this are legal; a short read or write says how far it went.
MAX_VECTORS: Final = 1024


def view(memory: memoryview, pointer: int, size: int) -> memoryview:
    """The guest's bytes from `pointer` on, without a copy."""
    if pointer + size > len(memory):
        raise abi.WasiError(abi.FAULT)
    return memory[pointer : pointer + size]


def path(memory: memoryview, pointer: int, size: int) -> bytes:
    """A path as the host takes it: valid UTF-8 without NUL."""
    name = view(memory, pointer, size)
    # Before the copy: a size of 4 GiB is legal here.
    if size >= 1 << 16:
        raise abi.WasiError(abi.NAMETOOLONG)
    data = bytes(name)
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        raise abi.WasiError(abi.ILSEQ) from None
    if b"\0" in data:
        raise abi.WasiError(abi.INVAL)
    return data


def vectors(memory: memoryview, pointer: int, count: int) -> list[memoryview]:
    """The buffers of an iovec array, the empty ones left out."""
    if count == 1:
        # What nearly all calls are; worth the few lines.
        start, size = abi.pair.unpack_from(memory, pointer)
        buffer = memory[start : start + size]
        if len(buffer) != size:
            raise abi.WasiError(abi.FAULT)
        return [buffer] if size else []
    table = view(memory, pointer, min(count, MAX_VECTORS) * 8)
    limit = len(memory)
    buffers = []
    for start, size in abi.pair.iter_unpack(table):
        if start + size > limit:
            raise abi.WasiError(abi.FAULT)
        if size:
            buffers.append(memory[start : start + size])
    return buffers


def strings(memory: memoryview, items: list[bytes], pointers: int, buffer: int) -> None:
    """Write NUL-terminated strings one after the other, and the table of their addresses."""
    view(memory, pointers, 4 * len(items))
    target = view(memory, buffer, sum(map(len, items)) + len(items))
    offset = 0
    for index, item in enumerate(items):
        abi.u32.pack_into(memory, pointers + 4 * index, (buffer + offset) & abi.U32)
        target[offset : offset + len(item) + 1] = item + b"\0"
        offset += len(item) + 1
