"""The summary: what went wrong first, with the guest's last words, then the table, then the counts."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from procstop.folding import FoldedTasks
from procstop.model import Job, Limits, Outcome, Reason, Rung, Task
from procstop.records import AttemptRecord, Phases, RunRecord, StoppingPoints, StreamRecord, TaskRecord
from procstop.reporting.facts import JobFacts
from procstop.reporting.summary import counts_line, plain_summary, rich_summary

TIME = Reason.TIME_LIMIT
JOB = Job(
    "demo",
    (
        Task("add", "a.wat"),
        Task("polite", "p.wat", limits=Limits(time=1), expect=(Outcome.INTERRUPTED,)),
        Task("spin", "s.wat", limits=Limits(time=2)),
        Task("later", "l.wat", needs=("spin",)),
    ),
)


def attempt(outcome: Outcome, **facts: Any) -> AttemptRecord:
    return AttemptRecord(1, "wasmer", outcome, **facts)


ADD = TaskRecord("add", True, Outcome.COMPLETED, (attempt(Outcome.COMPLETED, values=(8,), phases=Phases(0.011, 0.2)),))
POLITE = TaskRecord(
    "polite", True, Outcome.INTERRUPTED,
    (attempt(Outcome.INTERRUPTED, reason=TIME, rung=Rung.INTERRUPT, phases=Phases(run=1.0),
             stopping_points=StoppingPoints(1001, 0.1, 1001)),),
)  # fmt: skip
TAIL = "".join(f"line {number}\n" for number in range(1, 21)).encode() + b"last \x1b[2J [red]words[/red]\n"
SPIN = TaskRecord(
    "spin", False, Outcome.KILLED,
    (attempt(Outcome.KILLED, reason=TIME, rung=Rung.KILL, phases=Phases(run=2.0, kill=1.5),
             stderr=StreamRecord(len(TAIL), True, None, TAIL)),),
)  # fmt: skip
LATER = TaskRecord("later", False, Outcome.CANCELLED, (), 'task "spin" did not complete')


def run(*tasks: TaskRecord, reason: Reason | None = None) -> RunRecord:
    return RunRecord("01J", "demo", "2026-11-20T12:00:00Z", 3.93, 1, reason, tasks)


def plain(*tasks: TaskRecord, quiet: bool = False) -> str:
    return plain_summary(run(*tasks), JobFacts(JOB), quiet=quiet)


def on_terminal(*tasks: TaskRecord, width: int = 100, colour: bool = False) -> str:
    out = io.StringIO()
    environ = {"TERM": "xterm-256color"} if colour else {}
    console = Console(file=out, force_terminal=colour, width=width, _environ=environ)
    console.print(rich_summary(run(*tasks), JobFacts(JOB), width=width))
    return out.getvalue()


def test_plain_summary() -> None:
    assert plain(ADD, POLITE, LATER, SPIN) == "\n".join(
        [
            "not ok: spin: killed after its time limit of 2 s: it reported no stopping point; "
            "stderr was cut off after 178 bytes",
            *(f"    stderr | line {number}" for number in range(12, 21)),
            "    stderr | last \\x1b[2J [red]words[/red]",
            'not ok: later: cancelled: task "spin" did not complete',
            "",
            "task    outcome      time    attempts  engine  why",
            'later   cancelled    -       -         -       task "spin" did not complete',
            "spin    killed       3.5 s   1         wasmer  after its time limit of 2 s: "
            "it reported no stopping point; stderr was cut off after 178 bytes",
            "add     completed    211 ms  1         wasmer  8",
            "polite  interrupted  1 s     1         wasmer  at stopping point 1001 by its time limit of 1 s; "
            "as expected",
            "",
            "4 tasks: 2 as expected, 2 not; 3.93 s",
            "",
        ]
    )


def test_a_terminal_is_told_the_same_facts_in_a_table() -> None:
    text = on_terminal(ADD, POLITE, LATER, SPIN, width=200)
    for line in plain(ADD, POLITE, LATER, SPIN).splitlines():
        words = line.split("  ")
        assert all(word.strip() in text for word in words), line
    assert text.index("not ok: spin") < text.index("not ok: later") < text.index("outcome")


def test_what_a_guest_wrote_is_neither_markup_nor_control() -> None:
    text = on_terminal(SPIN)
    assert "[red]words[/red]" in text and "\\x1b[2J" in text
    assert "\x1b[2J" not in on_terminal(SPIN, colour=True)


def test_all_well() -> None:
    assert plain(ADD).splitlines() == [
        "",
        "task  outcome    time    attempts  engine  why",
        "add   completed  211 ms  1         wasmer  8",
        "",
        "1 task: all as expected; 3.93 s",
    ]
    assert plain(ADD, quiet=True) == ""
    assert plain() == "0 tasks; 3.93 s\n"


def test_quiet_leaves_the_table_out() -> None:
    assert plain(ADD, LATER, quiet=True).splitlines() == [
        'not ok: later: cancelled: task "spin" did not complete',
        "2 tasks: 1 as expected, 1 not; 3.93 s",
    ]


def test_a_completed_task_that_was_to_end_otherwise_says_what_was_expected() -> None:
    record = TaskRecord("polite", False, Outcome.COMPLETED, (attempt(Outcome.COMPLETED, values=(1,)),))
    assert "not ok: polite: completed: 1; expected interrupted\n" in plain(record)


def test_a_message_of_many_lines_is_shown_line_by_line() -> None:
    message = "ValueError: boom\n" + "\n".join(f"  frame {number}" for number in range(20))
    record = TaskRecord("add", False, Outcome.HOST_ERROR, (attempt(Outcome.HOST_ERROR, message=message),))
    lines = plain(record).splitlines()
    assert lines[1:3] == ["    message | ValueError: boom", "    message |   frame 0"]
    assert lines[11] == "    message | ... and 11 more lines"


def test_big_runs_list_only_what_was_not_ok() -> None:
    tasks = [TaskRecord(f"t{number}", True, Outcome.COMPLETED) for number in range(60)]
    text = plain(*tasks, SPIN)
    assert "t1" not in text and "spin    " not in plain(*tasks)
    assert text.splitlines()[-1] == "61 tasks: 60 as expected, 1 not; 3.93 s"
    assert plain(*tasks) == "60 tasks: all as expected; 3.93 s\n"


def test_not_every_trouble_of_a_big_run_is_told_at_length() -> None:
    text = plain(*(TaskRecord(f"t{number}", False, Outcome.REJECTED) for number in range(1000)))
    assert text.count("not ok: ") == 21
    assert "not ok: ... and 980 more\n" in text


@pytest.mark.parametrize("show", [plain, on_terminal])
def test_table_of_a_big_run_has_an_end_and_what_broke_is_in_it(show: Callable[..., str]) -> None:
    called_off = [TaskRecord(f"c{number}", False, Outcome.CANCELLED) for number in range(1000)]
    broke = [TaskRecord(f"b{number}", False, Outcome.REJECTED) for number in range(3)]
    lines = [line.strip() for line in show(*called_off, *broke).splitlines()]
    table = lines[next(number for number, line in enumerate(lines) if line.startswith("task ")) :]
    rows = [line.split()[0] for line in table if line[:1] in ("b", "c")]
    assert rows == [*(f"c{number}" for number in range(97)), "b0", "b1", "b2"]
    assert "... and 903 more; see --report" in table


def test_table_of_folded_records_is_the_same() -> None:
    tasks = [SPIN if number % 7 == 0 else ADD for number in range(700)]
    folded = FoldedTasks()
    for task in tasks:
        folded.append(task)
    record = dataclasses.replace(run(), tasks=folded)
    assert plain_summary(record, JobFacts(JOB)) == plain(*tasks)
    assert plain_summary(record, JobFacts(JOB), quiet=True) == plain(*tasks, quiet=True)


def test_counts_say_who_stopped_the_run() -> None:
    assert counts_line(run(ADD, reason=Reason.USER)).endswith("; asked to stop by the user")


@pytest.mark.parametrize("width", [1, 20, 59, 60, 80])
def test_narrow_terminals_are_served(width: int) -> None:
    text = on_terminal(ADD, POLITE, LATER, SPIN, width=width)
    assert all(len(line) <= width for line in text.splitlines())
