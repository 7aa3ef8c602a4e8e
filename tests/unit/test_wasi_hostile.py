"""Whatever a guest passes: an errno or the fake host's own exception comes out, and nothing else happens."""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_wasi_guest import Exited, Guest, Stopped
from test_wasi_paths import snapshot

from procstop.wasi import Preopen, abi

NAMES = [
    b"file", b"dir", b"dir/deep", b"..", b"../secret", b"up/secret", b"up", b"/", b"abs/secret", b"loop", b"new",
    b"dir/new", b".", b"dir/..", b"dir/../..", b"\xff\xfe", b"a\0b", b"", b"fifo", b"to_file", b"hole", b"new/",
]  # fmt: skip
# Where the names, and tables of vectors and subscriptions, lie in the guest's memory.
AT = {name: 0x1000 + 64 * number for number, name in enumerate(NAMES)}
VECTORS, SUBSCRIPTIONS = 0x4000, 0x5000
EDGES = [0, 1, 8, 0x7FFF_FFFF, -0x8000_0000, -1, 0xFFFF, 0x1_0000, 0x3_FFFF, 0x4_0000, 0x3_FFF8]

small = st.integers(-1, 12)
pointers = st.sampled_from([*AT.values(), VECTORS, SUBSCRIPTIONS, *EDGES]) | st.integers(-(1 << 31), (1 << 32) - 1)
i32 = small | pointers
i64 = small | st.integers(-(1 << 63), (1 << 64) - 1) | st.just((1 << 63) - 1) | st.just(-1)


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, tuple[int, ...]]:
    name = draw(st.sampled_from(sorted(abi.SIGNATURES)))
    arguments = [draw(i64 if kind == "I" else i32) for kind in abi.SIGNATURES[name]]
    if name.startswith("path_") and draw(st.booleans()):
        aim_at_names(name, arguments, draw)
    return name, tuple(arguments)


def aim_at_names(name: str, arguments: list[int], draw: st.DrawFn) -> None:
    """Random numbers seldom name a file: put real names where the paths are expected."""
    positions = {
        "path_filestat_get": [2], "path_filestat_set_times": [2], "path_open": [2], "path_link": [2, 5],
        "path_rename": [1, 4], "path_symlink": [0, 3],
    }.get(name, [1])  # fmt: skip
    for position in positions:
        text = draw(st.sampled_from(NAMES))
        arguments[position : position + 2] = [AT[text], len(text)]
    arguments[2 if name == "path_symlink" else 0] = draw(st.sampled_from([3, 3, 3, 4, 5]))
    if name in ("path_rename", "path_link"):
        arguments[positions[1] - 1] = draw(st.sampled_from([3, 3, 4, 5]))
    if name in ("path_open", "path_filestat_get", "path_filestat_set_times", "path_link"):
        arguments[1] = draw(st.sampled_from([0, 1]))
    if name == "path_open":
        arguments[4:] = [draw(st.integers(0, 15)), draw(st.sampled_from([2, 64, 66])), -1, draw(st.integers(0, 31)), 8]


def build(top: Path) -> None:
    root = top / "root"
    (root / "dir").mkdir(parents=True)
    (root / "file").write_bytes(b"inside")
    (root / "dir" / "deep").write_bytes(b"inside")
    (top / "secret").write_bytes(b"secret")
    os.mkfifo(root / "fifo")
    for name, target in {"up": "..", "abs": str(top), "loop": "loop", "to_file": "file", "hole": "../new"}.items():
        (root / name).symlink_to(target)
    (top / "read-only").mkdir()
    (top / "read-only" / "file").write_bytes(b"constant")


def outside(top: Path) -> dict[str, object]:
    root = str(top / "root")
    found: dict[str, object] = {k: v for k, v in snapshot(top).items() if not k.startswith(root)}
    found["contents"] = [(top / "secret").read_bytes(), (top / "read-only" / "file").read_bytes()]
    return found


def fill_memory(guest: Guest) -> None:
    for name, offset in AT.items():
        guest.put(offset, name)
    guest.put(VECTORS, struct.pack("<IIIIII", 0x6000, 10, 0x6000, 0, 0x3_FFF0, 0x10) * 8)
    guest.put(SUBSCRIPTIONS, struct.pack("<QB7xI4xQQH6x", 1, 0, 1, 1000, 0, 0))
    guest.put(SUBSCRIPTIONS + 48, struct.pack("<QB7xI28x", 2, 1, 4))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    version=st.sampled_from(sorted(abi.LAYOUTS)),
    sequence=st.lists(calls(), min_size=1, max_size=25),
    noise=st.binary(max_size=64),
)
def test_only_errnos_come_out_and_nothing_outside_changes(
    version: str, sequence: list[tuple[str, tuple[int, ...]]], noise: bytes
) -> None:
    top = Path(tempfile.mkdtemp())
    null = os.open("/dev/null", os.O_RDWR)
    try:
        build(top)
        before = outside(top)
        preopens = Preopen("/", str(top / "root"), write=True), Preopen("/ro", str(top / "read-only"))
        with Guest(*preopens, args=["a", "b"], env={"A": "b"}, version=version) as guest:
            for number in range(3):
                guest.standard(number, null, readable=number == 0)
            fill_memory(guest)
            guest.put(0x200, noise)
            guest.stop_after = 20
            for name, arguments in sequence:
                if name not in guest.functions:
                    continue
                try:
                    error = guest.call(name, *arguments)
                except (Exited, Stopped):
                    continue
                assert type(error) is int
                assert 0 <= error < 77
        assert outside(top) == before
    finally:
        os.close(null)
        shutil.rmtree(top)


@settings(max_examples=300, deadline=None)
@given(call=calls(), size=st.sampled_from([0, 1, 7, 8, 100]))
def test_tiny_memory_is_no_trouble(call: tuple[str, tuple[int, ...]], size: int) -> None:
    name, arguments = call
    with Guest() as guest:
        guest.bytes = bytearray(size)
        guest.stop_after = 5
        try:
            assert 0 <= guest.call(name, *arguments) < 77
        except (Exited, Stopped):
            pass
