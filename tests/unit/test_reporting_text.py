"""Nothing that a guest, a message or a file name holds can steer a terminal."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procstop.reporting.text import MAX_LINE, LineCutter, last_lines, one_line, printable

STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
anything = st.one_of(st.binary(), st.text(st.characters()), st.text("\x1b\x9b\r\n\t\u202e\x7fab"))


@given(anything)
def test_printable_lets_nothing_through_that_steers_a_terminal(text: bytes | str) -> None:
    assert not STEERING.search(printable(text))


@given(anything, st.text())
def test_printable_keeps_at_most_newlines_and_tabs(text: bytes | str, keep: str) -> None:
    assert not STEERING.search(printable(text, keep=keep + "\n\t").replace("\n", "").replace("\t", ""))


@given(anything)
def test_printable_text_can_be_written_as_utf_8_and_stays_as_it_is(text: bytes | str) -> None:
    shown = printable(text)
    shown.encode("utf-8")
    assert printable(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, \u00fcml\u00e4ut, \u6f22", "plain, \u00fcml\u00e4ut, \u6f22"),
        ("\x1b[2J", "\\x1b[2J"),
        (b"\xc2\x9b31m", "\\x9b31m"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        ("a\r\n\tb", "a\\r\\n\\tb"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("caf\udce9", "caf\\xe9"),
        ("\ud800", "\\ud800"),
    ],
)
def test_printable_shows_what_was_there(text: bytes | str, shown: str) -> None:
    assert printable(text) == shown


@given(anything, st.integers(4, 50))
def test_one_line_is_one_safe_line_of_bounded_length(text: bytes | str, most: int) -> None:
    line = one_line(text, most)
    assert len(line) <= most
    assert not STEERING.search(line)


def test_one_line_joins_lines_and_says_that_it_was_cut() -> None:
    assert one_line("ValueError: boom\n  at line 2\r\n\n") == "ValueError: boom / at line 2"
    assert one_line("x" * 300, 20) == "x" * 17 + "..."


def test_last_lines_are_the_last_ones_without_trailing_blank_lines() -> None:
    assert last_lines(b"1\n2\r\n3\x1b\n\n", 2) == ["2", "3\\x1b"]
    assert last_lines(b"", 3) == []
    assert last_lines(b"\n \n", 3) == []
    assert last_lines(b"x" * 500, 3) == ["x" * 400 + "..."]


def cut(*chunks: bytes) -> tuple[list[str], list[str]]:
    """Return the whole lines, and what the flush adds."""
    cutter = LineCutter()
    whole = [line for chunk in chunks for line in cutter.feed("t", "stdout", chunk)]
    return whole, [line for _, line in cutter.flush("t")]


@pytest.mark.parametrize(
    ("chunks", "whole", "rest"),
    [
        ([b"a\nb"], ["a"], ["b"]),
        ([b"a\r\nb\rc\n"], ["a", "b", "c"], []),
        ([b"a\r", b"\nb\n"], ["a", "b"], []),
        ([b"a\r", b"", b"\n"], ["a"], []),
        ([b"\n\n"], ["", ""], []),
        ([b"\xc3", b"\xbc\n"], ["\u00fc"], []),
        ([b"\xc3"], [], ["\ufffd"]),
        ([b"a\x1b[2J\tb\n"], ["a\\x1b[2J\tb"], []),
        ([b"x" * (MAX_LINE + 3), b"y\n"], ["x" * MAX_LINE, "xxxy"], []),
        ([b"x" * (MAX_LINE + 3) + b"\n"], ["x" * MAX_LINE, "xxx"], []),
    ],
)
def test_line_cutter_cuts_lines(chunks: list[bytes], whole: list[str], rest: list[str]) -> None:
    assert cut(*chunks) == (whole, rest)


@given(st.lists(st.text("ab\r\n\u00fc\u6f22", max_size=12).map(str.encode), max_size=8), st.data())
def test_lines_do_not_depend_on_where_the_chunks_are_split(chunks: list[bytes], data: st.DataObject) -> None:
    joined = b"".join(chunks)
    at = data.draw(st.integers(0, len(joined)))
    assert cut(joined[:at], joined[at:]) == cut(joined)


def test_streams_and_tasks_do_not_mix_and_a_flush_ends_one_task() -> None:
    cutter = LineCutter()
    cutter.feed("a", "stdout", b"out")
    cutter.feed("a", "stderr", b"err")
    cutter.feed("b", "stdout", b"other")
    assert sorted(cutter.flush("a")) == [("stderr", "err"), ("stdout", "out")]
    assert cutter.flush("a") == []
    assert cutter.feed("b", "stdout", b"\n") == ["other"]


@given(st.lists(st.binary(max_size=3000), max_size=20))
def test_what_a_guest_writes_without_end_is_not_held_back(chunks: list[bytes]) -> None:
    cutter = LineCutter()
    for chunk in chunks:
        assert all(len(line) <= MAX_LINE * 4 for line in cutter.feed("t", "stdout", chunk))
        assert all(len(state.pending) < MAX_LINE for streams in cutter._streams.values() for state in streams.values())
