"""Durations and sizes: what is read, what is refused and how, and that writing reads back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procstop.jobfile.units import (
    MAX_DURATION,
    MAX_SIZE,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2s", 2.0),
        ("500ms", 0.5),
        ("1m", 60.0),
        ("1h30m", 5400.0),
        ("1.5s", 1.5),
        ("0s", 0.0),
        ("30d", 2592000.0),
        ("1d2h3m4s5ms", 93784.005),
        ("1m0.5s", 60.5),
        ("0.1s", 0.1),
        (" 2s ", 2.0),
    ],
)
def test_duration_is_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, 'a duration needs a unit, got 5; write "5s"'),
        (0, 'a duration needs a unit, got 0; write "0s"'),
        (1.5, 'a duration needs a unit, got 1.5; write "1.5s"'),
        ("5", 'a duration needs a unit, got "5"; write "5s"'),
        ("5 s", 'not a duration, got "5 s"; write "5s"'),
        ("5S", 'not a duration, got "5S"; write "5s"'),
        ("5 minutes", 'not a duration, got "5 minutes"; write "5m"'),
        ("10 sec", 'not a duration, got "10 sec"; write "10s"'),
        ("30m1h", 'not a duration, got "30m1h"; write a number and a unit'),
        ("1s1s", 'not a duration, got "1s1s"; write a number and a unit'),
        ("1.5h30m", 'not a duration, got "1.5h30m"; write a number and a unit'),
        ("", 'not a duration, got ""; write a number and a unit, as in "500ms", "10s" or "1h30m"'),
        ("soon", 'not a duration, got "soon"'),
        ("-5s", 'a duration cannot be negative, got "-5s"'),
        ("٣s", "not a duration"),
        ("1e3s", 'not a duration, got "1e3s"'),
        ("36501d", 'must be at most 36500d, got "36501d"'),
        ("9" * 5000 + "s", "not a duration"),
        (True, 'must be a duration such as "10s", got true'),
        ([], 'must be a duration such as "10s", got an empty list'),
        ({"a": 1}, 'must be a duration such as "10s", got a table'),
        (2**200, "a duration needs a unit, got an integer of 201 bits"),
    ],
)
def test_what_is_no_duration_is_explained(value: object, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        parse_duration(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (2.0, "2s"),
        (0.5, "500ms"),
        (0.0015, "1.5ms"),
        (90, "1m30s"),
        (5400.0, "1h30m"),
        (86400.0, "1d"),
        (3661.5, "1h1m1.5s"),
    ],
)
def test_duration_is_written_in_the_largest_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.one_of(st.just(0.0), st.floats(min_value=1e-9, max_value=MAX_DURATION)))
def test_duration_that_was_written_reads_back_the_same(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("256MiB", 268435456),
        ("10MB", 10_000_000),
        ("64KiB", 65536),
        ("1GiB", 1073741824),
        ("512B", 512),
        ("1kB", 1000),
        ("2TB", 2 * 10**12),
        ("1.5KiB", 1536),
        ("0B", 0),
    ],
)
def test_size_is_read_as_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, 'a size needs a unit, got 5; write "5MiB"'),
        (65535, 'a size needs a unit, got 65535; write "65535MiB"'),
        (268435456, 'a size needs a unit, got 268435456; write "256MiB"'),
        ("1000000", 'a size needs a unit, got "1000000"; write "1MB"'),
        ("10", 'a size needs a unit, got "10"; write "10MiB"'),
        ("10KB", 'not a size, got "10KB"; write "10kB"'),
        ("10 mib", 'not a size, got "10 mib"; write "10MiB"'),
        ("1M", 'not a size, got "1M"; write "1MB"'),
        ("100 bytes", 'not a size, got "100 bytes"; write "100B"'),
        ("10Mb/s", 'not a size, got "10Mb/s"; write a number and a unit'),
        ("-1B", 'a size cannot be negative, got "-1B"'),
        ("1.5B", 'must be a whole number of bytes, got "1.5B"'),
        ("9000000TiB", 'must be at most 8192TiB, got "9000000TiB"'),
        ("9" * 5000 + "B", "not a size"),
        (False, 'must be a size such as "10MiB", got false'),
    ],
)
def test_what_is_no_size_is_explained(value: object, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        parse_size(value)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (1, "1B"), (1000, "1kB"), (1024, "1KiB"), (268435456, "256MiB"), (1025, "1025B")],
)
def test_size_is_written_in_the_largest_unit_that_is_exact(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(min_value=0, max_value=MAX_SIZE))
def test_size_that_was_written_reads_back_the_same(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.text())
def test_any_text_is_a_value_or_is_explained_in_one_line(text: str) -> None:
    for parse in (parse_duration, parse_size):
        try:
            said = str(parse(text))
        except ValueError as error:
            said = str(error)
        assert said.isprintable()
        assert len(said) < 300
