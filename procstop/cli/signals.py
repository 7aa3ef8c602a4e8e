"""Signals to the supervisor: Ctrl-C and SIGTERM press, SIGHUP presses once, SIGTSTP pauses.

The handlers only leave a note for the event loop; nothing is done inside of one.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from procstop.model import Reason
from procstop.supervisor import Supervisor


@contextmanager
def handle_signals(supervisor: Supervisor) -> Iterator[None]:
    """Let signals reach a supervisor for the length of a block. Only in the main thread."""
    hung_up = False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        supervisor.press(Reason.USER)

    def terminate(_number: int, _frame: FrameType | None) -> None:
        supervisor.press(Reason.SHUTDOWN)

    def hang_up(_number: int, _frame: FrameType | None) -> None:
        # A terminal that goes away sends one to everybody and may be followed by SIGTERM: it never climbs.
        nonlocal hung_up
        if not hung_up:
            hung_up = True
            supervisor.press(Reason.SHUTDOWN)

    def suspend(_number: int, _frame: FrameType | None) -> None:
        supervisor.pause(then=lambda: _stop_here(supervisor))

    handlers: dict[int, Any] = {
        signal.SIGINT: interrupt,
        signal.SIGTERM: terminate,
        signal.SIGHUP: hang_up,
        signal.SIGTSTP: suspend,
    }
    with handled(handlers, supervisor.wake_fd):
        yield


@contextmanager
def handled(handlers: Mapping[int, Any], wake_fd: int) -> Iterator[None]:
    """Have signals handled while a loop runs that `wake_fd` wakes; only in the main thread."""
    before = {}
    for number, handler in handlers.items():
        # nohup and the like ignore a signal for their children: leave it so.
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, handler)
    # A parent may have had them ignored, and then the kernel would reap our children for us.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # The kernel may hand a signal to an observer's thread; Python's handler would then wait until the loop turns.
    wakeup = signal.set_wakeup_fd(wake_fd, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_here(supervisor: Supervisor) -> None:
    """Stop as a terminal's stop would have stopped us, and go on when the shell says so."""
    supervisor.settle_observers()
    handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    # Here this process stands still; where nobody could continue it, the kernel ignores the signal.
    signal.raise_signal(signal.SIGTSTP)
    signal.signal(signal.SIGTSTP, handler)
    supervisor.resume()
