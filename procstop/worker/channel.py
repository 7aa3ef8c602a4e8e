"""A worker's pipes to its supervisor: what it says, what it hears, and the thread that listens.

The listener waits on the control pipe. It raises the interrupt flag, and sends a beat ten times a second while the
guest passes stopping points. On wasmer it gets its turn only when the guest calls a host function, which is also the
only time at which the flag matters; on wasmtime the guest leaves it the GIL. It is started for the first guest that can
reach a stopping point; before that, the main thread reads the control pipe itself, between two attempts.
"""

from __future__ import annotations

import _thread
import array
import os
import select
import socket
import stat
import sys
import time
from _queue import Empty, SimpleQueue
from collections.abc import Callable

from procstop import containment, linux
from procstop.messages import ProtocolError
from procstop.messages.worker import MAX_MESSAGE, Assign, Beat, Decoder, Final, Guarded, Interrupt, Ready, encode
from procstop.model import Outcome
from procstop.records import Report
from procstop.stopping import TICK_S, Flag

# Not `threading` and `queue`: what they do in a forked child would take as long as a small guest.

SLOW_TICK_S = 1.0
"""How long the listener sleeps while the guest does: a thousand sleeping guests shall cost nothing."""
SWITCH_INTERVAL_S = 0.0005
"""How long the listener waits for the GIL before it asks for it; bounds how late an interrupt is seen."""


class Channel:
    """The pipes to the supervisor. The listener and the main thread share the report pipe under a lock.

    `once_known` is called when the supervisor has been told this process's pid, `count_threads` counts this process's
    threads, native ones too, where that can be.
    """

    def __init__(
        self,
        attempt: str,
        control: int,
        report: int,
        once_known: Callable[[], None] | None = None,
        count_threads: Callable[[], int | None] = lambda: None,
    ) -> None:
        self.attempt = attempt
        self.beats_asleep = False
        """Whether signs of life are sent while the guest sleeps."""
        self._once_known = once_known
        self._count_threads = count_threads
        self._threads_before: int | None = None
        self._control = control
        self._report = report
        self._lock = _thread.allocate_lock()
        self._finished = False
        self._cut = False
        self._hears = False
        self._flag: Flag | None = None
        self._asked: str | None = None
        self._listens = False
        self._has_stdin = True
        os.set_blocking(report, False)

    def say_guarded(self, note: str | None = None) -> None:
        """Say that the guards are on, where it takes a while until the guest is ready, which says it too."""
        self._send(encode(Guarded(self.attempt, os.getpid(), note)))

    def open(self, flag: Flag, interruptible: bool, since: float, *, always_listen: bool = False) -> None:
        """Say that the guest is about to run, and listen from now on if it can be interrupted, or `always`.

        `since` is when this process's own timer began to run.
        """
        with self._lock:
            self._flag, self._finished = flag, False
            if self._asked == self.attempt:
                flag.ask()
        if self._cut:
            containment.die()
        if self._threads_before is None:
            self._threads_before = self._count_threads()
        # Where the kernel guards a worker, one whose guest cannot be interrupted has nothing to listen for. A signal
        # that a host function blocks in its own thread finds the listener.
        if not self._listens and (interruptible or always_listen or not linux.ON_LINUX):
            sys.setswitchinterval(SWITCH_INTERVAL_S)
            self._listens = True
            self._begin_to_hear()
            self._begun = _thread.allocate_lock()
            self._begun.acquire()
            _thread.start_new_thread(self._listen, (interruptible,))
        self._send(encode(Ready(self.attempt, os.getpid(), interruptible, since)))

    def finish(self, report: Report, free: bool) -> None:
        """Send the one report of this attempt; nothing more is sent about it, and its flag is let go of."""
        with self._lock:
            self._finished = True
            self._flag = None
            try:
                data = encode(Final(self.attempt, report, free))
            except (ProtocolError, ValueError) as error:
                data = encode(Final(self.attempt, Report(Outcome.CRASHED, message=f"report: {error}"), free))
            self._write(data)

    def is_alone(self) -> bool:
        """Tell whether no thread runs but ours: one that a host function left could reach into the next attempt."""
        if self._listens:
            # It counts from when it runs, and a short guest may have returned before.
            with self._begun:
                pass
        # The engine's own, and what host modules started when they were imported, were there before.
        before, now = self._threads_before, self._count_threads()
        no_other = before is None or now == before + self._listens
        return no_other and _thread._count() == self._listens

    def next(self) -> Assign | None:
        """Wait for another attempt, with its standard input in place; None when there will be none."""
        self._begin_to_hear()
        assigned = self._assigned.get() if self._listens else self._read_assigned()
        if assigned is None:
            return None
        message, stdin = assigned
        if stdin is not None or self._has_stdin:
            fd = stdin if stdin is not None else os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            os.dup2(fd, 0)
            os.close(fd)
        self._has_stdin = stdin is not None
        self.attempt = message.attempt
        return message

    def _begin_to_hear(self) -> None:
        """Make what it takes to read the control pipe; most workers never do."""
        if not self._hears:
            self._hears = True
            # Only a socket carries descriptors; it is one where further attempts may come.
            is_socket = stat.S_ISSOCK(os.fstat(self._control).st_mode)
            self._socket = socket.socket(fileno=self._control) if is_socket else None
            self._decoder = Decoder()
            self._assigned: SimpleQueue[tuple[Assign, int | None] | None] = SimpleQueue()
            self._received: list[int] = []

    def _read_assigned(self) -> tuple[Assign, int | None] | None:
        while True:
            data = self._receive()
            if not data:
                return None
            self._take(data)
            try:
                return self._assigned.get_nowait()
            except Empty:
                continue

    def _receive(self) -> bytes:
        """Read from the control pipe, and keep the descriptors that came along."""
        if self._socket is None:
            return os.read(self._control, MAX_MESSAGE)
        size = array.array("i").itemsize
        try:
            data, ancillary, _, _ = self._socket.recvmsg(MAX_MESSAGE, socket.CMSG_SPACE(4 * size), _CLOEXEC)
        except ConnectionError:
            return b""
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self._received += array.array("i", content[: len(content) // size * size])
        return data

    def _take(self, data: bytes) -> None:
        for message in self._decoder.feed(data):
            if isinstance(message, Interrupt):
                # For the attempt that runs, or one that is about to; one that is over is not hit by it.
                with self._lock:
                    self._asked = message.attempt
                    if self._flag is not None and message.attempt == self.attempt:
                        self._flag.ask()
            elif isinstance(message, Assign):
                self._assigned.put((message, self._received.pop(0) if message.stdin else None))

    def _send(self, data: bytes) -> None:
        with self._lock:
            self._write(data)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._report, view) :]
            except BlockingIOError:
                poller = select.poll()
                poller.register(self._report, select.POLLOUT)
                poller.poll()
            except OSError:
                break  # The supervisor has closed its end: it wants to hear no more.
        if self._once_known is not None:
            self._once_known()
            self._once_known = None

    def _beat(self, passed: int, done: int | None, total: int | None) -> None:
        data = encode(Beat(self.attempt, passed, done, total))
        with self._lock:
            if not self._finished:
                try:
                    # Shorter than PIPE_BUF, so the whole of it is written or, if the pipe is full, nothing.
                    os.write(self._report, data)
                except OSError:
                    pass  # A supervisor that is busy or gone misses nothing but a beat.

    def _listen(self, beats: bool) -> None:
        self._begun.release()
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        sent: tuple[int, int | None, int | None] = (0, None, None)
        while True:
            flag = self._flag
            asleep = flag is not None and flag.asleep
            interval = SLOW_TICK_S if asleep and not self.beats_asleep else TICK_S
            due = time.monotonic() + interval
            if poller.poll(interval * 1000 if beats else None):
                data = self._receive()
                if not data:
                    return self._end()
                self._take(data)
            elif flag is not None and flag is self._flag:
                state = flag.tick(time.monotonic() - due)
                if state != sent or (self.beats_asleep and flag.waits):
                    sent = state
                    self._beat(*state)

    def _end(self) -> None:
        """The supervisor has let go of this worker, or is gone."""
        self._cut = True
        if self._flag is not None:
            containment.die()
        # Between two attempts, and there is no next one.
        self._assigned.put(None)


_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
