"""A guest of WASI without an engine, for all `test_wasi_*`; and what needs no file: arguments, clocks, exit."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import pytest

from procstop.wasi import VERSIONS, Preopen, Wasi, abi
from procstop.wasi.descriptors import Descriptor

PAGE = 1 << 16
PATH, PATH2, DATA, VECTORS, RESULT = 0x1000, 0x3000, 0x5000, 0x800, 0x100


class Exited(BaseException):
    """What the fake host raises for `proc_exit`."""


class Stopped(BaseException):
    """What the fake host raises at a stopping point, once `stop_after` waits are over."""


class Guest:
    """A fake host and its guest's memory, with a method for every call that takes pointers."""

    def __init__(
        self,
        *preopens: Preopen,
        args: Sequence[bytes | str] = ("prog",),
        env: Mapping[str, str] | None = None,
        version: str = "wasi_snapshot_preview1",
    ) -> None:
        self.bytes = bytearray(4 * PAGE)
        self.waits: list[tuple[tuple[int, ...], tuple[int, ...], float | None]] = []
        self.ready: tuple[set[int], set[int]] = (set(), set())
        self.stop_after = 1000
        self.before = open_descriptors()
        self.wasi = Wasi(self, args, env or {}, preopens)
        self.functions = self.wasi.functions(version)

    # The host's side.
    def memory(self) -> memoryview:
        return memoryview(self.bytes)

    def exit(self, code: int) -> NoReturn:
        raise Exited(code)

    def wait(self, readers: Sequence[int], writers: Sequence[int], timeout: float | None) -> tuple[set[int], set[int]]:
        self.waits.append((tuple(readers), tuple(writers), timeout))
        if len(self.waits) > self.stop_after:
            raise Stopped
        if timeout is not None:
            time.sleep(min(timeout, 0.01))
        return self.ready

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wasi.close()
        assert open_descriptors() == self.before

    # The guest's side.
    def call(self, name: str, *arguments: int) -> int:
        return self.functions[name][2](*arguments)

    def put(self, offset: int, data: bytes) -> tuple[int, int]:
        self.bytes[offset : offset + len(data)] = data
        return offset, len(data)

    def text(self, value: str | bytes, offset: int = PATH) -> tuple[int, int]:
        return self.put(offset, value if isinstance(value, bytes) else value.encode())

    def u32(self, offset: int = RESULT) -> int:
        return int(struct.unpack_from("<I", self.bytes, offset)[0])

    def u64(self, offset: int = RESULT) -> int:
        return int(struct.unpack_from("<Q", self.bytes, offset)[0])

    def standard(self, number: int, host: int, *, readable: bool) -> None:
        """Let 0, 1 or 2 stand for `host`, as if the worker had been started with it."""
        entry = Descriptor(host, os.fstat(host).st_mode, readable=readable, writable=not readable, mutable=False)
        entry.standard = True
        self.wasi.table.used[number] = entry

    def try_open(
        self, path: str | bytes, *, fd: int = 3, follow: bool = True, oflags: int = 0, write: bool = False,
        fdflags: int = 0,
    ) -> int:  # fmt: skip
        rights = abi.FD_READ | (abi.FD_WRITE if write else 0)
        return self.call("path_open", fd, int(follow), *self.text(path), oflags, rights, -1, fdflags, RESULT)

    def open(self, path: str | bytes, *, fd: int = 3, oflags: int = 0, write: bool = False, fdflags: int = 0) -> int:
        assert self.try_open(path, fd=fd, oflags=oflags, write=write, fdflags=fdflags) == 0
        return self.u32()

    def vectors(self, *buffers: tuple[int, int]) -> tuple[int, int]:
        self.put(VECTORS, b"".join(struct.pack("<II", *buffer) for buffer in buffers))
        return VECTORS, len(buffers)

    def write(self, fd: int, *pieces: bytes) -> int:
        self.put(DATA, b"".join(pieces))
        buffers, offset = [], DATA
        for piece in pieces:
            buffers.append((offset, len(piece)))
            offset += len(piece)
        return self.call("fd_write", fd, *self.vectors(*buffers), RESULT)

    def read(self, fd: int, size: int) -> bytes:
        assert self.call("fd_read", fd, *self.vectors((DATA, size)), RESULT) == 0
        return bytes(self.bytes[DATA : DATA + self.u32()])

    def stat(self, path: str, *, fd: int = 3, follow: bool = False) -> int:
        return self.call("path_filestat_get", fd, int(follow), *self.text(path), RESULT)

    def mkdir(self, path: str, *, fd: int = 3) -> int:
        return self.call("path_create_directory", fd, *self.text(path))

    def rmdir(self, path: str, *, fd: int = 3) -> int:
        return self.call("path_remove_directory", fd, *self.text(path))

    def unlink(self, path: str, *, fd: int = 3) -> int:
        return self.call("path_unlink_file", fd, *self.text(path))

    def rename(self, old: str, new: str, *, fd: int = 3, to: int = 3) -> int:
        return self.call("path_rename", fd, *self.text(old), to, *self.text(new, PATH2))

    def link(self, old: str, new: str, *, fd: int = 3, to: int = 3, follow: bool = False) -> int:
        return self.call("path_link", fd, int(follow), *self.text(old), to, *self.text(new, PATH2))

    def symlink(self, target: str, path: str, *, fd: int = 3) -> int:
        return self.call("path_symlink", *self.text(target), fd, *self.text(path, PATH2))

    def set_times(self, path: str, *, follow: bool = False, atime: int = 0, mtime: int = 0, flags: int = 5) -> int:
        return self.call("path_filestat_set_times", 3, int(follow), *self.text(path), atime, mtime, flags)

    def readlink(self, path: str, capacity: int = 4096) -> int | bytes:
        error = self.call("path_readlink", 3, *self.text(path), DATA, capacity, RESULT)
        return error or bytes(self.bytes[DATA : DATA + self.u32()])


def open_descriptors() -> set[str]:
    # The listing's own descriptor is gone by the time it could be looked at.
    return {name for name in os.listdir("/dev/fd") if os.path.exists(f"/dev/fd/{name}") or _is_open(int(name))}


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@pytest.fixture
def guest() -> Iterator[Guest]:
    with Guest(args=["prog", b"a\xff", "ü"], env={"A": "1", "B": "x=y"}) as guest:
        yield guest


def test_arguments_are_written_with_their_addresses(guest: Guest) -> None:
    assert guest.call("args_sizes_get", 0, 4) == 0
    assert (guest.u32(0), guest.u32(4)) == (3, 5 + 3 + 3)
    assert guest.call("args_get", 16, 64) == 0
    assert struct.unpack_from("<III", guest.bytes, 16) == (64, 69, 72)
    assert bytes(guest.bytes[64:75]) == b"prog\0a\xff\0\xc3\xbc\0"


def test_environment_is_written_as_assignments(guest: Guest) -> None:
    assert guest.call("environ_sizes_get", 0, 4) == 0
    assert (guest.u32(0), guest.u32(4)) == (2, 10)
    assert guest.call("environ_get", 16, 64) == 0
    assert bytes(guest.bytes[64:74]) == b"A=1\0B=x=y\0"


def test_nul_in_an_argument_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        Guest(args=["a\0b"])


def test_preopens_are_three_and_up_with_their_names_as_given(tmp_path: Path) -> None:
    names = ["/data", ".", "/ü b/"]
    with Guest(*(Preopen(name, str(tmp_path)) for name in names)) as guest:
        for number, name in enumerate(names, 3):
            encoded = name.encode()
            assert guest.call("fd_prestat_get", number, RESULT) == 0
            assert (guest.u32(), guest.u32(RESULT + 4)) == (0, len(encoded))
            assert guest.call("fd_prestat_dir_name", number, DATA, len(encoded) - 1) == abi.NAMETOOLONG
            guest.put(DATA, b"\xee" * 20)
            assert guest.call("fd_prestat_dir_name", number, DATA, len(encoded)) == 0
            assert bytes(guest.bytes[DATA : DATA + len(encoded) + 1]) == encoded + b"\xee"
        assert guest.call("fd_prestat_get", 6, RESULT) == abi.BADF
        assert guest.call("fd_prestat_get", 0, RESULT) == abi.BADF


def test_missing_preopen_raises_and_leaks_nothing(tmp_path: Path) -> None:
    before = open_descriptors()
    with pytest.raises(FileNotFoundError):
        Guest(Preopen("/a", str(tmp_path)), Preopen("/b", str(tmp_path / "missing")))
    assert open_descriptors() == before


@pytest.mark.parametrize("clock", range(4))
def test_clocks_run_and_have_a_resolution(guest: Guest, clock: int) -> None:
    assert guest.call("clock_res_get", clock, RESULT) == 0
    assert guest.u64() >= 1
    readings = []
    for _ in range(2):
        assert guest.call("clock_time_get", clock, 0, RESULT) == 0
        readings.append(guest.u64())
    assert readings[0] <= readings[1]


def test_realtime_is_the_time_of_the_host(guest: Guest) -> None:
    guest.call("clock_time_get", abi.REALTIME, 0, RESULT)
    assert abs(guest.u64() - time.time_ns()) < 60 * 10**9


def test_unknown_clock_is_invalid(guest: Guest) -> None:
    assert guest.call("clock_time_get", 4, 0, RESULT) == abi.INVAL
    assert guest.call("clock_res_get", -1, RESULT) == abi.INVAL


def test_random_bytes_fill_the_buffer_and_no_more(guest: Guest) -> None:
    guest.bytes[:] = bytes(len(guest.bytes))
    assert guest.call("random_get", 100, 3 * PAGE) == 0
    assert guest.bytes[:100] == bytes(100)
    assert guest.bytes[100 + 3 * PAGE :] == bytes(PAGE - 100)
    assert guest.bytes[100 : 100 + 3 * PAGE].count(0) < 2 * PAGE


def test_much_random_data_passes_stopping_points(guest: Guest) -> None:
    guest.bytes = bytearray(1 << 25)
    assert guest.call("random_get", 0, 1 << 25) == 0
    assert guest.waits == [((), (), 0)]


@pytest.mark.parametrize("code, seen", [(0, 0), (3, 3), (300, 300), (-1, 0xFFFF_FFFF)])
def test_exit_keeps_the_whole_code(guest: Guest, code: int, seen: int) -> None:
    with pytest.raises(Exited) as caught:
        guest.call("proc_exit", code)
    assert caught.value.args == (seen,)


def test_what_there_is_none_of_says_so(guest: Guest) -> None:
    assert guest.call("proc_raise", 9) == abi.NOSYS
    assert guest.call("sched_yield") == 0
    for name, rest in (("sock_accept", 2), ("sock_recv", 5), ("sock_send", 4), ("sock_shutdown", 1)):
        assert guest.call(name, 0, *[0] * rest) == abi.NOTSOCK
        assert guest.call(name, 99, *[0] * rest) == abi.BADF


@pytest.mark.parametrize("version", VERSIONS)
def test_every_function_is_there_with_its_signature(version: str) -> None:
    with Guest(version=version) as guest:
        assert len(guest.functions) == (46 if version == "wasi_snapshot_preview1" else 45)
        for name, (parameters, results, _) in guest.functions.items():
            assert set(parameters) <= {"i32", "i64"}
            assert results == (() if name == "proc_exit" else ("i32",))
        assert guest.functions["fd_seek"][0] == ("i32", "i64", "i32", "i32")


def test_closed_guest_has_no_descriptors(tmp_path: Path) -> None:
    with Guest(Preopen("/", str(tmp_path))) as guest:
        guest.wasi.close()
        assert guest.stat(".") == abi.BADF
        assert guest.write(1, b"x") == abi.BADF
