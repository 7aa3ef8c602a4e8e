"""The JSON report has exactly the keys of docs/report.md, and is written whole or not at all."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procstop.errors import JobFileError, ProcstopError
from procstop.folding import FoldedTasks
from procstop.model import Level, Outcome, Reason, Rung
from procstop.records import (
    AttemptRecord,
    Contained,
    Phases,
    RunRecord,
    StoppingPoints,
    StreamRecord,
    TaskRecord,
)
from procstop.reporting.report import check_report_path, run_to_json, settle_report_path, write_report

# The example of docs/report.md.
EXAMPLE = json.loads("""
{"schema": "procstop.report/1", "procstop": "0.1.0", "run": "01J...", "job": "thumbs",
 "started_at": "2026-11-20T12:00:00Z", "duration_s": 1.93, "exit_code": 0, "reason": null,
 "tasks": [{"task": "add", "ok": true, "outcome": "completed", "message": null,
   "attempts": [{"number": 1, "engine": "wasmer", "engine_reason": "the first choice",
     "outcome": "completed", "reason": null, "rung": null,
     "values": [8], "exit_code": null, "message": null, "partial": null, "pid": 4127, "worker": 1,
     "wait": {"exit": 0},
     "stopping_points": {"passed": 0, "longest_gap_s": null, "stopped_at": null},
     "phases_s": {"start": 0.011, "run": 0.2, "interrupt": null, "preempt": null, "terminate": null,
                  "kill": null, "reap": 0.0004},
     "peak_memory_bytes": 31457280, "cpu_s": 0.19,
     "containment": {"level": "full", "missing": [], "user": null, "allowed": []}, "tree": null,
     "stdout": {"bytes": 12, "truncated": false, "path": "...", "error": null},
     "stderr": {"bytes": 0, "truncated": false, "path": null, "error": null}}]}]}
""")

ADD = AttemptRecord(
    1, "wasmer", Outcome.COMPLETED, values=(8,), pid=4127, worker=1, wait=("exit", 0),
    phases=Phases(start=0.0110000001, run=0.2, reap=0.0004), peak_memory_bytes=31457280, cpu_s=0.19,
    stdout=StreamRecord(12, False, "...", b"not in the report"), engine_reason="the first choice",
    contained=Contained(Level.FULL),
)  # fmt: skip


def run(*tasks: TaskRecord) -> RunRecord:
    return RunRecord("01J...", "thumbs", "2026-11-20T12:00:00Z", 1.93, 0, None, tasks)


def run_of(attempt: AttemptRecord) -> RunRecord:
    return run(TaskRecord("add", True, attempt.outcome, (attempt,)))


def in_order(data: Any) -> Any:
    """Give dictionaries as lists, so that equality minds the order of keys."""
    if isinstance(data, dict):
        return [(key, in_order(value)) for key, value in data.items()]
    return [in_order(value) for value in data] if isinstance(data, list) else data


def test_the_report_is_the_example_to_the_letter() -> None:
    assert in_order(run_to_json(run_of(ADD), version="0.1.0")) == in_order(EXAMPLE)


def test_a_key_is_never_left_out() -> None:
    bare = run_to_json(run_of(AttemptRecord(1, None, Outcome.LOST)))["tasks"][0]["attempts"][0]
    example = EXAMPLE["tasks"][0]["attempts"][0]
    assert list(bare) == list(example)
    assert all(list(bare[k]) == list(example[k]) for k in ("stopping_points", "phases_s", "stdout", "stderr"))
    assert bare["engine"] is bare["wait"] is bare["values"] is bare["phases_s"]["run"] is None


def test_a_task_that_never_started_says_why_and_has_no_attempts() -> None:
    record = TaskRecord("b", False, Outcome.CANCELLED, (), 'task "a" did not complete')
    assert run_to_json(run(record))["tasks"] == [
        {
            "task": "b",
            "ok": False,
            "outcome": "cancelled",
            "message": 'task "a" did not complete',
            "attempts": [],
        }
    ]


def test_attempts_that_shared_a_worker_have_its_number_and_the_first_did_not_end_it() -> None:
    first, second = (dataclasses.replace(ADD, worker=7, wait=wait) for wait in (None, ("exit", 0)))
    tasks = [TaskRecord(name, True, Outcome.COMPLETED, (one,)) for name, one in (("a", first), ("b", second))]
    data = [task["attempts"][0] for task in run_to_json(run(*tasks))["tasks"]]
    assert [(one["worker"], one["wait"]) for one in data] == [(7, None), (7, {"exit": 0})]


def test_a_stopped_attempt_has_its_reason_rung_and_signal() -> None:
    killed = AttemptRecord(
        2, "wasmtime", Outcome.KILLED, Reason.TIME_LIMIT, Rung.KILL, wait=("signal", 9),
        stopping_points=StoppingPoints(3, 0.5, None),
    )  # fmt: skip
    data = run_to_json(run_of(killed))["tasks"][0]["attempts"][0]
    assert (data["reason"], data["rung"], data["wait"]) == ("time_limit", "kill", {"signal": 9})
    assert data["stopping_points"] == {"passed": 3, "longest_gap_s": 0.5, "stopped_at": None}


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (2**53, 2**53), (2**53 + 1, "9007199254740993"), (-(2**63), "-9223372036854775808"),
        (float("nan"), "nan"), (float("-inf"), "-inf"), (0.1, 0.1), (1e300, 1e300), ("v128", "v128"),
    ],
)  # fmt: skip
def test_values_that_json_cannot_hold_exactly_are_strings(value: Any, written: Any) -> None:
    record = AttemptRecord(1, "wasmer", Outcome.COMPLETED, values=(value,), partial=(value,))
    data = run_to_json(run_of(record))["tasks"][0]["attempts"][0]
    assert data["values"] == data["partial"] == [written]


@given(st.text(), st.lists(st.one_of(st.integers(), st.floats(), st.text())))
def test_every_report_is_strict_json_in_utf_8(text: str, values: list[Any]) -> None:
    record = AttemptRecord(1, "wasmer", Outcome.EXITED, message=text + "\udc80", values=tuple(values))
    data = run_to_json(run_of(record))
    encoded = json.dumps(data, allow_nan=False, ensure_ascii=False).encode("utf-8")
    assert json.loads(encoded) == data


# Writing it.


@pytest.mark.parametrize("count", [0, 1, 2, 600])
def test_a_report_is_written_task_by_task_as_it_would_be_at_once(tmp_path: Path, count: int) -> None:
    tasks = FoldedTasks()
    for number in range(count):
        attempts = (ADD,) * (number % 3)
        tasks.append(TaskRecord(f'"{number}"\n]', True, Outcome.COMPLETED, attempts, "two\nlines"))
    record = dataclasses.replace(run(), tasks=tasks)
    write_report(tmp_path / "x.json", record)
    assert (tmp_path / "x.json").read_text() == json.dumps(run_to_json(record), indent=2) + "\n"


def test_a_report_that_json_cannot_hold_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    target.write_text("old")
    with pytest.raises(ProcstopError, match="cannot write the report"):
        write_report(target, run_of(dataclasses.replace(ADD, cpu_s=float("nan"))))
    assert target.read_text() == "old" and leftovers(tmp_path) == ["x.json"]


def leftovers(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("umask", [0, 0o022, 0o077], ids=oct)
def test_a_new_report_is_the_users_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    target = tmp_path / "x.json"
    before = os.umask(umask)
    try:
        write_report(target, run_of(ADD), version="0.1.0")
    finally:
        os.umask(before)
    assert json.loads(target.read_bytes()) == EXAMPLE
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert leftovers(tmp_path) == ["x.json"]


def test_a_file_that_is_there_is_replaced_and_keeps_its_permissions(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    target.write_text("old")
    target.chmod(0o600)
    old = target.open()
    write_report(target, run_of(ADD), version="0.1.0")
    assert json.loads(target.read_bytes()) == EXAMPLE
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with old:
        assert old.read() == "old", "a reader of the old file must not see the new one"


def test_a_symbolic_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "x.json"
    link.symlink_to("real/y.json")
    check_report_path(link)
    write_report(link, run_of(ADD))
    assert link.is_symlink()
    assert leftovers(tmp_path / "real") == ["y.json"]


def test_a_link_that_was_there_before_the_run_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "x.json"
    link.symlink_to("real/y.json")
    write_report(settle_report_path(link), run_of(ADD))
    assert link.is_symlink()
    assert leftovers(tmp_path / "real") == ["y.json"]


@pytest.mark.parametrize("laid", ["file", "directory"])
def test_a_link_that_was_laid_during_the_run_is_not_followed(tmp_path: Path, laid: str) -> None:
    reports, precious = tmp_path / "reports", tmp_path / "precious"
    reports.mkdir()
    precious.mkdir()
    (precious / "x.json").write_text("precious")
    settled = settle_report_path(reports / "x.json")
    if laid == "file":
        (reports / "x.json").symlink_to(precious / "x.json")
    else:
        reports.rename(tmp_path / "away")
        reports.symlink_to(precious)
    with pytest.raises(ProcstopError, match="a symbolic link was laid there during the run"):
        write_report(settled, run_of(ADD))
    assert (precious / "x.json").read_text() == "precious"


def test_a_path_that_cannot_be_replaced_is_settled_as_it_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in (str(tmp_path / "fifo"), "/dev/null", "/dev/stdout", "/dev/fd/1", "a\0b"):
        assert settle_report_path(name) == name


def test_a_name_as_long_as_names_can_be_is_written(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 255)
    write_report(target, run_of(ADD))
    assert leftovers(tmp_path) == [target.name]


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    target = tmp_path / "x.json"
    target.write_text("old")

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(f"procstop.reporting.report.os.{call}", full)
    with pytest.raises(ProcstopError) as caught:
        write_report(target, run_of(ADD))
    monkeypatch.undo()
    assert str(caught.value) == f'cannot write the report to "{target}": No space left on device'
    assert target.read_text() == "old"
    assert leftovers(tmp_path) == ["x.json"]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("procstop.reporting.report.os.fsync", press)
    with pytest.raises(KeyboardInterrupt):
        write_report(tmp_path / "x.json", run_of(ADD))
    assert leftovers(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_device_is_told_of() -> None:
    with pytest.raises(ProcstopError, match='to "/dev/full": No space left on device'):
        write_report("/dev/full", run_of(ADD))


def test_a_fifo_is_written_through(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    check_report_path(fifo)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    reader.start()
    write_report(fifo, run_of(ADD), version="0.1.0")
    reader.join()
    assert json.loads(read[0]) == EXAMPLE
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_an_open_descriptor_is_written_at_its_own_position(tmp_path: Path) -> None:
    with (tmp_path / "out.txt").open("w+b", buffering=0) as out:
        out.write(b"guest output\n")
        name = f"/dev/fd/{out.fileno()}"
        check_report_path(name)
        write_report(name, run_of(ADD), version="0.1.0")
        out.write(b"more\n")
        out.seek(0)
        first, *report, last = out.read().splitlines()
    assert (first, last) == (b"guest output", b"more")
    assert json.loads(b"\n".join(report)) == EXAMPLE
    assert leftovers(tmp_path) == ["out.txt"]


def test_paths_that_cannot_work_are_told_of_before_and_after(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, early in [
        (str(tmp_path), "it is a directory; name a file in it"),
        (str(tmp_path / "no" / "x.json"), f'there is no directory "{tmp_path / "no"}"; make it first'),
        (str(tmp_path / "file" / "x.json"), "Not a directory"),
        ("", "a file name is not empty and holds no NUL"),
        ("a\0b", "a file name is not empty and holds no NUL"),
        ("/dev/fd/987654", "Bad file descriptor"),
    ]:
        with pytest.raises(JobFileError) as caught:
            check_report_path(name)
        shown = name.replace("\0", "\\x00")
        assert str(caught.value) == f'--report: cannot write to "{shown}": {early}'
        with pytest.raises(ProcstopError, match="cannot write the report to"):
            write_report(name, run_of(ADD))


@pytest.mark.parametrize("protected", ["file", "directory"])
def test_write_protection_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protected: str) -> None:
    target = tmp_path / "x.json"
    target.write_text("old")
    refused = target if protected == "file" else tmp_path
    # The tests may run as root, whom no permission stops.
    monkeypatch.setattr("procstop.reporting.report.os.access", lambda path, mode: Path(path) != refused)
    with pytest.raises(JobFileError, match="may not be written"):
        check_report_path(target)
    if protected == "file":
        with pytest.raises(ProcstopError, match="Permission denied"):
            write_report(target, run_of(ADD))
    assert target.read_text() == "old"


def test_a_path_in_the_current_directory_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_report_path("x.json")
    assert leftovers(tmp_path) == [], "checking must leave nothing"
    write_report("x.json", run_of(ADD))
    assert leftovers(tmp_path) == ["x.json"]


def test_a_report_does_not_take_the_place_of_an_input(tmp_path: Path) -> None:
    job, new, link = tmp_path / "job.toml", tmp_path / "new.json", tmp_path / "link"
    job.write_text("")
    link.symlink_to(job)
    inputs = [("/dev/null", "the standard input"), (str(tmp_path / "gone"), "the module"), (str(job), "the job file")]
    for name in (job, link, tmp_path / "." / "job.toml"):
        with pytest.raises(JobFileError) as caught:
            check_report_path(name, inputs)
        assert str(caught.value) == f'--report: "{name}" is the job file; choose another name'
    check_report_path(new, inputs)
    check_report_path("/dev/null", inputs)
