"""Exception classes: each says whose fault it is.

A message tells where, what, and what to do about it: lower case, values quoted, no final period.
A stopped guest is not an error: it is an outcome.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any

SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOBUFS, errno.ETOOMANYREFS})
"""What the system says when there are too few descriptors or processes, or too little memory, for the moment."""


class ProcstopError(Exception):
    """Base of everything that procstop raises on purpose."""


class InvalidValue(ProcstopError, ValueError):
    """A value that a job, task or policy may not have; `key` names it, as in "limits.time"."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}")
        self.key = key
        self.message = message


class JobFileError(ProcstopError):
    """What is wrong with a job, all of it at once: one line per problem in `problems`.

    `sound` is a job of those tasks in which nothing was found yet, for whoever wants to look on.
    """

    def __init__(self, problems: Iterable[str], sound: Any = None) -> None:
        self.problems = tuple(problems)
        self.sound = sound
        super().__init__("\n".join(self.problems))


class GuestError(ProcstopError):
    """The module or its call is at fault: not Wasm, an import nobody provides, a bad argument."""


class EngineError(ProcstopError):
    """The engine is missing, or cannot do what a module needs."""


class InternalError(ProcstopError):
    """procstop itself broke a rule of its own."""
