"""What a worker puts on before its guest runs, so that it cannot outlive its supervisor.

Two guards work while a guest holds the GIL, because the kernel carries them out: the parent-death signal,
and the lifeline, one of a pair of sockets whose other one the supervisor holds: when that is closed, by an exit or by
the death of the supervisor, the kernel sends SIGKILL. SIGKILL, since a stopped process ignores all others. Each process
has a lifeline of its own: one that is taken over can do nothing to another's. And it is no pipe, which native code
could open again for writing by its name in /proc, and so hold open itself.
A third, a thread that waits for the end of the control pipe, is all there is on other systems; it needs the
GIL, so there a guest on wasmer that spins outlives a supervisor that was killed.
"""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import sys
from collections.abc import Callable

from procstop import linux


def missing_guards() -> list[str]:
    """Say in sentences which guards this system does not have."""
    if linux.ON_LINUX:
        return []
    return [
        f"{sys.platform}: no parent-death signal and no kernel-signalled lifeline; "
        "a guest that spins on wasmer outlives a supervisor that was killed by SIGKILL",
        f"{sys.platform}: no guardian; what a host function started outlives a supervisor that was killed",
        f"{sys.platform}: no child subreaper; a process that a host function detaches can escape",
        f"{sys.platform}: no fork server; each worker is started anew, which takes longer",
    ]


STACK_BYTES = 8 * 1024 * 1024
"""The stack of the thread that runs guests, the same everywhere, so that recursions end alike everywhere."""


_own_lifeline = -1
"""The lifeline of this process, once it is armed."""
MOST_DESCRIPTORS = 1024
"""What a worker may have open, whatever its supervisor may: programs that call select() count on it."""
_KEPT_HIGH = 8
"""How far below the most descriptors the lifelines are."""


def guard(argv: list[str], name: str) -> None:
    """Put everything on that must be there before anything else is even imported; `name` is for process lists.

    `argv` is that of a process of ours: descriptors, the lifeline's the last of them, then the supervisor's pid. The
    lifeline gets another number, which takes the place of the first one there.
    """
    *fds, supervisor = map(int, argv[1:])
    take_default_signals()
    fds[-1] = _move_up(fds[-1])
    argv[-2] = str(fds[-1])
    arm_guards(supervisor, fds[-1])
    # Only now: one without this name must not be stopped, since nothing would ever end it (see `guardian`).
    linux.set_name(name)
    for fd in fds:
        # They came through an exec; what a host function executes has no business with them.
        if fd >= 0:
            os.set_inheritable(fd, False)
    for which, most in (
        (resource.RLIMIT_STACK, STACK_BYTES),
        (resource.RLIMIT_NOFILE, MOST_DESCRIPTORS),
    ):
        cap(which, most)
    # The memory of a guest is nobody else's business, and host functions do not raise it again.
    cap(resource.RLIMIT_CORE, linux.CORE_BYTES, hard=True)


def cap(which: int, most: int, *, hard: bool = False) -> None:
    """Set a soft resource limit to `most`, or to the hard limit where that is lower; with `hard`, the hard one too."""
    before = resource.getrlimit(which)[1]
    soft = most if before == resource.RLIM_INFINITY else min(most, before)
    try:
        resource.setrlimit(which, (soft, soft if hard else before))
    except (ValueError, OSError):
        pass  # Some systems refuse it; then the limit stays what it was.


def data_bytes() -> int:
    """Return how much this process has of what RLIMIT_DATA counts; 0 where the system does not say."""
    try:
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"VmData:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def make_forked_guard(supervisor: int) -> Callable[[int], None]:
    """Return what does for a worker that was just forked what `guard` does, as far as that is not inherited.

    It takes the worker's lifeline, and gives it the number of the process's that it was forked from. What can be laid
    ready before the fork is: in the child, each page that is written to has to be copied first.
    """
    prctl, place = linux.make_prctl(), _own_lifeline
    poller = _poller_of(place)

    def guard_forked(lifeline: int) -> None:
        prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        os.dup2(lifeline, place, inheritable=False)
        os.close(lifeline)
        _arm_lifeline(place)
        if os.getppid() != supervisor or poller.poll(0):
            die()
        prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
        # At last, as in `guard`.
        prctl(linux.PR_SET_NAME, b"procstop-worker")

    return guard_forked


def make_parent_death_guard() -> Callable[[], None]:
    """Return what arms the parent-death signal again, which the kernel forgets when the user changes."""
    if not linux.ON_LINUX:
        return lambda: None
    prctl, parent = linux.make_prctl(), os.getppid()

    def arm() -> None:
        prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            die()

    return arm


def own_lifeline() -> None:
    """Be the owner of the lifeline's signal as who one is now."""
    if _own_lifeline >= 0:
        fcntl.fcntl(_own_lifeline, fcntl.F_SETOWN, os.getpid())


def lifelines() -> list[int]:
    """Return the descriptors on which this process is told that its supervisor is gone."""
    return [_own_lifeline] if _own_lifeline >= 0 else []


def take_default_signals() -> None:
    """Give every signal that a supervisor may have changed its default action, and unblock all.

    SIGTERM keeps its default action: a Python handler would wait for the guest.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def arm_guards(supervisor: int, lifeline: int) -> None:
    """Die with the supervisor from now on; die at once if it is gone already.

    `supervisor` is the pid that must be our parent, `lifeline` the descriptor of our lifeline.
    """
    linux.set_parent_death_signal(signal.SIGKILL)
    if linux.ON_LINUX:
        _arm_lifeline(lifeline)
    # Both guards tell of what happens from here on. What happened before is seen here.
    if os.getppid() != supervisor or is_cut(lifeline):
        die()
    # What a host function starts and abandons stays below this worker, where it is found.
    linux.set_child_subreaper(True)


def _move_up(fd: int) -> int:
    """Give a descriptor a number that is high; return it.

    A sandbox keeps it open, and its rules go by the number: programs that a host function starts inherit them, and
    would not get along without the low numbers.
    """
    most = min(MOST_DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    try:
        high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, max(most - _KEPT_HIGH, 0))
    except OSError:
        return fd
    os.close(fd)
    return high


def _arm_lifeline(own: int) -> None:
    """Have the kernel send SIGKILL to this process when its lifeline is cut."""
    global _own_lifeline
    fcntl.fcntl(own, fcntl.F_SETSIG, signal.SIGKILL)  # type: ignore[attr-defined,unused-ignore]
    fcntl.fcntl(own, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(own, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    _own_lifeline = own


def is_cut(lifeline: int) -> bool:
    """Tell whether the supervisor's end of a lifeline is closed."""
    return bool(_poller_of(lifeline).poll(0))


def _poller_of(lifeline: int) -> select.poll:
    """Return what has something to tell once the lifeline is cut: POLLHUP, POLLERR and POLLNVAL come unasked."""
    poller = select.poll()
    poller.register(lifeline, 0)
    return poller


def die() -> None:
    """End this process now, without a word: nobody is left to hear it."""
    os.kill(os.getpid(), signal.SIGKILL)


def make_peak_reader() -> Callable[[], int | None]:
    """Return what tells the most memory that this process ever had resident, also from inside of a sandbox.

    From /proc, since getrusage also counts what the parent had before the exec.
    """
    if not linux.ON_LINUX:
        return lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return lambda: None

    def peak_memory_bytes() -> int | None:
        for line in os.pread(status, 16384, 0).splitlines():
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) * 1024
        return None

    return peak_memory_bytes
