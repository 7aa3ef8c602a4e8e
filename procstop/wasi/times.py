"""Which times a file gets, from the four flags of `*_filestat_set_times`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from procstop.wasi import abi


def new_times(status: Callable[[], os.stat_result], atime: int, mtime: int, flags: int) -> tuple[int, int] | None:
    """Access and modification time in nanoseconds, or None when neither is to change.

    `status` is asked for the time that stays; Python knows no UTIME_OMIT. Raise INVAL for flags that
    contradict each other or mean nothing.
    """
    if flags >> 4 or flags & 3 == 3 or flags & 12 == 12:
        raise abi.WasiError(abi.INVAL)
    if not flags:
        return None
    now = time.time_ns()
    old = status()
    access = atime if flags & abi.ATIM else now if flags & abi.ATIM_NOW else old.st_atime_ns
    modification = mtime if flags & abi.MTIM else now if flags & abi.MTIM_NOW else old.st_mtime_ns
    return access, modification
