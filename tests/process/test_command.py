"""The command as a user has it: exit codes, reports, streams, and the other commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from procstop import __version__
from procstop.supervisor import REPEAT_S
from support.command import Procstop, attempt
from support.disks import fill, own_disk
from support.guests import Guests
from support.places import ROOT, SUPPORT, WAIT_S
from support.watching import wait_until

Write = Callable[[str, str], Path]


def job_of(guests: Guests, engine: str, *tasks: tuple[str, str, str], head: str = "") -> str:
    """Write a job: (name, guest, further lines) for each task."""
    text = f"concurrency = 2\n{head}\n"
    for name, guest, lines in tasks:
        text += f'[[task]]\nname = "{name}"\nmodule = "{guests[guest]}"\nengine = "{engine}"\n{lines}\n'
    return text


SHORT = '[limits]\ntime = "300ms"\n[stop]\ninterrupt = "200ms"\nterminate = "200ms"\n'


def test_run_of_one_module_prints_and_reports(engine: str, guests: Guests, procstop_command: Procstop) -> None:
    answer = procstop_command(
        "run", guests["returns"], "--engine", engine, "--call", "run", "--report", "report.json", "1", "7"
    )
    assert (answer.code, answer.stdout) == (0, "8\n")
    assert "1 task: all as expected" in answer.stderr
    report = procstop_command.report()
    assert (report["schema"], report["exit_code"], report["reason"]) == ("procstop.report/1", 0, None)
    last = attempt(report)
    assert (last["outcome"], last["values"], last["engine"], last["wait"]) == ("completed", [8], engine, {"exit": 0})
    assert set(last["phases_s"]) == {"start", "run", "interrupt", "preempt", "terminate", "kill", "reap"}


def test_program_gets_arguments_after_two_dashes_and_our_standard_input(
    engine: str, guests: Guests, procstop_command: Procstop, tmp_path: Path
) -> None:
    answer = procstop_command("run", "--engine", engine, guests["prints_args"], "--", "--verbose", "-x", "7")
    assert answer.stdout == "prints_args.wasm\n--verbose\n-x\n7\n"
    (tmp_path / "in.txt").write_text("line one\nline two")
    with open(tmp_path / "in.txt") as stdin:
        answer = procstop_command("run", "--engine", engine, guests["copies_stdin"], stdin=stdin)
    assert answer.stdout == "line one\nline two"


def test_module_options_reach_the_module(
    engine: str, guests: Guests, procstop_command: Procstop, tmp_path: Path
) -> None:
    (tmp_path / "in.txt").write_text("content")
    answer = procstop_command("run", guests["prints_file"], "--engine", engine, "--dir", f"{tmp_path}::/data")
    assert answer.stdout == "content"
    answer = procstop_command("run", guests["writes_file"], "--engine", engine, "--write-dir", f"{tmp_path}::/data")
    assert (answer.code, (tmp_path / "out.txt").read_text()) == (0, "written")
    answer = procstop_command("run", guests["prints_env"], "--engine", engine, "--env", "A=1", "--env", "B=")
    assert answer.stdout == "A=1\nB=\n"


@pytest.mark.parametrize(
    ("tasks", "code"),
    [
        ([("a", "returns", 'call = "nothing"')], 0),
        ([("a", "traps", 'expect = "trapped"')], 0),
        ([("a", "spins", 'expect = "terminated"')], 0),
        ([("a", "traps", "")], 1),
        ([("a", "exits_3", "")], 1),
        ([("a", "spins", "")], 124),
        ([("a", "checks_in_loop", ""), ("b", "spins", "")], 124),
        ([("a", "spins", ""), ("b", "returns", 'call = "nothing"\nneeds = ["a"]')], 124),
        ([("a", "spins", ""), ("b", "traps", "")], 1),
    ],
)
def test_exit_code_says_how_the_run_went(
    engine: str, guests: Guests, procstop_command: Procstop, tasks: list[tuple[str, str, str]], code: int
) -> None:
    job = procstop_command.job(job_of(guests, engine, *tasks, head=SHORT))
    answer = procstop_command("run", job, "--report", "report.json")
    assert (answer.code, procstop_command.report()["exit_code"]) == (code, code), answer.stderr


def test_exit_code_of_a_run_that_its_user_stopped(engine: str, guests: Guests, procstop_command: Procstop) -> None:
    for number, reason in ((signal.SIGINT, "user"), (signal.SIGTERM, "shutdown"), (signal.SIGHUP, "shutdown")):
        command = procstop_command.start("run", guests["sleeps"], "--engine", engine, "--report", "report.json")
        command.wait_for("sleeping", "stdout")
        command.signal(number)
        answer = command.end()
        assert answer.code == 130, answer.stderr
        report = procstop_command.report()
        assert (report["reason"], attempt(report)["outcome"], attempt(report)["reason"]) == (
            reason,
            "interrupted",
            reason,
        )
        assert "interrupting what runs; no further task starts; next press: terminate what still runs" in answer.stderr


def test_signals_climb_the_ladder(engine: str, guests: Guests, procstop_command: Procstop) -> None:
    settings = [f"--set=stop.{key}=100s" for key in ("interrupt", "terminate")]
    host = SUPPORT / "deaf.py"
    command = procstop_command.start(
        "run", guests["calls_host_then_spins"], "--engine", engine, "--host", host, *settings, "--report", "report.json"
    )
    command.wait_for("deaf", "stdout")
    for text in ("next press: terminate what still runs", "next press: kill it at once", "killing what still runs"):
        # Two within 200 ms would be one.
        command.signal(signal.SIGTERM)
        command.wait_for(text)
        if "kill" not in text.split()[0]:
            _let_the_repeat_pass()
    assert command.end().code == 130
    assert attempt(procstop_command.report())["outcome"] == "killed"


def _let_the_repeat_pass() -> None:
    time.sleep(REPEAT_S * 1.5)


@pytest.mark.parametrize(
    ("args", "text", "problem"),
    [
        (["run", "nowhere.toml"], None, "nowhere.toml"),
        (["run", "nowhere.wasm"], None, "nowhere.wasm"),
        (["run", "nowhere.wasm", "--host-allow", "network"], None, "--host-allow: is for host functions"),
        (["run", "job.toml"], "[[task]\n", "job.toml"),
        (["run", "job.toml"], '[[task]]\nname = "a"\nmodule = "no.wasm"\n', "no.wasm"),
        (["run", "job.toml"], "[limits]\ntime = 5\n", "limits.time"),
        (["run", "job.toml", "--jobs", "0"], "", "--jobs"),
        (["run", "job.toml", "--engine", "v8"], "", "v8"),
        (["run", "job.toml", "--spawn", "server1"], "", 'got "server1"; did you mean "server"?'),
        (["selftest", "--engine", "wasmtim"], None, '\'--engine\': must be "auto", "wasmer" or "wasmtime"'),
        (["run", "job.toml", "--no-such-option"], "", "--no-such-option"),
        (["run"], None, "JOB.toml"),
        (["no-such-command"], None, "no-such-command"),
    ],
)
def test_usage_error_is_2_and_says_where(
    procstop_command: Procstop, args: list[str], text: str | None, problem: str
) -> None:
    if text is not None:
        procstop_command.job(text)
    answer = procstop_command(*args)
    assert (answer.code, answer.stdout) == (2, "")
    # A usage error stands in a box.
    said = " ".join(answer.stderr.replace("│", " ").split())
    assert problem in said and "Traceback" not in said and "Value error" not in said


def test_job_is_refused_as_a_whole_before_anything_runs(guests: Guests, procstop_command: Procstop) -> None:
    text = job_of(guests, "auto", ("good", "returns", 'call = "nothing"'), ("bad", "returns", 'call = "rum"'))
    answer = procstop_command("run", procstop_command.job(text), "--report", "report.json")
    assert answer.code == 2 and "good" not in answer.stderr
    assert 'task "bad": call: the module exports no function "rum"; did you mean "run"?' in answer.stderr
    assert not (procstop_command.directory / "report.json").exists()


def test_quiet_run_says_only_what_went_wrong(engine: str, guests: Guests, procstop_command: Procstop) -> None:
    # A module by itself is a filter: its output is what was wanted. A job's is not.
    answer = procstop_command("run", "-q", guests["prints_args"], "--engine", engine)
    assert (answer.code, answer.stdout, answer.stderr) == (0, "prints_args.wasm\n", "")
    answer = procstop_command("run", "-q", procstop_command.job(job_of(guests, engine, ("a", "prints_args", ""))))
    assert (answer.code, answer.stdout, answer.stderr) == (0, "", "")
    answer = procstop_command("run", "-q", guests["traps"], "--engine", engine)
    assert answer.code == 1
    assert 'traps: trapped: unreachable, in function 0 "deep"' in answer.stderr


def test_output_goes_to_files_and_not_to_the_terminal(
    engine: str, guests: Guests, procstop_command: Procstop, tmp_path: Path
) -> None:
    answer = procstop_command(
        "run", guests["writes_and_returns"], "--engine", engine, "--call", "run", "--output-dir", "out", "10"
    )
    assert (answer.code, answer.stdout) == (0, "")
    assert (tmp_path / "out" / "writes_and_returns.1.stdout").stat().st_size == 640


def test_module_is_a_filter_byte_for_byte(
    engine: str, guests: Guests, procstop_command: Procstop, tmp_path: Path
) -> None:
    (tmp_path / "in.bin").write_bytes(b"\x1b[2J\xff\r\0 no newline")
    with open(tmp_path / "in.bin", "rb") as stdin, open(tmp_path / "out.bin", "wb") as stdout:
        command = procstop_command.start(
            "run", "--quiet", "--engine", engine, guests["copies_stdin"], stdin=stdin, stdout=stdout.fileno()
        )
        answer = command.end()
    assert (answer.code, answer.stderr) == (0, "")
    assert (tmp_path / "out.bin").read_bytes() == b"\x1b[2J\xff\r\0 no newline"


# The report is written whole or not at all


@pytest.mark.parametrize("name", ["job.toml", "link.toml", "guest.wat", "config.toml", "in.txt"])
def test_report_does_not_take_the_place_of_an_input(procstop_command: Procstop, tmp_path: Path, name: str) -> None:
    (tmp_path / "guest.wat").write_text('(module (func (export "_start")))')
    (tmp_path / "config.toml").write_text("")
    (tmp_path / "in.txt").write_text("")
    job = procstop_command.job('[[task]]\nname = "a"\nmodule = "guest.wat"\nstdin = "in.txt"\n')
    (tmp_path / "link.toml").symlink_to(job)
    name = str(job) if name == "job.toml" else name
    before = (tmp_path / name).read_text()
    answer = procstop_command("run", job, "--config", "config.toml", "--report", name)
    assert (answer.code, answer.stdout) == (2, "")
    assert f'--report: "{name}" is the ' in answer.stderr and "; choose another name" in answer.stderr
    assert (tmp_path / name).read_text() == before


def test_report_into_a_directory_that_is_not_there_is_refused_before_the_run(
    engine: str, guests: Guests, procstop_command: Procstop
) -> None:
    answer = procstop_command("run", guests["prints_args"], "--engine", engine, "--report", "no/report.json")
    assert (answer.code, answer.stdout) == (2, "")
    assert 'there is no directory "no"; make it first' in answer.stderr


@pytest.mark.parametrize(("guest", "more"), [("traps", ()), ("spins", ("--set=limits.time=100ms",))])
def test_report_that_cannot_be_written_is_a_fault_however_the_guest_ended(
    engine: str, guests: Guests, procstop_command: Procstop, guest: str, more: tuple[str, ...]
) -> None:
    quick = [f"--set=stop.{key}=100ms" for key in ("interrupt", "terminate")]
    report = ("--report", "/dev/full")
    answer = procstop_command("run", guests[guest], "--engine", engine, *more, *quick, *report)
    assert answer.code == 3 and "cannot write the report" in answer.stderr


def test_report_that_cannot_be_written_leaves_a_stopped_run_stopped(
    engine: str, guests: Guests, procstop_command: Procstop
) -> None:
    command = procstop_command.start("run", guests["sleeps"], "--engine", engine, "--report", "/dev/full")
    command.wait_for("sleeping", "stdout")
    command.signal(signal.SIGINT)
    answer = command.end()
    assert answer.code == 130 and "cannot write the report" in answer.stderr


def test_report_that_cannot_be_written_is_a_fault(engine: str, guests: Guests, procstop_command: Procstop) -> None:
    answer = procstop_command("run", guests["prints_args"], "--engine", engine, "--report", "/dev/full")
    assert answer.code == 3
    assert 'error: cannot write the report to "/dev/full": No space left on device' in answer.stderr
    assert "prints_args.wasm" in answer.stdout


def test_report_on_a_full_disk_leaves_the_old_one_as_it_was(
    engine: str, guests: Guests, procstop_command: Procstop, tmp_path: Path
) -> None:
    with own_disk(tmp_path / "disk") as disk:
        (disk / "report.json").write_text("old")
        fill(disk)
        answer = procstop_command("run", guests["returns"], "--engine", engine, "--report", disk / "report.json")
        assert answer.code == 3
        assert "cannot write the report" in answer.stderr and "No space left" in answer.stderr
        assert (disk / "report.json").read_text() == "old"
        assert sorted(path.name for path in disk.iterdir()) == ["filler", "report.json"]


def test_output_that_a_full_disk_does_not_take_is_told_by_error_code_and_report(
    guests: Guests, procstop_command: Procstop, tmp_path: Path
) -> None:
    """Also with -q, which says nothing of what went well."""
    with own_disk(tmp_path / "disk") as disk:
        (disk / "out").mkdir()
        fill(disk)
        where = ("--output-dir", disk / "out", "--report", tmp_path / "report.json")
        answer = procstop_command("run", "-q", guests["prints_args"], *where, "x" * 20_000)
        assert answer.code == 3
        assert answer.stderr.startswith("error: prints_args: cannot write ") and "No space left" in answer.stderr
    stdout = attempt(json.loads((tmp_path / "report.json").read_text()))["stdout"]
    assert (stdout["truncated"], stdout["error"]) == (True, "No space left on device")


def test_standard_output_that_is_full_is_told_by_other_commands_too() -> None:
    script = f"exec {sys.executable} -m procstop engines > /dev/full"
    done = subprocess.run(["sh", "-c", script], stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=WAIT_S)
    assert (done.returncode, done.stderr) == (3, "error: cannot write all output: No space left on device\n")


def test_command_does_not_start_where_processes_cannot_be_told_apart() -> None:
    script = (
        "from procstop import cli, platforms\n"
        "cli.check_platform = lambda: platforms.check_platform('linux', '/nowhere')\n"
        "cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=WAIT_S)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("procstop: /nowhere is not mounted here") and done.stderr.count("\n") == 1


def test_report_can_go_to_standard_output(engine: str, guests: Guests, procstop_command: Procstop) -> None:
    answer = procstop_command("run", guests["returns"], "--engine", engine, "--report", "/dev/stdout")
    assert json.loads(answer.stdout)["tasks"][0]["outcome"] == "completed"


# Streams that are closed


def test_reader_that_left_costs_nothing_but_the_output(engine: str, guests: Guests, procstop_command: Procstop) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        command = procstop_command.start(
            "run", guests["writes_and_returns"], "--engine", engine, "--call", "run", "5000", stdout=write
        )
    finally:
        os.close(write)
    answer = command.end()
    assert "Traceback" not in answer.stderr and "internal error" not in answer.stderr
    assert answer.code in (0, 1)


def test_reader_that_stands_still_does_not_stop_a_stop(engine: str, guests: Guests, procstop_command: Procstop) -> None:
    """Nobody reads our output, which fills its pipe; the guest's time limit holds all the same."""
    read, write = os.pipe()
    command = procstop_command.start(
        "run",
        guests["writes_forever"],
        "--engine",
        engine,
        "--set=limits.time=500ms",
        "--report",
        "report.json",
        stdout=write,
    )
    os.close(write)
    report = procstop_command.directory / "report.json"
    wait_until(report.exists, "the report is written")
    assert attempt(procstop_command.report())["reason"] in ("time_limit", "output_limit")
    os.close(read)
    command.end()


def test_closed_standard_streams_are_survived(engine: str, guests: Guests, procstop_command: Procstop) -> None:
    command = [sys.executable, "-m", "procstop", "run", guests["writes_then_spins"], "--engine", engine]
    command += ["--set=limits.time=300ms", "--report", "report.json"]
    shell = f"exec {' '.join(command)} <&- >&- 2>&-"
    done = subprocess.run(
        ["sh", "-c", shell], cwd=procstop_command.directory, env=procstop_command.environment, timeout=WAIT_S
    )
    last = attempt(procstop_command.report())
    assert (done.returncode, last["outcome"]) == (124, "terminated")
    assert (last["stdout"]["bytes"], last["stderr"]["bytes"]) == (13, 13)


# The other commands


def test_check_finds_nothing_wrong_and_says_what_would_run(guests: Guests, procstop_command: Procstop) -> None:
    tail = ("tail", "two_memories", 'call = "run"')
    text = job_of(guests, "auto", ("sum", "returns", 'call = "run"\nargs = [1, 2]'), tail)
    answer = procstop_command("check", procstop_command.job(text))
    assert (answer.code, answer.stderr) == (0, "")
    assert "2 tasks, nothing wrong" in answer.stdout
    assert "tail  wasmtime: wasmer cannot run it" in answer.stdout


def test_check_finds_everything_at_once_and_runs_nothing(guests: Guests, procstop_command: Procstop) -> None:
    text = job_of(
        guests,
        "auto",
        ("args", "returns", 'call = "run"\nargs = [1]'),
        ("imports", "needs_unknown_import", ""),
        ("name", "returns", 'call = "rum"'),
    )
    answer = procstop_command("check", procstop_command.job(text))
    assert (answer.code, answer.stdout) == (2, "")
    for said in ("run takes (i32, i32), got 1 value", "nobody_has_this", 'did you mean "checkpoint"?', '"rum"'):
        assert said in answer.stderr


def test_inspect_shows_what_a_module_says_of_itself(guests: Guests, procstop_command: Procstop) -> None:
    answer = procstop_command("inspect", guests["sleeps"])
    assert answer.code == 0
    for said in (
        "WASI: wasi_snapshot_preview1",
        "poll_oneoff  (i32, i32, i32, i32) -> i32  <- wasi, a stopping point",
        "nap  (i64) -> i32",
        "missing: none",
        "wasmtime: can run it",
    ):
        assert said in answer.stdout
    answer = procstop_command("inspect", guests["needs_unknown_import"])
    assert "somewhere.nobody_has_this  (i32) -> i64  <- MISSING" in answer.stdout
    assert 'procstop has no such function; did you mean "checkpoint"?' in answer.stdout
    assert "wasmtime: has the proposals it needs" in answer.stdout and "can run it" not in answer.stdout


@pytest.mark.parametrize("make", ["empty", "garbage", "noise", "component"])
def test_inspect_of_what_is_no_module_is_refused(guests: Guests, procstop_command: Procstop, make: str) -> None:
    answer = procstop_command("inspect", getattr(guests, make)())
    assert answer.code == 2
    assert answer.stderr.startswith("error: ") and f"{make}.wasm" in answer.stderr


def test_engines_says_what_is_here(procstop_command: Procstop) -> None:
    answer = procstop_command("engines")
    assert answer.code == 0
    assert "wasmtime: " in answer.stdout and "wasmer: " in answer.stdout
    if sys.version_info >= (3, 11):
        assert "wheels for CPython up to 3.10 only" in answer.stdout


def test_version_and_help(procstop_command: Procstop) -> None:
    answer = procstop_command("--version")
    assert (answer.code, answer.stdout) == (0, f"procstop {__version__}\n")
    answer = procstop_command("run", "--help")
    assert answer.code == 0 and "procstop run job.toml" in answer.stdout


def test_each_makes_a_task_of_every_match(
    engine: str, guests: Guests, procstop_command: Procstop, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("b", "a", "c"):
        (tmp_path / "in" / f"{name}.txt").write_text(f"this is {name}")
    lines = 'each = "in/*.txt"\nstdin = "{path}"\n'
    text = job_of(
        guests,
        engine,
        ("copy", "copies_stdin", lines),
        ("after", "prints_args", 'needs = ["copy"]'),
    )
    answer = procstop_command("run", procstop_command.job(text), "--jobs", "1", "--report", "report.json")
    assert answer.code == 0, answer.stderr
    tasks = [one["task"] for one in procstop_command.report()["tasks"]]
    assert tasks == ["copy[in/a.txt]", "copy[in/b.txt]", "copy[in/c.txt]", "after"]
    assert "copy[in/b.txt] | this is b" in answer.stdout


def test_task_option_runs_a_task_and_what_it_needs(engine: str, guests: Guests, procstop_command: Procstop) -> None:
    text = job_of(
        guests,
        engine,
        ("first", "returns", 'call = "nothing"'),
        ("second", "returns", 'call = "nothing"\nneeds = ["first"]'),
        ("third", "traps", ""),
    )
    job = procstop_command.job(text)
    answer = procstop_command("run", job, "--task", "second", "--report", "report.json")
    assert answer.code == 0
    assert [one["task"] for one in procstop_command.report()["tasks"]] == ["first", "second"]
    assert procstop_command("run", job, "--task", "secnd").code == 2


def test_guest_cannot_write_to_our_terminal_raw(engine: str, guests: Guests, procstop_command: Procstop) -> None:
    """A name with escape sequences in it is shown, not obeyed."""
    text = f'[[task]]\nname = "red\\u001b[31m\\nx"\nmodule = "{guests["traps"]}"\nengine = "{engine}"\n'
    answer = procstop_command("run", procstop_command.job(text))
    assert answer.code in (1, 2) and "\x1b" not in answer.stderr + answer.stdout


@pytest.mark.parametrize(
    "command",
    [
        *((), ("run",), ("check",), ("inspect",), ("engines",), ("selftest",), ("compile",)),
        *(("cache", name) for name in ("list", "prune", "clear", "where")),
    ],
)
def test_examples_of_a_command_stand_on_lines_of_their_own(
    procstop_command: Procstop, command: tuple[str, ...]
) -> None:
    answer = procstop_command(*command, "--help", env={"COLUMNS": "80", "TERM": "dumb"})
    assert answer.code == 0 and max(map(len, answer.stdout.splitlines())) <= 80
    _, _, examples = answer.stdout.partition("Examples:")
    shown = [line.strip() for line in examples.partition("╭")[0].splitlines() if line.strip()]
    assert shown and all(line.startswith(" ".join(("procstop", *command))) for line in shown)
    assert all(line.count("procstop ") == 1 for line in shown)


def test_reuse_that_has_no_effect_is_noticed(guests: Guests, procstop_command: Procstop, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("")
    keys = 'call = "nothing"\nworkers.reuse = 5\n'
    each, plain = f'{keys}each = "*.txt"\n', 'call = "nothing"'
    tasks = [("lone", "returns", keys), ("each", "returns", each), ("plain", "returns", plain)]
    job = procstop_command.job(job_of(guests, "auto", *tasks))
    note = f'notice: {job}: task "lone": workers.reuse has no effect: only the tasks of one `each` entry share workers'
    answer = procstop_command("check", job)
    assert answer.code == 0 and answer.stdout.splitlines()[-1] == note and answer.stdout.count("notice") == 1
    answer = procstop_command("run", job)
    assert answer.code == 0 and answer.stderr.splitlines()[0] == note and answer.stderr.count("no effect") == 1
    assert procstop_command("run", "--quiet", job).stderr == ""
    # What is said for all tasks is for those that it is of use to.
    assert "no effect" not in procstop_command("check", job, "--set", "workers.reuse=9").stdout
