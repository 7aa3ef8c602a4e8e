"""What guests write: counted, cut at the limit, its end kept, and its file named so that none meets another."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procstop.records import StreamRecord
from procstop.supervisor.outputs import TAIL, Sink, make_directory, output_path


def sink(limit: int | None = None, path: str | None = None, complaints: list[str] | None = None) -> Sink:
    def complain(text: str) -> None:
        assert complaints is not None, text
        complaints.append(text)

    return Sink(limit, path, complain)


def test_nothing_written_is_nothing_kept(tmp_path: Path) -> None:
    assert sink(10, str(tmp_path / "out")).close() == StreamRecord()
    # A guest that wrote nothing leaves no empty file.
    assert list(tmp_path.iterdir()) == []


def test_output_is_handed_on_and_counted() -> None:
    one = sink(100)
    assert one.feed(b"hello ") == b"hello "
    assert one.feed(b"") == b""
    assert one.feed(b"world") == b"world"
    assert one.close() == StreamRecord(11, False, None, b"hello world")


@pytest.mark.parametrize(
    ("chunks", "kept", "over"),
    [
        ([b"12345"], b"12345", False),
        ([b"123456"], b"12345", True),
        ([b"123", b"45"], b"12345", False),
        ([b"123", b"456"], b"12345", True),
        ([b"12345", b"6"], b"12345", True),
        ([b"123456", b"7", b"8"], b"12345", True),
    ],
)
def test_what_goes_beyond_the_limit_is_cut_off(chunks: list[bytes], kept: bytes, over: bool, tmp_path: Path) -> None:
    one = sink(5, str(tmp_path / "out"))
    assert b"".join(map(one.feed, chunks)) == kept
    assert one.over_limit is over
    assert one.close() == StreamRecord(5, over, str(tmp_path / "out"), kept)
    assert (tmp_path / "out").read_bytes() == kept


def test_without_a_limit_everything_is_kept() -> None:
    one = sink(None)
    for _ in range(100):
        one.feed(b"x" * 100_000)
    assert not one.over_limit
    assert one.close().bytes == 10_000_000


@given(st.lists(st.binary(max_size=40_000), max_size=8))
def test_tail_is_the_end_of_what_was_written(chunks: list[bytes]) -> None:
    one = sink()
    for chunk in chunks:
        one.feed(chunk)
    assert one.close().tail == b"".join(chunks)[-TAIL:]


def test_tail_of_single_bytes_stays_small() -> None:
    one = sink()
    for number in range(5 * TAIL):
        one.feed(bytes([number % 251]))
        assert len(one._tail) <= 2 * TAIL
    assert one.close().tail == bytes(number % 251 for number in range(4 * TAIL, 5 * TAIL))


def test_file_holds_everything_and_replaces_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"of an earlier run, and longer")
    one = sink(None, str(path))
    one.feed(b"a" * 70_000)
    one.feed(b"b")
    assert one.close().path == str(path)
    assert path.read_bytes() == b"a" * 70_000 + b"b"


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("no_umask")
def test_file_is_the_users_alone_whatever_the_umask_and_whatever_was_there(tmp_path: Path) -> None:
    for name in ("new", "old"):
        path = tmp_path / name
        if name == "old":
            path.write_bytes(b"open to everybody")
            path.chmod(0o666)
        one = sink(None, str(path))
        one.feed(b"secret")
        one.close()
        assert (path.read_bytes(), mode_of(path)) == (b"secret", 0o600)


@pytest.mark.usefixtures("no_umask")
def test_directory_is_the_users_alone_and_so_are_those_above_it_that_were_made(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    make_directory(str(shared / "a" / "b"))
    make_directory(str(shared / "a" / "b"))
    assert [mode_of(path) for path in (shared, shared / "a", shared / "a" / "b")] == [0o755, 0o700, 0o700]


def test_directory_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for name in ("file", "file/below"):
        with pytest.raises(OSError):
            make_directory(str(tmp_path / name))


@pytest.mark.parametrize("laid", ["symlink", "dangling", "hard link", "fifo"])
def test_what_a_guest_laid_in_the_place_of_its_output_is_neither_followed_nor_written_to(
    tmp_path: Path, laid: str
) -> None:
    precious, path = tmp_path / "precious", tmp_path / "guest.1.stdout"
    precious.write_bytes(b"precious")
    if laid == "fifo":
        os.mkfifo(path)
    elif laid == "hard link":
        os.link(precious, path)
    else:
        path.symlink_to(precious if laid == "symlink" else tmp_path / "nothing")
    one = sink(None, str(path))
    one.feed(b"output")
    one.close()
    assert precious.read_bytes() == b"precious" and not (tmp_path / "nothing").exists()
    assert not path.is_symlink() and path.read_bytes() == b"output"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is a disk that is always full")
def test_full_disk_is_told_once_and_the_guest_goes_on() -> None:
    complaints: list[str] = []
    one = sink(None, "/dev/full", complaints)
    assert one.feed(b"hello") == b"hello"
    assert one.feed(b"world") == b"world"
    assert complaints == ["cannot write '/dev/full': No space left on device; the rest of this stream is not kept"]
    record = one.close()
    assert (record.bytes, record.truncated, record.tail) == (10, True, b"helloworld")
    assert record.error == "No space left on device"
    assert not one.over_limit


def test_file_that_cannot_be_made_is_told_and_not_named(tmp_path: Path) -> None:
    complaints: list[str] = []
    one = sink(None, str(tmp_path / "none" / "out"), complaints)
    one.feed(b"hello")
    assert one.close() == StreamRecord(5, True, None, b"hello", "No such file or directory")
    assert len(complaints) == 1


def test_task_names_become_file_names() -> None:
    assert output_path("/out", "thumbs [a b]", 2, "stdout") == "/out/thumbs [a b].2.stdout"


@pytest.mark.parametrize(
    "name", ["a/b", "../../etc/passwd", "/abs", "..", "a\nb", "\x1b[31m", "a\\b", "ü", "\udcff", "%2F"]
)
def test_task_name_cannot_lead_out_of_the_directory(name: str) -> None:
    path = output_path("/out", name, 1, "stderr")
    assert os.path.dirname(path) == "/out"
    assert path.isascii() and path.isprintable()


names = st.text(st.sampled_from("a./%2F\\ü\udcff\n1"), min_size=1, max_size=6)
outputs = st.tuples(names, st.integers(1, 12), st.sampled_from(["stdout", "stderr"]))


@given(outputs, outputs)
def test_no_two_streams_share_a_file(one: tuple[str, int, str], other: tuple[str, int, str]) -> None:
    assert (output_path("/out", *one) == output_path("/out", *other)) == (one == other)
