"""Stopping points: the interrupt flag, the strategies, and the `procstop` functions that a guest imports.

The guest's thread passes stopping points. Another thread, the worker's listener, calls `ask` when an interrupt
came and `tick` now and then. Passing a point must cost next to nothing, so the common path is an addition and one
test. All the rest (the clock, the flag, the strategy) is looked at only while `attention` is set: from the start,
after an interrupt, and whenever the guest passes points so slowly that a clock read does not matter.

The common path exists twice. Where the guest holds the GIL it is a generator here: to resume one costs less than
to call a function, which needs a frame. Where it does not, it is a gate inside the engine, and Python is entered
only for the rest: the gate's counts and its copy of `attention` are `Cells` that `share` hands over.

A guest leaves by an exception that is not an `Exception`, so that no host function's `except Exception` swallows it.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, Protocol, Union

from procstop.model import StrategyKind
from procstop.records import StoppingPoints

FAST = 5_000
"""Points in one tick from which on the clock is no longer read at each of them."""

TICK_S = 0.1
"""Seconds between two ticks while points are passed."""
ASLEEP_S = 2.0
"""A sleep longer than this need not be looked at ten times a second."""
LATE_S = 0.05
"""A tick later than this waited for the GIL: the guest called no host function in all that time."""


class Leave(BaseException):
    """The guest leaves from inside a host call."""


class Interrupted(Leave):
    """It leaves at a stopping point, because it was asked to."""


class Exit(Leave):
    """It leaves by its own call. Host functions may raise it too: `raise Exit(3)`, `raise Exit(message="done")`."""

    def __init__(self, code: int | None = None, message: str | None = None, *, proc_exit: bool = False) -> None:
        if code is not None and (type(code) is not int or not 0 <= code < 2**32):
            raise ValueError(f"an exit code is a whole number from 0 to 4294967295, got {code!r}")
        if message is not None and not isinstance(message, str):
            raise TypeError(f"an exit message is a text, got {message!r}")
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.proc_exit = proc_exit


class HostError(BaseException):
    """A host function raised; the original is `error`. It unwinds the guest like `Leave`."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class Cells(Protocol):
    """What a gate and a flag share: the gate writes `passed`, the flag `attention`, both what `progress` told."""

    attention: int
    told: int
    passed: int
    done: int
    total: int


class StopFlag:
    """One attempt's stopping points. `ask` and `tick` belong to the listener, the rest to the guest's thread.

    `checkpoint`, `interrupted` and `progress` are what host functions call, and guests in an engine without a gate,
    but that a guest's `checkpoint` is the cheaper `next_checkpoint`: of no use after it has raised. `passed_gate` and
    `asked_gate` are what a gate calls at a point that it has counted, while its `attention` is set. `tick(late)` is
    called about ten times a second, `late` seconds after it was due; it returns the points passed and the progress
    told. `told` says whether the guest was told to leave; `waits`, that it is in `wait`, and `asleep`, that for long.
    """

    checkpoint: Callable[[], None]
    interrupted: Callable[[], int]
    progress: Callable[[int, int], None]
    next_checkpoint: Callable[[], None]
    passed_gate: Callable[[], None]
    asked_gate: Callable[[], int]
    share: Callable[[Cells], None]
    ask: Callable[[], None]
    tick: Callable[[float], tuple[int, int | None, int | None]]
    record: Callable[[], StoppingPoints]
    told: Callable[[], bool]
    restart_gap: Callable[[], None]

    def __init__(
        self, kind: StrategyKind, n: int = 0, check_every: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.asleep = self.waits = False
        # Made when somebody first sleeps: most guests never do.
        self._wake_read, self._wake_write = -1, -1
        self._build(kind, n if kind is StrategyKind.NEXT_N else 0, check_every, clock)

    def _build(self, kind: StrategyKind, later: int, check_every: int, clock: Callable[[], float]) -> None:
        passed = 0
        cells: Cells | None = None
        attention = True
        blurred = False
        asked = False
        learned_at: int | None = None
        stopped_at: int | None = None
        last = clock()
        longest: float | None = None
        ticked = 0
        done: int | None = None
        total: int | None = None

        def checkpoints() -> Iterator[None]:
            nonlocal passed
            while True:
                passed += 1
                if attention and look():
                    raise Interrupted
                yield

        def checkpoint() -> None:
            nonlocal passed
            passed += 1
            if attention and look():
                raise Interrupted

        def interrupted() -> int:
            nonlocal passed
            passed += 1
            return 1 if attention and look() else 0

        def progress(new_done: int, new_total: int) -> None:
            nonlocal passed, done, total
            if cells is None:
                done, total = new_done, new_total
            else:
                cells.done, cells.total, cells.told = new_done, new_total, 1
            passed += 1
            if attention and look():
                raise Interrupted

        def passed_gate() -> None:
            if look():
                raise Interrupted

        def asked_gate() -> int:
            return 1 if look() else 0

        def share(shared: Cells) -> None:
            nonlocal cells
            shared.attention = attention
            cells = shared

        def count() -> int:
            # A counter for each writer: the gate counts while other threads run, and must lose nothing.
            return passed if cells is None else passed + cells.passed

        def attend(wanted: bool) -> None:
            nonlocal attention
            attention = wanted
            if cells is not None:
                cells.attention = wanted

        def look_away() -> None:
            nonlocal blurred
            blurred = True
            attend(False)
            if asked:
                # An interrupt came in between, and its `attend` may have been the earlier one.
                attend(True)

        def look(always: bool = False) -> bool:
            nonlocal last, longest, learned_at, stopped_at, blurred
            now, counted = clock(), count()
            # While nobody read the clock, `last` was only known to a tick: claim no gap that may not have been.
            gap = now - last - (TICK_S if blurred else 0.0)
            blurred = False
            if longest is None or gap > longest:
                longest = max(0.0, gap)
            last = now
            if not asked or kind is StrategyKind.IGNORE:
                if counted - ticked > FAST:
                    look_away()
                return False
            if learned_at is None:
                if counted % check_every and not always:
                    return False
                learned_at = counted
            # The point that learned of it is not counted: leave `later` points after it.
            if counted < learned_at + later:
                return False
            if stopped_at is None:
                stopped_at = counted
            return True

        def ask() -> None:
            nonlocal asked
            asked = True
            attend(True)
            if self._wake_write >= 0:
                try:
                    os.write(self._wake_write, b"!")
                except BlockingIOError:
                    pass  # Bytes that nobody has read yet wake a sleeper just as well.

        def tick(late: float) -> tuple[int, int | None, int | None]:
            nonlocal ticked, last, longest
            now, counted = clock(), count()
            if late > LATE_S and counted and (longest is None or late > longest):
                longest = late
            if counted - ticked > FAST and not asked:
                # It passes points all the time: the last was just now, as far as a gap can matter.
                last = now
                look_away()
            else:
                attend(True)
            ticked = counted
            if cells is not None and cells.told:
                return counted, cells.done, cells.total
            return counted, done, total

        def record() -> StoppingPoints:
            counted = count()
            return StoppingPoints(counted, longest if counted else None, stopped_at)

        def restart_gap() -> None:
            nonlocal last
            last = clock()

        def sleep_point(first: bool) -> None:
            nonlocal passed
            passed += first
            if look(always=True):
                raise Interrupted

        self._sleep_point = sleep_point
        self.checkpoint, self.interrupted, self.progress = checkpoint, interrupted, progress
        self.next_checkpoint = checkpoints().__next__
        self.passed_gate, self.asked_gate, self.share = passed_gate, asked_gate, share
        self.ask, self.tick, self.record = ask, tick, record
        self.told = lambda: stopped_at is not None
        self.restart_gap = restart_gap

    def be_wakeable(self) -> None:
        """Make the pipe that wakes a sleeper, unless it is there."""
        if self._wake_write < 0:
            self._wake_read, write = os.pipe()
            os.set_blocking(write, False)
            self._wake_write = write

    def wait(self, readers: Sequence[int], writers: Sequence[int], timeout: float | None) -> tuple[set[int], set[int]]:
        """Wait until a descriptor is ready or `timeout` seconds are over; return those ready to read and to write.

        It is a stopping point all the while: an interrupt that makes the guest leave raises `Interrupted`.
        """
        # Before the flag is looked at: an interrupt after that finds the pipe, one before it is seen.
        self.be_wakeable()
        self._sleep_point(True)
        self.asleep = timeout is None or timeout > ASLEEP_S
        self.waits = True
        try:
            return self._wait(readers, writers, timeout)
        finally:
            self.asleep = self.waits = False

    def _wait(self, readers: Sequence[int], writers: Sequence[int], timeout: float | None) -> tuple[set[int], set[int]]:
        poller = select.poll()
        for fd in set(readers) | set(writers):
            poller.register(fd, (select.POLLIN if fd in readers else 0) | (select.POLLOUT if fd in writers else 0))
        poller.register(self._wake_read, select.POLLIN)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            # An upper bound, so that a wait of years does not overflow the kernel's milliseconds.
            left = 86400.0 if deadline is None else min(86400.0, max(0.0, deadline - time.monotonic()))
            ready = dict(poller.poll(left * 1000))
            if self._wake_read in ready:
                # Leaves, unless the strategy says later; then sleep on, deaf: it has learned all there is.
                # All of the sleep was a stopping point, so it is no gap between two.
                self.restart_gap()
                self._sleep_point(False)
                poller.unregister(self._wake_read)
                del ready[self._wake_read]
            over = deadline is not None and time.monotonic() >= deadline
            if ready or over:
                self.restart_gap()
                bad = select.POLLHUP | select.POLLERR | select.POLLNVAL
                return (
                    {fd for fd, what in ready.items() if fd in readers and what & (select.POLLIN | bad)},
                    {fd for fd, what in ready.items() if fd in writers and what & (select.POLLOUT | bad)},
                )

    def close(self) -> None:
        """Close the pipe that wakes a sleeper."""
        for fd in (self._wake_read, self._wake_write):
            if fd >= 0:
                os.close(fd)
        self._wake_read = self._wake_write = -1


class NoPoints:
    """The stopping points of a guest that imports nothing: there are none, and nothing has to be kept of them."""

    def ask(self) -> None:
        """Do nothing: the guest cannot be told."""

    def tick(self, late: float) -> tuple[int, int | None, int | None]:
        """Return that it passed none."""
        return 0, None, None

    def record(self) -> StoppingPoints:
        """Return that there were none."""
        return StoppingPoints()

    def told(self) -> bool:
        """Return that it was not told to leave."""
        return False

    def restart_gap(self) -> None:
        """Do nothing: there is no gap."""

    asleep = waits = False


Flag = Union[StopFlag, NoPoints]


def guest_functions(flag: StopFlag, read: Callable[[int, int], bytes]) -> dict[str, Callable[..., Any]]:
    """Return the functions of the import module "procstop" by name; `read(ptr, len)` reads the guest's memory."""

    def leave(code: int | None = None) -> NoReturn:
        raise Exit(None if code is None else code & 0xFFFFFFFF)

    def fail(pointer: int, length: int) -> NoReturn:
        raise Exit(message=read(pointer & 0xFFFFFFFF, length & 0xFFFFFFFF).decode("utf-8", "replace"))

    return {
        "checkpoint": flag.next_checkpoint,
        "interrupted": flag.interrupted,
        "progress": flag.progress,
        "exit": leave,
        "fail": fail,
    }
