"""Where snapshot 0, `wasi_unstable`, differs: whence, filestat, subscriptions; and that both share one guest."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_wasi_guest import DATA, RESULT, Guest

from procstop.wasi import Preopen, abi


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    (tmp_path / "file").write_bytes(b"0123456789")
    with Guest(Preopen("/", str(tmp_path), write=True), version="wasi_unstable") as guest:
        yield guest


def test_whence_is_current_end_set(guest: Guest) -> None:
    fd = guest.open("file")
    for offset, whence, expected in ((4, 2, 4), (1, 0, 5), (-1, 1, 9)):
        assert guest.call("fd_seek", fd, offset, whence, RESULT) == 0
        assert guest.u64() == expected
    assert guest.call("fd_tell", fd, RESULT) == 0
    assert guest.u64() == 9


def test_filestat_has_a_short_link_count(guest: Guest, tmp_path: Path) -> None:
    guest.put(RESULT, b"\xee" * 64)
    assert guest.stat("file") == 0
    status = (tmp_path / "file").stat()
    expected = (status.st_dev, status.st_ino, abi.REGULAR_FILE, 1, 10, status.st_mtime_ns)
    found = struct.unpack_from("<QQB3xIQ8xQ", guest.bytes, RESULT)
    assert found == expected
    assert guest.bytes[RESULT + 56 : RESULT + 64] == b"\xee" * 8


def test_subscriptions_have_an_identifier(guest: Guest) -> None:
    fd = guest.open("file")
    sleep = struct.pack("<QB7xQI4xQQH6x", 7, 0, 0xDEAD_BEEF_DEAD_BEEF, abi.MONOTONIC, 1000, 0, 0)
    read = struct.pack("<QB7xI36x", 8, abi.EVENT_READ, fd)
    assert len(sleep) == len(read) == 56
    guest.put(DATA, sleep + read)
    assert guest.call("poll_oneoff", DATA, DATA + 200, 2, RESULT) == 0
    assert guest.u32() == 2
    assert struct.unpack_from("<QHB5xQH", guest.bytes, DATA + 200) == (7, 0, 0, 0, 0)
    assert struct.unpack_from("<QHB5xQH", guest.bytes, DATA + 232) == (8, 0, 1, 10, 0)


def test_there_is_no_accept(guest: Guest) -> None:
    assert "sock_accept" not in guest.functions


def test_both_snapshots_share_descriptors(guest: Guest) -> None:
    other = guest.wasi.functions("wasi_snapshot_preview1")
    fd = guest.open("file")
    assert other["fd_seek"][2](fd, 4, 0, RESULT) == 0
    assert guest.read(fd, 2) == b"45"
    assert other["fd_close"][2](fd) == 0
    assert guest.call("fd_close", fd) == abi.BADF
