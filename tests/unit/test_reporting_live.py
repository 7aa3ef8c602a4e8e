"""The live view: what it says, at every size, and that the terminal is given back."""

from __future__ import annotations

import errno
import io
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

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
from procstop.model import Job, Limits, Outcome, Reason, Rung, Task
from procstop.records import AttemptRecord, RunRecord, StreamRecord, TaskRecord
from procstop.reporting.live import LiveReporter, Region, ticking
from procstop.reporting.streams import QuietStream
from procstop.reporting.view import Running, RunView

TIME = Reason.TIME_LIMIT
JOB = Job("demo", (Task("spin", "s.wat", limits=Limits(time=2)), Task("add", "a.wat"), Task("c", "c.wat")))
STATES = ["pending", "starting", "running", "interrupting", "killing", "exiting", "over"]
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def moved(
    task: str, state: str, lasts: float | None, rung: Rung | None = None, reason: Reason | None = TIME
) -> AttemptMoved:
    return AttemptMoved(task, 1, state, lasts, rung, reason if rung else None)


def started(*tasks: str) -> list[Event]:
    events: list[Event] = [RunStarted("01J", JOB, 2)]
    for task in tasks:
        events += [AttemptStarted(task, 1, 4127, "wasmer"), moved(task, "running", 2)]
    return events


def ended(task: str, outcome: Outcome = Outcome.COMPLETED, ok: bool = True) -> list[Event]:
    attempt = AttemptRecord(1, "wasmer", outcome)
    return [AttemptOver(task, attempt, False), TaskOver(TaskRecord(task, ok, outcome, (attempt,)))]


def over(*tasks: TaskRecord) -> RunOver:
    return RunOver(RunRecord("01J", "demo", "2026-11-20T12:00:00Z", 3.6, 0, None, tasks))


class Scene:
    """A view with a clock of its own, and how it looks."""

    def __init__(self, *events: Event) -> None:
        self.clock = Clock()
        self.view = RunView(self.clock)
        self.take(*events)

    def take(self, *events: Event) -> None:
        for event in events:
            self.view.take(event)

    def later(self, seconds: float) -> Scene:
        self.clock.now += seconds
        return self

    def lines(self, width: int = 80, height: int = 25, **console: Any) -> list[str]:
        out = io.StringIO()
        Console(file=out, width=width, height=height, _environ={}, **console).print(Region(self.view))
        return out.getvalue().splitlines()


def test_a_running_attempt_shows_its_time_against_its_limit() -> None:
    scene = Scene(*started("spin")).later(0.5)
    bar = "\u2501" * 6 + "\u2500" * 18
    assert scene.lines() == [
        f"spin  running  {bar} 0.5 s of 2 s  0 stopping points",
        "3 tasks: 0 done, 1 running, 2 waiting",
    ]
    assert "\u2501" * 24 + " 9.5 s of 2 s" in scene.later(9).lines()[0]


def test_an_attempt_without_a_limit_shows_its_time() -> None:
    scene = Scene(RunStarted("01J", JOB, 2), AttemptStarted("add", 1, 1, "wasmer")).later(1)
    assert scene.lines()[0] == "add  starting 1.0 s  0 stopping points"
    scene.take(moved("add", "running", None))
    assert scene.later(125).lines()[0] == "add  running  2 min 5 s  0 stopping points"


def test_an_attempt_is_compiling_until_it_has_a_worker() -> None:
    scene = Scene(RunStarted("01J", JOB, 2), AttemptCompiling("add", 1, 99, "wasmer")).later(12)
    assert scene.lines() == [
        "add  compiling 12.0 s  0 stopping points",
        "3 tasks: 0 done, 1 running, 2 waiting",
    ]
    scene.take(AttemptStarted("add", 1, 1, "wasmer"))
    assert scene.later(1).lines()[0] == "add  starting 1.0 s  0 stopping points"


@pytest.mark.parametrize(
    ("done", "total", "text"),
    [
        (400, 1000, "40%"), (1000, 1000, "100%"), (7, None, "7 done"), (7, 0, "7 done"),
        (1200, 1000, "1,200 of 1,000"), (-5, 10, "-5 of 10"), (None, None, ""),
    ],
)  # fmt: skip
def test_progress_is_shown_as_the_guest_tells_it(done: int | None, total: int | None, text: str) -> None:
    scene = Scene(*started("spin"), AttemptProgress("spin", 1, 1204, done, total))
    assert scene.lines()[0].endswith(f"1,204 stopping points  {text}".rstrip())


def test_a_stop_shows_its_rung_and_what_comes_next_when() -> None:
    scene = Scene(*started("spin"), moved("spin", "interrupting", 2, Rung.INTERRUPT)).later(0.7)
    assert scene.lines()[0] == "spin  interrupt, terminate in 1.3 s  0 stopping points"
    scene.take(moved("spin", "terminating", 1, Rung.TERMINATE))
    assert scene.lines()[0].startswith("spin  terminate, kill in 1.0 s")
    scene.take(moved("spin", "killing", 5, Rung.KILL))
    assert scene.later(9).lines()[0].startswith("spin  kill, given up as lost in 0.0 s")


def test_an_attempt_that_left_in_time_shows_no_rung_any_more() -> None:
    scene = Scene(*started("spin"), moved("spin", "interrupting", 2, Rung.INTERRUPT))
    scene.take(AttemptMoved("spin", 1, "exiting", None, Rung.INTERRUPT, TIME))
    assert scene.lines()[0].startswith("spin  exiting  0.0 s")


def test_clocks_stand_still_while_the_run_is_paused() -> None:
    scene = Scene(*started("spin")).later(0.5)
    scene.take(RunPaused(), RunPaused())
    scene.later(100)
    assert "0.5 s of 2 s" in scene.lines()[0]
    scene.take(RunResumed(), RunResumed())
    assert "1.5 s of 2 s" in scene.later(1).lines()[0]


def test_counts() -> None:
    scene = Scene(*started("spin", "add"), *ended("add"))
    assert scene.lines()[-1] == "3 tasks: 1 done, 1 running, 1 waiting"
    scene.take(*ended("spin", Outcome.KILLED, ok=False))
    assert scene.lines() == ["3 tasks: 2 done (1 not ok), 0 running, 1 waiting"]


def test_a_press_says_what_was_done_and_what_the_next_one_does() -> None:
    scene = Scene(*started("spin"), RunStopping(1, "1 running is interrupted", "terminates it"))
    assert scene.lines()[-2:] == ["1 running is interrupted", "next press: terminates it"]
    scene.take(RunStopping(2, "1 running is terminated", None))
    assert scene.lines()[-1] == "1 running is terminated"
    assert " ".join(scene.lines(width=12)).endswith("1 running is terminated"), "it folds and is not cut"


def test_the_most_interesting_stay_when_not_all_fit() -> None:
    scene = Scene(RunStarted("01J", JOB, 50))
    for number in range(40):
        name = f"t{number:02}"
        scene.take(AttemptStarted(name, 1, 1, "wasmer"), moved(name, "running", 100 - number))
    scene.take(moved("t03", "killing", 5, Rung.KILL), moved("t07", "terminating", 1, Rung.TERMINATE))
    lines = scene.later(1).lines(height=6)
    assert [line.split()[0] for line in lines] == ["t03", "t07", "t39", "...", "3"]
    assert lines[3] == "... and 37 more"


@pytest.mark.parametrize("height", range(1, 12))
@pytest.mark.parametrize("width", [1, 2, 5, 20, 33, 47, 80])
def test_every_size_of_terminal_is_kept_to(width: int, height: int) -> None:
    scene = Scene(*started("spin", "add", "\u6f22\u5b57\u6f22\u5b57", "n" * 100))
    scene.take(AttemptProgress("add", 1, 10**15, 5, 10), moved("spin", "interrupting", 2, Rung.INTERRUPT))
    scene.take(RunStopping(1, "something was done", "something else"))
    lines = scene.lines(width, height)
    assert len(lines) <= height
    assert all(cell_len(line) <= width for line in lines)


def test_twenty_columns_still_say_who_and_when() -> None:
    scene = Scene(*started("spin", "add"), moved("add", "interrupting", 2, Rung.INTERRUPT)).later(0.5)
    assert scene.lines(width=20)[:2] == ["spin  0.5 s of 2 s", "add   interrupt 1.5 "]


def test_ascii_terminals_get_ascii() -> None:
    class Ascii(io.StringIO):
        encoding = "ascii"

    out = Ascii()
    Console(file=out, width=80, _environ={}).print(Region(Scene(*started("spin"), *started("x" * 30)).view))
    assert out.getvalue().isascii() and "------" in out.getvalue()


@given(
    st.lists(
        st.one_of(
            st.builds(AttemptCompiling, st.text(max_size=3), st.just(1), st.just(1), st.just("w")),
            st.builds(AttemptStarted, st.text(max_size=3), st.just(1), st.just(1), st.just("w")),
            st.builds(
                AttemptMoved, st.text(max_size=3), st.just(1),
                st.sampled_from(STATES),
                st.none() | st.floats(0, 1e9), st.none() | st.sampled_from(Rung), st.none(),
            ),
            st.builds(
                AttemptProgress, st.text(max_size=3), st.just(1), st.integers(0), st.none() | st.integers(),
                st.none() | st.integers(),
            ),
            st.builds(RunStopping, st.just(1), st.text(), st.none() | st.text()),
            st.sampled_from([RunPaused(), RunResumed()]),
        )
    ),
    st.integers(1, 100),
)  # fmt: skip
def test_no_order_of_events_breaks_the_view(events: list[Event], width: int) -> None:
    text = "\n".join(Scene(RunStarted("01J", JOB, 2), *events).later(1).lines(width))
    assert "broke" not in text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


def test_a_view_that_cannot_be_drawn_says_so_and_raises_nothing() -> None:
    scene = Scene()
    scene.view.counts = lambda: 1 // 0  # type: ignore[method-assign, assignment, return-value]
    assert scene.lines() == ["the live view broke: ZeroDivisionError: integer division or modulo by zero"]


def test_attempts_that_are_stopped_are_the_most_interesting() -> None:
    now = 10.0
    young, old = Running("a", "running", 9, 20), Running("b", "running", 0, 20)
    dying = Running("c", "killing", 9, 14, Rung.KILL)
    assert sorted([young, dying, old], key=lambda row: row.interest(now)) == [young, old, dying]


def test_ticking_times_keep_their_width() -> None:
    assert [ticking(t) for t in (0, 1.96, 59.94, 59.96, 61)] == [
        "0.0 s",
        "2.0 s",
        "59.9 s",
        "1 min",
        "1 min 1 s",
    ]


# The reporter, on a stream that says it is a terminal.


class Terminal(io.StringIO):
    """A stream that says whether it is a terminal."""

    def __init__(self, is_one: bool = True) -> None:
        super().__init__()
        self.is_one = is_one

    def isatty(self) -> bool:
        return self.is_one


class Stage:
    """A live reporter on a terminal of 80 columns, and what it writes to its two streams."""

    def __init__(self, *, stdout_too: bool = True, show_output: bool = True, **environ: str) -> None:
        self.out, self.err = Terminal(stdout_too), Terminal()
        stderr = QuietStream(self.err)
        console = Console(
            file=stderr.file(), force_terminal=True, width=80, height=25, highlight=False,
            _environ={"TERM": "xterm-256color", **environ},
        )  # fmt: skip
        self.reporter = LiveReporter(
            stdout=QuietStream(self.out), stderr=stderr, show_output=show_output, console=console
        )

    def take(self, *events: Event) -> str:
        """Return what the events made it write."""
        before = len(self.err.getvalue())
        for event in events:
            self.reporter(event)
        return self.err.getvalue()[before:]


@pytest.fixture
def stage() -> Any:
    made: list[Stage] = []

    def make(**settings: Any) -> Stage:
        made.append(Stage(**settings))
        return made[-1]

    yield make
    for each in made:
        each.reporter.close()


Make = Callable[..., Stage]


def test_the_cursor_is_given_back_at_the_end_and_by_close(stage: Make) -> None:
    shown = stage()
    assert HIDE in shown.take(*started("spin"))
    text = shown.take(over())
    assert text.count(SHOW) == 1 and text.index(SHOW) < text.index("0 tasks")
    cut_off = stage()
    cut_off.take(*started("spin"))
    cut_off.reporter.close()
    cut_off.reporter.close()
    assert cut_off.err.getvalue().count(SHOW) == 1
    assert cut_off.take(Notice("late"), *started("add")) == ""


def test_the_terminal_is_given_back_while_the_run_is_paused(stage: Make) -> None:
    shown = stage()
    shown.take(*started("spin"))
    text = shown.take(RunPaused())
    assert text.index(SHOW) < text.index("run: paused")
    assert HIDE in shown.take(RunResumed())


def test_guest_output_goes_above_the_view_with_the_tasks_name(stage: Make) -> None:
    shown = stage(NO_COLOR="1")
    shown.take(*started("spin"))
    text = shown.take(Output("spin", 1, "stdout", b"[red]x[/red] \x1b[2J\nrest"))
    assert "spin | [red]x[/red] \\x1b[2J\n" in plain_text(text)
    assert "rest" not in text and "\x1b[2J" not in text
    assert "spin | rest\n" in plain_text(shown.take(*ended("spin")))
    assert shown.out.getvalue() == ""


def plain_text(text: str) -> str:
    """Take the colours out, as NO_COLOR leaves bold and dim."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_guest_stdout_goes_to_a_pipe_as_plain_lines(stage: Make) -> None:
    shown = stage(stdout_too=False)
    shown.take(*started("spin"), Output("spin", 1, "stdout", b"hello\n"))
    assert "hello" not in shown.err.getvalue()
    assert shown.out.getvalue() == "spin | hello\n"
    assert "two" in shown.take(Output("spin", 1, "stderr", b"two\n"))


def test_no_color_is_honoured(stage: Make) -> None:
    events = [*started("spin"), Output("spin", 1, "stderr", b"x\n"), *ended("spin", Outcome.KILLED, ok=False)]
    coloured = "\x1b[31m"
    assert coloured in stage().take(*events)
    text = stage(NO_COLOR="1").take(*events)
    assert not any(f"\x1b[{code}m" in text for code in range(30, 38))


def test_a_task_that_went_wrong_is_news_before_the_end(stage: Make) -> None:
    shown = stage()
    shown.take(*started("spin"))
    assert "not ok: spin: killed\n" in plain_text(shown.take(*ended("spin", Outcome.KILLED, ok=False)))
    called_off = TaskOver(TaskRecord("c", False, Outcome.CANCELLED, (), "because"))
    assert "because" not in shown.take(called_off)


def test_what_was_said_when_it_happened_is_not_said_again_at_the_end(stage: Make) -> None:
    shown = stage(NO_COLOR="1")
    shown.take(*started("spin"), Output("spin", 1, "stderr", b"last words\n"))
    attempt = AttemptRecord(1, "wasmer", Outcome.TRAPPED, message="boom", stderr=StreamRecord(11, tail=b"last words\n"))
    record = TaskRecord("spin", False, Outcome.TRAPPED, (attempt,))
    called_off = TaskRecord("c", False, Outcome.CANCELLED, (), "because")
    assert "not ok: spin: trapped: boom\n" in plain_text(shown.take(TaskOver(record)))
    text = plain_text(shown.take(TaskOver(called_off), over(record, called_off)))
    assert "not ok: spin" not in text and "last words" not in text and "boom" in text
    assert "not ok: c: cancelled: because\n" in text


def test_what_a_guest_said_last_is_shown_at_the_end_if_it_was_not_before(stage: Make) -> None:
    shown = stage(show_output=False, NO_COLOR="1")
    shown.take(*started("spin"))
    attempt = AttemptRecord(1, "wasmer", Outcome.TRAPPED, message="a\nb", stderr=StreamRecord(4, tail=b"why\n"))
    record = TaskRecord("spin", False, Outcome.TRAPPED, (attempt,))
    shown.take(TaskOver(record))
    text = plain_text(shown.take(over(record)))
    assert "not ok: spin\n    message | a\n    message | b\n    stderr | why\n" in text


def test_a_terminal_that_hangs_up_disturbs_nothing(stage: Make) -> None:
    shown = stage()
    shown.take(*started("spin"))

    def hung_up(text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")

    shown.err.write = hung_up  # type: ignore[method-assign]
    shown.take(Output("spin", 1, "stdout", b"x\n"), *ended("spin"), over())
    shown.reporter.close()
    assert shown.reporter.failed is not None and shown.reporter.failed.errno == errno.EIO


def test_close_may_come_from_another_thread(stage: Make) -> None:
    shown = stage()
    shown.take(*started("spin"))
    closer = threading.Thread(target=shown.reporter.close)
    closer.start()
    for _ in range(50):
        shown.take(Output("spin", 1, "stdout", b"x\n"))
    closer.join(10)
    assert not closer.is_alive()
    assert shown.err.getvalue().count(SHOW) == 1
