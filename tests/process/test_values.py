"""Arguments and results: every type, every edge, the same on both engines."""

from __future__ import annotations

import math
import struct

import pytest

from procstop import JobFileError, Outcome
from support import hosts
from support.guests import Guests
from support.running import run_guest


def single(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


@pytest.mark.parametrize(
    ("call", "given", "got"),
    [
        ("same_i32", -1, -1),
        ("same_i32", 2**32 - 1, -1),
        ("same_i32", -(2**31), -(2**31)),
        ("same_i32", "0x10", 16),
        ("same_i32", 7.0, 7),
        ("same_i64", 2**63 - 1, 2**63 - 1),
        ("same_i64", -(2**63), -(2**63)),
        ("same_i64", 2**64 - 1, -1),
        ("same_i64", 2**53 + 1, 2**53 + 1),
        ("same_i64", str(2**62 + 1), 2**62 + 1),
        ("same_f32", 0.1, single(0.1)),
        ("same_f32", 1, 1.0),
        ("same_f32", math.inf, math.inf),
        ("same_f64", 0.1, 0.1),
        ("same_f64", 5e-324, 5e-324),
        ("same_f64", -0.0, -0.0),
        ("same_f64", "-inf", -math.inf),
        ("same_f64", 3, 3.0),
    ],
)
def test_argument_comes_back_as_it_went_in(engine: str, guests: Guests, call: str, given: object, got: object) -> None:
    attempt = run_guest(guests["returns"], call, given, engine=engine)
    assert attempt.outcome is Outcome.COMPLETED, attempt.message
    (value,) = attempt.values or ()
    value = spelled(value)
    assert (value, type(value)) == (got, type(got))
    assert math.copysign(1, value) == math.copysign(1, got)  # type: ignore[arg-type]


def spelled(value: object) -> object:
    """Read back what crosses the pipes as a text: integers beyond 2^53, and floats that are not finite."""
    if isinstance(value, str):
        return int(value) if value.lstrip("-").isdigit() else float(value)
    return value


@pytest.mark.parametrize("call", ["same_f32", "same_f64"])
def test_nan_comes_back_as_nan(engine: str, guests: Guests, call: str) -> None:
    attempt = run_guest(guests["returns"], call, math.nan, engine=engine)
    (value,) = attempt.values or ()
    assert math.isnan(float(value))


def test_several_results_come_in_order(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["returns_several"], "run", -3, -(2**40), 0.5, 1e300, engine=engine)
    assert attempt.values == (1e300, 0.5, -(2**40), -3)


def test_function_without_results_gives_none(engine: str, guests: Guests) -> None:
    assert run_guest(guests["returns"], "nothing", engine=engine).values == ()


@pytest.mark.parametrize(
    ("call", "args", "problem"),
    [
        ("run", (1,), "args: run takes (i32, i32), got 1 value"),
        ("run", (1, 2, 3), "args: run takes (i32, i32), got 3 values"),
        ("same_i32", (2**32,), "args: same_i32: value 1 must be an i32, got 4294967296"),
        ("same_i32", (1.5,), "args: same_i32: value 1 must be an i32, got 1.5"),
        ("same_i32", ("seven",), "args: same_i32: value 1 must be an i32, got 'seven'"),
        ("same_i64", (2**64,), "args: same_i64: value 1 must be an i64, got 18446744073709551616"),
        ("same_f32", (10**400,), "args: same_f32: value 1 must be an f32"),
        ("same_f64", ("x",), "args: same_f64: value 1 must be an f64, got 'x'"),
        ("rum", (), 'call: the module exports no function "rum"; did you mean "run"?'),
        ("_start", (1,), 'args: "_start" takes strings (argv), got 1 as value 1; write "1"'),
    ],
)
def test_argument_that_does_not_fit_is_refused_before_anything_runs(
    engine: str, guests: Guests, call: str, args: tuple[object, ...], problem: str
) -> None:
    with pytest.raises(JobFileError) as caught:
        run_guest(guests["returns"], call, *args, engine=engine, expect=Outcome.COMPLETED)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("call", "given", "got"),
    [
        ("i32", -5, -5),
        ("i64", 2**60, 2**60),
        ("i64", -(2**63), -(2**63)),
        ("f32", 0.1, single(0.1)),
        ("f64", -1e300, -1e300),
    ],
)
def test_host_function_gets_and_gives_each_type(
    engine: str, guests: Guests, call: str, given: object, got: object
) -> None:
    attempt = run_guest(guests["asks_host"], call, given, engine=engine, host=answers(call, hosts.returns_argument))
    assert attempt.outcome is Outcome.COMPLETED, attempt.message
    assert spelled((attempt.values or ())[0]) == got


def answers(call: str, function: object) -> dict[str, object]:
    """Host functions for all of the guest's imports, one of them given."""
    functions = dict.fromkeys(("env.i32", "env.i64", "env.f32", "env.f64"), hosts.returns_argument)
    return {**functions, "env.two": hosts.returns_both, f"env.{call}": function}


def test_host_function_gives_several_results(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["asks_host"], "two", 3, 2**40, engine=engine, host=answers("two", hosts.returns_both))
    assert attempt.values == (2**40, 3), attempt.message


@pytest.mark.parametrize(
    ("call", "function", "message"),
    [
        ("i32", hosts.returns_none, "TypeError: it returned None, but its import (i32) -> i32 returns i32"),
        ("f64", hosts.returns_none, "TypeError: it returned None, but its import (f64) -> f64 returns f64"),
        ("i32", hosts.returns_too_much, f"OverflowError: it returned {2**70}, which does not fit i32"),
        ("i64", hosts.returns_too_much, f"OverflowError: it returned {2**70}, which does not fit i64"),
    ],
)
def test_host_function_that_returns_what_does_not_fit_is_a_host_error(
    engine: str, guests: Guests, call: str, function: object, message: str
) -> None:
    attempt = run_guest(guests["asks_host"], call, 1, engine=engine, host=answers(call, function))
    assert (attempt.outcome, attempt.message) == (Outcome.HOST_ERROR, message)


def test_host_function_that_returns_something_where_nothing_is_due_is_a_host_error(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["calls_host"], engine=engine, host={"env.work": hosts.returns_text})
    assert attempt.outcome is Outcome.HOST_ERROR
    assert attempt.message == "TypeError: it returned 'text', but its import () -> () returns nothing"
