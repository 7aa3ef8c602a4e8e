"""What a worker puts on before its guest runs, so that it cannot outlive its supervisor.

Two guards work while a guest holds the GIL, because the kernel carries them out: the parent-death signal,
and the lifeline, a pipe whose only writing end the supervisor holds: when that is closed, by an exit or by
the death of the supervisor, the kernel sends SIGKILL. SIGKILL, since a stopped process ignores all others.
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

from procstop import linux


def missing_guards() -> list[str]:
    """Say in sentences which guards this system does not have."""
    if linux.ON_LINUX:
        return []
    return [
        f"{sys.platform}: no parent-death signal and no kernel-signalled lifeline; "
        "a guest that spins on wasmer outlives a supervisor that was killed by SIGKILL",
        f"{sys.platform}: no child subreaper; a process that a host function detaches can escape",
    ]


STACK_BYTES = 8 * 1024 * 1024
"""The stack of the thread that runs guests, the same everywhere, so that recursions end alike everywhere."""


def guard(argv: list[str]) -> None:
    """Put everything on that must be there before anything else is even imported.

    `argv` is the worker's: descriptors of order, module, control, report and lifeline, then the supervisor's pid.
    """
    *fds, supervisor = map(int, argv[1:7])
    take_default_signals()
    arm_guards(supervisor, fds[-1])
    for fd in fds:
        # They came through an exec; what a host function executes has no business with them.
        os.set_inheritable(fd, False)
    for which, wanted in ((resource.RLIMIT_STACK, STACK_BYTES), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(which)[1]
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(which, (soft, hard))
        except (ValueError, OSError):
            pass  # Some systems refuse it; then the limit stays what it was.


def take_default_signals() -> None:
    """Give every signal that a supervisor may have changed its default action, and unblock all.

    SIGTERM keeps its default action: a Python handler would wait for the guest.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def arm_guards(supervisor: int, lifeline: int) -> None:
    """Die with the supervisor from now on; die at once if it is gone already.

    `supervisor` is the pid that must be our parent, `lifeline` the descriptor of the pipe's reading end.
    """
    linux.set_parent_death_signal(signal.SIGKILL)
    if linux.ON_LINUX:
        # The owner belongs to the open file description, which all workers share: open one of our own.
        own = os.open(f"/proc/self/fd/{lifeline}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.fcntl(own, fcntl.F_SETSIG, signal.SIGKILL)  # type: ignore[attr-defined,unused-ignore]
        fcntl.fcntl(own, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(own, fcntl.F_SETFL, fcntl.fcntl(own, fcntl.F_GETFL) | os.O_ASYNC)
    # Both guards tell of what happens from here on. What happened before is seen here.
    if os.getppid() != supervisor or is_cut(lifeline):
        die()
    # What a host function starts and abandons stays below this worker, where it is found.
    linux.set_child_subreaper(True)


def is_cut(lifeline: int) -> bool:
    """Tell whether the writing end of the lifeline is closed."""
    poller = select.poll()
    poller.register(lifeline, 0)
    return any(what & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, what in poller.poll(0))


def die() -> None:
    """End this process now, without a word: nobody is left to hear it."""
    os.kill(os.getpid(), signal.SIGKILL)


def peak_memory_bytes() -> int | None:
    """Return the most memory that this process ever had resident.

    From /proc, since getrusage also counts what the parent had before the exec.
    """
    try:
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    if linux.ON_LINUX:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
