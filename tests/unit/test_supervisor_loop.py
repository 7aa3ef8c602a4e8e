"""The event loop: order, cancelling, other threads, a clock that stands still, descriptors that vanish in a turn."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

import pytest

from procstop.supervisor.loop import Clock, Loop


class FakeClock(Clock):
    """Shows what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 100.0

    def now(self) -> float:
        return self.time


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def loop(clock: FakeClock) -> Iterator[Loop]:
    loop = Loop(clock)
    yield loop
    loop.close()


@pytest.fixture
def real() -> Iterator[Loop]:
    """A loop on the real clock, for what has to wait."""
    loop = Loop(Clock())
    yield loop
    loop.close()


@pytest.fixture
def pipes() -> Iterator[Callable[[], tuple[int, int]]]:
    opened: list[int] = []

    def make() -> tuple[int, int]:
        ends = os.pipe()
        opened.extend(ends)
        return ends

    yield make
    for fd in opened:
        try:
            os.close(fd)
        except OSError:
            pass


def turn(loop: Loop) -> None:
    """One turn that waits for nothing."""
    loop.post(lambda: None)
    loop.turn()


# Timers.


def test_timers_come_in_the_order_of_their_times(loop: Loop, clock: FakeClock) -> None:
    seen: list[str] = []
    for name, when in (("late", 103), ("early", 101), ("middle", 102), ("future", 110)):
        loop.call_at(when, lambda name=name: seen.append(name))
    clock.time = 105
    turn(loop)
    assert seen == ["early", "middle", "late"]


def test_timers_of_one_time_come_in_the_order_in_which_they_were_made(loop: Loop) -> None:
    seen: list[int] = []
    for number in range(20):
        loop.call_at(100, lambda number=number: seen.append(number))
    turn(loop)
    assert seen == list(range(20))


def test_timer_comes_at_its_time_and_not_before(loop: Loop, clock: FakeClock) -> None:
    seen: list[int] = []
    timer = loop.call_at(101, lambda: seen.append(1))
    clock.time = 100.999
    turn(loop)
    assert seen == [] and timer.alive
    clock.time = 101
    turn(loop)
    assert seen == [1] and not timer.alive


def test_cancelled_timer_does_not_come(loop: Loop, clock: FakeClock) -> None:
    seen: list[str] = []
    cancelled = loop.call_at(101, lambda: seen.append("cancelled"))
    loop.call_at(102, lambda: seen.append("other"))
    cancelled.cancel()
    clock.time = 103
    turn(loop)
    assert seen == ["other"]


def test_timer_may_cancel_the_next_one(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_at(99, lambda: second.cancel())
    second = loop.call_at(100, lambda: seen.append("second"))
    turn(loop)
    assert seen == []


def test_timer_runs_once(loop: Loop) -> None:
    seen: list[int] = []
    timer = loop.call_at(100, lambda: seen.append(1))
    turn(loop)
    turn(loop)
    timer.run()
    assert seen == [1]


def test_cancelled_timer_does_not_wake_the_loop(real: Loop) -> None:
    seen: list[str] = []
    real.call_at(real.clock.now(), lambda: seen.append("cancelled")).cancel()
    real.call_at(real.clock.now() + 0.01, lambda: seen.append("other"))
    real.turn()
    assert seen == ["other"]


def test_loop_sleeps_until_the_nearest_timer(real: Loop) -> None:
    woken_at: list[float] = []
    when = real.clock.now() + 0.02
    real.call_at(when + 60, lambda: woken_at.append(-1.0))
    real.call_at(when, lambda: woken_at.append(real.clock.now()))
    while not woken_at:
        real.turn()
    assert woken_at[0] >= when


# Posting.


def test_post_from_another_thread_wakes_the_loop(real: Loop) -> None:
    seen: list[int] = []
    ident = threading.get_ident()
    thread = threading.Thread(target=lambda: real.post(lambda: seen.append(threading.get_ident())))
    thread.start()
    # Nothing else would ever wake it.
    real.turn()
    while not seen:
        real.turn()
    thread.join()
    assert seen == [ident]


def test_posts_come_in_order_and_one_made_by_another_comes_in_the_next_turn(loop: Loop) -> None:
    seen: list[str] = []

    def first() -> None:
        seen.append("first")
        loop.post(lambda: seen.append("third"))

    loop.post(first)
    loop.post(lambda: seen.append("second"))
    loop.turn()
    assert seen == ["first", "second"]
    loop.turn()
    assert seen == ["first", "second", "third"]


def test_more_posts_than_the_pipe_holds_are_all_made(loop: Loop) -> None:
    seen: list[int] = []
    for number in range(70_000):
        loop.post(lambda number=number: seen.append(number))
    loop.turn()
    assert seen == list(range(70_000))


def test_post_to_a_closed_loop_does_nothing(pipes: Callable[[], tuple[int, int]]) -> None:
    loop = Loop(FakeClock())
    read, write = pipes()
    number = loop._wake_write
    loop.close()
    # The number of the loop's own pipe is another's now, who must not hear of it.
    os.dup2(write, number)
    try:
        loop.post(lambda: None)
    finally:
        os.close(number)
    os.set_blocking(read, False)
    with pytest.raises(BlockingIOError):
        os.read(read, 1)


# A clock that stands still.


def test_paused_clock_stands_still_and_goes_on_from_there() -> None:
    clock = Clock()
    clock.pause()
    stood = clock.now()
    assert clock.paused and clock.now() == stood
    clock.pause()
    clock.resume()
    assert not clock.paused
    # What passed while it stood is not made up for.
    assert 0 <= clock.now() - stood < 5
    clock.resume()
    assert clock.now() >= stood


def test_time_of_a_pause_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10.0]
    monkeypatch.setattr("procstop.supervisor.loop.time.monotonic", lambda: now[0])
    clock = Clock()
    now[0] = 12.0
    clock.pause()
    now[0] = 1000.0
    assert clock.now() == 12.0
    clock.resume()
    now[0] = 1003.0
    assert clock.now() == 15.0


def test_no_timer_comes_while_the_clock_is_paused(loop: Loop, clock: FakeClock) -> None:
    seen: list[int] = []
    loop.call_at(99, lambda: seen.append(1))
    clock.pause()
    turn(loop)
    assert seen == []
    clock.resume()
    loop.turn()
    assert seen == [1]


def test_paused_loop_still_hears_posts(loop: Loop, clock: FakeClock) -> None:
    seen: list[int] = []
    clock.pause()
    loop.post(lambda: seen.append(1))
    loop.turn()
    assert seen == [1]


# Descriptors.


def test_descriptor_is_heard_until_it_is_unwatched(loop: Loop, pipes: Callable[[], tuple[int, int]]) -> None:
    read, write = pipes()
    seen: list[int] = []
    loop.watch(read, lambda: seen.append(len(seen)))
    os.write(write, b"x")
    turn(loop)
    turn(loop)
    assert seen == [0, 1]
    loop.unwatch(read)
    turn(loop)
    assert seen == [0, 1]


def test_end_of_a_pipe_is_heard(loop: Loop, pipes: Callable[[], tuple[int, int]]) -> None:
    read, write = pipes()
    seen: list[int] = []
    loop.watch(read, lambda: seen.append(1))
    os.close(write)
    loop.turn()
    assert seen == [1]


def test_unwatching_what_is_not_watched_does_nothing(loop: Loop) -> None:
    loop.unwatch(999)
    loop.unwatch(-1)


def test_descriptors_come_before_timers(loop: Loop, pipes: Callable[[], tuple[int, int]]) -> None:
    read, write = pipes()
    seen: list[str] = []
    timer = loop.call_at(0, lambda: seen.append("too late"))

    def answer() -> None:
        seen.append("answer")
        timer.cancel()

    loop.watch(read, answer)
    os.write(write, b"x")
    loop.turn()
    assert seen == ["answer"]


def test_descriptor_that_another_unwatched_in_the_same_turn_is_not_heard(
    loop: Loop, pipes: Callable[[], tuple[int, int]]
) -> None:
    ends = [pipes() for _ in range(6)]
    heard: list[int] = []

    def hear(number: int) -> Callable[[], None]:
        def callback() -> None:
            heard.append(number)
            # The first one that is heard silences all others.
            for other, (read, _) in enumerate(ends):
                if other != number:
                    loop.unwatch(read)

        return callback

    for number, (read, write) in enumerate(ends):
        loop.watch(read, hear(number))
        os.write(write, b"x")
    loop.turn()
    assert len(heard) == 1


def test_number_that_was_closed_and_used_again_in_the_same_turn_is_not_heard_as_the_old_one(
    loop: Loop, pipes: Callable[[], tuple[int, int]]
) -> None:
    ends = [pipes() for _ in range(2)]
    empty, _ = pipes()
    heard: list[str] = []

    def replace_other(other: int) -> Callable[[], None]:
        def callback() -> None:
            heard.append("old")
            read = ends[other][0]
            loop.unwatch(read)
            # Now the number is another pipe's, on which nothing has come.
            os.dup2(empty, read)
            loop.watch(read, lambda: heard.append("new"))

        return callback

    for number, (read, write) in enumerate(ends):
        loop.watch(read, replace_other(1 - number))
        os.write(write, b"x")
    loop.turn()
    assert heard == ["old"]
