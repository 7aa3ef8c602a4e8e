"""What happens, as plain lines for pipes and log files: one per event, none for mere progress.

Event lines and the guests' stderr go to stderr; the guests' stdout goes to stdout, so that it can be piped
on.
"""

from __future__ import annotations

import threading

from procstop import events
from procstop.folding import count_ok
from procstop.model import Outcome, Rung
from procstop.records import AttemptRecord, RunRecord
from procstop.reporting import words
from procstop.reporting.facts import STOPPING_STATES, JobFacts
from procstop.reporting.streams import QuietStream
from procstop.reporting.summary import plain_summary
from procstop.reporting.text import LineCutter, one_line, printable


class PlainReporter:
    """An observer that writes plain lines; with `quiet`, only what went wrong and what Ctrl-C does."""

    def __init__(self, *, quiet: bool, stdout: QuietStream, stderr: QuietStream, show_output: bool = True) -> None:
        self._quiet = quiet
        self._show_output = show_output and not quiet
        self._stdout = stdout
        self._stderr = stderr
        self._cutter = LineCutter()
        self._facts = JobFacts()
        self._announced: set[str] = set()
        # The observer's thread calls; whoever ends the run closes.
        self._lock = threading.Lock()
        self._closed = False

    @property
    def failed(self) -> OSError | None:
        """Why writing stopped on one of the streams, None while both work."""
        return self._stderr.failed or self._stdout.failed

    def __call__(self, event: events.Event) -> None:
        """Write what there is to say of one event."""
        with self._lock:
            if self._closed:
                return
            if isinstance(event, events.RunStarted):
                self._facts = JobFacts(event.job)
            if isinstance(event, events.Output):
                self._guest(event)
                return
            if isinstance(event, events.AttemptOver):
                self._flush(event.task)
            line = self._line(event)
            # Whoever presses Ctrl-C has asked what it did, also under --quiet.
            if line is not None and (not self._quiet or isinstance(event, events.RunStopping)):
                self._stderr.write(line + "\n")
            if isinstance(event, events.RunOver):
                self._stderr.write(plain_summary(event.record, self._facts, quiet=self._quiet))

    def close(self) -> None:
        """Write nothing more."""
        with self._lock:
            self._closed = True

    def _guest(self, event: events.Output) -> None:
        if self._show_output:
            lines = self._cutter.feed(event.task, event.stream, event.data)
            self._write_guest(event.task, event.stream, lines)

    def _flush(self, task: str) -> None:
        for stream, line in self._cutter.flush(task):
            self._write_guest(task, stream, [line])

    def _write_guest(self, task: str, stream: str, lines: list[str]) -> None:
        target = self._stdout if stream == "stdout" else self._stderr
        name = printable(task)
        target.write("".join(f"{name} | {line}\n" for line in lines))

    def _line(self, event: events.Event) -> str | None:
        """Say in a line what happened; None for what is not worth one."""
        if isinstance(event, events.RunStarted):
            tasks = words.count(len(event.job.tasks), "task")
            return f"run: {printable(event.run)} started, {tasks}, {event.concurrency} at a time"
        if isinstance(event, events.AttemptCompiling):
            where = f"compiler {event.pid}, {printable(event.engine)}"
            return f"{printable(event.task)}: attempt {event.number} waits for its module to be compiled ({where})"
        if isinstance(event, events.AttemptStarted):
            where = f"worker {event.pid}, {printable(event.engine)}"
            return f"{printable(event.task)}: attempt {event.number} started ({where})"
        if isinstance(event, events.AttemptMoved):
            return self._moved(event)
        if isinstance(event, events.AttemptOver):
            self._announced.discard(event.task)
            line = f"{printable(event.task)}: {attempt_line(event.record)}"
            return f"{line}; another attempt follows" if event.retried else line
        if isinstance(event, events.TaskOver):
            # A task with attempts was told of by its last one.
            record = event.record
            return None if record.attempts else f"{printable(record.task)}: {words.task_phrase(record)}"
        return run_line(event)

    def _moved(self, event: events.AttemptMoved) -> str | None:
        if event.rung is None or event.state not in STOPPING_STATES:
            return None
        step = event.rung.value
        if event.deadline_in is not None and event.rung is not Rung.KILL:
            step += f", {words.duration(event.deadline_in)} of grace"
        if event.reason is not None and event.task not in self._announced:
            by = words.asked_by(event.reason, self._facts.limits(event.task))
            step = f"asked to stop by {by}: {step}"
        self._announced.add(event.task)
        return f"{printable(event.task)}: {step}"


def attempt_line(record: AttemptRecord) -> str:
    """Say how an attempt ended with the report's own words first, so that a log can be searched for them."""
    line = record.outcome.value
    if record.reason is not None:
        line += f", {record.reason.value}"
    took = words.elapsed(record)
    if took is not None and record.outcome not in (Outcome.REJECTED, Outcome.CANCELLED):
        line += f", after {words.duration(took)}"
    facts = words.detail(record)
    return f"{line}: {facts}" if facts else line


def run_line(event: events.Event) -> str | None:
    """Say what happened to the run as a whole; None for an event that is about less."""
    if isinstance(event, events.RunStopping):
        return f"run: {'; '.join(stopping_lines(event))}"
    if isinstance(event, events.Notice):
        return f"notice: {one_line(event.text, 1000)}"
    if isinstance(event, events.RunPaused):
        if event.ends_in is None:
            return "run: paused"
        return f"run: paused; workers end by their own timers, the first in {words.duration(round(event.ends_in))}"
    if isinstance(event, events.RunResumed):
        return "run: goes on"
    if isinstance(event, events.RunOver):
        return f"run: over, {_how_many_ok(event.record)}"
    return None


def stopping_lines(event: events.RunStopping) -> list[str]:
    """Say what a stop request did, and what the next one will do."""
    lines = [one_line(event.what)]
    if event.following is not None:
        lines.append(f"next press: {one_line(event.following)}")
    return lines


def _how_many_ok(record: RunRecord) -> str:
    return f"{count_ok(record.tasks)} of {len(record.tasks)} ok"
