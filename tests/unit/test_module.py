"""`read_module`: by hand-made bytes, by text that wasmtime assembles, and by bytes that mean nothing."""

from __future__ import annotations

import pickle
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procstop.errors import GuestError
from procstop.module import Export, FuncType, Import, Memory, ModuleInfo, NotAModule, read_module

HEADER = b"\0asm\1\0\0\0"


def number(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def section(code: int, *entries: bytes) -> bytes:
    content = number(len(entries)) + b"".join(entries)
    return bytes([code]) + number(len(content)) + content


def text(name: bytes) -> bytes:
    return number(len(name)) + name


def code_module(code: bytes, local_groups: bytes = b"\0") -> bytes:
    body = local_groups + code + b"\x0b"
    return HEADER + section(1, b"\x60\0\0") + section(3, b"\0") + section(10, number(len(body)) + body)


def assemble(source: str) -> bytes:
    wasmtime = pytest.importorskip("wasmtime")
    return bytes(wasmtime.wat2wasm(source))


def features_of(code: str) -> set[str]:
    return set(read_module(code_module(bytes.fromhex(code))).features)


# What a module is.


def test_smallest_module_has_nothing() -> None:
    assert read_module(HEADER) == ModuleInfo((), {}, None, (), frozenset(), None, 8)


@pytest.mark.parametrize(
    ("params", "results", "expected"),
    [
        (("i32", "i32"), ("i32",), "(i32, i32) -> i32"),
        ((), (), "() -> ()"),
        (("i32",), ("i32", "i64"), "(i32) -> (i32, i64)"),
    ],
)
def test_signature_reads_as_in_a_message(params: tuple[str, ...], results: tuple[str, ...], expected: str) -> None:
    assert str(FuncType(params, results)) == expected


EVERYTHING = """(module
  (import "env" "f" (func (param i32 f64) (result i64)))
  (import "env" "t" (table 1 20 funcref))
  (import "env" "m" (memory 1))
  (import "env" "g" (global i32))
  (func $own (export "run") (param v128 externref))
  (func $begin)
  (start $begin)
  (memory $second 2 3)
  (export "again" (func 0))
  (export "second" (memory $second))
  (export "g" (global 0))
  (export "t" (table 0)))"""


def test_imports_exports_start_and_memories_are_reported() -> None:
    data = assemble(EVERYTHING)
    info = read_module(data)
    imported = FuncType(("i32", "f64"), ("i64",))
    assert info.imports == (
        Import("env", "f", "func", imported, "func (i32, f64) -> i64"),
        Import("env", "t", "table", None, "table 1..20 funcref"),
        Import("env", "m", "memory", None, "memory 1.."),
        Import("env", "g", "global", None, "global i32"),
    )
    assert info.exports == {
        "run": Export("run", "func", FuncType(("v128", "externref"), ())),
        "again": Export("again", "func", imported),
        "second": Export("second", "memory", None),
        "g": Export("g", "global", None),
        "t": Export("t", "table", None),
    }
    assert info.start == 2
    assert info.memories == (Memory(1, None, imported=True), Memory(2, 3))
    assert info.size == len(data)
    assert pickle.loads(pickle.dumps(info)) == info


def test_memory_says_its_width_sharing_and_page_size() -> None:
    info = read_module(assemble("(module (memory i64 1 2) (memory 1 2 shared) (memory 5 (pagesize 1)))"))
    assert info.memories == (Memory(1, 2, memory64=True), Memory(1, 2, shared=True), Memory(5, None, page_size=1))


@pytest.mark.parametrize(
    ("names", "wasi"),
    [
        ([], None),
        ([b"env"], None),
        ([b"env", b"wasi_unstable"], "wasi_unstable"),
        ([b"wasi_snapshot_preview1"], "wasi_snapshot_preview1"),
    ],
)
def test_wasi_is_known_by_the_module_names_of_imports(names: list[bytes], wasi: str | None) -> None:
    imports = section(2, *(text(name) + text(b"x") + b"\0\0" for name in names))
    assert read_module(HEADER + section(1, b"\x60\0\0") + imports).wasi == wasi


@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", '{"a": 1}', "", "\u202e", "é" * 1000])
def test_any_name_is_kept_as_it_is(name: str) -> None:
    raw = text(name.encode())
    module = HEADER + section(1, b"\x60\0\0") + section(2, raw + raw + b"\0\0") + section(7, raw + b"\0\0")
    info = read_module(module)
    assert (info.imports[0].module, info.imports[0].name, list(info.exports)) == (name, name, [name])


# Without v128: wasmtime's Python package aborts the process when it is asked for that type.
SAMPLES = [
    EVERYTHING.replace("v128", "f32"),
    '(module (func (export "f") (param i32 i64 f32 f64) (result f32) (local.get 2)))',
    '(module (import "a" "f" (func $f (param externref) (result funcref i32))) (export "x" (func $f)))',
    """(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
       (memory (export "memory") 1) (global (export "g") (mut i32) (i32.const 1)) (func (export "_start")))""",
]


@pytest.mark.parametrize("source", SAMPLES)
def test_signatures_agree_with_wasmtime(source: str) -> None:
    wasmtime = pytest.importorskip("wasmtime")
    data = assemble(source)
    module = wasmtime.Module(wasmtime.Engine(), data)

    def signature(kind: Any) -> tuple[list[str], list[str]] | None:
        if not isinstance(kind, wasmtime.FuncType):
            return None
        # The package still calls externref by its former name.
        params, results = ([str(v).replace("anyref", "externref") for v in vs] for vs in (kind.params, kind.results))
        return params, results

    def ours(kind: FuncType | None) -> tuple[list[str], list[str]] | None:
        return None if kind is None else (list(kind.params), list(kind.results))

    info = read_module(data)
    assert [(i.module, i.name, ours(i.type)) for i in info.imports] == [
        (i.module, i.name, signature(i.type)) for i in module.imports
    ]
    assert [(e.name, ours(e.type)) for e in info.exports.values()] == [
        (e.name, signature(e.type)) for e in module.exports
    ]


# What a module needs.

PLAIN = """(module
  (type $t (func (param i32) (result i32)))
  (table 2 funcref) (elem (i32.const 0) $f $f)
  (memory 1) (data (i32.const 8) "abc")
  (global $g (mut i32) (i32.const 7)) (global f64 (f64.const 1.5))
  (func $f (type $t)
    (local i32 i64 f32 f64)
    (block (result i32) (loop (br_table 0 1 0 (local.get 0))) (i32.const -1))
    (if (then (nop)) (else (i64.store offset=300 (i32.const 1) (i64.const -99999999999))))
    (drop (memory.grow (memory.size)))
    (drop (f32.add (f32.const 1) (f32.demote_f64 (f64.const 2))))
    (global.set $g (select (i32.const 1) (i32.load8_u (i32.const 0)) (local.get 0)))
    (call_indirect (type $t) (i32.const 1) (call $f (i32.const 200)))))"""

NEEDS = {
    "a mutable global imported": ('(import "a" "g" (global (mut i32)))', "mutable-global"),
    "a mutable global exported": ('(global (export "g") (mut i32) (i32.const 0))', "mutable-global"),
    "a mutable global kept": ("(global (mut i32) (i32.const 0))", ""),
    "sign extension": ("(func (result i32) (i32.extend8_s (i32.const 1)))", "sign-extension"),
    "saturating conversion": (
        "(func (result i64) (i64.trunc_sat_f64_u (f64.const 1)))",
        "nontrapping-fptoint",
    ),
    "two results": ("(func (result i32 i64) (i32.const 1) (i64.const 1))", "multi-value"),
    "a block with a parameter": (
        "(func (i32.const 1) (block (param i32) drop))",
        "multi-value",
    ),
    "memory.copy": ("(memory 1) (func (memory.copy (i32.const 0) (i32.const 1) (i32.const 2)))", "bulk-memory"),
    "memory.fill": ("(memory 1) (func (memory.fill (i32.const 0) (i32.const 1) (i32.const 2)))", "bulk-memory"),
    "a passive segment": ('(data "abc")', "bulk-memory"),
    "a passive element": ("(func $f) (elem func $f)", "bulk-memory"),
    "table.copy": ("(table 1 funcref) (func (table.copy (i32.const 0) (i32.const 0) (i32.const 0)))", "bulk-memory"),
    "table.get": ("(table 1 funcref) (func (drop (table.get 0 (i32.const 0))))", "reference-types"),
    "table.size": ("(table 1 funcref) (func (drop (table.size 0)))", "reference-types"),
    "two tables": ("(table 1 funcref) (table 1 funcref)", "reference-types"),
    "externref": ("(func (param externref))", "reference-types"),
    "a local of funcref": ("(func (local funcref))", "reference-types"),
    "ref.null": ("(func (drop (ref.null func)))", "reference-types"),
    "ref.func in a global": ("(func $f) (elem declare func $f) (global funcref (ref.func $f))", "reference-types"),
    "a declared element": ("(func $f) (elem declare func $f)", "reference-types"),
    "elements as expressions": (
        "(table 1 funcref) (func $f) (elem (i32.const 0) funcref (ref.func $f) (ref.null func) (ref.func $f))",
        "bulk-memory reference-types",
    ),
    "select with a type": (
        "(func (drop (select (result i32) (i32.const 1) (i32.const 2) (i32.const 3))))",
        "reference-types",
    ),
    "call through table 1": (
        "(table 1 funcref) (table 1 funcref) (func (call_indirect 1 (i32.const 0)))",
        "reference-types",
    ),
    "simd": ("(func (drop (i32x4.add (v128.const i32x4 1 2 3 4) (v128.const i32x4 1 2 3 4))))", "simd"),
    "simd lanes and loads": (
        """(memory 1) (func (local v128) (local.set 0 (v128.load8_lane 3 (i32.const 1) (local.get 0)))
           (drop (i8x16.extract_lane_s 15 (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
           (v128.load offset=999 (i32.const 0)) (v128.load64_zero (i32.const 8))))))""",
        "simd",
    ),
    "simd only as a type": ("(func (param v128))", "simd"),
    "relaxed simd": (
        "(func (param v128) (drop (i32x4.relaxed_trunc_f32x4_s (local.get 0))))",
        "simd relaxed-simd",
    ),
    "return_call": ("(func $f (return_call $f))", "tail-call"),
    "return_call_indirect": ("(table 1 funcref) (func (return_call_indirect (i32.const 0)))", "tail-call"),
    "try_table": ("(tag $t) (func (block (try_table (catch $t 0) (catch_all 0) (throw $t))))", "exceptions"),
    "throw_ref": ("(func (throw_ref (ref.null exn)))", "exceptions"),
    "a tag imported": ('(import "a" "t" (tag (param i32)))', "exceptions"),
    "throw alone": ("(tag $t) (func (throw $t))", "exceptions"),
    "try": ("(tag $t) (func try throw $t catch $t catch_all rethrow 0 end)", "legacy-exceptions"),
    "delegate": ("(func try nop delegate 0)", "legacy-exceptions"),
    "atomics": (
        "(memory 1) (func (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 1))) (atomic.fence))",
        "threads",
    ),
    "shared memory": ("(memory 1 1 shared)", "threads"),
    "two memories": ("(memory 1) (memory 1)", "multi-memory"),
    "a load from memory 1": ("(memory 1) (memory 1) (func (drop (i32.load 1 offset=5 (i32.const 0))))", "multi-memory"),
    "memory64": ("(memory i64 1) (func (drop (i32.load offset=0x100000000 (i64.const 0))))", "memory64"),
    "table64": ("(table i64 1 funcref)", "memory64"),
    "extended-const": ("(global i32 (i32.add (i32.const 1) (i32.const 2)))", "extended-const"),
    "a struct": (
        """(type $s (struct (field i8) (field (mut i32))))
           (func (drop (struct.get $s 1 (struct.new $s (i32.const 1) (i32.const 2)))))""",
        "gc",
    ),
    "an array in a global": (
        """(type $a (array (mut i16)))
           (global (ref $a) (array.new_fixed $a 2 (i32.const 1) (i32.const 2)))""",
        "gc function-references",
    ),
    "i31 and casts": (
        "(func (drop (ref.cast (ref i31) (ref.i31 (i32.const 1)))) (drop (ref.eq (ref.null eq) (ref.null none))))",
        "gc",
    ),
    "a recursive group": ("(rec (type $a (sub (struct))) (type $b (sub final $a (struct))))", "gc"),
    "a global from another": ("(global $a i32 (i32.const 1)) (global i32 (global.get $a))", "gc"),
    "a global from an import": ('(import "a" "g" (global $a i32)) (global i32 (global.get $a))', ""),
    "call_ref": (
        "(type $t (func)) (func (param (ref $t)) (call_ref $t (local.get 0)))",
        "function-references",
    ),
    "a table with an initial value": (
        "(func $f) (elem declare func $f) (table 3 funcref (ref.func $f))",
        "function-references reference-types",
    ),
    "wide arithmetic": (
        """(func (result i64 i64) (i64.add128 (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)))""",
        "multi-value wide-arithmetic",
    ),
    "custom pages": ("(memory 1 (pagesize 1))", "custom-page-sizes"),
    "stack switching": (
        """(type $f (func)) (type $c (cont $f)) (tag $e)
           (func (param (ref null $c)) (block (result (ref null $c)) (resume $c (on $e 0) (local.get 0)) (ref.null $c))
           (drop))""",
        "exceptions function-references stack-switching",
    ),
}


def test_first_version_of_webassembly_needs_nothing() -> None:
    assert read_module(assemble(PLAIN)).features == frozenset()


@pytest.mark.parametrize("case", NEEDS)
def test_feature_is_found_and_no_other(case: str) -> None:
    source, names = NEEDS[case]
    assert read_module(assemble(f"(module {source})")).features == set(names.split())


SWITCHES = (
    "bulk_memory",
    "custom_page_sizes",
    "exceptions",
    "function_references",
    "gc",
    "memory64",
    "multi_memory",
    "multi_value",
    "reference_types",
    "relaxed_simd",
    "simd",
    "stack_switching",
    "tail_call",
    "threads",
    "wide_arithmetic",
)


@pytest.mark.parametrize("case", [case for case, (_, names) in NEEDS.items() if names != "legacy-exceptions"])
def test_wasmtime_accepts_with_the_features_and_refuses_without_one(case: str) -> None:
    wasmtime = pytest.importorskip("wasmtime")
    data = assemble(f"(module {NEEDS[case][0]})")
    found = {name.replace("-", "_") for name in read_module(data).features}

    def accepts(*without: str) -> bool:
        config = wasmtime.Config()
        for name in SWITCHES:
            setattr(config, f"wasm_{name}", name not in without)
        try:
            wasmtime.Module.validate(wasmtime.Engine(config), data)
        except wasmtime.WasmtimeError:
            return False
        return True

    assert accepts()
    # Some cannot be turned off alone, since others are built upon them; the rest of `found` has no switch.
    alone = set(SWITCHES) - {"bulk_memory", "reference_types", "function_references", "simd", "exceptions"}
    for name in alone:
        assert accepts(name) == (name not in found), name


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("4180808080 00 1a", ""),
        # call_indirect: table 0, table 0 as compilers write it for a linker, table 1.
        ("110000", ""),
        ("11008080808000", "reference-types"),
        ("110001", "reference-types"),
        # An alignment of two bytes, and one that has the bit for a memory index.
        ("4100 28 8200 00 1a", ""),
        ("4100 28 c200 01 00 1a", "multi-memory"),
        ("3f01 1a", "multi-memory"),
        # A block type by index is a form of multi-value, whatever the type is.
        ("0200 0b", "multi-value"),
        ("0e14" + "00" * 21, ""),
        ("0e8002" + "80 00" * 257, ""),
        ("08 00", "exceptions"),
        ("06 40 08 00 0b", "legacy-exceptions"),
        ("1f 40 02 00 01 02 03 03 0b", "exceptions"),
        ("1f 40 02 00 01 02 04 03 0b", "unknown-opcode"),
        ("1f 7b 01 02 00 0b", "exceptions simd"),
        ("12 00 c0 c1 fc00", "tail-call sign-extension nontrapping-fptoint"),
        ("fd 0c" + "ff" * 16 + "1a", "simd"),
        ("fd 80 02", "relaxed-simd"),
        ("ff", "unknown-opcode"),
        ("fc 7f", "unknown-opcode"),
        ("c0 ff c1", "sign-extension unknown-opcode"),
        ("0e ffffffff0f 00", "unknown-opcode"),
    ],
)
def test_code_is_read_by_its_encoding(code: str, expected: str) -> None:
    assert features_of(code) == set(expected.split())


def test_operands_are_never_taken_for_instructions() -> None:
    # Each operand is the opcode of something newer: 0xc0 sign extension, 0xfd SIMD, 0x06 try, 0x12 a tail call.
    assert features_of("41 c07d 1a 20 12 21 06 43 fdfdfdfd 1a 44 c0c0c0c0c0c0c0c0 1a 10 14") == set()


def test_locals_are_counted_by_group() -> None:
    groups = number(600) + b"\1\x7f" * 300 + b"\1\x7b" + b"\1\x7e" * 299
    assert read_module(code_module(b"\1", groups)).features == {"simd"}
    assert read_module(code_module(b"\1", number(700) + groups[2:])).features == {"simd", "unknown-opcode"}


def test_one_lost_body_leaves_the_others_readable() -> None:
    bodies = section(10, text(b"\0\xff\x0b"), text(b"\0\x41\0\xc0\x1a\x0b"))
    module = HEADER + section(1, b"\x60\0\0") + section(3, b"\0", b"\0") + bodies
    assert read_module(module).features == {"unknown-opcode", "sign-extension"}


def test_code_is_passed_over_when_asked() -> None:
    module = code_module(b"\xc0\xff")
    assert read_module(module, scan_code=False).features == frozenset()
    assert read_module(module).features == {"sign-extension", "unknown-opcode"}


# What is no module.


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file (0 bytes)"),
        (b"\x7fELF\2", 'not WebAssembly: starts with b"\\x7fELF", expected b"\\0asm"'),
        (b'a"', 'not WebAssembly: starts with b"a\\"", expected b"\\0asm"'),
        (b"\0asm\1", "truncated: the header has 5 of 8 bytes"),
        (b"\0asm\x0d\0\1\0", "a WebAssembly component, not a module; procstop runs core modules"),
        (b"\0asm\2\0\0\0", "WebAssembly version 2 is not known"),
        (HEADER + b"\x0a\x90\3xx", 'truncated: section "code" at byte 8 says 400 bytes, 2 are left'),
        (HEADER + b"\x63\0", "section 99 at byte 8 is not known"),
        (HEADER + b"\1", 'section "header" at byte 8: no number of 32 bits at byte 9'),
        (HEADER + b"\1\2\0\0", 'section "type" at byte 8: 1 bytes are left over'),
        (HEADER + section(3) + section(1), 'section "type" at byte 11: repeated or out of order'),
        (HEADER + section(3, b"\0"), 'section "function" at byte 8: type 0 is not a function type of this module'),
        (
            HEADER + b"\1\6\xff\xff\xff\xff\x0f\0",
            'section "type" at byte 8: truncated: 4294967295 entries, 1 bytes are left',
        ),
        (HEADER + section(7, text(b"x") + b"\0\5"), 'section "export" at byte 8: the export'),
        (HEADER + section(7, text(b"\xff") + b"\0\5"), 'section "export" at byte 8: the name at byte 12 is not UTF-8'),
        (HEADER + b"\0\2\1\xff", 'section "custom" at byte 8: the name at byte 11 is not UTF-8'),
        (HEADER + b"\x08\1\0", 'section "start" at byte 8: names func 0, there are 0'),
    ],
)
def test_message_says_what_is_wrong(data: bytes, message: str) -> None:
    with pytest.raises(NotAModule) as caught:
        read_module(data)
    assert str(caught.value).startswith(message)
    assert isinstance(caught.value, GuestError)


def test_repeated_export_is_refused_without_its_name() -> None:
    export = text(b"\x1b[2J") + b"\0\0"
    module = HEADER + section(1, b"\x60\0\0") + section(3, b"\0") + section(7, export, export)
    with pytest.raises(NotAModule, match="repeats the name") as caught:
        read_module(module)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("code", range(1, 14))
@pytest.mark.parametrize("count", [b"\xff\xff\xff\xff\x0f", b"\xc0\x84\x3d", b"\xff" * 10])
def test_huge_count_costs_nothing(code: int, count: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(NotAModule):
            read_module(HEADER + bytes([code]) + text(count + b"\x60\0\0\0\0\0\0"))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_long_signature_is_described_once() -> None:
    signature = b"\x60" + number(1000) + b"\x7f" * 1000 + b"\0"
    tracemalloc.start()
    try:
        read_module(HEADER + section(1, signature) + section(2, *[b"\0\0\0\0"] * 5000))
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_many_functions_and_exports_are_fine() -> None:
    module = HEADER + section(1, b"\x60\0\0") + section(3, *[b"\0"] * 500_000)
    module += section(7, *(text(b"f%d" % n) + b"\0" + number(n) for n in range(90_000)))
    module += section(10, *[b"\2\0\x0b"] * 500_000)
    assert len(read_module(module).exports) == 90_000


@given(st.binary(max_size=200))
def test_any_bytes_are_a_module_or_not(tail: bytes) -> None:
    for data in (tail, HEADER + tail):
        check(data)


@given(st.integers(1, 13), st.binary(max_size=100))
def test_any_bytes_in_a_section_are_a_module_or_not(code: int, content: bytes) -> None:
    check(HEADER + section(1, b"\x60\0\0")[: 0 if code == 1 else None] + bytes([code]) + text(content))


@given(st.binary(max_size=100))
def test_any_bytes_as_code_are_a_module(code: bytes) -> None:
    assert isinstance(read_module(code_module(code)), ModuleInfo)


@given(st.data())
def test_damaged_module_is_a_module_or_not(data: st.DataObject) -> None:
    sources = [PLAIN, *SAMPLES, *(f"(module {source})" for source, _ in NEEDS.values())]
    damaged = bytearray(assemble(data.draw(st.sampled_from(sources))))
    for _ in range(data.draw(st.integers(0, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    check(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))


def check(data: bytes) -> None:
    for scan_code in (True, False):
        try:
            info = read_module(data, scan_code=scan_code)
        except NotAModule as error:
            assert str(error).isprintable()
        else:
            assert info.size == len(data)
