"""The parts that sections are made of: numbers, names, types, and above all code. No I/O.

`CodeScan` tells which proposals the code of a module needs, without decoding it one instruction at a time.

An instruction is a *form*: a bytes pattern that spans it whole, and the features an engine must have to decode it.
`CodeScan` joins the forms whose features are known already into one pattern and lets the regex engine swallow
runs of them. What it stops at is new: look it up among all forms, note its features, and put the pattern together
again with those let through. So Python runs once per feature, not once per instruction.

The scan never raises, and validates nothing: at bytes that are no known instruction the scan of that body ends
with the feature "unknown-opcode", and the engine is left to judge. `Cursor` reads what is not code, and does raise.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

# Engines share this bound. Without it a hostile module of a few MB could ask us for GBs.
MOST_ENTRIES = 1_000_000
UNKNOWN = "unknown-opcode"
TAGS = "tags"
"""A tag or a throw, which both exception proposals have: `read_module` decides between them at the end."""

_NUMBERS = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64"}
_HEAP_TYPES = {
    0x70: ("func", "funcref", "reference-types"),
    0x6F: ("extern", "externref", "reference-types"),
    0x6E: ("any", "anyref", "gc"),
    0x6D: ("eq", "eqref", "gc"),
    0x6C: ("i31", "i31ref", "gc"),
    0x6B: ("struct", "structref", "gc"),
    0x6A: ("array", "arrayref", "gc"),
    0x71: ("none", "nullref", "gc"),
    0x72: ("noextern", "nullexternref", "gc"),
    0x73: ("nofunc", "nullfuncref", "gc"),
    0x69: ("exn", "exnref", "exceptions"),
    0x74: ("noexn", "nullexnref", "exceptions"),
    0x68: ("cont", "contref", "stack-switching"),
    0x75: ("nocont", "nullcontref", "stack-switching"),
}
"""Byte of an abstract heap type: its name, the name of the nullable reference to it, the proposal it is from."""


class _Form(NamedTuple):
    pattern: bytes
    features: frozenset[str]


# Every part below reads its bytes in one way only, and every repeat of a part has an upper bound. So when a match
# fails it fails at once, and the memory for backtracking stays small whatever the bytes are.
LEB = rb"[\x80-\xff]{0,9}[\x00-\x7f]"
"""Any number: an index, an offset, or the operand of a constant."""
_INDEX = rb"(?:[\x00-\x3f]|[\x80-\xff]{1,4}[\x00-\x3f])"
# Alignment and offset. Bit 6 of the alignment says that a memory index stands between them.
_MEMARG = rb"(?:[\x00-\x3f]|[\x80-\xbf][\x80-\xff]{0,3}[\x00-\x7f])" + LEB
_MEMARG_OF = rb"(?:[\x40-\x7f]|[\xc0-\xff][\x80-\xff]{0,3}[\x00-\x7f])" + LEB + LEB
_RUN = 500
_EXTENDED_CONST = (0x6A, 0x6B, 0x6C, 0x7C, 0x7D, 0x7E)
_CONSTANT = (0x41, 0x42, 0x43, 0x44, 0xD0, 0xD2, 0xFB, 0xFD)
_CHUNKS = (256, 16, 1)


def _vector(unit: bytes, most: int, more: int = 0) -> bytes:
    """A count up to `most`, and then that many units and `more`."""
    return b"(?:%b)" % b"|".join(rb"\x%02x(?:%b){%d}" % (n, unit, n + more) for n in range(most + 1))


def _heap_types() -> list[tuple[str, bytes]]:
    codes: dict[str, bytes] = {}
    for code, (_, _, feature) in _HEAP_TYPES.items():
        codes[feature] = codes.get(feature, b"") + rb"\x%02x" % code
    return [(feature, b"[%b]" % chars) for feature, chars in codes.items()]


def _value_types() -> list[tuple[str, bytes]]:
    spelled = [("function-references", rb"[\x63\x64](?:[\x6f\x70]|" + _INDEX + b")")]
    spelled += [(f"function-references {f}", rb"[\x63\x64]" + p) for f, p in _heap_types() if f != "reference-types"]
    return [("", rb"[\x7c-\x7f]"), ("simd", rb"\x7b"), *_heap_types(), *spelled]


def _block_types() -> list[tuple[str, bytes]]:
    # An engine without multi-value refuses every type index here, even one of () -> i32.
    return [("", rb"\x40"), ("multi-value", _INDEX), *_value_types()]


def _all_forms() -> list[_Form]:
    leb, one, other = LEB, _MEMARG, _MEMARG_OF
    # More than 8 catch clauses or handlers are not known here: a longer pattern costs every module its compilation.
    catches = _vector(rb"(?:[\x00\x01]%b%b|[\x02\x03]%b)" % (leb, leb, leb), 8)
    handlers = _vector(rb"(?:\x00%b%b|\x01%b)" % (leb, leb, leb), 8)
    table: list[tuple[str, bytes]] = [
        # The first version, the most frequent first: this order is the order in which they are tried.
        ("", rb"[\x0c\x0d\x10\x20-\x24\x41\x42]" + leb),
        ("", rb"[\x00\x01\x05\x0b\x0f\x1a\x1b\x45-\xbf]"),
        ("", rb"[\x28-\x3e]" + one),
        ("", rb"\x43.{4}|\x44.{8}"),
        ("", rb"\x0e" + _vector(leb, 15, more=1)),
        ("", rb"\x11%b\x00|[\x3f\x40]\x00" % leb),
        ("sign-extension", rb"[\xc0-\xc4]"),
        # A table or memory index other than the single byte 0; compilers write 0 as a long number as well.
        ("reference-types", rb"\x11%b(?:[\x01-\x7f]|[\x80-\xff]{1,4}[\x00-\x7f])" % leb),
        ("multi-memory", rb"[\x3f\x40](?:[\x01-\x7f]|[\x80-\xff]{1,4}[\x00-\x7f])"),
        ("multi-memory", rb"[\x28-\x3e]" + other),
        *((f, rb"[\x02-\x04]" + p) for f, p in _block_types()),
        ("nontrapping-fptoint", rb"\xfc[\x00-\x07]"),
        ("bulk-memory", rb"\xfc(?:\x08%b\x00|\x0a\x00\x00|\x0b\x00)" % leb),
        ("bulk-memory", rb"\xfc(?:[\x09\x0d]%b|[\x0c\x0e]%b%b)" % (leb, leb, leb)),
        ("bulk-memory multi-memory", rb"\xfc(?:\x08%b%b|\x0a%b%b|\x0b%b)" % (leb, leb, leb, leb, leb)),
        ("reference-types", rb"[\x25\x26\xd2]%b|\xd1|\xfc[\x0f-\x11]%b" % (leb, leb)),
        *((f"reference-types {f}", rb"\x1c\x01" + p) for f, p in _value_types()),
        *((f, rb"\xd0" + p) for f, p in _heap_types()),
        ("function-references", rb"\xd0%b|\xd4|[\x14\xd5\xd6]%b" % (_INDEX, leb)),
        ("tail-call", rb"\x12%b|\x13%b%b" % (leb, leb, leb)),
        ("tail-call function-references", rb"\x15" + leb),
        ("wide-arithmetic", rb"\xfc[\x13-\x16]"),
        # Two exception proposals: try, catch, rethrow, delegate, catch_all; and throw_ref, try_table.
        (TAGS, rb"\x08" + leb),
        ("legacy-exceptions", rb"[\x07\x09\x18]%b|\x19" % leb),
        *((f"legacy-exceptions {f}", rb"\x06" + p) for f, p in _block_types()),
        ("exceptions", rb"\x0a"),
        *((f"exceptions {f}", rb"\x1f" + p + catches) for f, p in _block_types()),
        # Loads and stores, v128.const and shuffle, lanes, loads and stores of a lane; then everything without operand.
        ("simd", rb"\xfd[\x00-\x0b\x5c\x5d]%b|\xfd[\x0c\x0d].{16}|\xfd[\x15-\x22].|\xfd[\x54-\x5b]%b." % (one, one)),
        ("simd", rb"\xfd(?:[\x0e-\x14\x23-\x53\x5e-\x7f]|[\x80-\xff]\x01)"),
        ("simd multi-memory", rb"\xfd[\x00-\x0b\x5c\x5d]%b|\xfd[\x54-\x5b]%b." % (other, other)),
        ("relaxed-simd", rb"\xfd[\x80-\x93]\x02"),
        ("threads", rb"\xfe(?:[\x00-\x02\x10-\x4e]%b|\x03\x00)" % one),
        ("threads multi-memory", rb"\xfe[\x00-\x02\x10-\x4e]" + other),
        ("gc", rb"\xd3|\xfb(?:[\x0f\x1a-\x1e]|[\x00\x01\x06\x07\x0b-\x0e\x10\x14-\x17]%b)" % leb),
        ("gc", rb"\xfb(?:[\x02-\x05\x08-\x0a\x11-\x13]%b%b|[\x18\x19].%b%b%b)" % (leb, leb, leb, leb, leb)),
        ("stack-switching", rb"[\xe0\xe2]%b|[\xe1\xe6]%b%b" % (leb, leb, leb)),
        ("stack-switching", rb"[\xe3\xe5]%b%b|\xe4%b%b%b" % (leb, handlers, leb, leb, handlers)),
    ]
    return [_Form(pattern, frozenset(names.split())) for names, pattern in table]


# All tables are made on first use: a worker that asks for imports and exports alone must not wait for them.
@cache
def _forms() -> tuple[tuple[_Form, ...], re.Pattern[bytes]]:
    """Return the forms, and a pattern whose group number n is the n-th form."""
    forms = tuple(_all_forms())
    return forms, re.compile(b"|".join(b"(%b)" % form.pattern for form in forms), re.DOTALL)


@cache
def _ordinary(known: frozenset[str]) -> re.Pattern[bytes]:
    """Match a run of instructions that need nothing beyond `known`."""
    patterns = [form.pattern for form in _forms()[0] if form.features <= known]
    return re.compile(b"(?:%b){0,%d}" % (b"|".join(patterns), _RUN), re.DOTALL)


@cache
def _one_local() -> tuple[tuple[str, ...], re.Pattern[bytes]]:
    """Return the features of local types, and a pattern whose group number n is of the n-th."""
    features, patterns = zip(*_value_types(), strict=True)
    return features, re.compile(LEB + b"(?:%b)" % b"|".join(b"(%b)" % pattern for pattern in patterns))


@cache
def _ordinary_local(known: frozenset[str]) -> bytes:
    return LEB + b"(?:%b)" % b"|".join(p for names, p in _value_types() if known.issuperset(names.split()))


@cache
def _ordinary_constant(known: frozenset[str]) -> bytes:
    """Return a pattern of one constant instruction without type operand that needs nothing beyond `known`."""
    table = [("", rb"[\x41\x42]%b|\x43.{4}|\x44.{8}" % LEB), ("extended-const", rb"[\x6a-\x6c\x7c-\x7e]")]
    table += [("reference-types", rb"\xd2" + LEB), *((feature, rb"\xd0" + p) for feature, p in _heap_types())]
    return b"(?:%b)" % b"|".join(pattern for feature, pattern in table if not feature or feature in known)


@cache
def _times(unit: bytes, count: int) -> re.Pattern[bytes]:
    return re.compile(b"(?:%b){%d}" % (unit, count), re.DOTALL)


def leb(data: bytes, pos: int, end: int, bits: int = 32) -> tuple[int, int] | None:
    """Return the unsigned number at `pos` and the position after it; None if there is none of that many bits."""
    value = shift = 0
    for at in range(pos, min(end, pos + (bits + 6) // 7)):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return None if value >> bits else (value, at + 1)
        shift += 7
    return None


def skip_units(data: bytes, pos: int, end: int, count: int, unit: bytes = LEB) -> tuple[int, int]:
    """Pass over up to `count` matches of `unit`, numbers by default; return the position and how many are left."""
    for step in _CHUNKS:
        match = _times(unit, step).match
        while count >= step and (found := match(data, pos, end)):
            pos, count = found.end(), count - step
    return pos, count


class CodeScan:
    """A scan of any number of bodies and constant expressions; `features` grows as they are read."""

    def __init__(self) -> None:
        self.features: frozenset[str] = frozenset()

    def need(self, *features: str) -> None:
        """Note features that something beside the code needs."""
        self.features = self.features.union(features)

    def body(self, data: bytes, pos: int, end: int) -> None:
        """Scan the locals and code of one function."""
        after = self._locals(data, pos, end)
        run = _ordinary(self.features).match
        while after is not None and after < end:
            found = run(data, after, end)
            if found is not None and found.end() > after:
                after = found.end()
                continue
            after = self._instruction(data, after, end)
            run = _ordinary(self.features).match
        if after is None:
            self.need(UNKNOWN)

    def constants(self, data: bytes, pos: int, end: int, count: int, imported_globals: int) -> int | None:
        """Scan constant expressions; return the position after the `end` of the last, or None if that was not found."""
        after: int | None = pos
        while after is not None and count:
            after, count = skip_units(data, after, end, count, _ordinary_constant(self.features) + rb"\x0b")
            if count:
                after, count = self._constant(data, after, end, imported_globals), count - 1
        return after

    def _constant(self, data: bytes, pos: int, end: int, imported_globals: int) -> int | None:
        after: int | None = pos
        while after is not None and after < end:
            after, _ = skip_units(data, after, end, end, _ordinary_constant(self.features))
            opcode = data[after] if after < end else -1
            if opcode == 0x0B:
                return after + 1
            if opcode in _EXTENDED_CONST:
                self.need("extended-const")
            elif opcode == 0x23 and (index := leb(data, after + 1, end)):
                # Only GC lets an initial value use a global that the module defines itself.
                if index[0] >= imported_globals:
                    self.need("gc")
                after = index[1]
            else:
                after = self._instruction(data, after, end) if opcode in _CONSTANT else None
        self.need(UNKNOWN)
        return None

    def _locals(self, data: bytes, pos: int, end: int) -> int | None:
        head = leb(data, pos, end)
        if head is None:
            return None
        left, after = head
        if left == 0:
            return after
        while left:
            after, left = skip_units(data, after, end, left, _ordinary_local(self.features))
            if left:
                features, pattern = _one_local()
                found = pattern.match(data, after, end)
                if found is None or found.lastindex is None:
                    return None
                self.need(*features[found.lastindex - 1].split())
                after, left = found.end(), left - 1
        return after

    def _instruction(self, data: bytes, pos: int, end: int) -> int | None:
        """Note what one instruction needs; return the position after it, or None if it is not known."""
        forms, pattern = _forms()
        found = pattern.match(data, pos, end)
        if found is not None and found.lastindex is not None:
            self.need(*forms[found.lastindex - 1].features)
            return found.end()
        if data[pos] == 0x0E and (head := leb(data, pos + 1, end)):
            # A br_table with more labels than its form allows for: the labels, and the default.
            after, left = skip_units(data, head[1], end, head[0] + 1)
            return None if left else after
        return None


class Malformed(Exception):
    """The bytes break the binary format; the text says where."""


class Cursor:
    """A position in the bytes of a module, the end of the part that may be read, and the features found there."""

    def __init__(self, data: bytes, pos: int) -> None:
        self.data, self.pos, self.end = data, pos, len(data)
        self.section, self.section_at = "header", 0
        self.scan = CodeScan()
        self.imported_globals = 0

    def wrong(self, what: str) -> Malformed:
        return Malformed(f'section "{self.section}" at byte {self.section_at}: {what}')

    def unknown(self, what: str, code: int) -> Malformed:
        return self.wrong(f"{what} 0x{code:02x} before byte {self.pos} is not known")

    def next_is(self, *codes: int) -> bool:
        return self.pos < self.end and self.data[self.pos] in codes

    def byte(self) -> int:
        if self.pos >= self.end:
            raise self.wrong("ends too early")
        self.pos += 1
        return self.data[self.pos - 1]

    def number(self, bits: int = 32) -> int:
        if self.pos < self.end and (byte := self.data[self.pos]) < 0x80:
            self.pos += 1
            return byte
        found = leb(self.data, self.pos, self.end, bits)
        if found is None:
            raise self.wrong(f"no number of {bits} bits at byte {self.pos}")
        value, self.pos = found
        return value

    def count(self, most: int = MOST_ENTRIES) -> int:
        """Read how many entries follow. Each takes a byte or more, so the bytes that are left bound it."""
        value, left = self.number(), self.end - self.pos
        if value > left:
            raise self.wrong(f"truncated: {value} entries, {left} bytes are left")
        if value > most:
            raise self.wrong(f"{value} entries, at most {most} are allowed")
        return value

    def each(self, read: Callable[[], object]) -> None:
        for _ in range(self.count()):
            read()

    def skip(self, size: int) -> None:
        if size > self.end - self.pos:
            raise self.wrong(f"truncated: {size} bytes at byte {self.pos}, {self.end - self.pos} are left")
        self.pos += size

    def name(self) -> str:
        size, at = self.number(), self.pos
        self.skip(size)
        try:
            return self.data[at : self.pos].decode("utf-8")
        except UnicodeDecodeError:
            raise self.wrong(f"the name at byte {at} is not UTF-8") from None

    def constants(self, count: int = 1) -> bool:
        """Pass over constant expressions; where the scan is lost, go to the end of the section, return False."""
        after = self.scan.constants(self.data, self.pos, self.end, count, self.imported_globals)
        self.pos = self.end if after is None else after
        return after is not None

    def value_type(self) -> str:
        code = self.byte()
        if code in _NUMBERS:
            return _NUMBERS[code]
        if code == 0x7B:
            self.scan.need("simd")
            return "v128"
        if code in _HEAP_TYPES:
            self.scan.need(_HEAP_TYPES[code][2])
            return _HEAP_TYPES[code][1]
        if code not in (0x63, 0x64):
            raise self.unknown("value type", code)
        self.scan.need("function-references")
        return f"(ref {'null ' if code == 0x63 else ''}{self.heap_type()})"

    def heap_type(self) -> str:
        if not self.next_is(*_HEAP_TYPES):
            return str(self.number())
        name, _, feature = _HEAP_TYPES[self.byte()]
        # Spelled out, (ref func) and (ref extern) are of function-references.
        self.scan.need("function-references" if feature == "reference-types" else feature)
        return name

    def limits(self, known: int) -> tuple[int, int, int | None, str]:
        """Return the flags, of which those in `known` are allowed, the two limits, and both as text."""
        flags = self.byte()
        if flags & ~known:
            raise self.unknown("limits", flags)
        if flags & 4:
            self.scan.need("memory64")
        bits = 64 if flags & 4 else 32
        least = self.number(bits)
        most = self.number(bits) if flags & 1 else None
        return flags, least, most, f"{least}.." if most is None else f"{least}..{most}"
