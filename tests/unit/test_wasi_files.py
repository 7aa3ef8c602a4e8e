"""WASI on open files and standard streams: bytes, positions, flags, attributes."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_wasi_guest import DATA, RESULT, VECTORS, Guest, Stopped

from procstop.wasi import Preopen, abi

SET, CUR, END = 0, 1, 2


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    (tmp_path / "file").write_bytes(b"0123456789")
    with Guest(Preopen("/", str(tmp_path), write=True)) as guest:
        yield guest


def seek(guest: Guest, fd: int, offset: int, whence: int) -> int:
    error = guest.call("fd_seek", fd, offset, whence, RESULT)
    return -error if error else guest.u64()


def fdstat(guest: Guest, fd: int) -> tuple[int, int, int, int]:
    assert guest.call("fd_fdstat_get", fd, RESULT) == 0
    kind, flags, base, inheriting = struct.unpack_from("<BxH4xQQ", guest.bytes, RESULT)
    return kind, flags, base, inheriting


def test_read_fills_vectors_in_order(guest: Guest) -> None:
    fd = guest.open("file")
    assert guest.call("fd_read", fd, *guest.vectors((DATA, 3), (DATA, 0), (DATA + 100, 4)), RESULT) == 0
    assert guest.u32() == 7
    assert guest.bytes[DATA : DATA + 3] == b"012"
    assert guest.bytes[DATA + 100 : DATA + 104] == b"3456"
    assert guest.read(fd, 100) == b"789"
    assert guest.read(fd, 100) == b""


def test_write_takes_vectors_in_order(guest: Guest, tmp_path: Path) -> None:
    fd = guest.open("file", write=True)
    assert guest.write(fd, b"ab", b"", b"cd") == 0
    assert guest.u32() == 4
    assert (tmp_path / "file").read_bytes() == b"abcd456789"


def test_more_vectors_than_a_call_takes_are_a_short_write(guest: Guest, tmp_path: Path) -> None:
    guest.put(DATA, b"x")
    guest.put(0x8000, struct.pack("<II", DATA, 1) * 2000)
    fd = guest.open("new", oflags=abi.CREAT, write=True)
    assert guest.call("fd_write", fd, 0x8000, 2000, RESULT) == 0
    assert guest.u32() == 1024
    assert (tmp_path / "new").stat().st_size == 1024


def test_positions_are_kept_per_open_file(guest: Guest) -> None:
    one, two = guest.open("file"), guest.open("file")
    assert guest.read(one, 4) == b"0123"
    assert guest.read(two, 2) == b"01"
    assert seek(guest, one, -1, CUR) == 3
    assert seek(guest, one, -2, END) == 8
    assert guest.call("fd_tell", one, RESULT) == 0
    assert guest.u64() == 8
    assert seek(guest, one, 100, SET) == 100
    assert guest.read(one, 5) == b""


@pytest.mark.parametrize("offset, whence", [(-1, SET), (-200, END), (0, 3), (0, -1)])
def test_impossible_seek_is_invalid(guest: Guest, offset: int, whence: int) -> None:
    assert seek(guest, guest.open("file"), offset, whence) == -abi.INVAL


def test_pread_and_pwrite_leave_the_position(guest: Guest, tmp_path: Path) -> None:
    fd = guest.open("file", write=True)
    assert guest.call("fd_pread", fd, *guest.vectors((DATA, 3)), 5, RESULT) == 0
    assert guest.bytes[DATA : DATA + 3] == b"567"
    assert guest.call("fd_pwrite", fd, *guest.vectors((DATA, 3)), 1, RESULT) == 0
    assert seek(guest, fd, 0, CUR) == 0
    assert (tmp_path / "file").read_bytes() == b"0567456789"
    assert guest.call("fd_pread", fd, *guest.vectors((DATA, 3)), -1, RESULT) == abi.INVAL
    assert guest.call("fd_pwrite", fd, *guest.vectors((DATA, 3)), -1, RESULT) == abi.INVAL


def test_append_writes_at_the_end_and_moves_there(guest: Guest, tmp_path: Path) -> None:
    fd = guest.open("file", write=True, fdflags=abi.APPEND)
    assert fdstat(guest, fd)[1] == abi.APPEND
    seek(guest, fd, 2, SET)
    assert guest.write(fd, b"ab") == 0
    assert seek(guest, fd, 0, CUR) == 12
    assert guest.call("fd_fdstat_set_flags", fd, 0) == 0
    seek(guest, fd, 2, SET)
    assert guest.write(fd, b"ab") == 0
    assert guest.call("fd_fdstat_set_flags", fd, abi.APPEND | abi.NONBLOCK) == 0
    assert fdstat(guest, fd)[1] == abi.APPEND | abi.NONBLOCK
    assert guest.write(fd, b"!") == 0
    assert (tmp_path / "file").read_bytes() == b"01ab456789ab!"


def test_synchronous_writing_is_settled_at_open(guest: Guest) -> None:
    fd = guest.open("file", write=True, fdflags=abi.SYNC)
    assert guest.call("fd_fdstat_set_flags", fd, abi.DSYNC) == abi.INVAL
    assert guest.call("fd_fdstat_set_flags", fd, abi.APPEND) == 0
    assert fdstat(guest, fd)[1] == abi.SYNC | abi.APPEND


def test_what_was_not_opened_for_it_cannot_be_read_or_written(guest: Guest) -> None:
    reader = guest.open("file")
    assert guest.write(reader, b"x") == abi.BADF
    assert guest.call("fd_pwrite", reader, *guest.vectors((DATA, 1)), 0, RESULT) == abi.BADF
    assert guest.call("path_open", 3, 0, *guest.text("file"), 0, abi.FD_WRITE, 0, 0, RESULT) == 0
    writer = guest.u32()
    assert guest.call("fd_read", writer, *guest.vectors((DATA, 1)), RESULT) == abi.BADF
    assert guest.call("fd_pread", writer, *guest.vectors((DATA, 1)), 0, RESULT) == abi.BADF
    assert fdstat(guest, reader)[2] & abi.FD_WRITE == 0
    assert fdstat(guest, writer)[2] & (abi.FD_READ | abi.FD_WRITE) == abi.FD_WRITE


def test_directory_is_not_read_written_or_sought(guest: Guest) -> None:
    fd = guest.open(".")
    assert guest.call("fd_read", fd, *guest.vectors((DATA, 1)), RESULT) == abi.BADF
    assert guest.write(fd, b"x") == abi.BADF
    assert seek(guest, fd, 0, CUR) == -abi.BADF
    assert guest.call("fd_sync", fd) == abi.BADF
    assert guest.call("fd_fdstat_set_flags", fd, 0) == abi.BADF
    assert fdstat(guest, fd)[0] == abi.DIRECTORY_TYPE


def test_status_size_and_times(guest: Guest, tmp_path: Path) -> None:
    fd = guest.open("file", write=True)
    assert guest.call("fd_filestat_set_size", fd, 4) == 0
    assert guest.call("fd_filestat_set_times", fd, 10**9, 2 * 10**9 + 5, abi.ATIM | abi.MTIM) == 0
    assert guest.call("fd_filestat_get", fd, RESULT) == 0
    status = (tmp_path / "file").stat()
    expected = (status.st_dev, status.st_ino, abi.REGULAR_FILE, 1, 4, 10**9, 2 * 10**9 + 5, status.st_ctime_ns)
    assert struct.unpack_from("<QQB7xQQQQQ", guest.bytes, RESULT) == expected


def test_one_time_can_be_set_alone_and_now(guest: Guest, tmp_path: Path) -> None:
    fd = guest.open("file")
    os.utime(tmp_path / "file", ns=(7, 8))
    assert guest.call("fd_filestat_set_times", fd, 0, 0, 0) == 0
    assert guest.call("fd_filestat_set_times", fd, 99, 99, abi.MTIM_NOW) == 0
    status = (tmp_path / "file").stat()
    assert status.st_atime_ns == 7
    assert status.st_mtime_ns > 10**18
    for contradiction in (abi.ATIM | abi.ATIM_NOW, abi.MTIM | abi.MTIM_NOW, 16):
        assert guest.call("fd_filestat_set_times", fd, 0, 0, contradiction) == abi.INVAL


def test_size_is_not_set_through_a_reader_nor_absurdly(guest: Guest) -> None:
    assert guest.call("fd_filestat_set_size", guest.open("file"), 1) == abi.INVAL
    assert guest.call("fd_filestat_set_size", guest.open("file", write=True), -1) == abi.INVAL


def test_sync_advise_allocate(guest: Guest) -> None:
    fd = guest.open("file", write=True)
    assert guest.call("fd_sync", fd) == 0
    assert guest.call("fd_datasync", fd) == 0
    for advice in range(6):
        assert guest.call("fd_advise", fd, 0, 0, advice) == 0
    assert guest.call("fd_advise", fd, 0, 0, 6) == abi.INVAL
    assert guest.call("fd_advise", fd, -1, 0, 0) == abi.INVAL
    assert guest.call("fd_allocate", fd, 0, 10) == abi.NOTSUP
    assert guest.call("fd_fdstat_set_rights", fd, 0, 0) == abi.NOTSUP


def test_lowest_free_number_is_used(guest: Guest) -> None:
    assert [guest.open("file") for _ in range(3)] == [4, 5, 6]
    assert guest.call("fd_close", 5) == 0
    assert guest.call("fd_close", 4) == 0
    assert guest.call("fd_close", 4) == abi.BADF
    assert [guest.open("file") for _ in range(3)] == [4, 5, 7]


def test_renumber_moves_and_frees(guest: Guest) -> None:
    one, two = guest.open("file"), guest.open(".")
    guest.read(one, 2)
    assert guest.call("fd_renumber", one, 50) == abi.BADF
    assert guest.call("fd_renumber", 50, one) == abi.BADF
    assert guest.call("fd_renumber", one, one) == 0
    assert guest.call("fd_renumber", one, two) == 0
    assert guest.read(two, 2) == b"23"
    assert guest.call("fd_tell", one, RESULT) == abi.BADF
    assert guest.open("file") == one


def test_renumber_over_a_preopen_and_a_stream(guest: Guest) -> None:
    assert guest.call("fd_renumber", guest.open("file"), 0) == 0
    assert guest.read(0, 3) == b"012"
    assert guest.call("fd_renumber", guest.open("."), 3) == 0
    assert guest.call("fd_prestat_get", 3, RESULT) == abi.BADF
    assert guest.stat("file") == 0


def test_closing_a_stream_keeps_the_one_of_the_worker(guest: Guest) -> None:
    for number in range(3):
        assert guest.call("fd_close", number) == 0
        os.fstat(number)


def test_stdin_pipe_is_waited_for_and_is_no_terminal(guest: Guest) -> None:
    reader, writer = os.pipe()
    try:
        guest.standard(0, reader, readable=True)
        os.write(writer, b"hello")
        assert guest.read(0, 3) == b"hel"
        assert guest.waits == [((reader,), (), None)]
        kind, _, rights, _ = fdstat(guest, 0)
        assert (kind, rights & abi.FD_READ, rights & abi.FD_SEEK) == (abi.UNKNOWN, abi.FD_READ, 0)
        assert seek(guest, 0, 0, CUR) == -abi.SPIPE
        assert guest.call("fd_fdstat_set_flags", 0, abi.NONBLOCK) == 0
        assert guest.call("fd_read", 0, *guest.vectors((DATA, 1)), RESULT) == abi.AGAIN
        guest.ready = ({reader}, set())
        assert guest.read(0, 100) == b"lo"
        guest.stop_after = 0
        with pytest.raises(Stopped):
            guest.read(0, 1)
    finally:
        os.close(reader)
        os.close(writer)


def test_stdin_file_can_be_sought_but_not_changed(guest: Guest, tmp_path: Path) -> None:
    host = os.open(tmp_path / "file", os.O_RDWR)
    try:
        guest.standard(0, host, readable=True)
        assert fdstat(guest, 0)[0] == abi.REGULAR_FILE
        assert guest.read(0, 3) == b"012"
        assert seek(guest, 0, 1, SET) == 1
        assert guest.read(0, 3) == b"123"
        assert guest.write(0, b"x") == abi.BADF
        assert guest.call("fd_filestat_set_size", 0, 0) == abi.BADF
        assert guest.call("fd_filestat_set_times", 0, 0, 0, 5) == abi.BADF
        assert guest.waits == []
    finally:
        os.close(host)


def test_output_file_cannot_be_rewound(guest: Guest, tmp_path: Path) -> None:
    host = os.open(tmp_path / "file", os.O_RDWR)
    try:
        guest.standard(1, host, readable=False)
        assert guest.write(1, b"ab") == 0
        assert seek(guest, 1, 0, SET) == -abi.SPIPE
        assert guest.call("fd_pwrite", 1, *guest.vectors((DATA, 1)), 0, RESULT) == abi.SPIPE
        assert guest.call("fd_read", 1, *guest.vectors((DATA, 1)), RESULT) == abi.BADF
    finally:
        os.close(host)


def test_null_device_is_a_character_device_but_no_terminal(guest: Guest) -> None:
    host = os.open("/dev/null", os.O_RDWR)
    try:
        guest.standard(0, host, readable=True)
        kind, _, rights, _ = fdstat(guest, 0)
        assert kind == abi.CHARACTER_DEVICE
        # wasi-libc's isatty: a character device that can neither seek nor tell.
        assert rights & abi.FD_SEEK
        assert guest.read(0, 10) == b""
    finally:
        os.close(host)


def test_large_write_to_a_pipe_has_stopping_points_and_reports_what_went_out(guest: Guest) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        guest.standard(1, writer, readable=False)
        guest.wasi.table.used[1].flags = abi.NONBLOCK
        assert guest.call("fd_write", 1, *guest.vectors((0, 3 << 16)), RESULT) == 0
        assert 0 < guest.u32() < 3 << 16
        assert ((), (), 0) in guest.waits
        assert guest.write(1, b"x") == abi.AGAIN
        guest.wasi.table.used[1].flags = 0
        guest.stop_after = len(guest.waits)
        with pytest.raises(Stopped):
            guest.write(1, b"x")
        assert guest.waits[-1] == ((), (writer,), None)
    finally:
        os.close(reader)
        os.close(writer)


def test_broken_pipe_is_an_errno(guest: Guest) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        guest.standard(1, writer, readable=False)
        assert guest.write(1, b"x") == abi.from_host(OSError(errno.EPIPE, "")) == 64
    finally:
        os.close(writer)


@pytest.mark.parametrize("name", ["fd_read", "fd_write"])
@pytest.mark.parametrize(
    "vectors, count, result",
    [
        (4 << 16, 1, RESULT),
        (-8, 1, RESULT),
        (VECTORS, 1 << 30, -1),
        (VECTORS, 1, (4 << 16) - 3),
        (VECTORS, 2, RESULT),
        ((4 << 16) - 8, 2, RESULT),
    ],
)
def test_bad_pointers_fault_before_anything_is_done(
    guest: Guest, tmp_path: Path, name: str, vectors: int, count: int, result: int
) -> None:
    guest.put(VECTORS, struct.pack("<IIII", DATA, 1, 0xFFFF_FFF0, 0x20))
    fd = guest.open("file", write=True)
    assert guest.call(name, fd, vectors, count, result) == abi.FAULT
    assert seek(guest, fd, 0, CUR) == 0
    assert (tmp_path / "file").read_bytes() == b"0123456789"
