"""Decide what keeps a task's guest inside on this machine, and whether that is enough."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from procstop import linux
from procstop.containment import missing_guards
from procstop.jobfile import format_size
from procstop.model import Containment, Level, Limits
from procstop.module import ModuleInfo
from procstop.records import Contained
from procstop.sandbox import Support

NOBODY = 65534
"""The user that has no rights to anything, by the convention of every Linux."""
MOST_LOOKED_AT = 256
_READ, _WRITE, _SEARCH = 4, 2, 1
_LEVELS = list(Level)


def contained(wanted: Containment, support: Support, allowed: tuple[str, ...] = (), drops: bool = False) -> Contained:
    """Return what containment there is on a kernel. `drops` says that nothing of a task needs root's rights."""
    without = missing_guards()
    missing = [*without, *support.missing]
    if not wanted.sandbox:
        missing.append("the sandbox is left open, since containment.sandbox is false")
    elif "files" in allowed:
        missing.append("its host functions may reach all files (host_allow), and so may whoever takes over the worker")
    level = Level.NONE if without else Level.BASIC if missing else Level.FULL
    user = NOBODY if drops and wanted.sandbox and os.geteuid() == 0 and linux.can_become(NOBODY) else None
    return Contained(level, tuple(missing), user, allowed)


def is_open_to_nobody(directory: str, write: bool) -> bool:
    """Tell whether user `NOBODY` may do in a directory what a task is granted there: with each file that is in it now.

    One with more than `MOST_LOOKED_AT` files is not looked at to the end, and taken for one that is not.
    """
    try:
        path = os.path.realpath(directory, strict=True)
        above = path
        while above != os.path.dirname(above):
            above = os.path.dirname(above)
            if not _permits(os.stat(above), _SEARCH):
                return False
        wanted = _READ | _WRITE if write else _READ
        waiting, count = [path], 0
        if not _permits(os.stat(path), wanted | _SEARCH, write):
            return False
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    count += 1
                    if count > MOST_LOOKED_AT:
                        return False
                    if entry.is_dir(follow_symlinks=False):
                        if not _permits(entry.stat(follow_symlinks=False), wanted | _SEARCH, write):
                            return False
                        waiting.append(entry.path)
                    elif not entry.is_symlink() and not _permits(entry.stat(follow_symlinks=False), wanted):
                        return False
    except OSError:
        return False
    return True


def _permits(status: os.stat_result, wanted: int, removes: bool = False) -> bool:
    """Tell whether a file's mode lets `NOBODY`, who is in no group but its own, do all that is wanted.

    Who `removes` files of others from a directory must find no sticky bit there.
    """
    if removes and status.st_mode & stat.S_ISVTX:
        return False
    shift = 6 if status.st_uid == NOBODY else 3 if status.st_gid == NOBODY else 0
    return status.st_mode >> shift & wanted == wanted


def too_little(wanted: Containment, found: Contained) -> list[str]:
    """Say what a job requires of a task and cannot have."""
    if wanted.require is not None and _LEVELS.index(found.level) > _LEVELS.index(wanted.require):
        return [
            f'containment.require is "{wanted.require.value}", and there is only "{found.level.value}": '
            + "; ".join(found.missing)
        ]
    return []


def too_little_memory(info: ModuleInfo, limits: Limits) -> list[str]:
    """Say when a module's memories begin with more than they may have: no engine could instantiate it."""
    least = sum(one.minimum * one.page_size for one in info.memories if not one.imported)
    if limits.memory is None or least <= limits.memory:
        return []
    needed = format_size(least)
    return [
        f'limits.memory: is {format_size(limits.memory)}, and its memories begin with {needed}; give "{needed}" or more'
    ]


def barred(wanted: Containment, support: Support, has_dirs: bool, allowed: Sequence[str] = ()) -> dict[str, str]:
    """Say which engines a task should not have here, and why, unless the job accepts it."""
    if wanted.require is not None or not has_dirs or (support.landlock and wanted.sandbox and "files" not in allowed):
        return {}
    why = "containment.sandbox is false" if not wanted.sandbox else "there is no Landlock here"
    if "files" in allowed and support.landlock and wanted.sandbox:
        why = 'host_allow has "files"'
    return {
        "wasmer": f"{why}, and nobody mends wasmer 1.1 any more: a hole in it would give away more than the task's "
        'directories; containment.require = "basic" accepts that'
    }
