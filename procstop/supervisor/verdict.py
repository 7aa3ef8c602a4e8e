"""The exit code of a run. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from procstop.folding import not_ok
from procstop.model import Outcome, Reason
from procstop.records import TaskRecord
from procstop.schedule import STOPPED_RUN

OK = 0
SOME_FAILED = 1
USAGE = 2
FAULT = 3
LIMIT = 124
STOPPED = 130


def exit_code(
    tasks: Sequence[TaskRecord], reason: Reason | None, *, lost: bool | None = None, all_kept: bool = True
) -> int:
    """Judge a run by its tasks; `reason` is why it was stopped as a whole, if it was.

    A run that was stopped but whose tasks all ended as expected is still a success, and one whose tasks failed by
    themselves, as they may after an interrupt that the job ignores, is an ordinary failure. `lost` says whether some
    worker was, where that is known: a task may expect it, and procstop still failed. So it has if not `all_kept`, when
    output is missing from where it was to be. Only who stopped the run knows already that it is not whole.
    """
    if lost if lost is not None else any(task.outcome is Outcome.LOST for task in tasks):
        return FAULT
    some_failed, only_limits = False, True
    for task in not_ok(tasks):
        some_failed = True
        if reason is not None and _is_stops_doing(task):
            return STOPPED
        only_limits = only_limits and _is_limits_doing(task)
    if not all_kept:
        return FAULT
    if not some_failed:
        return OK
    return LIMIT if only_limits else SOME_FAILED


def _is_stops_doing(task: TaskRecord) -> bool:
    """Tell whether it was stopped, or never started, because the whole run was."""
    last = task.last
    if last is not None and last.reason is not None:
        return not last.reason.is_limit and last.reason is not Reason.PROTOCOL
    return task.outcome is Outcome.CANCELLED and task.message in (None, STOPPED_RUN)


def _is_limits_doing(task: TaskRecord) -> bool:
    """Tell whether a limit ended it, or it was cancelled; what it needed is judged by itself."""
    if task.outcome is Outcome.CANCELLED:
        return True
    last = task.last
    return last is not None and last.reason is not None and last.reason.is_limit
