"""Traps: the same words on every engine, short whatever the engine says."""

from __future__ import annotations

import pytest

from procstop import Outcome
from support.guests import Guests
from support.running import run_guest

WORDS = {
    "traps": 'unreachable, in function 0 "deep"',
    "divides_by_zero": 'integer divide by zero, in function 0 "divide"',
    "overflows": 'integer overflow, in function 0 "divide"',
    "converts_nan": "invalid conversion to integer, in function 0",
    "out_of_bounds": "out of bounds memory access, in function 0",
    "calls_null": "indirect call to null, in function 0",
    "calls_wrong_type": "indirect call type mismatch, in function 1",
    "calls_beyond_table": "out of bounds table access, in function 0",
    "traps_after_points": 'unreachable, in function 3 "deep"',
    "recurses": 'call stack exhausted, in function 1 "forever"',
}


@pytest.mark.parametrize("guest", WORDS)
def test_trap_has_the_same_words_on_every_engine(engine: str, guests: Guests, guest: str) -> None:
    attempt = run_guest(guests[guest], engine=engine)
    assert (attempt.outcome, attempt.wait) == (Outcome.TRAPPED, ("exit", 0))
    assert attempt.message == WORDS[guest]


def test_trap_in_the_start_function_is_a_trap(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["traps_in_start"], engine=engine)
    assert attempt.outcome is Outcome.TRAPPED
    assert (attempt.message or "").startswith("unreachable")


def test_deep_recursion_that_ends_works(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["recurses"], "run", 10_000, engine=engine)
    assert (attempt.outcome, attempt.values) == (Outcome.COMPLETED, (10_000,))


def test_recursion_of_a_hundred_million_does_not(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["recurses"], "run", 100_000_000, engine=engine)
    assert (attempt.outcome, attempt.message) == (Outcome.TRAPPED, 'call stack exhausted, in function 0 "run"')


def test_unaligned_access_is_no_trap(engine: str, guests: Guests) -> None:
    assert run_guest(guests["reads_unaligned"], "run", engine=engine).values == (str(0x1122334455667788),)


def test_memory_grows_to_its_maximum_and_no_further(engine: str, guests: Guests) -> None:
    assert run_guest(guests["grows_memory"], "run", engine=engine).values == (40,)


def test_guest_that_grows_its_memory_for_ever_is_stopped(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["grows_memory"], engine=engine, time=0.3)
    assert attempt.outcome is Outcome.TERMINATED


def test_memory_without_a_maximum_grows_as_far_as_it_is_wanted(engine: str, guests: Guests) -> None:
    assert run_guest(guests["grows_memory_forever"], "run", 2_000, engine=engine).values == (2_000,)
