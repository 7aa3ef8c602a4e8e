"""Fork servers with faults, each a `main` that is started in the place of `procstop.forkserver`'s.

They speak the protocol by themselves: a packet is a JSON list whose first item is the request's number, an answer is
[number, pid, error, spoilt, short], and number 0 says that the server is there.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    # Not where it is started: fork servers have no site packages.
    import pytest

_BOOT = """
import sys
sys.path[:0] = [{{root!r}}, {tests!r}]
{{first}}
if {{module!r}} == "forkserver":
    from support import faulty_servers
    faulty_servers.{fault}(*{arguments!r})
from procstop.{{module}} import main
main()
"""


def take_the_place(patch: pytest.MonkeyPatch, fault: Callable[..., object], *arguments: int) -> None:
    """Have fork servers be faulty from now on; where the fault returns, a real one goes on."""
    boot = _BOOT.format(tests=str(Path(__file__).parents[1]), fault=fault.__name__, arguments=arguments)
    patch.setattr("procstop.process.child._BOOT", boot)


def hangs_up() -> NoReturn:
    """End at once."""
    os._exit(3)


def hangs_up_with_a_word() -> NoReturn:
    """End at once, with a reason."""
    raise SystemExit("no libengine.so here")


def stands_still() -> None:
    """Be stopped, as by SIGSTOP from somebody else, before the first word."""
    os.kill(os.getpid(), signal.SIGSTOP)


def says_nothing() -> NoReturn:
    """Hear everything and answer nothing."""
    server = _socket()
    while server.recv(1 << 20):
        pass
    os._exit(0)


def greets_with_garbage() -> NoReturn:
    """Begin with what is no answer."""
    server = _socket()
    server.send(b"\xff\0garbage")
    _wait(server)


def answers_with_garbage() -> NoReturn:
    """Begin well, and answer with what is no answer."""
    _serve(lambda number: b"[1, 2")


def answers_what_it_was_not_asked() -> NoReturn:
    """Begin well, and answer another question."""
    _serve(lambda number: _answer(number + 1000, os.getpid(), None))


def greets_again() -> NoReturn:
    """Say for ever that it is there."""
    _serve(lambda number: _answer(0, os.getpid(), None))


def names(pid: int) -> NoReturn:
    """Begin well, and name a process that it has not made."""
    _serve(lambda number: _answer(number, pid, None))


def names_itself() -> NoReturn:
    """Begin well, and name itself: a child of the supervisor, but no worker."""
    _serve(lambda number: _answer(number, os.getpid(), None))


def refuses() -> NoReturn:
    """Begin well, and say each time that there can be no worker."""
    _serve(lambda number: _answer(number, None, "cannot start a worker: not today"))


def has_no_engine() -> NoReturn:
    """Begin by saying that the engine could not be imported."""
    _socket().send(_answer(0, None, "the engine is not to be had"))
    os._exit(1)


def dies_before_it_tells() -> None:
    """Make a worker, and end without telling its pid."""
    _before_it_tells(lambda: os._exit(0))


def stands_still_before_it_tells() -> None:
    """Make a worker, and be stopped before its pid is told."""
    _before_it_tells(lambda: os.kill(os.getpid(), signal.SIGSTOP))


def is_short_of_processes(times: int, spared: int) -> None:
    """Be refused that many forks, after some that were not."""
    from procstop import linux

    make = linux.make_fork_sibling

    def make_one_that_fails() -> Callable[[], int]:
        fork = make()
        left = [spared, times]

        def fork_or_fail() -> int:
            for which in (0, 1):
                if left[which] > 0:
                    left[which] -= 1
                    if which == 1:
                        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
                    break
            return fork()

        return fork_or_fail

    linux.make_fork_sibling = make_one_that_fails


def _before_it_tells(act: Callable[[], None]) -> None:
    from procstop import forkserver

    answer = forkserver.Server._answer

    def act_unless_it_greets(server: forkserver.Server, told: forkserver.ForkAnswer) -> None:
        if told.number:
            act()
        answer(server, told)

    forkserver.Server._answer = act_unless_it_greets  # type: ignore[method-assign]


def _serve(reply: Callable[[int], bytes]) -> NoReturn:
    server = _socket()
    server.recv(1 << 20)
    server.send(_answer(0, os.getpid(), None))
    while data := server.recv(1 << 20):
        server.send(reply(json.loads(data)[0]))
    os._exit(0)


def _wait(server: socket.socket) -> NoReturn:
    while server.recv(1 << 20):
        pass
    os._exit(0)


def _answer(number: int, pid: int | None, error: str | None) -> bytes:
    return json.dumps([number, pid, error, False, False]).encode()


def _socket() -> socket.socket:
    return socket.socket(fileno=int(sys.argv[1]))
