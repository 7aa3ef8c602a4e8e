"""What a sandbox leaves open, and what a kernel offers to close one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

ALLOWABLE = ("network", "processes", "files")
"""What host functions may ask for, each for the whole worker."""


@dataclass(frozen=True)
class Support:
    """What this kernel offers: the version of Landlock's ABI, 0 for none, and whether filters of system calls work."""

    landlock: int
    seccomp: bool

    @property
    def missing(self) -> tuple[str, ...]:
        """Sentences for users, none where both layers are there."""
        if not sys.platform.startswith("linux"):
            return (f"{sys.platform}: no sandbox; an engine's own checks are all that holds a guest",)
        said = []
        if self.landlock == 0:
            said.append("this kernel has no Landlock; an engine's own checks are all that keeps a guest from files")
        elif self.landlock < 3:
            said.append(
                f"this kernel's Landlock is old (ABI {self.landlock}); it does not keep files from being cut off"
            )
        if not self.seccomp:
            said.append("no filter of system calls here; a guest that breaks out of its engine can make any")
        return tuple(said)


@dataclass(frozen=True)
class Grants:
    """What is left open to a worker. What is not said here is closed as far as the two layers reach."""

    landlock: int
    """The ABI to use, at most what the kernel has; 0 leaves that layer out."""
    seccomp: bool
    dirs: Sequence[tuple[str, bool]]
    """Host directories, and whether they may be written to."""
    readable: Sequence[str] = ()
    """Further files and directories that may be read; those that are not there are skipped.

    Never all of /proc: for a root process, newer kernels let it show others' environments in spite of Landlock.
    """
    allow: frozenset[str] = frozenset()
    """Of `ALLOWABLE`."""
    keep_fds: Sequence[int] = ()
    """Descriptors that can be read and waited for, and otherwise stay as they are."""
    may_set_timers: bool = False

    def __post_init__(self) -> None:
        if unknown := self.allow.difference(ALLOWABLE):
            raise ValueError(f"allow: unknown {sorted(unknown)}; there are {', '.join(ALLOWABLE)}")
