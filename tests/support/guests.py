"""The guests: those of tests/guests and of the selftest as bytes, and large or broken ones that are made here."""

from __future__ import annotations

import hashlib
from pathlib import Path

from procstop.preflight import read_sources
from support.places import GUESTS, SHIPPED_GUESTS


class Guests:
    """Give the path of a guest by its name. Text is turned into bytes once, all of it by one process."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        paths = [*SHIPPED_GUESTS.glob("*.wat"), *GUESTS.glob("*.wat")]
        self._texts = {path.stem: str(path) for path in sorted(paths)}
        assert len(self._texts) == len(paths), "a guest of tests/guests has the name of one that is shipped"
        for path, source in read_sources(self._texts.values()).items():
            assert isinstance(source.module, bytes), f"{path}: {source.error}"
            (directory / f"{Path(path).stem}.wasm").write_bytes(source.module)

    def __getitem__(self, name: str) -> str:
        path = self._directory / f"{name}.wasm"
        assert path.exists(), f"there is no guest {name!r}"
        return str(path)

    def text(self, name: str) -> str:
        """Return the path of a guest's text."""
        return self._texts[name]

    def empty(self) -> str:
        """A file of 0 bytes."""
        return self._made("empty", b"")

    def garbage(self) -> str:
        """A file that begins as a module and goes on as none."""
        return self._made("garbage", b"\0asm\1\0\0\0" + bytes(range(1, 256)) * 40)

    def noise(self) -> str:
        """A file that is no module at all."""
        return self._made("noise", bytes(range(255, 0, -1)) * 40)

    def component(self) -> str:
        """The header of a component, which is not a module."""
        return self._made("component", b"\0asm\x0d\0\1\0")

    def invalid_body(self) -> str:
        """A module that is well formed, and whose only function leaves a value on the stack."""
        parts = (_section(1, b"\1\x60\0\0"), _section(3, b"\1\0"), _section(7, b"\1\6_start\0\0"))
        return self._made("invalid_body", b"\0asm\1\0\0\0" + b"".join(parts) + _section(10, b"\1\4\0\x41\0\x0b"))

    def huge(self) -> str:
        """A module of 20 MB: 2,000 functions, and data. Its "run" returns the data's last byte, 42."""
        return self._made("huge", _huge(20_000_000, 2_000))

    def large(self, tag: str) -> str:
        """A module of 1.6 MB that takes a while to compile; another one for each tag. Its "run" returns 42."""
        return self._made(f"large-{hashlib.sha256(tag.encode()).hexdigest()[:16]}", _large(tag.encode(), 400, 400))

    def _made(self, name: str, data: bytes) -> str:
        path = self._directory / f"{name}.wasm"
        if not path.exists():
            path.write_bytes(data)
        return str(path)


def _huge(size: int, functions: int) -> bytes:
    pages = size // 65536 + 1
    body = b"\0" + b"\x20\0\x41\1\x6a" + b"\x0b"  # local.get 0, i32.const 1, i32.add
    # i32.const address, i32.load8_u
    run = b"\0" + b"\x41" + _signed(size - 1) + b"\x2d\0\0" + b"\x0b"
    bodies = [body] * functions + [run]
    return b"".join(
        (
            b"\0asm\1\0\0\0",
            _section(1, b"\2" + b"\x60\1\x7f\1\x7f" + b"\x60\0\1\x7f"),
            _section(3, _unsigned(functions + 1) + b"\0" * functions + b"\1"),
            _section(5, b"\1\0" + _unsigned(pages)),
            _section(7, b"\1\3run\0" + _unsigned(functions)),
            _section(10, _unsigned(len(bodies)) + b"".join(_unsigned(len(one)) + one for one in bodies)),
            _section(11, b"\1\0\x41\0\x0b" + _unsigned(size) + b"\7" * (size - 1) + b"\x2a"),
        )
    )


def _large(tag: bytes, functions: int, length: int) -> bytes:
    # local.get 0, i32.const 3, i32.mul, i32.const 1, i32.add, local.set 0: again and again
    body = b"\0" + b"\x20\0\x41\3\x6c\x41\1\x6a\x21\0" * length + b"\x20\0\x0b"
    bodies = [body] * functions + [b"\0\x41\x2a\x0b"]
    return b"".join(
        (
            b"\0asm\1\0\0\0",
            _section(0, b"\3tag" + tag),
            _section(1, b"\2" + b"\x60\1\x7f\1\x7f" + b"\x60\0\1\x7f"),
            _section(3, _unsigned(functions + 1) + b"\0" * functions + b"\1"),
            _section(7, b"\1\3run\0" + _unsigned(functions)),
            _section(10, _unsigned(len(bodies)) + b"".join(_unsigned(len(one)) + one for one in bodies)),
        )
    )


def _section(number: int, content: bytes) -> bytes:
    return bytes([number]) + _unsigned(len(content)) + content


def _unsigned(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _signed(value: int) -> bytes:
    out = bytearray()
    while not -64 <= value < 64:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value & 0x7F])
