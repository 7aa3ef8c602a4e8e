"""`poll_oneoff`: sleeps, deadlines and readiness, all waited for by the host, where a guest can be stopped.

Subscriptions are read from the guest's memory twice, once to wait and once to report, and never kept: a
million of them cost time (with stopping points in it) but no memory.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import time
from collections.abc import Iterator
from typing import Final

from procstop.wasi import abi
from procstop.wasi.descriptors import Descriptor
from procstop.wasi.memory import view
from procstop.wasi.state import State

# No wait is longer: a sleep of centuries would overflow what select and poll take.
_LONGEST: Final = 3600 * 10**9
# How many subscriptions are looked at between two stopping points.
_STRIDE: Final = 1 << 12
_EVENT_SIZE: Final = abi.event.size

# userdata, tag, descriptor, clock, timeout, flags
Subscription = tuple[int, int, int, int, int, int]
Clocks = dict[int, int]


class Polling(State):
    """One function, and what it needs."""

    def poll_oneoff(self, subscriptions: int, events: int, count: int, result: int) -> int:
        if count == 0:
            return abi.INVAL
        memory = self.host.memory()
        view(memory, result, 4)
        table = view(memory, subscriptions, count * self.layout.subscription.size)
        view(memory, events, count * _EVENT_SIZE)
        start = _now()
        readers, writers, wake = self._collect(table, start)
        readable, writable = self._wait(readers, writers, wake)
        now = _now()
        written = 0
        for item in self._each(table):
            event = self._event(item, start, now, readable, writable)
            if event is not None:
                # Over the subscriptions where the guest let the two overlap: they are checked again as read.
                abi.event.pack_into(memory, events + written * _EVENT_SIZE, *event)
                written += 1
        abi.u32.pack_into(memory, result, written)
        return abi.SUCCESS

    def _each(self, table: memoryview) -> Iterator[Subscription]:
        for number, item in enumerate(self.layout.subscription.iter_unpack(table), 1):
            if number % _STRIDE == 0:
                self.host.wait((), (), 0)
            userdata, tag, descriptor = item[:3]
            clock, timeout, flags = item[-3:]
            yield userdata, tag, descriptor, clock, timeout, flags

    def _collect(self, table: memoryview, start: Clocks) -> tuple[set[int], set[int], Clocks]:
        """What to wait for: host descriptors, and the first instant of each clock."""
        readers: set[int] = set()
        writers: set[int] = set()
        wake: Clocks = {}
        for item in self._each(table):
            tag = item[1]
            if tag == abi.EVENT_CLOCK:
                clock, instant = _instant(item, start)
                wake[clock] = min(wake.get(clock, instant), instant)
                continue
            entry = self._subject(item)
            if not entry.waits:
                # A regular file is always ready: look at the rest, but do not wait for it.
                wake[abi.MONOTONIC] = 0
            elif tag == abi.EVENT_READ:
                readers.add(entry.host)
            else:
                writers.add(entry.host)
        return readers, writers, wake

    def _wait(self, readers: set[int], writers: set[int], wake: Clocks) -> tuple[set[int], set[int]]:
        while True:
            remaining = None
            if wake:
                now = _now()
                remaining = max(0, min(instant - now[clock] for clock, instant in wake.items()))
            timeout = None if remaining is None else min(remaining, _LONGEST) / 1e9
            # Also with nothing left to wait for: every poll is a stopping point.
            readable, writable = self.host.wait(tuple(readers), tuple(writers), timeout)
            if readable or writable or remaining == 0:
                return readable, writable

    def _subject(self, item: Subscription) -> Descriptor:
        tag = item[1]
        if tag not in (abi.EVENT_READ, abi.EVENT_WRITE):
            raise abi.WasiError(abi.INVAL)
        entry = self.table.get(item[2])
        able = entry.readable if tag == abi.EVENT_READ else entry.writable
        if entry.kind == abi.DIRECTORY_TYPE or not able:
            raise abi.WasiError(abi.BADF)
        return entry

    def _event(
        self, item: Subscription, start: Clocks, now: Clocks, readable: set[int], writable: set[int]
    ) -> tuple[int, int, int, int, int] | None:
        userdata, tag = item[:2]
        if tag == abi.EVENT_CLOCK:
            clock, instant = _instant(item, start)
            return (userdata, 0, tag, 0, 0) if now[clock] >= instant else None
        entry = self._subject(item)
        if entry.waits and entry.host not in (readable if tag == abi.EVENT_READ else writable):
            return None
        if tag == abi.EVENT_WRITE:
            return userdata, 0, tag, 1, 0
        available = _available(entry)
        return userdata, 0, tag, available, 0 if available else abi.HANGUP


def _now() -> Clocks:
    return {abi.REALTIME: time.time_ns(), abi.MONOTONIC: time.monotonic_ns()}


def _instant(item: Subscription, start: Clocks) -> tuple[int, int]:
    """The clock to look at and the instant to wait for."""
    clock, timeout, flags = item[3:]
    if clock not in start or flags & ~abi.ABSTIME:
        raise abi.WasiError(abi.INVAL)
    if flags:
        return clock, timeout
    # Whatever its clock: a relative sleep is not to change its length when somebody sets the time.
    return abi.MONOTONIC, start[abi.MONOTONIC] + timeout


def _available(entry: Descriptor) -> int:
    """How many bytes can be read at once; 0 at the end."""
    if entry.kind == abi.REGULAR_FILE:
        return max(0, os.fstat(entry.host).st_size - os.lseek(entry.host, 0, os.SEEK_CUR))
    try:
        answer = fcntl.ioctl(entry.host, termios.FIONREAD, b"\0\0\0\0")
    except OSError:
        # A device that cannot tell.
        return 1
    return int(struct.unpack("i", answer)[0])
