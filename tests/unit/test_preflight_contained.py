"""What keeps guests inside on a machine, and whether that is enough for a job."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from procstop import Containment, InvalidValue, Level, Limits, sandbox
from procstop.errors import JobFileError
from procstop.jobfile import load_job
from procstop.module import Memory, ModuleInfo
from procstop.preflight import load_plan
from procstop.preflight.contained import (
    MOST_LOOKED_AT,
    barred,
    contained,
    is_open_to_nobody,
    too_little,
    too_little_memory,
)
from procstop.sandbox import Support

FULL, NO_LANDLOCK, BARE = Support(7, True), Support(0, True), Support(0, False)


def test_all_layers_are_full_containment() -> None:
    assert contained(Containment(), FULL).level is Level.FULL
    assert contained(Containment(), FULL).missing == ()


@pytest.mark.parametrize("support", [NO_LANDLOCK, Support(7, False), BARE])
def test_layer_that_is_not_there_makes_it_basic_and_is_named(support: Support) -> None:
    found = contained(Containment(), support)
    assert found.level is Level.BASIC
    assert found.missing == support.missing != ()


def test_sandbox_that_is_left_open_makes_it_basic() -> None:
    found = contained(Containment(sandbox=False), FULL)
    assert found.level is Level.BASIC
    assert found.missing == ("the sandbox is left open, since containment.sandbox is false",)


def lay_out(directory: Path, *paths: str) -> None:
    """Make directories and files that everybody may use; what ends in a slash is a directory."""
    for path in paths:
        place = directory / path
        if path.endswith("/"):
            place.mkdir()
            place.chmod(0o777)
        else:
            place.write_text("")
            place.chmod(0o666)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that everybody may reach, unlike those for tests."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    directory.chmod(0o777)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize("write", [False, True])
def test_directory_is_open_to_nobody_if_all_in_it_is(open_directory: Path, write: bool) -> None:
    lay_out(open_directory, "a", "below/", "below/b")
    (open_directory / "link").symlink_to("/etc/shadow")
    assert is_open_to_nobody(str(open_directory), write)


@pytest.mark.parametrize(
    ("path", "mode", "write"),
    [
        ("", 0o750, False), ("", 0o755, True), ("", 0o776, False), ("a", 0o640, False), ("a", 0o644, True),
        ("below", 0o700, False), ("below", 0o775, True), ("below/b", 0o600, False),
        ("", 0o1777, True), ("below", 0o1777, True),
    ],
)  # fmt: skip
def test_directory_with_one_thing_that_is_closed_is_not(
    open_directory: Path, path: str, mode: int, write: bool
) -> None:
    lay_out(open_directory, "a", "below/", "below/b")
    (open_directory / path).chmod(mode)
    assert not is_open_to_nobody(str(open_directory), write)


def test_directory_below_one_that_is_closed_or_with_too_much_in_it_or_that_is_not_there_is_not(
    open_directory: Path,
) -> None:
    lay_out(open_directory, "outer/", "outer/inner/")
    assert is_open_to_nobody(str(open_directory / "outer" / "inner"), False)
    lay_out(open_directory, *(f"outer/inner/{n}" for n in range(MOST_LOOKED_AT + 1)))
    assert not is_open_to_nobody(str(open_directory / "outer" / "inner"), False)
    (open_directory / "outer").chmod(0o700)
    assert not is_open_to_nobody(str(open_directory / "outer" / "inner"), False)
    assert not is_open_to_nobody(str(open_directory / "none"), False)


@pytest.mark.parametrize(
    ("require", "support", "enough"),
    [
        (Level.FULL, FULL, True),
        (Level.FULL, NO_LANDLOCK, False),
        (Level.BASIC, NO_LANDLOCK, True),
        (Level.NONE, BARE, True),
        (None, BARE, True),
    ],
)
def test_job_that_requires_more_than_there_is_is_refused(require: Level | None, support: Support, enough: bool) -> None:
    wanted = Containment(require=require)
    problems = too_little(wanted, contained(wanted, support))
    assert (problems == []) is enough
    if not enough:
        assert problems[0].startswith('containment.require is "full", and there is only "basic": this kernel')


@pytest.mark.parametrize(
    ("tasks", "problems"),
    [
        (
            {"a": "", "b": "args = [true]\n", "c": ""},
            ["b: args[0]: must be a number", "a: containment", "c: containment"],
        ),
        ({"a": "args = [true]\n", "b": "retries = -1\n"}, ["a: args[0]", "b: retries", "b: containment"]),
        ({"a": "args = [true]\n", "b": 'stdin = "gone"\n'}, ["a: args[0]", "b: stdin", "containment"]),
    ],
)
def test_lack_of_containment_is_told_with_all_other_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: dict[str, str], problems: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sandbox, "probe", lambda: NO_LANDLOCK)
    (tmp_path / "m.wasm").write_bytes(b"\0asm\1\0\0\0\1\4\1`\0\0\3\2\1\0\7\5\1\1f\0\0\n\4\1\2\0\v")
    text = '[containment]\nrequire = "full"\n'
    for name, keys in tasks.items():
        text += f'[[task]]\nname = "{name}"\nmodule = "m.wasm"\ncall = "f"\n{keys}'
    (tmp_path / "job.toml").write_text(text)
    with pytest.raises(JobFileError) as caught:
        load_plan(lambda: load_job("job.toml", user_config=False))
    told = [
        problem.removeprefix("job.toml: ").replace('task "', "").replace('"', "") for problem in caught.value.problems
    ]
    assert len(told) == len(problems) and all(map(str.startswith, told, problems)), told


def test_host_functions_that_may_reach_all_files_make_it_basic() -> None:
    found = contained(Containment(), FULL, allowed=("files",))
    assert found.level is Level.BASIC and "host_allow" in found.missing[0]
    assert list(barred(Containment(), FULL, True, ("files",))) == ["wasmer"]


@pytest.mark.parametrize(
    ("wanted", "support", "has_dirs", "names"),
    [
        (Containment(), FULL, True, []),
        (Containment(), NO_LANDLOCK, True, ["wasmer"]),
        (Containment(sandbox=False), FULL, True, ["wasmer"]),
        (Containment(), NO_LANDLOCK, False, []),
        (Containment(require=Level.BASIC), NO_LANDLOCK, True, []),
        (Containment(require=Level.NONE, sandbox=False), FULL, True, []),
    ],
)
def test_engine_that_nobody_mends_gets_no_directories_without_landlock(
    wanted: Containment, support: Support, has_dirs: bool, names: list[str]
) -> None:
    assert list(barred(wanted, support, has_dirs)) == names


@pytest.mark.parametrize(
    ("memories", "limit", "needed"),
    [
        ((), 1, None),
        ((Memory(1, None),), None, None),
        ((Memory(1, None),), 1 << 16, None),
        ((Memory(1, None),), 1, "64KiB"),
        ((Memory(16, None), Memory(16, None)), 1 << 20, "2MiB"),
    ],
)
def test_memory_that_a_module_begins_with_must_be_granted(
    memories: tuple[Memory, ...], limit: int | None, needed: str | None
) -> None:
    info = ModuleInfo((), {}, None, memories, frozenset(), None, 8)
    problems = too_little_memory(info, Limits(memory=limit))
    assert len(problems) == (needed is not None)
    assert all(f'its memories begin with {needed}; give "{needed}" or more' in problem for problem in problems)


def test_words_of_a_job_file_are_taken() -> None:
    assert Containment(require="full").require is Level.FULL  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match=r'containment\.require: must be one of full, basic, none, got "all"|got'):
        Containment(require="all")  # type: ignore[arg-type]
