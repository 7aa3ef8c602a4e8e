"""What a supervisor needs to run one task: everything decided, nothing left to look up."""

from __future__ import annotations

import errno
import os
from collections.abc import Hashable
from dataclasses import dataclass, field

from procstop.lifecycle import Abilities
from procstop.messages import Order
from procstop.model import Limits, StopPolicy, Task, Value
from procstop.process import file_of
from procstop.records import Contained
from procstop.settled import open_settled

OWN_STDIN = "/dev/stdin"
"""The path that stands for the standard input of procstop itself."""


@dataclass(frozen=True)
class Assignment:
    """A task with its engine, its module, its order and its arguments. `rejected` says why it cannot run, if so.

    `stdin` is the settled path of what the guest reads, if it is a file. `module` is the path of the module, or its
    bytes where they were made from text. `build` is what an artifact of it depends on besides (see `cache.Key`). A
    worker may go from one attempt to another if their tasks have the same `kin`; None is kin to nobody.
    """

    task: Task
    engine: str | None
    order: Order
    module: str | bytes
    args: tuple[Value, ...] = ()
    stdin: str | None = None
    limits: Limits = Limits()
    stop: StopPolicy = StopPolicy()
    abilities: Abilities = field(default=Abilities())
    rejected: str | None = None
    engine_reason: str | None = None
    build: str = ""
    kin: Hashable = None
    contained: Contained | None = None

    @property
    def label(self) -> str:
        """The module's name, for people."""
        return self.order.module_name

    @property
    def has_functions(self) -> bool:
        """Tell whether Python code of the user runs in its worker."""
        return self.order.host is not None or bool(self.order.host_functions)

    @property
    def may_start_processes(self) -> bool:
        """Tell whether its host functions may while they run. What they import may anyway: no sandbox is closed yet."""
        return self.has_functions and ("processes" in self.order.allow or not self.order.seccomp)

    def open_module(self) -> int:
        """Open the module's bytes; raise `OSError` if its file is gone."""
        if isinstance(self.module, str):
            return _open(self.module)
        with file_of(self.module) as file:
            return os.dup(file.fileno())

    def open_stdin(self) -> int:
        """Open what the guest reads; raise `OSError` if its file is gone."""
        stdin = self.task.stdin
        if stdin is None:
            return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        if stdin.path == OWN_STDIN:
            if os.isatty(0):
                raise OSError(errno.ENOTTY, "is a terminal, which no guest gets", OWN_STDIN)
            # Not opened anew: that would begin at another offset, and not every descriptor can be.
            return os.dup(0)
        if self.stdin is not None:
            fd = open_settled(self.stdin, _READ)
            os.set_blocking(fd, True)
            return fd
        with file_of((stdin.text or "").encode()) as file:
            return os.dup(file.fileno())


_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
"""Opening a named pipe waits for its other end; a supervisor waits for nobody."""


def _open(path: str) -> int:
    fd = os.open(path, _READ)
    os.set_blocking(fd, True)
    return fd
