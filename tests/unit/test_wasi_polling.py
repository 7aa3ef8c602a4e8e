"""WASI poll_oneoff: who is ready, how long it waits, and that every wait is the host's."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_wasi_guest import RESULT, Guest, Stopped

from procstop.wasi import Preopen, abi

SUBSCRIPTIONS, EVENTS = 0x5000, 0x9000
MILLISECOND = 10**6


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    (tmp_path / "file").write_bytes(b"hello")
    with Guest(Preopen("/", str(tmp_path), write=True)) as guest:
        yield guest


@pytest.fixture
def pipe(guest: Guest) -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    guest.standard(0, reader, readable=True)
    guest.standard(1, writer, readable=False)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def clock(userdata: int, timeout: int, *, clock: int = abi.MONOTONIC, flags: int = 0) -> bytes:
    return struct.pack("<QB7xI4xQQH6x", userdata, abi.EVENT_CLOCK, clock, timeout, 0, flags)


def descriptor(userdata: int, tag: int, fd: int) -> bytes:
    return struct.pack("<QB7xI28x", userdata, tag, fd)


def poll(guest: Guest, *subscriptions: bytes) -> int | list[tuple[int, int, int, int, int]]:
    """The errno, or the events: userdata, errno, type, bytes, flags."""
    guest.put(SUBSCRIPTIONS, b"".join(subscriptions))
    error = guest.call("poll_oneoff", SUBSCRIPTIONS, EVENTS, len(subscriptions), RESULT)
    if error:
        return error
    events = []
    for number in range(guest.u32()):
        userdata, failed, kind, size, flags = struct.unpack_from("<QHB5xQH", guest.bytes, EVENTS + 32 * number)
        events.append((userdata, failed, kind, size, flags))
    return events


def test_sleep_lasts_as_long_as_asked_although_the_host_returns_early(guest: Guest) -> None:
    start = time.monotonic_ns()
    assert poll(guest, clock(7, 30 * MILLISECOND)) == [(7, 0, abi.EVENT_CLOCK, 0, 0)]
    assert time.monotonic_ns() - start >= 30 * MILLISECOND
    assert len(guest.waits) > 1
    assert all(wait[:2] == ((), ()) for wait in guest.waits)


def test_sleep_can_be_left(guest: Guest) -> None:
    guest.stop_after = 0
    with pytest.raises(Stopped):
        poll(guest, clock(7, 10**12))


def test_sleep_of_centuries_does_not_overflow_the_wait(guest: Guest) -> None:
    guest.stop_after = 2
    with pytest.raises(Stopped):
        poll(guest, clock(7, (1 << 64) - 1))
    assert guest.waits[0][2] == 3600


@pytest.mark.parametrize("clock_id", [abi.REALTIME, abi.MONOTONIC])
def test_absolute_deadline(guest: Guest, clock_id: int) -> None:
    now = time.time_ns() if clock_id == abi.REALTIME else time.monotonic_ns()
    assert poll(guest, clock(1, now + 20 * MILLISECOND, clock=clock_id, flags=1)) == [(1, 0, 0, 0, 0)]
    assert sum(wait[2] or 0 for wait in guest.waits) >= 0.009
    assert poll(guest, clock(1, 5, clock=clock_id, flags=1)) == [(1, 0, 0, 0, 0)]


def test_sleep_of_nothing_is_a_stopping_point(guest: Guest) -> None:
    assert poll(guest, clock(1, 0)) == [(1, 0, 0, 0, 0)]
    assert guest.waits == [((), (), 0)]


def test_only_the_deadlines_that_are_over_are_reported(guest: Guest) -> None:
    assert poll(guest, clock(1, 10**15), clock(2, 1000), clock(3, 10**15)) == [(2, 0, 0, 0, 0)]


def test_files_are_always_ready_and_say_what_is_left(guest: Guest) -> None:
    fd = guest.open("file", write=True)
    guest.read(fd, 2)
    asked = descriptor(1, abi.EVENT_READ, fd), descriptor(2, abi.EVENT_WRITE, fd), clock(3, 10**15)
    assert poll(guest, *asked) == [(1, 0, abi.EVENT_READ, 3, 0), (2, 0, abi.EVENT_WRITE, 1, 0)]
    assert guest.waits == [((), (), 0)]
    guest.read(fd, 10)
    assert poll(guest, asked[0]) == [(1, 0, abi.EVENT_READ, 0, abi.HANGUP)]


def test_pipes_are_waited_for_by_the_host(guest: Guest, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.write(writer, b"abc")
    guest.ready = ({reader}, set())
    asked = descriptor(1, abi.EVENT_READ, 0), descriptor(2, abi.EVENT_WRITE, 1), descriptor(3, abi.EVENT_READ, 0)
    assert poll(guest, *asked) == [(1, 0, abi.EVENT_READ, 3, 0), (3, 0, abi.EVENT_READ, 3, 0)]
    assert guest.waits == [((reader,), (writer,), None)]
    guest.ready = (set(), {writer})
    assert poll(guest, *asked, clock(4, 10**15)) == [(2, 0, abi.EVENT_WRITE, 1, 0)]
    assert guest.waits[-1][2] is not None


def test_deadline_of_a_wait_for_a_pipe(guest: Guest, pipe: tuple[int, int]) -> None:
    assert poll(guest, descriptor(1, abi.EVENT_READ, 0), clock(2, 15 * MILLISECOND)) == [(2, 0, 0, 0, 0)]


@pytest.mark.parametrize(
    "subscription, expected",
    [
        (clock(1, 1, clock=abi.PROCESS_CPU), abi.INVAL),
        (clock(1, 1, clock=9), abi.INVAL),
        (clock(1, 1, flags=2), abi.INVAL),
        (descriptor(1, 3, 0), abi.INVAL),
        (descriptor(1, abi.EVENT_READ, 99), abi.BADF),
        (descriptor(1, abi.EVENT_READ, 3), abi.BADF),
        (descriptor(1, abi.EVENT_READ, 1), abi.BADF),
        (descriptor(1, abi.EVENT_WRITE, 0), abi.BADF),
    ],
)
def test_what_cannot_be_waited_for(guest: Guest, subscription: bytes, expected: int) -> None:
    assert poll(guest, clock(2, 0), subscription) == expected


def test_nothing_to_wait_for_and_lists_outside_the_memory(guest: Guest) -> None:
    assert guest.call("poll_oneoff", SUBSCRIPTIONS, EVENTS, 0, RESULT) == abi.INVAL
    assert guest.call("poll_oneoff", SUBSCRIPTIONS, EVENTS, 1 << 31, RESULT) == abi.FAULT
    assert guest.call("poll_oneoff", len(guest.bytes) - 47, EVENTS, 1, RESULT) == abi.FAULT
    assert guest.call("poll_oneoff", SUBSCRIPTIONS, len(guest.bytes) - 31, 1, RESULT) == abi.FAULT
    assert guest.call("poll_oneoff", SUBSCRIPTIONS, EVENTS, 1, len(guest.bytes) - 3) == abi.FAULT


def test_events_over_the_subscriptions_hurt_only_the_guest(guest: Guest) -> None:
    for shift in range(-32, 49):
        guest.put(SUBSCRIPTIONS, b"".join(clock(0x0101010101010101 * n, 0) for n in range(8)))
        assert guest.call("poll_oneoff", SUBSCRIPTIONS, SUBSCRIPTIONS + shift, 8, RESULT) < 77


def test_many_subscriptions_pass_stopping_points(guest: Guest) -> None:
    count = 20_000
    guest.bytes = bytearray(clock(1, 0) * count + bytes(32 * count + 8))
    assert guest.call("poll_oneoff", 0, 48 * count, count, 80 * count) == 0
    assert guest.u32(80 * count) == count
    assert len(guest.waits) == 2 * (count // 4096) + 1
