"""WASI on names: opening, creating, removing, moving; and what a read-only preopen refuses."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_wasi_guest import DATA, PATH, RESULT, Guest

from procstop.wasi import Preopen, abi

EXIST, ISDIR, LOOP, NOTEMPTY, NXIO = 20, 31, 32, 55, 60


def fill(root: Path) -> None:
    (root / "dir" / "inner").mkdir(parents=True)
    (root / "file").write_bytes(b"hello")
    (root / "dir" / "deep").write_bytes(b"world")
    (root / "to_file").symlink_to("file")
    (root / "to_dir").symlink_to("dir")
    (root / "dangling").symlink_to("nowhere")
    (root / "round").symlink_to("dir/../to_file")


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    fill(tmp_path)
    with Guest(Preopen("/", str(tmp_path), write=True)) as guest:
        yield guest


@pytest.mark.parametrize(
    "path", ["file", "./file", "dir/../file", "dir//inner/../../file", "to_dir/../file", "to_file", "round"]
)
def test_paths_that_lead_to_the_file(guest: Guest, path: str) -> None:
    assert guest.read(guest.open(path), 10) == b"hello"


@pytest.mark.parametrize("path", [".", "./", "dir/..", "dir/", "to_dir/", "to_dir", "dir/inner/../."])
def test_paths_that_lead_to_a_directory(guest: Guest, path: str) -> None:
    fd = guest.open(path)
    assert guest.call("fd_readdir", fd, DATA, 1000, 0, RESULT) == 0
    assert guest.open(path, oflags=abi.DIRECTORY) == fd + 1


@pytest.mark.parametrize(
    "path, expected",
    [
        ("", abi.NOENT),
        ("none", abi.NOENT),
        ("none/x", abi.NOENT),
        ("dangling", abi.NOENT),
        ("file/", abi.NOTDIR),
        ("file/.", abi.NOTDIR),
        ("file/..", abi.NOTDIR),
        ("file/x", abi.NOTDIR),
        ("to_file/", abi.NOTDIR),
        ("f" * 256, abi.NAMETOOLONG),
        ("./" * 3000, abi.NAMETOOLONG),
        (b"f\0", abi.INVAL),
        (b"\xff", abi.ILSEQ),
        ("f" * 70000, abi.NAMETOOLONG),
    ],
)
def test_paths_that_lead_nowhere(guest: Guest, path: str | bytes, expected: int) -> None:
    assert guest.try_open(path) == expected


def test_link_at_the_end_is_followed_only_when_asked(guest: Guest) -> None:
    assert guest.try_open("to_file", follow=False) == LOOP
    assert guest.stat("to_file") == 0
    assert guest.bytes[RESULT + 16] == abi.SYMBOLIC_LINK
    assert guest.stat("to_file", follow=True) == 0
    assert guest.bytes[RESULT + 16] == abi.REGULAR_FILE
    assert guest.stat("to_dir/") == 0
    assert guest.bytes[RESULT + 16] == abi.DIRECTORY_TYPE
    assert guest.stat("dangling") == 0
    assert guest.stat("dangling", follow=True) == abi.NOENT


def test_open_flags(guest: Guest, tmp_path: Path) -> None:
    assert guest.try_open("new", oflags=abi.CREAT, write=True) == 0
    assert guest.try_open("new", oflags=abi.CREAT | abi.EXCL, write=True) == EXIST
    assert guest.try_open("to_file", oflags=abi.CREAT | abi.EXCL) == EXIST
    assert guest.try_open("dangling", oflags=abi.CREAT | abi.EXCL) == EXIST
    assert guest.try_open("dir", oflags=abi.CREAT) == ISDIR
    assert guest.try_open("new2/", oflags=abi.CREAT) == ISDIR
    assert guest.try_open("dir", write=True) == ISDIR
    assert guest.try_open("file", oflags=abi.DIRECTORY) == abi.NOTDIR
    assert guest.try_open("new3", oflags=abi.DIRECTORY | abi.CREAT) == abi.INVAL
    assert guest.try_open("file", oflags=16) == abi.INVAL
    assert guest.try_open("file", fdflags=32) == abi.INVAL
    assert guest.call("path_open", 3, 2, *guest.text("file"), 0, 0, 0, 0, RESULT) == abi.INVAL
    assert guest.try_open("file", oflags=abi.TRUNC, write=True) == 0
    assert (tmp_path / "file").stat().st_size == 0
    assert guest.try_open("dangling", oflags=abi.CREAT, write=True) == 0
    assert (tmp_path / "nowhere").is_file()


def test_open_below_something_that_is_no_directory(guest: Guest) -> None:
    assert guest.try_open("x", fd=guest.open("file")) == abi.NOTDIR
    assert guest.try_open("x", fd=0) == abi.BADF
    assert guest.try_open("x", fd=99) == abi.BADF
    assert guest.stat("x", fd=guest.open("file")) == abi.BADF


def test_failed_open_uses_no_number(guest: Guest) -> None:
    limit = len(guest.bytes)
    assert guest.call("path_open", 3, 0, *guest.text("file"), 0, 2, 0, 0, limit - 3) == abi.FAULT
    assert guest.try_open("none") == abi.NOENT
    assert guest.open("file") == 4


def test_pipe_does_not_block_the_open(guest: Guest, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    fd = guest.open("fifo")
    assert guest.call("fd_fdstat_get", fd, RESULT) == 0
    assert (guest.bytes[RESULT], guest.bytes[RESULT + 2]) == (abi.UNKNOWN, 0)
    assert guest.call("path_open", 3, 0, *guest.text("fifo"), 0, abi.FD_WRITE, 0, 0, RESULT) == 0
    writer = guest.u32()
    assert guest.write(writer, b"through") == 0
    assert guest.read(fd, 100) == b"through"
    guest.call("fd_close", fd)
    guest.call("fd_close", writer)
    assert guest.call("path_open", 3, 0, *guest.text("fifo"), 0, abi.FD_WRITE, 0, 0, RESULT) == NXIO


def test_directories_come_and_go(guest: Guest, tmp_path: Path) -> None:
    assert guest.mkdir("a") == 0
    assert guest.mkdir("a/b/") == 0
    assert guest.mkdir("a") == EXIST
    assert guest.mkdir("dangling") == EXIST
    assert guest.mkdir("none/x") == abi.NOENT
    assert guest.rmdir("a") == NOTEMPTY
    assert guest.rmdir("a/b/") == 0
    assert guest.rmdir("to_dir") == abi.NOTDIR
    assert guest.rmdir("to_dir/") == abi.NOTDIR
    assert guest.rmdir("file") == abi.NOTDIR
    assert guest.rmdir(".") == abi.INVAL
    assert guest.rmdir("a") == 0
    assert not (tmp_path / "a").exists()


def test_unlink_takes_files_and_links_but_no_directories(guest: Guest, tmp_path: Path) -> None:
    assert guest.unlink("dir") == ISDIR
    assert guest.unlink("dir/") == ISDIR
    assert guest.unlink(".") == ISDIR
    assert guest.unlink("file/") == abi.NOTDIR
    assert guest.unlink("none") == abi.NOENT
    assert guest.unlink("to_dir") == 0
    assert guest.unlink("to_file") == 0
    assert (tmp_path / "file").exists()
    assert guest.unlink("file") == 0
    assert not (tmp_path / "file").exists()


def test_rename(guest: Guest, tmp_path: Path) -> None:
    assert guest.rename("file", "dir/moved") == 0
    assert (tmp_path / "dir" / "moved").read_bytes() == b"hello"
    assert guest.rename("dir/moved", "new/") == abi.NOTDIR
    assert guest.rename("to_file", "dir") == ISDIR
    assert guest.rename("dir/", "dir2/") == 0
    assert guest.rename("dir2", "dir2/inner/x") == abi.INVAL
    assert guest.rename("to_dir/", "x") == abi.NOTDIR
    assert guest.rename("none", "x") == abi.NOENT
    assert guest.rename("to_file", "to_file2") == 0
    assert os.readlink(tmp_path / "to_file2") == "file"
    inner = guest.open("dir2/inner")
    assert guest.rename("dir2/moved", "back", to=inner) == 0
    assert (tmp_path / "dir2" / "inner" / "back").exists()


def test_hard_link(guest: Guest, tmp_path: Path) -> None:
    assert guest.link("file", "dir/other") == 0
    assert (tmp_path / "file").stat().st_nlink == 2
    assert guest.link("to_file", "same_link") == 0
    assert os.readlink(tmp_path / "same_link") == "file"
    assert guest.link("file", "x", follow=True) == abi.INVAL
    assert guest.link("file", "dir") == EXIST
    assert guest.link("file", "x/") == abi.NOENT
    assert guest.link("file/", "x") == abi.NOTDIR
    assert guest.link("dir", "x") == abi.PERM


def test_symlink_and_readlink(guest: Guest, tmp_path: Path) -> None:
    assert guest.symlink("../file", "dir/up") == 0
    assert guest.readlink("dir/up") == b"../file"
    assert guest.readlink("dir/up", capacity=4) == b"../f"
    assert guest.read(guest.open("dir/up"), 9) == b"hello"
    assert guest.symlink("x", "file") == EXIST
    assert guest.symlink("", "y") == abi.NOENT
    assert guest.symlink("x", "y/") == abi.NOENT
    assert guest.readlink("file") == abi.INVAL
    assert guest.readlink("file/") == abi.NOTDIR
    assert guest.readlink("none") == abi.NOENT
    (tmp_path / "absolute").symlink_to(tmp_path)
    assert guest.readlink("absolute") == abi.PERM


def test_times_of_a_name(guest: Guest, tmp_path: Path) -> None:
    assert guest.set_times("to_file", atime=10**9, mtime=2 * 10**9) == 0
    assert (tmp_path / "to_file").lstat().st_mtime_ns == 2 * 10**9
    assert (tmp_path / "file").stat().st_mtime_ns > 10**18
    assert guest.set_times("to_file", follow=True, atime=10**9, mtime=3 * 10**9) == 0
    assert (tmp_path / "file").stat().st_mtime_ns == 3 * 10**9
    assert guest.set_times("file", flags=3) == abi.INVAL
    assert guest.set_times("file/") == abi.NOTDIR


CHANGES: dict[str, Callable[[Guest], int]] = {
    "create": lambda guest: guest.try_open("new", oflags=abi.CREAT),
    "create what is there": lambda guest: guest.try_open("file", oflags=abi.CREAT),
    "truncate": lambda guest: guest.try_open("file", oflags=abi.TRUNC),
    "write": lambda guest: guest.try_open("file", write=True),
    "write below": lambda guest: guest.try_open("deep", fd=guest.open("dir"), write=True),
    "mkdir": lambda guest: guest.mkdir("new"),
    "mkdir below": lambda guest: guest.mkdir("new", fd=guest.open("dir")),
    "rmdir": lambda guest: guest.rmdir("dir/inner"),
    "unlink": lambda guest: guest.unlink("file"),
    "rename away": lambda guest: guest.rename("file", "x", to=4),
    "rename into": lambda guest: guest.rename("other", "x", fd=4),
    "link away": lambda guest: guest.link("file", "x", to=4),
    "link into": lambda guest: guest.link("other", "x", fd=4),
    "symlink": lambda guest: guest.symlink("file", "x"),
    "times": lambda guest: guest.set_times("file"),
    "times of a descriptor": lambda guest: guest.call("fd_filestat_set_times", guest.open("file"), 0, 0, 5),
    "times of a directory": lambda guest: guest.call("fd_filestat_set_times", 3, 0, 0, 5),
    "size": lambda guest: guest.call("fd_filestat_set_size", guest.open("file"), 0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_read_only_preopen_refuses_to(change: str, tmp_path: Path) -> None:
    (tmp_path / "ro").mkdir()
    (tmp_path / "rw").mkdir()
    fill(tmp_path / "ro")
    (tmp_path / "rw" / "other").write_bytes(b"")
    with Guest(Preopen("/ro", str(tmp_path / "ro")), Preopen("/rw", str(tmp_path / "rw"), write=True)) as guest:
        before = snapshot(tmp_path)
        assert CHANGES[change](guest) == abi.PERM
        assert snapshot(tmp_path) == before
        assert guest.read(guest.open("to_file"), 10) == b"hello"
        assert guest.call("fd_write", guest.open("file"), PATH, 0, RESULT) == abi.BADF


def snapshot(root: Path) -> dict[str, tuple[int, int, int, int]]:
    """What changes to the names, types, sizes or times below `root` would show in."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        found[str(path)] = (status.st_mode, status.st_ino, status.st_size, status.st_mtime_ns)
    return found
