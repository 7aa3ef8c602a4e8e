"""What tasks share is looked up once, and comes out the same as if each had been looked at by itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from procstop.model import Dir, Job, Stdin, Task
from procstop.preflight.common import Common


@pytest.fixture
def module(tmp_path: Path) -> str:
    path = tmp_path / "m.wasm"
    path.write_bytes(b"\0asm\1\0\0\0")
    return str(path)


def common(*tasks: Task) -> Common:
    return Common(Job("job", tasks))


def test_module_is_read_once_by_whatever_path(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(os.path.dirname(module))
    tasks = [Task("a", module), Task("b", "m.wasm"), Task("c", os.path.join(".", "m.wasm"))]
    shared = common(*tasks)
    first, *others = [shared.source(task) for task in tasks]
    assert first.info is not None and all(other is first for other in others)


def test_host_file_is_read_once(module: str, tmp_path: Path) -> None:
    path = tmp_path / "host.py"
    path.write_text("imports = {'env.f': print}")
    tasks = [Task(str(number), module, host=str(path)) for number in range(2)]
    shared = common(*tasks)
    names, faults = shared.host(tasks[0])
    assert names.names == {"env.f"} and not faults
    assert shared.host(tasks[1])[0] is names


def test_mappings_of_host_functions_are_not_taken_for_each_other(module: str) -> None:
    hosts: list[dict[str, Any]] = [{"env.f": os.getcwd}, {"env.g": os.getcwd}]
    tasks = [Task(str(number), module, host=host) for number, host in enumerate(hosts)]
    shared = common(*tasks)
    assert [shared.host(task)[0].names for task in tasks] == [{"env.f"}, {"env.g"}]


def test_tables_are_shared_by_those_that_have_the_same(module: str) -> None:
    shared = common(Task("a", module))
    first = shared.table({"LANG": "C"})
    assert shared.table({"LANG": "C"}) is first == {"LANG": "C"}
    assert shared.table({"LANG": "en"}) == {"LANG": "en"} and shared.table({}) == {}


@pytest.mark.parametrize(
    ("path", "needs", "missing"),
    [
        ("out/made", ["first"], False),
        ("out/deep/made", ["first"], False),
        ("out/made", [], True),
        ("other/made", ["first"], True),
        ("outside", ["first"], True),
        ("there", [], False),
    ],
)
def test_path_may_be_missing_below_what_a_task_before_writes(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, needs: list[str], missing: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "there").mkdir()
    first = Task("first", module, dirs=[Dir("/out", "out", write=True), Dir("/other", "other")])
    task = Task("task", module, dirs=[Dir("/in", path)], stdin=Stdin(path=path), needs=needs)
    faults = common(first, task).missing(task)
    expected = [f'dirs: "{path}" is not a directory', f'stdin: "{path}" does not exist']
    assert faults == (expected if missing else [])
