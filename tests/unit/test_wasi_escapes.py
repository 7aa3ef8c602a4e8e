"""No path leads out of a preopen: absolute, upwards, through links, or while another process swaps things."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_wasi_guest import DATA, RESULT, Guest
from test_wasi_paths import snapshot

from procstop.wasi import Preopen, abi
from procstop.wasi.resolve import MAX_LINKS, climbs_out

LOOP = 32

OUTWARDS = [
    "/", "//", "/etc/passwd", "..", "../", "../secret", "./../secret", "dir/../../secret", "dir/inner/../../../secret",
    "up", "up/", "up/secret", "out", "out/secret", "absolute", "absolute/", "absolute/secret", "root/etc/passwd",
    "to_secret", "absolute_secret", "chain", "chain/secret", "dir/climb", "dir/climb/secret", "self/self/up/secret",
    "self/../up", "to_up", "to_up/",
]  # fmt: skip


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    """A guest with a preopen full of ways out; everything around it must stay as it is."""
    root = tmp_path / "root"
    (root / "dir" / "inner").mkdir(parents=True)
    (root / "file").write_bytes(b"inside")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    for name, target in {
        "up": "..",
        "out": "../outside",
        "absolute": str(tmp_path / "outside"),
        "root": "/",
        "to_secret": "../secret",
        "absolute_secret": str(tmp_path / "secret"),
        "chain": "link1",
        "link1": "dir/link2",
        "dir/link2": "../self/out",
        "dir/climb": "inner/../../../outside",
        "self": ".",
        "to_up": "up/",
        "hole": "../new",
        "absolute_hole": str(tmp_path / "new"),
        "loop1": "loop2",
        "loop2": "dir/../loop1",
        "itself": "itself/x",
    }.items():
        (root / name).symlink_to(target)
    before = {name: value for name, value in snapshot(tmp_path).items() if not name.startswith(str(root))}
    with Guest(Preopen("/", str(root), write=True)) as guest:
        yield guest
    after = {name: value for name, value in snapshot(tmp_path).items() if not name.startswith(str(root))}
    assert after == before


ATTEMPTS: dict[str, Callable[[Guest, str], int]] = {
    "open": lambda guest, path: guest.try_open(path),
    "open to write": lambda guest, path: guest.try_open(path, write=True),
    "truncate": lambda guest, path: guest.try_open(path, oflags=abi.TRUNC, write=True),
    "create": lambda guest, path: guest.try_open(path, oflags=abi.CREAT, write=True),
    "open a directory": lambda guest, path: guest.try_open(path, oflags=abi.DIRECTORY),
    "stat": lambda guest, path: guest.stat(path, follow=True),
    "times": lambda guest, path: guest.set_times(path, follow=True),
}


@pytest.mark.parametrize("path", OUTWARDS)
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_nothing_outside_is_reached_by(attempt: str, path: str, guest: Guest) -> None:
    assert ATTEMPTS[attempt](guest, path) == abi.PERM


NAMED: dict[str, Callable[[Guest, str], int]] = {
    "open without following": lambda guest, path: guest.try_open(path + "/secret", follow=False),
    "create": lambda guest, path: guest.try_open(path + "/new", oflags=abi.CREAT | abi.EXCL, write=True),
    "stat": lambda guest, path: guest.stat(path + "/secret"),
    "times": lambda guest, path: guest.set_times(path + "/secret"),
    "mkdir": lambda guest, path: guest.mkdir(path + "/new"),
    "rmdir": lambda guest, path: guest.rmdir(path + "/outside"),
    "unlink": lambda guest, path: guest.unlink(path + "/secret"),
    "rename from": lambda guest, path: guest.rename(path + "/secret", "stolen"),
    "rename to": lambda guest, path: guest.rename("file", path + "/new"),
    "link from": lambda guest, path: guest.link(path + "/secret", "stolen"),
    "link to": lambda guest, path: guest.link("file", path + "/new"),
    "symlink": lambda guest, path: guest.symlink("x", path + "/new"),
}


@pytest.mark.parametrize("path", ["..", "up", "out", "absolute", "chain", "dir/climb", "dir/../..", "/tmp"])
@pytest.mark.parametrize("attempt", NAMED)
def test_no_name_outside_is_used_by(attempt: str, path: str, guest: Guest) -> None:
    assert NAMED[attempt](guest, path) == abi.PERM


@pytest.mark.parametrize("path", ["hole", "absolute_hole"])
def test_nothing_is_created_through_a_dangling_link(path: str, guest: Guest) -> None:
    assert guest.try_open(path, oflags=abi.CREAT, write=True) == abi.PERM
    assert guest.try_open(path, oflags=abi.CREAT, write=True, follow=False) == LOOP
    assert guest.mkdir(path) == 20
    assert guest.symlink("x", path) == 20


def test_link_that_leads_out_can_be_removed_and_moved_as_a_link(guest: Guest, tmp_path: Path) -> None:
    assert guest.rename("out", "out2") == 0
    assert guest.link("out2", "out3") == 0
    assert guest.unlink("out2") == 0
    assert guest.set_times("out3") == 0
    assert os.readlink(tmp_path / "root" / "out3") == "../outside"


@pytest.mark.parametrize("path", ["loop1", "loop2/x", "itself", "itself/y"])
def test_loops_end(path: str, guest: Guest) -> None:
    assert guest.try_open(path) == LOOP
    assert guest.stat(path, follow=True) == LOOP


def test_as_many_links_as_linux_follows(guest: Guest, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "n0").write_bytes(b"end")
    for number in range(1, MAX_LINKS + 2):
        (root / f"n{number}").symlink_to(f"n{number - 1}")
    assert guest.read(guest.open(f"n{MAX_LINKS}"), 9) == b"end"
    assert guest.try_open(f"n{MAX_LINKS + 1}") == LOOP


def test_directory_that_a_guest_opened_is_a_root_of_its_own(guest: Guest) -> None:
    fd = guest.open("dir")
    assert guest.try_open("../file", fd=fd) == abi.PERM
    assert guest.try_open("inner/..", fd=fd) == 0
    assert guest.try_open("link2", fd=fd) == abi.PERM


def test_directory_moved_out_of_the_walk_does_not_open_its_new_parent(guest: Guest, tmp_path: Path) -> None:
    fd = guest.open("dir/inner")
    os.rename(tmp_path / "root" / "dir" / "inner", tmp_path / "moved")
    assert guest.try_open("..", fd=fd) == abi.PERM
    os.rename(tmp_path / "moved", tmp_path / "root" / "dir" / "inner")


@pytest.mark.parametrize("target", ["/", "/etc/passwd", "..", "../x", "dir/../../x", "x/..", "./.."])
def test_link_that_would_lead_out_is_not_made(target: str, guest: Guest) -> None:
    assert guest.symlink(target, "new") == abi.PERM
    assert guest.stat("new") == abi.NOENT


def test_link_upwards_within_the_preopen_is_made(guest: Guest) -> None:
    assert guest.symlink("../../file", "dir/inner/new") == 0
    assert guest.read(guest.open("dir/inner/new"), 9) == b"inside"
    assert guest.symlink("../../../file", "dir/inner/new2") == abi.PERM
    fd = guest.open("dir/inner")
    assert guest.symlink("../../file", "new3", fd=fd) == 0
    assert guest.symlink("../../../file", "new4", fd=fd) == abi.PERM


def test_link_is_judged_by_where_its_directory_is_now(guest: Guest) -> None:
    """Not by where it was when it was opened: it may have been moved up since."""
    for path in ("a", "a/b", "a/b/c"):
        assert guest.mkdir(path) == 0
    fd = guest.open("a/b/c")
    assert guest.symlink("../../../file", "deep", fd=fd) == 0
    assert guest.unlink("a/b/c/deep") == 0
    assert guest.rename("a/b/c", "c") == 0
    assert guest.symlink("../../secret", "up", fd=fd) == abi.PERM
    assert guest.symlink("../file", "up", fd=fd) == 0


def test_link_that_leads_out_already_is_moved_to_no_other_depth(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "root" / "dir" / "inner" / "laid").symlink_to("../../../outside")
    assert guest.rename("dir/inner/laid", "laid") == abi.PERM
    assert guest.rename("dir/inner/laid", "dir/inner/newer") == 0


def test_deep_directory_is_moved_up_only_without_a_link_that_leads_out(guest: Guest, tmp_path: Path) -> None:
    """Deeper than a function of Python's can call itself."""
    assert guest.mkdir("x") == 0 and guest.mkdir("x/deep") == 0
    fd = guest.open("x/deep")
    for _ in range(1200):
        assert guest.mkdir("a", fd=fd) == 0
        inner = guest.open("a", fd=fd)
        assert guest.call("fd_close", fd) == 0
        fd = inner
    assert guest.symlink("/".join([".."] * 1202), "up", fd=fd) == 0
    assert guest.rename("x/deep", "deep") == abi.PERM
    assert guest.unlink("up", fd=fd) == 0
    assert guest.rename("x/deep", "deep") == 0
    # What pytest clears away with it goes no deeper than Python does.
    subprocess.run(["rm", "-r", str(tmp_path / "root" / "deep")], check=True)


def test_link_is_not_moved_to_where_it_leads_out(guest: Guest) -> None:
    assert guest.symlink("../../file", "dir/inner/new") == 0
    assert guest.rename("dir/inner/new", "new") == abi.PERM
    assert guest.link("dir/inner/new", "dir/new") == abi.PERM
    assert guest.rename("dir/inner/new", "dir/inner/newer") == 0


@pytest.mark.parametrize(
    "target, depth, out",
    [("a/b", 0, False), ("..a", 0, False), ("../a", 1, False), ("a/../..", 1, True), ("", 0, False)],
)
def test_climbing_is_judged_by_the_text(target: str, depth: int, out: bool) -> None:
    assert climbs_out(target.encode(), depth) is out


def test_absolute_link_targets_are_not_shown(guest: Guest) -> None:
    assert guest.readlink("absolute") == abi.PERM
    assert guest.readlink("out") == b"../outside"


@pytest.mark.parametrize("path", ["swap/secret", "swap/../swap/secret", "dir/../swap/./secret"])
def test_swapping_a_directory_for_a_link_wins_no_race(path: str, guest: Guest, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "swap").mkdir()
    (root / "swap" / "secret").write_bytes(b"inside")
    (root / "trap").symlink_to("../outside")
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            os.rename(root / "swap", root / "aside")
            os.rename(root / "trap", root / "swap")
            os.rename(root / "swap", root / "trap")
            os.rename(root / "aside", root / "swap")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=swap)
    thread.start()
    seen: set[int] = set()
    try:
        for _ in range(1500):
            error = guest.try_open(path)
            seen.add(error)
            if error == 0:
                fd = guest.u32()
                assert guest.read(fd, 100) == b"inside"
                assert guest.call("fd_close", fd) == 0
            guest.set_times(path, follow=True)
            guest.try_open("swap/new", oflags=abi.CREAT, write=True)
    finally:
        over.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert seen <= {0, abi.PERM, abi.NOENT, abi.NOTDIR}
    # Descriptors of the guest that the last open left: closed with it, checked by the fixture.
    assert guest.call("fd_filestat_get", 3, RESULT) == 0
    assert guest.call("fd_prestat_dir_name", 3, DATA, 1) == 0
