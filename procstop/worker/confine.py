"""What a worker puts on once its engine and its host functions are there, and before any code of a guest runs.

In this order: the caps on its resources, the user that it is and what rights it has, the sandbox. What can be laid
ready before a fork is: in a forked child each page that is written to has to be copied first. From here on the worker
can open nothing but what its task grants, and nothing takes any of this off again.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable

from procstop import containment, linux, sandbox
from procstop.errors import GuestError
from procstop.messages import Order

HEADROOM = 64 * 1024 * 1024
"""What Python and the engine may need of memory besides the guest's own, while it runs."""
_CPU_SLACK_S = 1
_OWN_FILES = 64
"""Descriptors besides those of the guest's files: pipes, and what host functions open."""


class Confiner:
    """Puts on what an order says. Made where it can be: before the fork."""

    def __init__(self) -> None:
        self._close = sandbox.make_closer()
        self._live_for = linux.make_life_timer()
        self._keep_rights = linux.make_keep_rights()
        self._rearm: Callable[[], None] = containment.make_parent_death_guard()
        self.since = 0.0
        """When the timer of the present attempt began to run, by the monotonic clock."""

    def begin(self, order: Order) -> None:
        """Be killed if the guest is not about to run in time, whatever happens."""
        if order.start is not None:
            self._live_for(order.start)

    def live(self, order: Order) -> None:
        """Be killed if the guest has not ended in time, whatever happens; for ever if it may take for ever."""
        self.since = time.monotonic()
        self._live_for(order.life or 0.0)

    def confine(self, order: Order, memory_at_first: int, more: list[str]) -> None:
        """Put everything on; `more` are paths that may be read besides. Raise `GuestError` where that cannot be.

        `memory_at_first` is what the guest's memories begin with, in bytes.
        """
        try:
            if order.memory is not None:
                containment.cap(resource.RLIMIT_DATA, containment.data_bytes() + order.memory + HEADROOM, hard=True)
            if order.file_size is not None:
                # WASI holds it to the byte; this is for whoever gets around that. wasmtime keeps what a memory begins
                # with in a file without a name. Python has SIGXFSZ ignored, so that writing more is an error.
                containment.cap(resource.RLIMIT_FSIZE, max(order.file_size, memory_at_first), hard=True)
            if order.open_files is not None:
                # WASI counts them; this is for whoever gets around that. What is open already has higher numbers.
                containment.cap(resource.RLIMIT_NOFILE, order.open_files + _OWN_FILES, hard=True)
            if order.cpu is not None:
                self._cap_cpu(order.cpu)
            self.live(order)
            if order.user is not None:
                self._become(order.user)
            if order.landlock or order.seccomp:
                self._close(self._grants(order, more))
        except OSError as error:
            where = f' "{error.filename}"' if error.filename else ""
            raise GuestError(f"the worker cannot be confined: {error.strerror}{where}") from None

    def lay_ready(self, order: Order) -> None:
        """Prepare for workers of an order, in the process that they will be forked from."""
        sandbox.lay_ready(self._grants(order, []))

    def _grants(self, order: Order, more: list[str]) -> sandbox.Grants:
        # A worker that hosts several takes the standard input of each, which may be none.
        readable = [*more, os.devnull] if order.hosts > 1 else more
        return sandbox.Grants(
            landlock=order.landlock,
            seccomp=order.seccomp,
            dirs=[(host, write) for _, host, write in order.dirs],
            readable=readable,
            allow=frozenset(order.allow),
            # A program that is started closes all that it was not given, and may try for ever to close what it cannot.
            keep_fds=[] if "processes" in order.allow else containment.lifelines(),
            may_set_timers=order.hosts > 1,
        )

    def _cap_cpu(self, seconds: float) -> None:
        """Have the kernel end this process when nobody else has: well beyond the limit, but not for ever."""
        whole = int(sum(os.times()[:2]) + seconds) + 1 + _CPU_SLACK_S
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        if hard == resource.RLIM_INFINITY or hard > whole + 1:
            resource.setrlimit(resource.RLIMIT_CPU, (whole, whole + 1))

    def give_up_rights(self, order: Order) -> None:
        """As root, keep no more rights than the task's directories and its host functions may need.

        It is for this thread and those that it starts, so it comes before host modules are imported.
        """
        closes = order.landlock or order.seccomp
        if closes and order.user is None and os.geteuid() == 0 and not {"files", "processes"} & set(order.allow):
            self._keep_rights(linux.FILE_RIGHTS | (linux.NETWORK_RIGHTS if "network" in order.allow else frozenset()))

    def _become(self, user: int) -> None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        # The kernel forgets about one guard when the user changes, and in a namespace of users minds who set the other.
        self._rearm()
        containment.own_lifeline()


_SYSTEM = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"),
    *("/etc/localtime", "/usr/share/zoneinfo"),
    *("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"),
)
"""Libraries, time zones and devices that code expects to be there, none of them anybody's secret."""
_NETWORK = (
    *("/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/services"),
    *("/run/systemd/resolve", "/etc/ssl", "/etc/pki", "/usr/share/ca-certificates"),
)
"""What it takes to find a host by its name, and to know it."""


def readable_by_functions(order: Order) -> list[str]:
    """Return what code of host functions may read beyond `dirs`: what it may still have to import, and the like."""
    paths = [*_of_python(), *_SYSTEM, *(_NETWORK if "network" in order.allow else ())]
    if order.host is not None:
        paths.append(os.path.dirname(order.host))
    for reference in order.host_functions.values():
        # The folder of the module, or of the package that it is in; not all of a directory that happens to be on the
        # path, such as the one that procstop was started in.
        module = sys.modules.get(reference.partition(":")[0].partition(".")[0])
        file = getattr(module, "__file__", None)
        if file is not None:
            paths.append(os.path.dirname(os.path.abspath(file)))
    return paths


def _of_python() -> list[str]:
    """Return those places of the module path that belong to Python and its packages."""
    roots = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    return [
        path
        for path in sys.path
        if path and (any(path.startswith(f"{root}{os.sep}") for root in roots) or path.endswith("-packages"))
    ]
