"""A guest's output: read as it comes, left in its pipe while observers lag behind, and in the end taken as a whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from procstop.supervisor.outputs import Sink
from procstop.supervisor.streams import MOST_LEFT, STREAMS, Streams


class Announcer:
    def __init__(self) -> None:
        self.crowded = self.overrun = False
        self.told: list[bytes] = []

    def __call__(self, event: Any) -> None:
        self.told.append(event.data)


class Loop:
    """A loop that stands still; what is to be called later is kept."""

    def __init__(self) -> None:
        self.clock = self
        self.later: list[Any] = []

    def now(self) -> float:
        return 0.0

    def call_at(self, _: float, callback: Any) -> None:
        self.later.append(callback)


class Port:
    def __init__(self) -> None:
        self.pipes = {name: os.pipe() for name in STREAMS}
        self.watched = set(STREAMS)
        for read, _ in self.pipes.values():
            os.set_blocking(read, False)

    def fd_of(self, stream: str) -> int:
        return self.pipes[stream][0]

    def watch_output(self, stream: str) -> None:
        self.watched.add(stream)

    def unwatch_output(self, stream: str) -> None:
        self.watched.discard(stream)

    def write(self, data: bytes) -> None:
        os.write(self.pipes["stdout"][1], data)


class Scene:
    def __init__(self, limit: int | None = None) -> None:
        self.loop, self.announcer, self.port = Loop(), Announcer(), Port()
        self.limits: list[str] = []
        sinks = {name: Sink(limit, None, pytest.fail) for name in STREAMS}
        made: Any = (self.loop, self.announcer)
        self.streams = Streams(*made, "task", 1, sinks, self.limits.append)

    def take(self, *, may_wait: bool) -> None:
        port: Any = self.port
        self.streams.take(port, "stdout", may_wait=may_wait)


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene(limit=10)
    yield made
    for fds in made.port.pipes.values():
        for fd in fds:
            os.close(fd)


@pytest.mark.parametrize(
    ("crowded", "overrun", "may_wait", "left"),
    [
        (False, False, True, False),
        (True, False, True, True),
        (True, False, False, False),
        (True, True, False, True),
    ],
)
def test_output_is_left_in_its_pipe_while_observers_lag_behind(
    scene: Scene, crowded: bool, overrun: bool, may_wait: bool, left: bool
) -> None:
    """That of a guest that is to stop only while they are so far behind that memory has to be minded."""
    scene.announcer.crowded, scene.announcer.overrun = crowded, overrun
    scene.port.write(b"word")
    scene.take(may_wait=may_wait)
    assert scene.announcer.told == ([] if left else [b"word"])
    assert ("stdout" in scene.port.watched) is not left
    for callback in scene.loop.later:
        callback()
    assert "stdout" in scene.port.watched


def test_nobody_is_heard_again_who_is_over(scene: Scene) -> None:
    scene.announcer.crowded = True
    scene.take(may_wait=True)
    scene.streams.close()
    for callback in scene.loop.later:
        callback()
    assert "stdout" not in scene.port.watched


def test_what_is_left_in_the_end_is_taken_and_its_limit_is_told(scene: Scene) -> None:
    port: Any = scene.port
    scene.port.write(b"x" * 25)
    scene.streams.drain(port)
    assert (scene.announcer.told, scene.limits, scene.streams.over_limit) == ([b"x" * 10], ["stdout"], True)
    assert scene.streams.close()[0].bytes == 10 and MOST_LEFT > 25
    assert scene.port.watched == set()
