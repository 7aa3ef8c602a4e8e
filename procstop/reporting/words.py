"""Sentences for people: what became of an attempt, in one phrase that the record bears out.

Every phrase starts with the outcome's own word, so that it reads like the report. What the record does not
say is left out: a guest that never ran is not said to have passed no stopping point.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import astuple

from procstop.model import Limits, Outcome, Reason, Value
from procstop.records import AttemptRecord, TaskRecord
from procstop.reporting.text import one_line

_ASKED_BY = {
    Reason.USER: "the user",
    Reason.TIME_LIMIT: "its time limit",
    Reason.START_LIMIT: "its start limit",
    Reason.CPU_LIMIT: "its CPU limit",
    Reason.MEMORY_LIMIT: "its memory limit",
    Reason.OUTPUT_LIMIT: "its output limit",
    Reason.STALL: "its stall limit",
    Reason.FUEL: "its fuel limit",
    Reason.STOP_COMMAND: "a stop command",
    Reason.SHUTDOWN: "a shutdown",
    Reason.PROTOCOL: "procstop, for its worker broke the message format",
}

_STOPPED = frozenset({Outcome.INTERRUPTED, Outcome.PREEMPTED, Outcome.TERMINATED, Outcome.KILLED})
_FORCED = frozenset({Outcome.TERMINATED, Outcome.KILLED})


def duration(seconds: float) -> str:
    """Give a length of time as people say it: "200 ms", "1.93 s", "2 min 3 s", "1 h 5 min"."""
    seconds = max(0.0, seconds)
    if seconds == 0:
        return "0 s"
    if seconds < 0.00995:
        return f"{max(seconds * 1000, 0.1):.1f}".removesuffix(".0") + " ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.995:
        return f"{seconds:.2f}".rstrip("0").rstrip(".") + " s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def size(amount: int) -> str:
    """Give a number of bytes as people say it: "12 bytes", "1.5 KiB", "10 MiB"."""
    if amount < 1024:
        return count(amount, "byte")
    scaled = float(amount)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        scaled /= 1024
        if scaled < 1023.95 or unit == "TiB":
            break
    return f"{scaled:.1f}".removesuffix(".0") + f" {unit}"


def count(number: int, noun: str) -> str:
    """Give a number with its noun: "1 task", "1,204 tasks"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def elapsed(record: AttemptRecord) -> float | None:
    """Add up the phases of an attempt, in seconds; None when it had none."""
    spent = [phase for phase in astuple(record.phases) if phase is not None]
    return sum(spent) if spent else None


def asked_by(reason: Reason, limits: Limits | None = None) -> str:
    """Say who or what asked an attempt to stop; the limit's figure is told where it is known."""
    figure = ""
    if limits is not None:
        if reason is Reason.TIME_LIMIT and limits.time is not None:
            figure = f" of {duration(limits.time)}"
        elif reason is Reason.START_LIMIT and limits.start is not None:
            figure = f" of {duration(limits.start)}"
        elif reason is Reason.CPU_LIMIT and limits.cpu is not None:
            figure = f" of {duration(limits.cpu)}"
        elif reason is Reason.STALL and limits.stall is not None:
            figure = f" of {duration(limits.stall)}"
        elif reason is Reason.OUTPUT_LIMIT and limits.output is not None:
            figure = f" of {size(limits.output)}"
    return _ASKED_BY[reason] + figure


def phrase(record: AttemptRecord, limits: Limits | None = None) -> str:
    """Say in one phrase how an attempt ended and why, outcome first."""
    return record.outcome.value + _rest(record, limits)


def why(record: AttemptRecord, limits: Limits | None = None) -> str:
    """Give the phrase without its outcome, for a table that has a column for that; it may be empty."""
    return _rest(record, limits).lstrip(":; ")


def task_phrase(record: TaskRecord, limits: Limits | None = None) -> str:
    """Say in one phrase what became of a task."""
    return record.outcome.value + _task_rest(record, limits)


def task_why(record: TaskRecord, limits: Limits | None = None) -> str:
    """Give a task's phrase without its outcome; it may be empty."""
    return _task_rest(record, limits).lstrip(":; ")


def _task_rest(record: TaskRecord, limits: Limits | None) -> str:
    last = record.last
    if last is not None and last.outcome is record.outcome:
        return _rest(last, limits)
    return f": {one_line(record.message)}" if record.message else ""


def _rest(record: AttemptRecord, limits: Limits | None) -> str:
    """Say everything but the outcome, with what joins it to that."""
    facts = detail(record)
    if record.outcome is Outcome.INTERRUPTED:
        place = f" {facts}" if facts else ""
        return place + _by(record, limits)
    if record.outcome is Outcome.EXITED and record.exit_code is not None:
        text = f" with {facts}"
    else:
        text = f": {facts}" if facts else ""
    if record.outcome in _STOPPED or record.outcome is Outcome.CANCELLED:
        return _by(record, limits) + text
    if record.reason is Reason.MEMORY_LIMIT and record.rung is None:
        # Nobody asks a guest to stop for that.
        text += "; it had no more memory by its limit"
    elif record.reason is not None:
        # Say nothing of what came first: a report may have been on its way when we asked.
        text += f"; asked to stop by {asked_by(record.reason, limits)}"
        if record.rung is not None and record.outcome is not Outcome.LOST:
            text += f" ({record.rung.value})"
    elif record.rung is not None and record.outcome is not Outcome.LOST:
        text += f"; its worker had to be stopped ({record.rung.value})"
    return text


def _by(record: AttemptRecord, limits: Limits | None) -> str:
    if record.reason is None:
        return ""
    after = record.outcome in _FORCED and record.reason.is_limit
    return f" {'after' if after else 'by'} {asked_by(record.reason, limits)}"


def detail(record: AttemptRecord) -> str:
    """Say what is known of the end itself, without outcome and reason; it may be empty."""
    message = one_line(record.message) if record.message else ""
    outcome = record.outcome
    if outcome is Outcome.COMPLETED:
        return _join(", ", _values(record.values), message)
    if outcome is Outcome.EXITED:
        return _join(": ", "" if record.exit_code is None else f"code {record.exit_code}", message)
    if outcome is Outcome.INTERRUPTED:
        at = record.stopping_points.stopped_at
        place = "" if at is None else f"at stopping point {at}"
        partial = _values(record.partial)
        return _join(" ", place, f"with the partial value {partial}" if partial else "")
    if outcome in _STOPPED:
        return message or _stubbornness(record)
    if outcome is Outcome.CRASHED:
        return _join(": ", _ending(record.wait), message)
    if outcome is Outcome.LOST:
        who = "its worker" if record.pid is None else f"worker {record.pid}"
        return f"{who} is still present"
    return message


def _stubbornness(record: AttemptRecord) -> str:
    """Say what a guest that had to be forced did instead; nothing about one that never ran."""
    if record.phases.run is None or record.outcome not in _FORCED:
        return ""
    passed = record.stopping_points.passed
    if passed == 0:
        return "it reported no stopping point"
    return f"it had reported {count(passed, 'stopping point')}"


def _ending(wait: tuple[str, int] | None) -> str:
    if wait is None:
        return ""
    how, number = wait
    if how == "exit":
        return f"exit code {number}"
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def _values(values: Sequence[Value] | None) -> str:
    return one_line(", ".join(str(value) for value in values)) if values else ""


def _join(between: str, *parts: str) -> str:
    return between.join(part for part in parts if part)
