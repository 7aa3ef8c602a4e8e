"""Workers: their pipes, their trees, and how one is started anew.

A worker leads a session of its own, so that no terminal's signal reaches it, and is the subreaper of what it
starts: whatever a host function detaches stays below the worker while that lives. When a worker ends, the orphans
come to the supervisor, which is a subreaper too, and are found and killed there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field

import psutil

from procstop.messages import TOKEN
from procstop.process.child import LOADER, Child, SpawnError, file_of, make_lifeline, start
from procstop.process.tree import GONE, descendants, is_running, name_of, send

_FREEZE_ROUNDS = 50


@dataclass
class Pipes:
    """Both ends of a worker's pipes: ours do not block. `control` is a socket where descriptors are to follow.

    One descriptor more is kept for the pidfd: a worker that a fork server has made could not be watched without.
    """

    ours: dict[str, int]
    theirs: dict[str, int]
    spare: int = -1

    @classmethod
    def open(cls, *, with_socket: bool = False) -> Pipes:
        """Make them; raise `OSError` where there are too few descriptors, with none left open."""
        pipes = cls({}, {})
        try:
            if with_socket:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
                pipes.ours["control"], pipes.theirs["control"] = ours.detach(), theirs.detach()
            else:
                pipes.theirs["control"], pipes.ours["control"] = os.pipe()
            for name in ("report", "stdout", "stderr"):
                pipes.ours[name], pipes.theirs[name] = os.pipe()
            pipes.ours["lifeline"], pipes.theirs["lifeline"] = make_lifeline()
            for fd in pipes.ours.values():
                os.set_blocking(fd, False)
            pipes.spare = os.dup(pipes.ours["report"])
        except OSError:
            pipes.close()
            raise
        return pipes

    def close_theirs(self) -> None:
        """Close the ends that the worker has now."""
        for fd in self.theirs.values():
            os.close(fd)
        self.theirs = {}

    def make_room(self) -> None:
        """Give up the descriptor that is kept for the pidfd, which is about to be opened."""
        if self.spare >= 0:
            os.close(self.spare)
            self.spare = -1

    def close(self) -> None:
        """Close all that is open."""
        self.make_room()
        self.close_theirs()
        for fd in self.ours.values():
            os.close(fd)
        self.ours = {}


MOST_NAMED = 32
"""Processes below a worker whose names are kept."""


@dataclass
class Worker(Child):
    """A child that hosts one attempt after another, and the supervisor's ends of its pipes.

    `guarded` is set once the worker has said that its guards are on: one that is stopped before could not put them on,
    and would stay for ever. `number` counts the workers of a run. `early` is what it had said before it was known.
    """

    token: str
    control: int
    report: int
    stdout: int
    stderr: int
    number: int = 0
    guarded: bool = False
    early: bytes = b""
    _seen: dict[int, psutil.Process] = field(default_factory=dict)
    _names: dict[int, str] = field(default_factory=dict)
    _killed: set[int] = field(default_factory=set)

    @classmethod
    def at(cls, pipes: Pipes, pid: int, pidfd: int | None, popen: subprocess.Popen[bytes] | None, token: str) -> Worker:
        """Return a worker with our ends of these pipes, which are its own from now on."""
        pipes.make_room()
        ours, pipes.ours = pipes.ours, {}
        control, report, stdout, stderr = (ours[name] for name in ("control", "report", "stdout", "stderr"))
        return cls(pid, pidfd, popen, token, control, report, stdout, stderr, lifeline=ours["lifeline"])

    def terminate(self) -> None:
        """SIGTERM to the whole tree; SIGCONT with it, since a stopped process would not notice."""
        members = self.descendants()
        for number in (signal.SIGTERM, signal.SIGCONT):
            self.signal(number)
            for member in members:
                send(member, number)

    def kill(self) -> None:
        """SIGKILL to the whole tree. It is frozen first, so that nothing is born while it dies."""
        try:
            if self.guarded:
                self._kill_descendants()
        finally:
            if self.ended is None:
                self._killed.add(self.pid)
            self.signal(signal.SIGKILL)

    def _kill_descendants(self) -> None:
        self.signal(signal.SIGSTOP)
        members: dict[int, psutil.Process] = {}
        for _ in range(_FREEZE_ROUNDS):
            new = [member for member in self.descendants() if member.pid not in members]
            if not new:
                break
            for member in new:
                send(member, signal.SIGSTOP)
                members[member.pid] = member
        for member in members.values():
            send(member, signal.SIGKILL)
        self._killed.update(members)

    def pause(self) -> None:
        """Stop the whole tree in its tracks. Only once it is `guarded`."""
        self.signal(signal.SIGSTOP)
        for member in self.descendants():
            send(member, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused tree go on."""
        for member in self.descendants():
            send(member, signal.SIGCONT)
        self.signal(signal.SIGCONT)

    def descendants(self) -> list[psutil.Process]:
        """Return everything that the worker started and that still lives; remember it for `owns`."""
        found = [] if self.ended is not None else descendants(self.pid)
        for process in found:
            self._note(process)
        return found

    def _note(self, process: psutil.Process) -> None:
        self._seen[process.pid] = process
        if process.pid not in self._names and len(self._names) < MOST_NAMED:
            # What it is called when it is first seen: later it may be gone, or have another name.
            self._names[process.pid] = name_of(process)

    @property
    def found(self) -> int:
        """How many processes were ever seen below it."""
        return len(self._seen)

    @property
    def named(self) -> tuple[tuple[int, str], ...]:
        """The first `MOST_NAMED` of them: the pid and the name that each had when it was seen first."""
        return tuple(self._names.items())

    @property
    def killed(self) -> int:
        """How many processes of all were sent SIGKILL, itself included."""
        return len(self._killed)

    def left(self) -> int:
        """How many processes of all are still there, itself included."""
        own = 0 if self.ended is not None else 1
        return own + len({one.pid for one in (*self.descendants(), *self._seen.values()) if is_running(one)})

    def owns(self, orphan: psutil.Process) -> bool:
        """Tell whether an orphan was surely this worker's: seen below it, of its session, or marked with its token."""
        known = self._seen.get(orphan.pid)
        if known is not None and known == orphan:
            return True
        try:
            return os.getsid(orphan.pid) == self.pid or marked_with(orphan) == self.token
        except GONE:
            return False

    def count_orphan(self, orphan: psutil.Process) -> None:
        """Have an orphan of this worker's, which is killed elsewhere, in the receipt."""
        self._killed.add(orphan.pid)
        self._note(orphan)

    def peak_memory_bytes(self) -> int | None:
        """Return the most memory the worker had resident so far; None where that cannot be read."""
        try:
            with open(f"/proc/{self.pid}/status", "rb") as status:
                for line in status:
                    if line.startswith(b"VmHWM:"):
                        return int(line.split()[1]) * 1024
        except OSError:
            pass
        return None

    def cpu_s(self) -> float | None:
        """Return the CPU time that it has used, in seconds; None when it is gone, or where there is no such clock."""
        try:
            # What clock_getcpuclockid(3) computes; 2 is the scheduler's own count, in nanoseconds. It is our child
            # and not reaped, so the pid is its own.
            return None if self.ended is not None else time.clock_gettime(~self.pid << 3 | 2)
        except OSError:
            return None

    def let_go(self) -> None:
        """Close the control pipe: a worker that waits for another attempt ends."""
        if self.control >= 0:
            os.close(self.control)
            self.control = -1

    def close(self) -> None:
        """Close the supervisor's ends of everything."""
        for name in ("control", "report", "stdout", "stderr"):
            fd = getattr(self, name)
            if fd >= 0:
                os.close(fd)
                setattr(self, name, -1)
        super().close()


def marked_with(process: psutil.Process) -> str | None:
    """Return the token in a process's environment, as it was when it executed its program; None without one."""
    try:
        return process.environ().get(TOKEN)
    except GONE:
        return None


def spawn_worker(
    token: str,
    order: bytes,
    *,
    module: int,
    artifact: int,
    stdin: int,
    with_socket: bool = False,
) -> Worker:
    """Start a worker anew; raise `SpawnError` where the system refuses, with nothing left behind.

    `module`, `stdin` and `artifact` (-1 for none) are open files, which stay open here. Call it from the thread that
    will live as long as the worker: the kernel ends the worker with it.
    """
    with contextlib.ExitStack() as stack:
        try:
            order_file = stack.enter_context(file_of(order))
            pipes = Pipes.open(with_socket=with_socket)
        except OSError as error:
            raise SpawnError(f"cannot start a worker: {error.strerror or error}", error) from error
        stack.callback(pipes.close)
        theirs = pipes.theirs
        popen, pidfd = start(
            "worker",
            (order_file.fileno(), module, artifact, theirs["control"], theirs["report"], theirs["lifeline"]),
            stdin=stdin,
            stdout=theirs["stdout"],
            stderr=theirs["stderr"],
            env={TOKEN: token, **LOADER},
        )
        return Worker.at(pipes, popen.pid, pidfd, popen, token)
