"""No text of others reaches a terminal raw, whichever way it takes: output, messages, names, paths, errors."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from procstop import events
from procstop.cli.app import app
from procstop.cli.complain import complain, complain_of_fault
from procstop.errors import JobFileError, ProcstopError
from procstop.model import Job, Outcome, Reason, Rung, Task
from procstop.records import AttemptRecord, RunRecord, StreamRecord, TaskRecord
from procstop.reporting import RawOutput
from procstop.reporting.live import LiveReporter
from procstop.reporting.plain import PlainReporter
from procstop.reporting.report import write_report
from procstop.reporting.streams import QuietStream

STEERS = [
    "\x1b]52;c;ZXZpbA==\x07", "\x1b[2J", "\x1bP+q544e\x1b\\", "\x9b2J", "\x9d0;x\x9c", "\x85", "\x07", "\x08", "\x0b",
    "\x0c", "\x0e", "\x7f", "\x00", "\u061c", "\u200e", "\u200f", "\u2028", "\u2029", "\u202e", "\u2066",
    "\u2069", "\udcff", "\ud800",
]  # fmt: skip
EVIL = "evil" + "-".join(STEERS) + "\rover\x1b[1A\n\x1b[31mnext"
NAME = EVIL.replace("\0", "")
EVIL_BYTES = EVIL.encode("utf-8", "replace") + b"\xff\xc3\xed\xa0\x80\n" + EVIL.encode("utf-8", "replace")
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
OURS = re.compile(r"\x1b\[(?:\?25[lh]|1A|2K|[0-9;]*m)|\r(?=\x1b)|\r(?=\n)")
"""What rich writes for colours and for a region that is drawn anew."""


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def attempt(**fields: Any) -> AttemptRecord:
    settings: dict[str, Any] = {
        "message": EVIL,
        "stdout": StreamRecord(5, True, f"/out/{EVIL}", EVIL_BYTES),
        "stderr": StreamRecord(5, True, f"/out/{EVIL}", EVIL_BYTES),
    }
    return AttemptRecord(1, EVIL, **{**settings, **fields})


ATTEMPTS = [
    attempt(outcome=Outcome.TRAPPED),
    attempt(outcome=Outcome.HOST_ERROR),
    attempt(outcome=Outcome.EXITED, exit_code=3),
    attempt(outcome=Outcome.CRASHED, wait=("signal", 11)),
    attempt(outcome=Outcome.REJECTED),
    attempt(outcome=Outcome.COMPLETED, values=(EVIL, 1), message=None),
    attempt(outcome=Outcome.INTERRUPTED, reason=Reason.USER, rung=Rung.INTERRUPT, partial=(EVIL,)),
    attempt(outcome=Outcome.KILLED, reason=Reason.PROTOCOL, rung=Rung.KILL),
]
TASKS = [
    TaskRecord(f"{NAME}{number}", False, one.outcome, (one,), EVIL, EVIL) for number, one in enumerate(ATTEMPTS)
] + [TaskRecord(f"{NAME} off", False, Outcome.CANCELLED, (), EVIL)]
RECORD = RunRecord(EVIL, NAME, "2026-01-01T00:00:00Z", 1.0, 1, Reason.USER, TASKS)


def story() -> list[events.Event]:
    """A run of which all that others may name is evil."""
    job = Job(NAME, tuple(Task(one.task, f"{NAME}.wat") for one in TASKS))
    told: list[events.Event] = [events.RunStarted(EVIL, job, 2)]
    for task in TASKS[:-1]:
        name, record = task.task, task.attempts[0]
        told += [
            events.AttemptCompiling(name, 1, 7, EVIL),
            events.AttemptStarted(name, 1, 8, EVIL),
            events.AttemptMoved(name, 1, "running", 5.0, None, None),
            events.AttemptProgress(name, 1, 5, -(2**63), 2**63 - 1),
            *(events.Output(name, 1, stream, EVIL_BYTES[at : at + 7])
              for stream in ("stdout", "stderr") for at in range(0, len(EVIL_BYTES), 7)),
            events.AttemptMoved(name, 1, "terminating", 1.0, Rung.TERMINATE, Reason.USER),
            events.AttemptOver(name, record, False),
            events.TaskOver(task),
        ]  # fmt: skip
    stopping = [events.Notice(EVIL), events.RunStopping(1, EVIL, EVIL), events.RunPaused(), events.RunResumed()]
    return [*told, *stopping, events.TaskOver(TASKS[-1]), events.RunOver(RECORD)]


def live(width: int) -> str:
    out, err = Terminal(), Terminal()
    stream = QuietStream(err)
    console = Console(file=stream.file(), force_terminal=True, width=width, height=30, highlight=False)
    reporter = LiveReporter(stdout=QuietStream(out), stderr=stream, console=console)
    for event in story():
        reporter(event)
        if reporter._live is not None:
            reporter._live.refresh()
    reporter.close()
    return OURS.sub("", out.getvalue() + err.getvalue())


def plain(quiet: bool) -> str:
    out, err = Terminal(), Terminal()
    reporter = PlainReporter(quiet=quiet, stdout=QuietStream(out), stderr=QuietStream(err))
    for event in story():
        reporter(event)
    return out.getvalue() + err.getvalue()


def raw() -> str:
    out, err = Terminal(), Terminal()
    reporter = RawOutput(stdout=out, stderr=err, values=True)
    for event in story():
        reporter(event)
    return out.getvalue() + err.getvalue()


@pytest.mark.parametrize(
    "show",
    [lambda: live(80), lambda: live(200), lambda: live(30), lambda: plain(False), lambda: plain(True), raw],
    ids=["live", "live, wide", "live, narrow", "plain", "quiet", "raw"],
)
def test_nothing_that_a_run_tells_of_steers_a_terminal(show: Callable[[], str]) -> None:
    shown = show()
    assert "evil" in shown
    assert not (found := UNSAFE.findall(shown)), found


def test_errors_and_faults_steer_no_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("PROCSTOP_DEBUG", "1")
    complain(ProcstopError(EVIL))
    complain(JobFileError([EVIL, EVIL]))
    try:
        raise ValueError(EVIL)
    except ValueError as error:
        complain_of_fault(error)
    shown = capsys.readouterr().err
    assert shown.count("evil") >= 4 and "Traceback" in shown
    assert not UNSAFE.search(shown)


WAT_NAME = "".join(f"\\{byte:02x}" for byte in "evil\x1b[2J\x07\u202e\x9b\n".encode())
"""A name in the text form of WebAssembly, where it may hold anything that is UTF-8."""
FILE_NAME = "evil\x1b[2J\x07\r\u202e\x9b"


def command(*arguments: str) -> str:
    """Return what the command shows: its output, and its error as `main` would print it."""
    result = CliRunner().invoke(app, arguments)
    said = result.output
    if isinstance(result.exception, ProcstopError):
        stream = io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stderr", stream)
            complain(result.exception)
        said += stream.getvalue()
    elif result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return said


def shows_it_safely(said: str) -> bool:
    return "evil" in said and not UNSAFE.search(said)


@pytest.mark.parametrize("text", ['(module (import "{0}" "{0}" (func)) (export "{0}" (func 0)))', "(module", "\0asm!"])
def test_inspect_shows_names_and_paths_escaped(tmp_path: Path, text: str) -> None:
    path = tmp_path / f"{FILE_NAME}.wat"
    path.write_bytes(text.format(WAT_NAME).encode())
    assert shows_it_safely(command("inspect", str(path)))
    assert shows_it_safely(command("inspect", str(tmp_path / f"{FILE_NAME}.none")))


def test_check_shows_names_and_paths_escaped(tmp_path: Path) -> None:
    (tmp_path / "good.wat").write_text('(module (func (export "_start")))')
    (tmp_path / f"{FILE_NAME}.wat").write_text(f'(module (import "{WAT_NAME}" "{WAT_NAME}" (func)))')
    name = json.dumps(FILE_NAME)
    good = f'[[task]]\nname = {json.dumps("evil")}\nmodule = "good.wat"\n'
    jobs = [
        good,
        f'[[task]]\nname = {name}\nmodule = "good.wat"\n',
        f'[[task]]\nname = "t"\nmodule = {json.dumps(FILE_NAME + ".wat")}\n',
        f'[[task]]\nname = "t"\nmodule = {json.dumps(FILE_NAME + ".gone")}\n',
        f"{good}{name} = 1\n",
        f"{good}call = {name}\n",
        f"{good}host = {name}\n",
        f'{good}imports = {{ "evil.x" = {name} }}\n',
        f"{good}evil = \x1b\n",
        f"{good}limits = {{ time = {name} }}\n",
    ]
    for number, text in enumerate(jobs):
        path = tmp_path / (f"{FILE_NAME}.toml" if number % 2 else "evil.toml")
        path.write_text(text)
        said = command("check", str(path))
        assert shows_it_safely(said), said
    assert shows_it_safely(command("check", str(tmp_path / f"{FILE_NAME} none.toml")))


def test_report_of_names_that_are_no_unicode_is_json_in_utf_8_and_ascii_only(tmp_path: Path) -> None:
    path = os.path.join(tmp_path, os.fsdecode(b"caf\xe9\x1b.json"))
    write_report(path, RECORD)
    with open(path, "rb") as file:
        data = file.read()
    assert not UNSAFE.search(data.decode("ascii"))
    read = json.loads(data)
    assert read["tasks"][0]["task"].startswith("evil\x1b]52;c;")
    assert "\ufffd" in read["tasks"][0]["task"] and not re.search(
        "[\ud800-\udfff]", json.dumps(read, ensure_ascii=False)
    )
