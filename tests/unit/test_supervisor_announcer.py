"""Observers watch: whatever they do, the run goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from procstop.events import Event, Notice, Output
from procstop.supervisor.announcer import CROWDED, EVENT, Announcer

LONG_S = 60.0


class Blocked:
    """An observer that hangs until it is let go; `hangs` is set once it does."""

    def __init__(self) -> None:
        self.hangs = threading.Event()
        self.go = threading.Event()
        self.seen: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.hangs.set()
        assert self.go.wait(LONG_S)
        self.seen.append(event)


@pytest.fixture
def blocked() -> Iterator[Blocked]:
    observer = Blocked()
    yield observer
    observer.go.set()


def notices(count: int) -> list[Event]:
    return [Notice(str(number)) for number in range(count)]


def output(size: int) -> Output:
    return Output("task", 1, "stdout", b"x" * size)


def test_every_observer_is_told_everything_in_order() -> None:
    first: list[Event] = []
    second: list[Event] = []
    announce = Announcer([first.append, second.append])
    for event in notices(100):
        announce(event)
    assert announce.close(LONG_S)
    assert first == second == notices(100)
    assert announce.failures == []


def test_observers_are_called_in_one_thread_that_is_not_the_runs() -> None:
    threads: set[int] = set()
    announce = Announcer([lambda event: threads.add(threading.get_ident())] * 2)
    for event in notices(5):
        announce(event)
    announce.close(LONG_S)
    assert len(threads) == 1 and threading.get_ident() not in threads


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
def test_observer_that_raises_is_told_nothing_more_and_harms_nobody(error: BaseException) -> None:
    told: list[Event] = []
    seen: list[Event] = []

    def fails(event: Event) -> None:
        told.append(event)
        raise error

    announce = Announcer([fails, seen.append])
    for event in notices(3):
        announce(event)
    assert announce.close(LONG_S)
    assert (told, seen) == (notices(1), notices(3))
    assert announce.failures == [error]


def test_blocked_observer_does_not_hold_up_who_announces(blocked: Blocked) -> None:
    announce = Announcer([blocked])
    for event in notices(1000):
        announce(event)
    assert blocked.hangs.wait(LONG_S)
    assert blocked.seen == []
    blocked.go.set()
    assert announce.close(LONG_S)
    assert blocked.seen == notices(1000)


def test_settling_and_closing_give_up_on_a_blocked_observer(blocked: Blocked) -> None:
    announce = Announcer([blocked])
    announce(Notice("x"))
    assert blocked.hangs.wait(LONG_S)
    announce.settle(0.01)
    assert announce.close(0.01) is False
    assert blocked.seen == []
    blocked.go.set()
    assert announce.close(LONG_S) is True


def test_settling_waits_for_what_was_said_before() -> None:
    seen: list[Event] = []
    announce = Announcer([seen.append])
    for event in notices(50):
        announce(event)
    announce.settle(LONG_S)
    assert seen == notices(50)
    announce(Notice("after"))
    announce.close(LONG_S)
    assert seen[-1] == Notice("after")


def test_without_observers_nothing_is_kept_or_waited_for() -> None:
    announce = Announcer([])
    announce(output(CROWDED + 1))
    announce.settle(LONG_S)
    assert not announce.crowded
    assert announce.close(LONG_S) is True


def test_it_is_crowded_while_observers_lag_behind_by_too_much_output(blocked: Blocked) -> None:
    announce = Announcer([blocked])
    announce(output(CROWDED - EVENT))
    announce(Notice("x" * 100))
    assert not announce.crowded
    announce(output(1))
    assert announce.crowded
    blocked.go.set()
    assert announce.close(LONG_S)
    assert not announce.crowded


def test_output_that_a_failed_observer_did_not_take_does_not_crowd() -> None:
    def fails(event: Event) -> None:
        raise ValueError

    announce = Announcer([fails])
    announce(output(CROWDED + 1))
    announce(output(CROWDED + 1))
    announce.close(LONG_S)
    assert not announce.crowded
