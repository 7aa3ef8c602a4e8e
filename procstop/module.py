"""What a WebAssembly binary says about itself: imports, exports, memories, and the proposals it needs. No I/O.

`read_module` walks the sections once and compiles nothing. The bytes are hostile until shown otherwise: a count is
held against the bytes that are left before anything is allocated, and whatever is malformed raises `NotAModule`.
Types in function bodies are not checked, that is for the engine; `opcodes` looks through the bodies for features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from procstop.errors import GuestError
from procstop.opcodes import MOST_ENTRIES, TAGS, Cursor, Malformed, skip_units

Kind = Literal["func", "table", "memory", "global", "tag"]


class NotAModule(GuestError):
    """The bytes are no WebAssembly module that procstop can run; the text says why."""


@dataclass(frozen=True, slots=True)
class FuncType:
    """A signature; `str()` gives "(i32, i32) -> i32"."""

    params: tuple[str, ...]
    results: tuple[str, ...]

    def __str__(self) -> str:
        results = ", ".join(self.results)
        return f"({', '.join(self.params)}) -> {results if len(self.results) == 1 else f'({results})'}"


@dataclass(frozen=True, slots=True)
class Memory:
    """Limits in pages of `page_size` bytes; `maximum` is None where the module sets none."""

    minimum: int
    maximum: int | None
    memory64: bool = False
    shared: bool = False
    page_size: int = 65536
    imported: bool = False


@dataclass(frozen=True, slots=True)
class Import:
    """A thing the host must provide; `text` describes any kind, `type` is there for functions only."""

    module: str
    name: str
    kind: Kind
    type: FuncType | None
    text: str


@dataclass(frozen=True, slots=True)
class Export:
    """A thing the module offers; `type` is there for functions only."""

    name: str
    kind: Kind
    type: FuncType | None


@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """What `read_module` found. Names are as in the binary: they may hold newlines and escape sequences.

    `features` are proposals beyond the first version of WebAssembly, by their usual names, and "unknown-opcode" where
    the scan lost its way. `start` is the index of the start function, `size` the bytes of the module.
    """

    imports: tuple[Import, ...]
    exports: dict[str, Export]
    start: int | None
    memories: tuple[Memory, ...]
    features: frozenset[str]
    wasi: str | None
    size: int


_KINDS: tuple[Kind, ...] = ("func", "table", "memory", "global", "tag")
_MOST_PARAMS = 1000


def read_module(data: bytes, scan_code: bool = True) -> ModuleInfo:
    """Describe a WebAssembly binary; raise `NotAModule` if it is none.

    Without `scan_code` function bodies are passed over, and `features` has only what the other sections show;
    a module with tags then counts as one with "exceptions", where its code might show "legacy-exceptions".
    """
    _check_header(data)
    reader = _Reader(data)
    try:
        _read_sections(reader, scan_code)
    except Malformed as error:
        raise NotAModule(str(error)) from None
    return reader.info()


def _read_sections(reader: _Reader, scan_code: bool) -> None:
    place = -1
    while reader.pos < len(reader.data):
        number = reader.open_section()
        if number and _ORDER[number] <= place:
            raise reader.wrong("repeated or out of order")
        place = _ORDER.get(number, place)
        if number and (number != 10 or scan_code):
            _SECTIONS[number][1](reader)
        else:
            if not number:
                reader.name()
            reader.pos = reader.end
        if reader.pos != reader.end:
            raise reader.wrong(f"{reader.end - reader.pos} bytes are left over")


def _check_header(data: bytes) -> None:
    if not data:
        raise NotAModule("empty file (0 bytes)")
    if data[:4] != b"\0asm":
        start = repr(data[:4])[2:-1].replace('"', '\\"')
        raise NotAModule(f'not WebAssembly: starts with b"{start}", expected b"\\0asm"')
    if len(data) < 8:
        raise NotAModule(f"truncated: the header has {len(data)} of 8 bytes")
    if data[6:8] == b"\1\0":
        raise NotAModule("a WebAssembly component, not a module; procstop runs core modules")
    if (version := int.from_bytes(data[4:8], "little")) != 1:
        raise NotAModule(f"WebAssembly version {version} is not known")


class _Reader(Cursor):
    """A cursor, and what it has read of the module so far."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, 8)
        self.types: list[FuncType | None] = []
        self.texts: dict[tuple[Kind, int], str] = {}
        self.imports: list[Import] = []
        self.exports: dict[str, Export] = {}
        self.start: int | None = None
        # The index spaces, imports first: of functions the type, of globals whether they are mutable.
        self.funcs: list[FuncType] = []
        self.globals: list[bool] = []
        self.memories: list[Memory] = []
        self.tables = self.tags = 0

    def info(self) -> ModuleInfo:
        """Draw the conclusions that need all sections."""
        if self.tables > 1:
            self.scan.need("reference-types")
        if len(self.memories) > 1:
            self.scan.need("multi-memory")
        if TAGS in self.scan.features and "legacy-exceptions" not in self.scan.features:
            self.scan.need("exceptions")
        features = self.scan.features - {TAGS}
        modules = {item.module for item in self.imports}
        wasi = next((name for name in ("wasi_snapshot_preview1", "wasi_unstable") if name in modules), None)
        imports, memories = tuple(self.imports), tuple(self.memories)
        return ModuleInfo(imports, self.exports, self.start, memories, features, wasi, len(self.data))

    def open_section(self) -> int:
        """Read a section header, make the section the part that may be read, and return its id."""
        at, self.end = self.pos, len(self.data)
        self.section, self.section_at = "header", at
        number, size, left = self.byte(), self.number(), len(self.data) - self.pos
        if number and number not in _SECTIONS:
            raise Malformed(f"section {number} at byte {at} is not known")
        name = _SECTIONS[number][0] if number else "custom"
        if size > left:
            raise Malformed(f'truncated: section "{name}" at byte {at} says {size} bytes, {left} are left')
        self.end, self.section = self.pos + size, name
        return number

    # Types. Those of a table, memory, global or tag enter it into its index space and return a description.

    def func_type(self) -> FuncType:
        """Read a type index; return the signature it stands for."""
        index = self.number()
        found = self.types[index] if index < len(self.types) else None
        if found is None:
            raise self.wrong(f"type {index} is not a function type of this module")
        return found

    def describe(self, kind: Kind, signature: FuncType) -> str:
        # One text per type: a long signature imported a million times would fill the memory.
        key = kind, id(signature)
        if key not in self.texts:
            self.texts[key] = f"{kind} {signature}"
        return self.texts[key]

    def table(self) -> str:
        self.tables += 1
        if self.next_is(0x70):
            # A table of plain functions was there from the beginning.
            self.pos += 1
            element = "funcref"
        else:
            element = self.value_type()
        return f"table {self.limits(known=0b101)[3]} {element}"

    def memory(self, imported: bool = False) -> str:
        flags, least, most, text = self.limits(known=0b1111)
        if flags & 2:
            self.scan.need("threads")
        power = 16
        if flags & 8:
            self.scan.need("custom-page-sizes")
            power = self.number()
            if power > 64:
                raise self.wrong(f"pages of 2**{power} bytes")
        self.memories.append(Memory(least, most, bool(flags & 4), bool(flags & 2), 1 << power, imported))
        return f"{'shared ' if flags & 2 else ''}memory {text}"

    def global_(self) -> str:
        name, mutable = self.value_type(), self.byte()
        if mutable > 1:
            raise self.unknown("mutability", mutable)
        self.globals.append(bool(mutable))
        return f"{'mutable ' if mutable else ''}global {name}"

    def tag(self) -> str:
        if code := self.byte():
            raise self.unknown("tag attribute", code)
        self.scan.need(TAGS)
        self.tags += 1
        return self.describe("tag", self.func_type())

    def type_(self) -> None:
        form = self.byte()
        if form in (0x4F, 0x50):
            # A subtype: its supertypes come first.
            self.scan.need("gc")
            for _ in range(self.count(_MOST_PARAMS)):
                self.number()
            form = self.byte()
        found = None
        if form == 0x60:
            params, results = (tuple([self.value_type() for _ in range(self.count(_MOST_PARAMS))]) for _ in "pr")
            found = FuncType(params, results)
            if len(results) > 1:
                self.scan.need("multi-value")
        elif form in (0x5E, 0x5F):
            self.scan.need("gc")
            for _ in range(1 if form == 0x5E else self.count()):
                # Fields may have the packed types i8 and i16 as well; mutability follows.
                self.byte() if self.next_is(0x77, 0x78) else self.value_type()
                self.byte()
        elif form == 0x5D:
            self.scan.need("stack-switching")
            self.number()
        else:
            raise self.unknown(f"the form of type {len(self.types)},", form)
        self.types.append(found)

    # Sections.

    def type_section(self) -> None:
        for _ in range(self.count()):
            group = 1
            if self.next_is(0x4E):
                self.scan.need("gc")
                self.pos += 1
                group = self.count()
            for _ in range(group):
                self.type_()
            if len(self.types) > MOST_ENTRIES:
                raise self.wrong(f"{len(self.types)} types, at most {MOST_ENTRIES} are allowed")

    def import_section(self) -> None:
        for _ in range(self.count()):
            module, name, code = self.name(), self.name(), self.byte()
            signature = None
            if code == 0:
                signature = self.func_type()
                self.funcs.append(signature)
                text = self.describe("func", signature)
            elif code == 3:
                text = self.global_()
                self.imported_globals += 1
                if self.globals[-1]:
                    self.scan.need("mutable-global")
            elif code < len(_KINDS):
                text = self.table() if code == 1 else self.memory(imported=True) if code == 2 else self.tag()
            else:
                raise self.unknown("import kind", code)
            self.imports.append(Import(module, name, _KINDS[code], signature, text))

    def function_section(self) -> None:
        self.funcs += [self.func_type() for _ in range(self.count())]

    def table_section(self) -> None:
        for left in range(self.count() - 1, -1, -1):
            initial = self.next_is(0x40)
            if initial:
                self.scan.need("function-references")
                self.pos += 1
                if code := self.byte():
                    raise self.unknown("table form", code)
            self.table()
            if initial and not self.constants():
                self.tables += left
                return

    def global_section(self) -> None:
        for left in range(self.count() - 1, -1, -1):
            self.global_()
            if not self.constants():
                # An export may name one of those that could not be read.
                self.globals += [False] * left
                return

    def export_section(self) -> None:
        spaces = (len(self.funcs), self.tables, len(self.memories), len(self.globals), self.tags)
        for _ in range(self.count()):
            name, at, code = self.name(), self.pos, self.byte()
            if code >= len(_KINDS):
                raise self.unknown("export kind", code)
            kind, index = _KINDS[code], self.number()
            if index >= spaces[code]:
                raise self.wrong(f"the export at byte {at} is {kind} {index}, there are {spaces[code]}")
            if name in self.exports:
                raise self.wrong(f"the export at byte {at} repeats the name of another")
            if kind == "global" and self.globals[index]:
                self.scan.need("mutable-global")
            self.exports[name] = Export(name, kind, self.funcs[index] if kind == "func" else None)

    def start_section(self) -> None:
        self.start = self.number()
        if self.start >= len(self.funcs):
            raise self.wrong(f"names func {self.start}, there are {len(self.funcs)}")

    def element_section(self) -> None:
        for _ in range(self.count()):
            flags = self.number()
            if flags > 7:
                raise self.unknown("segment form", flags)
            if flags:
                # Declared segments (3 and 7) came with ref.func, the other forms with bulk operations.
                self.scan.need("reference-types" if flags & 3 == 3 else "bulk-memory")
            if flags & 3 == 2 and self.number():
                self.scan.need("reference-types")
            if not flags & 1 and not self.constants():
                return
            if flags & 3 and not self.next_is(0x70 if flags & 4 else 0):
                self.value_type()
            elif flags & 3:
                self.pos += 1
            count = self.count(10 * MOST_ENTRIES)
            left = 0
            if not flags & 4:
                self.pos, left = skip_units(self.data, self.pos, self.end, count)
            elif not self.constants(count):
                return
            if left:
                raise self.wrong(f"truncated: {left} of {count} functions are missing")

    def data_count_section(self) -> None:
        self.scan.need("bulk-memory")
        self.number()

    def code_section(self) -> None:
        for _ in range(self.count()):
            size, at = self.number(), self.pos
            self.skip(size)
            self.scan.body(self.data, at, self.pos)

    def data_section(self) -> None:
        for _ in range(self.count()):
            flags = self.number()
            if flags > 2:
                raise self.unknown("segment form", flags)
            if flags:
                self.scan.need("bulk-memory")
            if flags == 2 and self.number():
                self.scan.need("multi-memory")
            if flags != 1 and not self.constants():
                return
            self.skip(self.number())


# By id, in the order that the specification demands, with the names it gives them.
_SECTIONS: dict[int, tuple[str, Callable[[_Reader], None]]] = {
    1: ("type", _Reader.type_section),
    2: ("import", _Reader.import_section),
    3: ("function", _Reader.function_section),
    4: ("table", _Reader.table_section),
    5: ("memory", lambda reader: reader.each(reader.memory)),
    13: ("tag", lambda reader: reader.each(reader.tag)),
    6: ("global", _Reader.global_section),
    7: ("export", _Reader.export_section),
    8: ("start", _Reader.start_section),
    9: ("element", _Reader.element_section),
    12: ("data count", _Reader.data_count_section),
    10: ("code", _Reader.code_section),
    11: ("data", _Reader.data_section),
}
_ORDER = {number: place for place, number in enumerate(_SECTIONS)}
