"""Arguments become values of an export's types, or are refused with a sentence."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procstop.arguments import fit_arguments, fit_call
from procstop.errors import GuestError
from procstop.module import Export, FuncType, ModuleInfo


def fit(kind: str, value: Any) -> Any:
    (fitted,) = fit_arguments("run", FuncType((kind,), ()), [value])
    return fitted


def module(**functions: FuncType | None) -> ModuleInfo:
    exports = {name: Export(name, "memory" if type is None else "func", type) for name, type in functions.items()}
    return ModuleInfo((), exports, None, (), frozenset(), None, 8)


@pytest.mark.parametrize(
    ("kind", "value", "fitted"),
    [
        ("i32", 7, 7),
        ("i32", -(2**31), -(2**31)),
        ("i32", 2**31 - 1, 2**31 - 1),
        ("i32", 2**31, -(2**31)),
        ("i32", 2**32 - 1, -1),
        ("i64", 2**63, -(2**63)),
        ("i64", 2**64 - 1, -1),
        ("i64", "-9223372036854775808", -(2**63)),
        ("i32", "0xff", 255),
        ("i32", " 12 ", 12),
        ("i32", 3.0, 3),
        ("f64", 1, 1.0),
        ("f64", "1e3", 1000.0),
        ("f64", "-inf", -math.inf),
        ("f32", 0.1, struct.unpack("<f", struct.pack("<f", 0.1))[0]),
        ("f32", "inf", math.inf),
    ],
)
def test_value_that_fits_becomes_the_exports_own_type(kind: str, value: Any, fitted: Any) -> None:
    assert (fit(kind, value), type(fit(kind, value))) == (fitted, type(fitted))


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_text_can_spell_a_nan(kind: str) -> None:
    assert math.isnan(fit(kind, "nan"))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("i32", 2**32),
        ("i32", -(2**31) - 1),
        ("i64", 2**64),
        ("i64", -(2**63) - 1),
        ("i32", 1.5),
        ("i32", math.inf),
        ("i32", math.nan),
        ("i32", "1.5"),
        ("i32", "seven"),
        ("i32", ""),
        ("i32", True),
        ("i32", "9" * 5000),
        ("f32", 1e39),
        ("f32", "three"),
        ("f64", 10**400),
    ],
)
def test_value_that_does_not_fit_is_refused_by_its_place(kind: str, value: Any) -> None:
    with pytest.raises(GuestError, match=f"args: run: value 1 must be an {kind}, got "):
        fit(kind, value)


@pytest.mark.parametrize("kind", ["v128", "funcref", "externref"])
def test_types_that_have_no_text_cannot_be_given(kind: str) -> None:
    with pytest.raises(GuestError, match=f"value 1 is of type {kind}, which cannot be given from outside"):
        fit(kind, 1)


@pytest.mark.parametrize(("args", "got"), [([1], "1 value"), ([], "0 values"), ([1, 2, 3], "3 values")])
def test_wrong_count_says_what_the_function_takes(args: list[Any], got: str) -> None:
    with pytest.raises(GuestError) as caught:
        fit_arguments("run", FuncType(("i32", "i32"), ("i32",)), args)
    assert str(caught.value) == f"args: run takes (i32, i32), got {got}"


def test_second_value_is_named_by_its_number() -> None:
    with pytest.raises(GuestError, match="value 2 must be an i64"):
        fit_arguments("run", FuncType(("i32", "i64"), ()), [1, "x"])


@given(st.integers(-(2**65), 2**65), st.sampled_from([32, 64]))
def test_integer_keeps_its_bits_or_is_refused(value: int, bits: int) -> None:
    try:
        fitted = fit(f"i{bits}", value)
    except GuestError:
        assert not -(2 ** (bits - 1)) <= value < 2**bits
    else:
        assert -(2 ** (bits - 1)) <= fitted < 2 ** (bits - 1)
        assert (fitted - value) % 2**bits == 0


@given(st.integers() | st.floats() | st.text(), st.sampled_from(["i32", "i64", "f32", "f64", "v128"]))
def test_any_value_fits_or_is_a_guest_error(value: Any, kind: str) -> None:
    try:
        fitted = fit(kind, value)
    except GuestError:
        return
    assert type(fitted) is (int if kind[0] == "i" else float)


# Which function.

NONE = FuncType((), ())
ADD = FuncType(("i32", "i32"), ("i32",))


def test_call_gets_its_type_and_values() -> None:
    assert fit_call(module(run=ADD), "run", [1, "7"]) == (ADD, (1, 7))


def test_start_takes_texts_as_argv_and_is_called_without() -> None:
    assert fit_call(module(_start=NONE), "_start", ["-v", ""]) == (NONE, ())


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([7], '"_start" takes strings (argv), got 7 as value 1; write "7"'),
        (["x", 1.5], "got 1.5 as value 2"),
        (["a\0b"], "value 1 holds a NUL"),
    ],
)
def test_what_cannot_be_argv_is_refused(args: list[Any], said: str) -> None:
    with pytest.raises(GuestError) as caught:
        fit_call(module(_start=NONE), "_start", args)
    assert said in str(caught.value)


def test_start_of_another_type_is_no_command() -> None:
    with pytest.raises(GuestError, match=r'"_start" is \(i32, i32\) -> i32'):
        fit_call(module(_start=ADD), "_start", [])


@pytest.mark.parametrize(
    ("functions", "said"),
    [
        ({}, "the module exports no function, so"),
        ({"memory": None}, "the module exports no function, so"),
        ({"run": ADD, "memory": None}, 'no function "runn"; did you mean "run"?'),
        ({"zzz": ADD, "yyy": NONE}, 'no function "runn"; it has "zzz", "yyy"'),
        ({f"{n}{n}{n}": NONE for n in range(10)}, '"777" and 2 more'),
        ({"runn": None, "zzz": NONE}, 'no function "runn"; it has "zzz"'),
    ],
)
def test_missing_function_says_what_there_is(functions: dict[str, FuncType | None], said: str) -> None:
    with pytest.raises(GuestError) as caught:
        fit_call(module(**functions), "runn", [])
    assert said in str(caught.value)
