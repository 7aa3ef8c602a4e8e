"""Plain lines: one per event, each safe to show, and no trouble with a stream reaches the run."""

from __future__ import annotations

import errno
import io
import os
from typing import TextIO

import pytest

from procstop.events import (
    AttemptCompiling,
    AttemptMoved,
    AttemptOver,
    AttemptProgress,
    AttemptStarted,
    Event,
    Notice,
    Output,
    RunOver,
    RunPaused,
    RunResumed,
    RunStarted,
    RunStopping,
    TaskOver,
)
from procstop.model import Job, Limits, Outcome, Reason, Rung, StopPolicy, Task
from procstop.records import AttemptRecord, Phases, RunRecord, TaskRecord
from procstop.reporting import make_reporter
from procstop.reporting.facts import JobFacts
from procstop.reporting.live import LiveReporter
from procstop.reporting.plain import PlainReporter
from procstop.reporting.streams import QuietStream

TIME = Reason.TIME_LIMIT
JOB = Job("demo", (Task("spin", "s.wat", limits=Limits(time=2)), Task("add", "a.wat")))
KILLED = AttemptRecord(1, "wasmer", Outcome.KILLED, TIME, Rung.KILL, phases=Phases(0.01, 2.0, kill=1.5))
SPIN = TaskRecord("spin", False, Outcome.KILLED, (KILLED,))
ADD = TaskRecord("add", True, Outcome.COMPLETED, (AttemptRecord(1, "wasmer", Outcome.COMPLETED, values=(8,)),))


def over(*tasks: TaskRecord) -> RunOver:
    return RunOver(RunRecord("01J", "demo", "2026-11-20T12:00:00Z", 3.6, 1, None, tasks))


def told(*events: Event, quiet: bool = False, show_output: bool = True) -> tuple[list[str], list[str]]:
    """Return the lines on stdout and on stderr."""
    out, err = io.StringIO(), io.StringIO()
    reporter = make_reporter(quiet=quiet, stdout=out, stderr=err, show_output=show_output)
    for event in events:
        reporter(event)
    reporter.close()
    assert reporter.failed is None
    return out.getvalue().splitlines(), err.getvalue().splitlines()


def moved(state: str, grace: float | None, rung: Rung | None, reason: Reason | None = TIME) -> AttemptMoved:
    return AttemptMoved("spin", 1, state, grace, rung, reason if rung else None)


def test_a_stop_is_told_rung_by_rung() -> None:
    out, err = told(
        RunStarted("01J", JOB, 2),
        AttemptStarted("spin", 1, 4127, "wasmer"),
        moved("starting", 120, None),
        moved("running", 2, None),
        AttemptProgress("spin", 1, 5, 1, 2),
        moved("interrupting", 2, Rung.INTERRUPT),
        moved("terminating", 1, Rung.TERMINATE),
        moved("killing", 5, Rung.KILL),
        AttemptOver("spin", KILLED, False),
        TaskOver(SPIN),
    )
    assert out == []
    assert err == [
        "run: 01J started, 2 tasks, 2 at a time",
        "spin: attempt 1 started (worker 4127, wasmer)",
        "spin: asked to stop by its time limit of 2 s: interrupt, 2 s of grace",
        "spin: terminate, 1 s of grace",
        "spin: kill",
        "spin: killed, time_limit, after 3.51 s: it reported no stopping point",
    ]


def test_an_attempt_that_waits_for_a_compiler_says_so_before_it_has_a_worker() -> None:
    events = [
        AttemptCompiling("spin", 1, 99, "wasmer"),
        AttemptStarted("spin", 1, 4127, "wasmer"),
        AttemptMoved("spin", 1, "starting", 120, None, None),
    ]
    assert told(*events)[1] == [
        "spin: attempt 1 waits for its module to be compiled (compiler 99, wasmer)",
        "spin: attempt 1 started (worker 4127, wasmer)",
    ]
    assert told(*events, quiet=True)[1] == []


def test_an_attempt_that_left_in_time_is_not_told_of_its_rung_again() -> None:
    left = AttemptMoved("spin", 1, "exiting", 1, Rung.INTERRUPT, TIME)
    assert len(told(moved("interrupting", 2, Rung.INTERRUPT), left)[1]) == 1


def test_a_worker_that_stays_after_its_report_has_no_reason() -> None:
    assert told(moved("terminating", 1, Rung.TERMINATE, None))[1] == ["spin: terminate, 1 s of grace"]


def test_a_second_attempt_is_told_of_its_reason_again() -> None:
    stop = moved("killing", 5, Rung.KILL)
    asked = "spin: asked to stop by its time limit: kill"
    assert told(stop, AttemptOver("spin", KILLED, True), stop)[1] == [
        asked,
        "spin: killed, time_limit, after 3.51 s: it reported no stopping point; another attempt follows",
        asked,
    ]


def test_a_task_that_never_started_says_why() -> None:
    record = TaskRecord("b", False, Outcome.CANCELLED, (), 'task "a" did not complete')
    assert told(TaskOver(record))[1] == ['b: cancelled: task "a" did not complete']


def test_the_run_as_a_whole() -> None:
    assert told(
        RunStopping(1, "2 running are interrupted", "terminates them"),
        RunStopping(3, "everything is killed", None),
        RunPaused(),
        RunPaused(ends_in=12.3),
        RunResumed(),
        Notice("wasmer is not\ninstalled"),
    )[1] == [
        "run: 2 running are interrupted; next press: terminates them",
        "run: everything is killed",
        "run: paused",
        "run: paused; workers end by their own timers, the first in 12 s",
        "run: goes on",
        "notice: wasmer is not / installed",
    ]


def test_the_end_is_a_line_and_the_summary() -> None:
    err = told(RunStarted("01J", JOB, 2), over(SPIN, ADD))[1]
    assert err[1] == "run: over, 1 of 2 ok"
    assert err[2] == "not ok: spin: killed after its time limit of 2 s: it reported no stopping point"
    assert err[-1] == "2 tasks: 1 as expected, 1 not; 3.6 s"


def test_guest_output_goes_to_its_own_stream_with_the_tasks_name() -> None:
    out, err = told(
        Output("add", 1, "stdout", b"one\ntw"),
        Output("add", 1, "stderr", b"oops \x1b[2J\n"),
        Output("add", 1, "stdout", b"o\nrest"),
        AttemptOver("add", ADD.attempts[0], False),
    )
    assert out == ["add | one", "add | two", "add | rest"]
    assert err == ["add | oops \\x1b[2J", "add: completed: 8"]


def test_guest_output_can_be_left_to_files() -> None:
    events = (Output("add", 1, "stdout", b"one\nrest"), AttemptOver("add", ADD.attempts[0], False))
    assert told(*events, show_output=False)[0] == []


def test_quiet_tells_only_of_what_went_wrong_and_of_ctrl_c() -> None:
    every: tuple[Event, ...] = (
        RunStarted("01J", JOB, 2),
        AttemptStarted("spin", 1, 1, "wasmer"),
        Output("spin", 1, "stderr", b"noise\n"),
        Notice("noise"),
        moved("killing", 5, Rung.KILL),
        AttemptOver("spin", KILLED, False),
        RunStopping(1, "stopping", "kills"),
    )
    out, err = told(*every, over(SPIN, ADD), quiet=True)
    assert out == []
    assert err == [
        "run: stopping; next press: kills",
        "not ok: spin: killed after its time limit of 2 s: it reported no stopping point",
        "2 tasks: 1 as expected, 1 not; 3.6 s",
    ]
    assert told(RunStarted("01J", JOB, 2), over(ADD), quiet=True) == ([], [])


def test_names_cannot_steer_the_terminal() -> None:
    name = "a\x1b]0;x\x07\nb"
    bad = TaskRecord(name, False, Outcome.REJECTED, (), "m\x9b")
    events: list[Event] = [
        AttemptCompiling(name, 1, 1, "w\x1b"),
        AttemptStarted(name, 1, 1, "w\x1b"),
        Output(name, 1, "stdout", b"x\n"),
        TaskOver(bad),
        Notice("\x1b"),
        RunStopping(1, "\x1b", "\x1b"),
        over(bad),
    ]
    out, err = told(*events)
    assert all(line.isprintable() for line in out + err)


class Broken(io.StringIO):
    """A stream whose writes fail, with an error of its own or a closed file."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.calls = 0

    def write(self, text: str) -> int:
        self.calls += 1
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        BlockingIOError(errno.EAGAIN, "write could not complete without blocking", 0),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
    ids=lambda error: errno.errorcode[error.errno],
)
def test_a_stream_that_breaks_goes_silent_and_the_other_goes_on(error: OSError) -> None:
    out, err = Broken(error), io.StringIO()
    reporter = make_reporter(quiet=False, stdout=out, stderr=err)
    for _ in range(3):
        reporter(Output("add", 1, "stdout", b"one\n"))
    reporter(over(ADD))
    assert out.calls == 1
    assert reporter.failed is error
    assert "1 task: all as expected" in err.getvalue()


def test_a_closed_stream_disturbs_nothing() -> None:
    err = io.StringIO()
    err.close()
    reporter = make_reporter(quiet=False, stdout=io.StringIO(), stderr=err)
    reporter(over(ADD))
    reporter.close()
    assert reporter.failed is not None and reporter.failed.errno == errno.EBADF


def test_what_an_encoding_lacks_is_written_as_escapes() -> None:
    raw = io.BytesIO()
    stream = QuietStream(io.TextIOWrapper(raw, encoding="ascii"))
    stream.write("gr\u00fcn\n")
    assert raw.getvalue() == b"gr\\xfcn\n"
    assert stream.failed is None


def test_nothing_is_written_after_close() -> None:
    err = io.StringIO()
    reporter = make_reporter(quiet=False, stdout=io.StringIO(), stderr=err)
    reporter.close()
    reporter.close()
    reporter(Notice("late"))
    assert err.getvalue() == ""


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stderr", "term", "quiet", "kind"),
    [
        (Terminal(), "xterm-256color", False, LiveReporter),
        (Terminal(), "dumb", False, PlainReporter),
        (Terminal(), "xterm-256color", True, PlainReporter),
        (io.StringIO(), "xterm-256color", False, PlainReporter),
    ],
)
def test_the_reporter_fits_the_streams(
    monkeypatch: pytest.MonkeyPatch, stderr: TextIO, term: str, quiet: bool, kind: type
) -> None:
    monkeypatch.setitem(os.environ, "TERM", term)
    assert type(make_reporter(quiet=quiet, stdout=io.StringIO(), stderr=stderr)) is kind


def test_no_view_is_drawn_where_the_reader_of_a_pipe_may_write_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "TERM", "xterm-256color")
    read, write = os.pipe()
    with open(read), open(write, "w") as pipe, open(os.devnull, "w") as nowhere:
        assert type(make_reporter(quiet=False, stdout=pipe, stderr=Terminal())) is PlainReporter
        assert type(make_reporter(quiet=False, stdout=nowhere, stderr=Terminal())) is LiveReporter
    assert type(make_reporter(quiet=False, stdout=Terminal(), stderr=Terminal(), plain=True)) is PlainReporter


def test_what_follows_a_rung_is_what_the_graces_say() -> None:
    facts = JobFacts(Job("j", (Task("a", "m"), Task("b", "m", stop=StopPolicy(terminate=0)))))
    assert facts.following("a", Rung.INTERRUPT) == "terminate"
    assert facts.following("b", Rung.INTERRUPT) == facts.following("b", Rung.TERMINATE) == "kill"
    assert facts.following("a", Rung.KILL) == "given up as lost"
    assert facts.following("nobody", Rung.INTERRUPT) is None
