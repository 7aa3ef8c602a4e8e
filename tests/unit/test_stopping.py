"""Stopping points without an engine: the strategies, the gaps, and sleeps that an interrupt ends."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from procstop.model import StrategyKind
from procstop.records import StoppingPoints
from procstop.stopping import FAST, LATE_S, TICK_S, Exit, HostError, Interrupted, Leave, StopFlag, guest_functions

FINISH, NEXT, IGNORE = StrategyKind.FINISH_CURRENT, StrategyKind.NEXT_N, StrategyKind.IGNORE
LONG_S = 60.0
"""Longer than any test lasts: a wait that ends before was ended by something else."""


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Flags:
    """Makes flags with a clock of their own, and closes them."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.made: list[StopFlag] = []

    def __call__(self, kind: StrategyKind = FINISH, n: int = 0, check_every: int = 1) -> StopFlag:
        self.made.append(StopFlag(kind, n, check_every, self.clock))
        return self.made[-1]


@pytest.fixture
def flags() -> Iterator[Flags]:
    made = Flags()
    yield made
    for flag in made.made:
        flag.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


class AsksWhenTurnedOff:
    """Cells of a gate whose `attention` is turned off just when an interrupt comes."""

    told = passed = done = total = 0

    def __init__(self, flag: StopFlag) -> None:
        self._flag = flag
        self.asked = False
        self._attention = 1

    @property
    def attention(self) -> int:
        return self._attention

    @attention.setter
    def attention(self, wanted: int) -> None:
        if not wanted and not self.asked:
            self.asked = True
            self._flag.ask()
        self._attention = wanted


def passes(flag: StopFlag, most: int) -> int:
    """How many points it passes before it leaves; `most` if it does not."""
    for number in range(most):
        try:
            flag.checkpoint()
        except Interrupted:
            return number
    return most


# Strategies.


@pytest.mark.parametrize("kind", list(StrategyKind))
def test_guest_that_nobody_asked_goes_on(flags: Flags, kind: StrategyKind) -> None:
    flag = flags(kind)
    assert passes(flag, 10) == 10
    assert flag.interrupted() == 0
    assert not flag.told()
    assert flag.record().stopped_at is None and flag.record().passed == 11


def test_finish_current_leaves_at_the_next_point(flags: Flags) -> None:
    flag = flags()
    assert passes(flag, 3) == 3
    flag.ask()
    with pytest.raises(Interrupted):
        flag.checkpoint()
    assert flag.record().stopped_at == 4


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_next_n_leaves_n_points_after_the_one_that_learned(flags: Flags, n: int) -> None:
    flag = flags(NEXT, n)
    passes(flag, 2)
    flag.ask()
    assert passes(flag, 50) == n
    assert flag.record() == StoppingPoints(3 + n, 0.0, 3 + n)


def test_n_counts_for_next_n_only(flags: Flags) -> None:
    flag = flags(FINISH, 3)
    flag.ask()
    assert passes(flag, 50) == 0


def test_ignore_never_leaves(flags: Flags) -> None:
    flag = flags(IGNORE)
    flag.ask()
    assert passes(flag, 50) == 50
    assert flag.interrupted() == 0
    assert flag.wait((), (), 0) == (set(), set())
    assert not flag.told()


@pytest.mark.parametrize(("before", "more"), [(0, 2), (1, 1), (2, 0), (3, 2)])
def test_check_every_looks_at_every_third_point_only(flags: Flags, before: int, more: int) -> None:
    flag = flags(check_every=3)
    passes(flag, before)
    flag.ask()
    assert passes(flag, 50) == more


def test_next_n_counts_every_point_after_the_check_that_learned(flags: Flags) -> None:
    flag = flags(NEXT, 2, check_every=3)
    passes(flag, 1)
    flag.ask()
    # Points 2 passes unseen, 3 learns, 4 is one later, 5 is two later.
    assert passes(flag, 50) == 3
    assert flag.record().stopped_at == 5


@pytest.mark.parametrize("kind", ["checkpoint", "progress", "wait"])
def test_every_kind_of_point_leaves(flags: Flags, kind: str) -> None:
    flag = flags()
    flag.ask()
    with pytest.raises(Interrupted):
        {"checkpoint": flag.checkpoint, "progress": lambda: flag.progress(1, 2), "wait": lambda: flag.wait((), (), 0)}[
            kind
        ]()
    assert flag.told() and flag.record().stopped_at == 1


def test_interrupted_answers_without_leaving_and_goes_on_answering(flags: Flags) -> None:
    flag = flags()
    assert flag.interrupted() == 0
    flag.ask()
    assert [flag.interrupted() for _ in range(3)] == [1, 1, 1]
    assert flag.told()
    # It was told at its second point, however long it takes to go.
    assert flag.record() == StoppingPoints(4, 0.0, 2)


def test_interrupted_counts_like_any_point_for_next_n(flags: Flags) -> None:
    flag = flags(NEXT, 2)
    flag.ask()
    assert [flag.interrupted() for _ in range(4)] == [0, 0, 1, 1]
    assert flag.record().stopped_at == 3


def test_guest_that_was_asked_but_reached_no_point_was_not_told(flags: Flags) -> None:
    flag = flags()
    flag.ask()
    assert not flag.told()
    assert flag.record() == StoppingPoints(0, None, None)


def test_leaving_is_no_exception_that_a_host_function_would_swallow() -> None:
    for kind in (Leave, Interrupted, Exit, HostError):
        assert issubclass(kind, BaseException) and not issubclass(kind, Exception)


def test_asking_for_ever_never_blocks(flags: Flags) -> None:
    flag = flags(NEXT, 1)
    # More bytes than a pipe holds, with nobody who reads them.
    for _ in range(70_000):
        flag.ask()
    assert passes(flag, 5) == 1


# Gaps and ticks.


def test_longest_gap_is_between_two_points(flags: Flags) -> None:
    flag = flags()
    for seconds in (1.0, 5.0, 2.0):
        flags.clock.now += seconds
        flag.checkpoint()
    assert flag.record().longest_gap_s == 5.0


def test_gap_begins_when_the_guest_does(flags: Flags) -> None:
    flag = flags()
    flags.clock.now += 30.0
    flag.restart_gap()
    flags.clock.now += 1.0
    flag.checkpoint()
    assert flag.record().longest_gap_s == 1.0


def test_without_points_there_is_no_gap(flags: Flags) -> None:
    flag = flags()
    flags.clock.now += 30.0
    flag.tick(1.0)
    assert flag.record().longest_gap_s is None


def test_tick_tells_points_and_progress(flags: Flags) -> None:
    flag = flags()
    assert flag.tick(0.0) == (0, None, None)
    flag.checkpoint()
    flag.progress(3, 10)
    flag.interrupted()
    assert flag.tick(0.0) == (3, 3, 10)


def fast(flag: StopFlag) -> None:
    """Pass so many points in one tick that the clock is read no more."""
    passes(flag, FAST + 1)
    flag.tick(0.0)


def test_fast_guest_reads_no_clock(flags: Flags) -> None:
    flag = flags()
    fast(flag)
    flags.clock.now += 5.0
    passes(flag, 10)
    assert flag.record().longest_gap_s == 0.0


def test_guest_that_is_fast_at_once_reads_no_clock_before_the_first_tick(flags: Flags) -> None:
    flag = flags()
    passes(flag, FAST + 1)
    flags.clock.now += 5.0
    passes(flag, 10)
    assert flag.record().longest_gap_s == 0.0
    flag.ask()
    assert passes(flag, 10) == 0


def test_interrupt_at_the_moment_of_looking_away_is_not_lost(flags: Flags) -> None:
    flag = flags()
    flag.share(cells := AsksWhenTurnedOff(flag))
    passes(flag, FAST)
    assert not cells.asked
    assert passes(flag, 10) == 1 and cells.asked and cells.attention


def test_guest_just_below_fast_is_measured(flags: Flags) -> None:
    flag = flags()
    passes(flag, FAST)
    flag.tick(0.0)
    flags.clock.now += 5.0
    flag.checkpoint()
    assert flag.record().longest_gap_s == 5.0


def test_guest_that_slows_down_is_measured_again_but_for_a_tick(flags: Flags) -> None:
    flag = flags()
    fast(flag)
    flag.tick(0.0)
    flags.clock.now += 5.0
    flag.checkpoint()
    # Its last point was some time in the tick before: no more is claimed than is known.
    assert flag.record().longest_gap_s == pytest.approx(5.0 - TICK_S)
    flags.clock.now += 6.0
    flag.checkpoint()
    assert flag.record().longest_gap_s == 6.0


@pytest.mark.parametrize("kind", ["checkpoint", "interrupted", "progress"])
def test_fast_guest_leaves_at_its_next_point_all_the_same(flags: Flags, kind: str) -> None:
    flag = flags()
    fast(flag)
    flag.ask()
    if kind == "interrupted":
        assert flag.interrupted() == 1
    else:
        with pytest.raises(Interrupted):
            flag.checkpoint() if kind == "checkpoint" else flag.progress(1, 2)
    assert flag.record().stopped_at == FAST + 2


def test_tick_after_the_interrupt_does_not_make_it_deaf(flags: Flags) -> None:
    flag = flags(NEXT, 3 * FAST)
    flag.ask()
    passes(flag, FAST + 1)
    flag.tick(0.0)
    assert passes(flag, 9 * FAST) == 2 * FAST - 1


@pytest.mark.parametrize(("late", "longest"), [(LATE_S / 2, 0.0), (2.5, 2.5)])
def test_tick_that_waited_for_the_guest_tells_of_a_gap(flags: Flags, late: float, longest: float) -> None:
    flag = flags()
    flag.checkpoint()
    flag.tick(late)
    assert flag.record().longest_gap_s == longest


# Sleeping.


def in_background(call: object) -> threading.Thread:
    thread = threading.Thread(target=call)  # type: ignore[arg-type]
    thread.start()
    return thread


def test_interrupt_from_another_thread_ends_a_sleep(flags: Flags) -> None:
    flag = flags()
    thread = in_background(flag.ask)
    with pytest.raises(Interrupted):
        flag.wait((), (), LONG_S)
    thread.join()
    assert flag.record().stopped_at == 1


def test_sleep_without_an_end_is_interrupted_too(flags: Flags, pipe: tuple[int, int]) -> None:
    flag = flags()
    thread = in_background(flag.ask)
    with pytest.raises(Interrupted):
        flag.wait((pipe[0],), (), None)
    thread.join()


def test_sleep_after_the_interrupt_does_not_begin(flags: Flags) -> None:
    flag = flags()
    flag.ask()
    with pytest.raises(Interrupted):
        flag.wait((), (), LONG_S)


def test_sleep_looks_whatever_check_every_says(flags: Flags) -> None:
    flag = flags(check_every=1000)
    flag.ask()
    with pytest.raises(Interrupted):
        flag.wait((), (), LONG_S)


@pytest.mark.parametrize("kind", [NEXT, IGNORE])
def test_sleeper_that_may_go_on_sleeps_on_and_still_hears_its_descriptor(
    flags: Flags, pipe: tuple[int, int], kind: StrategyKind
) -> None:
    flag = flags(kind, 1)
    flag.be_wakeable()
    heard = threading.Event()
    times: list[bool] = []
    sleep_point = flag._sleep_point

    def tell_that_it_heard(first: bool) -> None:
        sleep_point(first)
        times.append(first)
        if not first:
            heard.set()

    flag._sleep_point = tell_that_it_heard

    def ask_then_write() -> None:
        flag.ask()
        # Only once the sleeper was woken and went on is there anything to read.
        assert heard.wait(LONG_S)
        os.write(pipe[1], b"x")

    thread = in_background(ask_then_write)
    assert flag.wait((pipe[0],), (), LONG_S) == ({pipe[0]}, set())
    thread.join()
    assert not flag.told() and flag.record().passed == 1
    # It was woken once: it sleeps on, and does not spin.
    assert times == [True, False]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_sleeps_count_as_points_for_next_n(flags: Flags, n: int) -> None:
    flag = flags(NEXT, n)
    flag.ask()
    for _ in range(n):
        assert flag.wait((), (), 0) == (set(), set())
    with pytest.raises(Interrupted):
        flag.wait((), (), LONG_S)


def test_point_after_a_sleep_that_learned_leaves(flags: Flags) -> None:
    flag = flags(NEXT, 1)
    flag.ask()
    flag.wait((), (), 0)
    with pytest.raises(Interrupted):
        flag.checkpoint()


@pytest.mark.parametrize("timeout", [0.0, -1.0, 0.01])
def test_sleep_ends_after_its_time_and_not_before(flags: Flags, timeout: float) -> None:
    began = time.monotonic()
    assert flags().wait((), (), timeout) == (set(), set())
    assert time.monotonic() - began >= timeout


def test_ready_descriptors_come_back_by_what_was_asked(flags: Flags, pipe: tuple[int, int]) -> None:
    read, write = pipe
    flag = flags()
    assert flag.wait((read,), (write,), LONG_S) == (set(), {write})
    os.write(write, b"x")
    assert flag.wait((read,), (write,), LONG_S) == ({read}, {write})
    assert flag.wait((read,), (), LONG_S) == ({read}, set())


def test_end_of_a_pipe_is_ready_to_read(flags: Flags) -> None:
    read, write = os.pipe()
    os.close(write)
    try:
        assert flags().wait((read,), (), LONG_S) == ({read}, set())
    finally:
        os.close(read)


def test_pipe_that_nobody_reads_is_ready_to_write(flags: Flags) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        assert flags().wait((), (write,), LONG_S) == (set(), {write})
    finally:
        os.close(write)


def test_closed_descriptor_does_not_block(flags: Flags) -> None:
    flag = flags()
    # Or its pipe would get the numbers.
    flag.be_wakeable()
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    assert flag.wait((read,), (), LONG_S) == ({read}, set())


@pytest.mark.parametrize("interrupted", [False, True])
def test_sleep_is_no_gap_between_points(flags: Flags, pipe: tuple[int, int], interrupted: bool) -> None:
    flag = flags()

    def pass_time_then_end_it() -> None:
        flags.clock.now += 50.0
        if interrupted:
            flag.ask()
        else:
            os.write(pipe[1], b"x")

    flag.checkpoint()
    flags.clock.now += 1.0
    sleep_point = flag._sleep_point
    threads = []

    def fall_asleep(first: bool) -> None:
        sleep_point(first)
        if first:
            threads.append(in_background(pass_time_then_end_it))

    flag._sleep_point = fall_asleep
    try:
        flag.wait((pipe[0],), (), LONG_S)
    except Interrupted:
        assert interrupted
    threads[0].join()
    assert flag.record().longest_gap_s == 1.0


# What a guest imports.


def test_guest_functions_are_those_of_the_flag(flags: Flags) -> None:
    flag = flags()
    functions = guest_functions(flag, lambda pointer, length: b"")
    assert set(functions) == {"checkpoint", "interrupted", "progress", "exit", "fail"}
    functions["checkpoint"]()
    functions["checkpoint"]()
    functions["progress"](2, 5)
    assert functions["interrupted"]() == 0
    assert flag.tick(0.0) == (4, 2, 5)


def test_checkpoint_of_a_guest_is_as_that_of_a_host_function(flags: Flags) -> None:
    flag = flags(NEXT, 2)
    point = guest_functions(flag, lambda pointer, length: b"")["checkpoint"]
    point()
    flag.ask()
    flag.checkpoint()
    point()
    with pytest.raises(Interrupted):
        point()
    assert flag.record() == StoppingPoints(4, 0.0, 4)


@pytest.mark.parametrize(("given", "code"), [((), None), ((0,), 0), ((3,), 3), ((-1,), 2**32 - 1)])
def test_exit_leaves_with_its_code(flags: Flags, given: tuple[int, ...], code: int | None) -> None:
    with pytest.raises(Exit) as caught:
        guest_functions(flags(), lambda pointer, length: b"")["exit"](*given)
    assert (caught.value.code, caught.value.message, caught.value.proc_exit) == (code, None, False)


@pytest.mark.parametrize(("text", "message"), [(b"no disk", "no disk"), (b"\xff", "\ufffd"), (b"", "")])
def test_fail_leaves_with_its_message(flags: Flags, text: bytes, message: str) -> None:
    asked: list[tuple[int, int]] = []

    def read(pointer: int, length: int) -> bytes:
        asked.append((pointer, length))
        return text

    with pytest.raises(Exit) as caught:
        guest_functions(flags(), read)["fail"](-16, 8)
    assert (caught.value.code, caught.value.message) == (None, message)
    # i32 arrive as signed numbers, and a pointer is none.
    assert asked == [(2**32 - 16, 8)]
