"""A process that outlives its supervisor, to end what the kernel's guards do not reach.

Theory of operation. A worker dies with its supervisor by guards that the kernel carries out (see `containment`); what a
host function started has none. So each run has one guardian: a child of the supervisor, with a session of its own, that
ignores every signal that can be ignored and waits for the end of a pipe whose only writing end the supervisor has, or
for the end of the supervisor itself. A run that ends well kills it, when everything is reaped: that is the whole
goodbye, and it works on one that is stopped as well. Otherwise it kills whatever is left of the run, then exits.

A supervisor that stands still is not gone, and its workers end all the same, each by a timer of its own. So the
guardian waits for their ends as well, and kills what one of them has left once nobody else has for `OVERDUE_S`. A run
whose host functions may start processes has a second guardian, which does the same, for the day on which the first one
is killed or stopped together with the supervisor. One that is stopped for longer than `STILL_S` is killed by a timer
that it winds up again and again: while the supervisor lives, another takes its place.

On the pipe come lines, each as long as the supervisor lives and the news is rare:

    run RUN             the first: the run's id
    session PID         a fork server, which leads a session
    worker PID TOKEN    a worker with host functions, which or whose imports may start processes; it leads a session,
                        or will
    over PID            it was reaped, and nothing of it is left

Of the run is whatever has its mark in the environment that it was executed with; whatever is in a session that it was
told of, or that a marked process leads; whatever it saw below a worker, where it looks every `LOOK_S` while there is
one; and what is below any of these. Of a worker is what has its token as its mark, and the rest likewise. A process
that executed a program with another environment in a session of its own, and lost its parent, between two such looks is
not found, nor is one that runs as another user and is not ours to see.

What it kills it stops first, all of it, so that nothing is born while it dies. But not a process of procstop's own that
has no guards yet: stopped before it could put them on, it would stay for ever if this guardian were killed right then.

It never signals a process that is older than the supervisor, nor one by a pid that could have been used again. It
starts beside every run, so it is imported without its package, which would take longer than all the rest, and keeps to
a few modules that Python has loaded nearly all of.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MARK = b"PROCSTOP_ATTEMPT="
LOOK_S = 0.2
"""How often it looks at what is below the workers that it was told of."""
OVERDUE_S = 1.0
"""How long the supervisor may take to clear up after a worker."""
STILL_S = 30.0
"""How long it may stand still."""
_WIND_S = 10.0
_FIRST_WIND_S = 0.1
CLEAR_S = 5.0
"""How long it tries to end what is left."""
_AGAIN_S = 0.003
_GUARD = b"\nfrom procstop.containment import guard\n"
"""What is in the command line of every process that puts on guards (see `process.child`)."""
_FREEZE_ROUNDS = 50
_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS, signal.SIGABRT}


class Process:
    """A living process; its `identity`, pid and start time, is what no other process ever has."""

    __slots__ = ("identity", "parent", "pid", "session", "start")

    def __init__(self, pid: int, start: int, parent: int, session: int) -> None:
        self.pid = pid
        self.start = start
        self.parent = parent
        self.session = session
        self.identity = (pid, start)


def main() -> None:
    """Guard a run; the arguments are the descriptor of the pipe and the supervisor's pid."""
    for number in signal.valid_signals() - _FAULTS - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    with open("/proc/self/comm", "wb", buffering=0) as name:
        # As `linux.set_name` does, without the time that ctypes takes.
        name.write(b"procstop-guardian"[:15])
    pipe, supervisor = map(int, sys.argv[1:3])
    guardian = Guardian(supervisor)
    guardian.listen(pipe)
    guardian.clear_all()
    os._exit(0)


class Prey:
    """What is to be ended: what is `marked`, in one of the `sessions`, was `seen` below a worker, or is below these."""

    __slots__ = ("_mark", "_whole", "seen", "sessions")

    def __init__(self, mark: bytes, whole: bool) -> None:
        """Take a mark that counts as a `whole` entry of the environment, or also as the beginning of one."""
        self._mark = mark
        self._whole = whole
        self.sessions: set[int] = set()
        self.seen: set[tuple[int, int]] = set()

    def includes(self, one: Process) -> bool:
        """Tell whether a process is to be ended for its own sake."""
        if one.identity in self.seen or one.session in self.sessions:
            return True
        if not self._is_marked(one.pid):
            return False
        if one.session == one.pid:
            self.sessions.add(one.pid)
        return True

    def _is_marked(self, pid: int) -> bool:
        try:
            with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
                data = file.readall()
        except OSError:
            return False
        if not self._mark or self._mark not in data:
            return False
        rests = (entry[len(self._mark) :] for entry in data.split(b"\0") if entry.startswith(self._mark))
        # The run's id alone, or an attempt's token, which begins with it.
        return any(not rest or (not self._whole and rest[:1] == b"-") for rest in rests)

    def is_below(self, one: Process, there: dict[int, Process]) -> bool:
        """Tell whether a process is below one that was seen, among those that are `there`."""
        met = {one.pid}
        while one.parent in there and one.parent not in met:
            one = there[one.parent]
            if one.identity in self.seen:
                return True
            met.add(one.pid)
        return False


class Guarded:
    """A worker of which it was told."""

    __slots__ = ("due", "pid", "pidfd", "prey")

    def __init__(self, pid: int, token: bytes) -> None:
        self.pid = pid
        self.prey = Prey(MARK + token, whole=True)
        # It leads a session from the moment on in which it may start anything.
        self.prey.sessions.add(pid)
        self.due: float | None = None
        """When it is time to clear up after it; None while it lives."""
        try:
            self.pidfd: int | None = os.pidfd_open(pid)
        except (AttributeError, OSError):
            self.pidfd = None

    def look(self) -> None:
        """Remember what is below it now, and forget what is gone.

        A worker is the subreaper of what it starts: while it lives, nothing of it is elsewhere.
        """
        seen = {one for one in self.prey.seen if _is_there(one)}
        waiting, met = [self.pid], {self.pid}
        while waiting:
            for pid in _children(waiting.pop()):
                if pid not in met:
                    met.add(pid)
                    waiting.append(pid)
                    found = process_at(pid)
                    if found is not None:
                        seen.add(found.identity)
        self.prey.seen = seen


class Guardian:
    """What is known of a run, and how to end it."""

    def __init__(self, supervisor: int) -> None:
        self._supervisor = supervisor
        self._run = Prey(b"", whole=False)
        self._workers: dict[int, Guarded] = {}
        self._poller = select.poll()
        self._spared: set[tuple[int, int]] = set()
        # Nothing of a run is older than its supervisor, unless that is gone already and has no age any more.
        found = process_at(supervisor) if os.getppid() == supervisor else None
        self._oldest = 0 if found is None else found.start

    # While the supervisor lives

    def listen(self, pipe: int) -> None:
        """Return when the supervisor is gone."""
        os.set_blocking(pipe, False)
        poller = self._poller
        poller.register(pipe, select.POLLIN)
        # Somebody may have forked the supervisor, and hold the pipe open without knowing.
        death = _open_parent(self._supervisor)
        if death is not None:
            poller.register(death, select.POLLIN)
        rest, look_at, over = b"", 0.0, False
        # Most runs are over before it is worth the time that ctypes takes.
        wind, wind_at = None, time.monotonic() + _FIRST_WIND_S
        while not over:
            until_wind = max(0.0, wind_at - time.monotonic())
            ready = {fd for fd, _ in poller.poll(1000 * min(until_wind, LOOK_S if self._workers else _WIND_S))}
            if time.monotonic() >= wind_at:
                wind = wind or _make_timer()
                wind(STILL_S)
                wind_at = time.monotonic() + _WIND_S
            over = death is not None and death in ready
            # Before the news, which may close descriptors and open others under the same numbers.
            for worker in self._workers.values():
                if worker.pidfd in ready and worker.due is None:
                    poller.unregister(worker.pidfd)
                    worker.due = time.monotonic() + OVERDUE_S
            while pipe in ready or over:
                try:
                    data = os.read(pipe, 65536)
                except BlockingIOError:
                    break
                if not data:
                    over = True
                    break
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self.hear(line)
            if self._workers and not over and time.monotonic() >= look_at:
                for worker in list(self._workers.values()):
                    if worker.due is None:
                        worker.look()
                    elif time.monotonic() >= worker.due:
                        self.clear(worker.prey)
                        self._forget(worker.pid)
                look_at = time.monotonic() + LOOK_S

    def hear(self, line: bytes) -> None:
        """Take one line of news."""
        verb, *words = line.split(b" ")
        if verb == b"run":
            self._run = Prey(MARK + words[0], whole=False)
            return
        pid = int(words[0])
        if verb == b"over":
            self._forget(pid)
            self._run.sessions.discard(pid)
            return
        self._run.sessions.add(pid)
        if verb == b"worker":
            self._forget(pid)
            worker = self._workers[pid] = Guarded(pid, words[1])
            if worker.pidfd is not None:
                self._poller.register(worker.pidfd, select.POLLIN)

    def _forget(self, pid: int) -> None:
        worker = self._workers.pop(pid, None)
        if worker is not None and worker.pidfd is not None:
            if worker.due is None:
                self._poller.unregister(worker.pidfd)
            os.close(worker.pidfd)

    # Once it is gone

    def clear_all(self) -> None:
        """Kill all that is left of the run."""
        for worker in self._workers.values():
            self._run.seen |= worker.prey.seen
        self.clear(self._run)

    def clear(self, prey: Prey) -> None:
        """Kill all of it, until two scans in a row find nothing; give up after `CLEAR_S`."""
        until = time.monotonic() + CLEAR_S
        quiet = 0
        while quiet < 2 and time.monotonic() < until:
            members = self._freeze(prey)
            for member in members:
                self._send(member, signal.SIGKILL)
            quiet = 0 if members else quiet + 1
            time.sleep(_AGAIN_S)

    def _freeze(self, prey: Prey) -> list[Process]:
        """Stop all of it in its tracks, so that nothing is born while it dies; return it."""
        members: dict[tuple[int, int], Process] = {}
        for _ in range(_FREEZE_ROUNDS):
            new = self._scan(prey, members)
            if not new:
                break
            members.update(new)
        return list(members.values())

    def _scan(self, prey: Prey, known: dict[tuple[int, int], Process]) -> dict[tuple[int, int], Process]:
        """Look at every process; stop, and return, those of the prey that are not `known`."""
        there: dict[int, Process] = {}
        new: dict[tuple[int, int], Process] = {}

        def take(one: Process) -> None:
            if one.identity not in known and one.identity not in new:
                # At once: what forks anew as fast as it can would be gone after the scan.
                if self._send(one, signal.SIGKILL if _may_lack_guards(one.pid) else signal.SIGSTOP):
                    new[one.identity] = one
                prey.seen.add(one.identity)

        # The youngest first, for the same reason.
        for pid in sorted((int(name) for name in os.listdir("/proc") if name.isdigit()), reverse=True):
            one = process_at(pid)
            if one is None or one.start < self._oldest or pid in (os.getpid(), self._supervisor):
                continue
            there[pid] = one
            if one.identity not in self._spared and prey.includes(one):
                take(one)
        for one in there.values():
            if one.identity not in self._spared and prey.is_below(one, there):
                take(one)
        # The number of a session is free for others once nobody is in it.
        prey.sessions &= {one.session for one in there.values()}
        return new

    def _send(self, one: Process, number: int) -> bool:
        """Signal exactly this process; return whether it was there, and ours to signal."""
        try:
            fd = os.pidfd_open(one.pid)
        except ProcessLookupError:
            return False
        except (AttributeError, OSError):
            fd = -1
        try:
            # Still there with its start time after the pidfd was opened: so the pidfd is it.
            if not _is_there(one.identity):
                return False
            if fd >= 0:
                signal.pidfd_send_signal(fd, number)  # type: ignore[attr-defined,unused-ignore]
            else:
                os.kill(one.pid, number)
            return True
        except ProcessLookupError:
            return False
        except PermissionError:
            self._spared.add(one.identity)
            return False
        finally:
            if fd >= 0:
                os.close(fd)


def process_at(pid: int) -> Process | None:
    """Return the living process that has a pid; None for a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            # A name may hold anything, parentheses and blanks too.
            fields = file.readall().rpartition(b") ")[2].split()
        # One whose first thread has ended looks like a zombie, but has others.
        if fields[0] in (b"Z", b"X") and int(fields[17]) <= 1:
            return None
        return Process(pid, int(fields[19]), int(fields[1]), int(fields[3]))
    except (OSError, IndexError, ValueError):
        return None  # It ended at just that moment.


def _may_lack_guards(pid: int) -> bool:
    """Tell whether a process is one of procstop's own that has not put on its guards yet, as far as its name tells."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb", buffering=0) as file:
            is_own = _GUARD in file.readall()
        with open(f"/proc/{pid}/comm", "rb", buffering=0) as file:
            # A fork server is given up together with the workers that it has just forked.
            return is_own and file.readall() != b"procstop-worker\n"
    except OSError:
        return False


def _children(pid: int) -> list[int]:
    """Return the pids of a process's children; none where the kernel does not list them (CONFIG_PROC_CHILDREN)."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
                found += map(int, file.readall().split())
    except OSError:
        pass  # It ends, or its threads come and go.
    return found


def _make_timer() -> Callable[[float], None]:
    """Return what has the kernel kill this process in so many seconds, as `linux.make_life_timer` does."""
    import ctypes

    libc = ctypes.CDLL(None)
    event = (ctypes.c_int * 16)(0, 0, signal.SIGKILL, 0)
    timer = ctypes.c_void_p()
    if libc.timer_create(time.CLOCK_MONOTONIC, event, ctypes.byref(timer)) != 0:
        return lambda seconds: None
    return lambda seconds: libc.timer_settime(timer, 0, (ctypes.c_long * 4)(0, 0, int(seconds), 0), None) and None


def _is_there(identity: tuple[int, int]) -> bool:
    found = process_at(identity[0])
    return found is not None and found.identity == identity


def _open_parent(pid: int) -> int | None:
    """Return a pidfd of our parent; None if it is gone already, or the system has none."""
    try:
        fd = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None
    # The pipe tells of one that is gone; its pid may be another's.
    if os.getppid() != pid:
        os.close(fd)
        return None
    return fd


if __name__ == "__main__":
    main()
