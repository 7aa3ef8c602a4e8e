"""WASI programs: arguments, environment, standard streams, directories, alike on both engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from procstop import Dir, JobFileError, Outcome, Stdin
from support.guests import Guests
from support.running import run_guest

ROFS, NOENT, NOTCAPABLE, BADF, ACCES, PERM = 69, 44, 76, 8, 2, 63


def test_program_gets_its_arguments(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["prints_args"], "_start", "one", "", "zwei \u20ac", "-3", engine=engine)
    assert attempt.stdout.tail.decode() == "prints_args.wasm\none\n\nzwei \u20ac\n-3\n"


def test_program_gets_the_tasks_environment_and_nothing_else(
    engine: str, guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "ours")
    attempt = run_guest(guests["prints_env"], engine=engine, env={"LANG": "C", "EMPTY": "", "E": "\u20ac=1"})
    assert attempt.stdout.tail.decode() == "LANG=C\nEMPTY=\nE=\u20ac=1\n"
    assert run_guest(guests["prints_env"], engine=engine).stdout.tail == b""


@pytest.mark.parametrize("text", ["", "hello\n", "\u20ac" * 100_000], ids=["nothing", "a line", "much"])
def test_program_reads_a_text_as_its_standard_input(engine: str, guests: Guests, text: str) -> None:
    attempt = run_guest(guests["copies_stdin"], engine=engine, stdin=Stdin(text=text))
    assert (attempt.outcome, attempt.stdout.bytes) == (Outcome.COMPLETED, len(text.encode()))
    assert text.encode().endswith(attempt.stdout.tail)


def test_program_reads_a_file_as_its_standard_input(engine: str, guests: Guests, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("from a file")
    attempt = run_guest(guests["copies_stdin"], engine=engine, stdin=Stdin(path=str(tmp_path / "in.txt")))
    assert attempt.stdout.tail == b"from a file"


def test_program_without_standard_input_sees_its_end(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["copies_stdin"], engine=engine)
    assert (attempt.outcome, attempt.stdout.bytes) == (Outcome.COMPLETED, 0)


def test_program_reads_from_a_directory(engine: str, guests: Guests, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("from a directory")
    attempt = run_guest(guests["prints_file"], engine=engine, dirs=[Dir("/data", str(tmp_path))])
    assert (attempt.outcome, attempt.stdout.tail) == (Outcome.COMPLETED, b"from a directory")


def test_file_that_is_not_there_is_the_programs_own_trouble(engine: str, guests: Guests, tmp_path: Path) -> None:
    attempt = run_guest(guests["prints_file"], engine=engine, dirs=[Dir("/data", str(tmp_path))])
    assert (attempt.outcome, attempt.exit_code) == (Outcome.EXITED, NOENT)


def test_program_without_directories_opens_nothing(engine: str, guests: Guests) -> None:
    attempt = run_guest(guests["prints_file"], engine=engine)
    assert (attempt.outcome, attempt.exit_code) == (Outcome.EXITED, BADF)


def test_directory_is_read_only_unless_writing_is_granted(engine: str, guests: Guests, tmp_path: Path) -> None:
    attempt = run_guest(guests["writes_file"], engine=engine, dirs=[Dir("/out", str(tmp_path))])
    assert attempt.outcome is Outcome.EXITED
    assert attempt.exit_code in (ROFS, NOTCAPABLE, ACCES, PERM)
    assert list(tmp_path.iterdir()) == []


def test_program_writes_where_writing_is_granted(engine: str, guests: Guests, tmp_path: Path) -> None:
    attempt = run_guest(guests["writes_file"], engine=engine, dirs=[Dir("/out", str(tmp_path), write=True)])
    assert attempt.outcome is Outcome.COMPLETED
    assert (tmp_path / "out.txt").read_text() == "written"


def test_link_out_of_a_directory_is_not_followed(engine: str, guests: Guests, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "in.txt").symlink_to("../secret")
    attempt = run_guest(guests["prints_file"], engine=engine, dirs=[Dir("/data", str(inside))])
    assert (attempt.outcome, attempt.stdout.bytes) == (Outcome.EXITED, 0)


def test_directory_that_is_not_there_is_refused(guests: Guests, tmp_path: Path) -> None:
    with pytest.raises(JobFileError, match="is not a directory"):
        run_guest(guests["prints_file"], dirs=[Dir("/data", str(tmp_path / "no"))], expect=Outcome.COMPLETED)
    with pytest.raises(JobFileError, match="does not exist"):
        run_guest(guests["copies_stdin"], stdin=Stdin(path=str(tmp_path / "no")), expect=Outcome.COMPLETED)


def test_text_module_runs_as_it_is(engine: str, guests: Guests) -> None:
    assert run_guest(guests.text("returns"), "run", 40, 2, engine=engine).values == (42,)
