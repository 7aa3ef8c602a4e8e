"""WASI fd_readdir: every entry once, whatever the buffer's size and whatever happens to the directory."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_wasi_guest import DATA, RESULT, Guest

from procstop.wasi import Preopen, abi


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    with Guest(Preopen("/", str(tmp_path), write=True)) as guest:
        yield guest


def readdir(guest: Guest, fd: int, cookie: int, size: int) -> tuple[list[tuple[int, int, int, bytes]], int]:
    """Whole entries (next cookie, inode, type, name) and how many bytes were used."""
    assert guest.call("fd_readdir", fd, DATA, size, cookie, RESULT) == 0
    used, entries, offset = guest.u32(), [], 0
    while offset + 24 <= used:
        following, inode, length, kind = struct.unpack_from("<QQIB", guest.bytes, DATA + offset)
        if offset + 24 + length > used:
            break
        name = bytes(guest.bytes[DATA + offset + 24 : DATA + offset + 24 + length])
        entries.append((following, inode, kind, name))
        offset += 24 + length
    return entries, used


def list_as_libc_does(guest: Guest, fd: int, size: int) -> list[bytes]:
    names: list[bytes] = []
    cookie = 0
    while True:
        entries, used = readdir(guest, fd, cookie, size)
        names += [entry[3] for entry in entries]
        if used < size:
            return names
        assert entries, "a buffer that holds no entry makes no progress"
        cookie = entries[-1][0]


def test_entries_have_types_and_inodes(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / os.fsdecode(b"\xff")).touch()
    entries, used = readdir(guest, 3, 0, 4096)
    assert used < 4096
    assert [entry[0] for entry in entries] == list(range(1, 8))
    found = {name: (kind, inode) for _, inode, kind, name in entries}
    own = tmp_path.stat().st_ino
    assert found[b"."] == found[b".."] == (abi.DIRECTORY_TYPE, own)
    for name, kind in (
        (b"dir", abi.DIRECTORY_TYPE),
        (b"file", abi.REGULAR_FILE),
        (b"link", abi.SYMBOLIC_LINK),
        (b"pipe", abi.UNKNOWN),
        (b"\xff", abi.REGULAR_FILE),
    ):
        assert found[name] == (kind, (tmp_path / os.fsdecode(name)).lstat().st_ino)


@pytest.mark.parametrize("size", [50, 64, 100, 333, 4096])
def test_every_entry_comes_once_with_any_buffer(guest: Guest, tmp_path: Path, size: int) -> None:
    names = {f"file-{number:03}-{'x' * (number % 10)}" for number in range(100)}
    for name in names:
        (tmp_path / name).touch()
    listed = list_as_libc_does(guest, 3, size)
    assert len(listed) == 102
    assert set(listed) == {b".", b".."} | {name.encode() for name in names}


@pytest.mark.parametrize("size", [0, 1, 23, 24, 25, 50])
def test_last_entry_is_cut_off_where_the_buffer_ends(guest: Guest, size: int) -> None:
    guest.put(DATA, b"\xee" * 100)
    _, used = readdir(guest, 3, 0, size)
    assert used == size
    assert guest.bytes[DATA + size : DATA + 100] == b"\xee" * (100 - size)


def test_deleting_while_listing_misses_nothing(guest: Guest, tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"f{number}").touch()
    cookie, removed = 0, 0
    while True:
        entries, used = readdir(guest, 3, cookie, 200)
        for _, _, kind, name in entries:
            if kind == abi.REGULAR_FILE:
                assert guest.unlink(name.decode()) == 0
                removed += 1
        if used < 200:
            break
        cookie = entries[-1][0]
    assert removed == 100
    assert len(readdir(guest, 3, 0, 4096)[0]) == 2


def test_cookie_beyond_the_end_is_an_empty_answer(guest: Guest) -> None:
    assert readdir(guest, 3, 2, 100) == ([], 0)
    assert readdir(guest, 3, 1000, 100) == ([], 0)
    assert readdir(guest, 3, -1, 100) == ([], 0)


def test_only_an_open_directory_is_listed(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    fd = guest.open("file")
    for number in (0, fd, 99):
        assert guest.call("fd_readdir", number, DATA, 100, 0, RESULT) == abi.BADF
    assert guest.call("fd_readdir", 3, len(guest.bytes) - 10, 11, 0, RESULT) == abi.FAULT
    assert guest.call("fd_readdir", 3, DATA, 10, 0, -1) == abi.FAULT
