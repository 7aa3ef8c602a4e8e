"""No example is left out: not by a test, not by a job, not by a Makefile, not by the index. Nothing is run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import test_examples

from procstop.jobfile import load_job
from procstop.linking import SIGNATURES
from procstop.model import Task
from procstop.module import read_module
from support.places import ROOT

EXAMPLES = ROOT / "examples"
JOB_FILES = sorted(EXAMPLES.rglob("job.toml"))
SCRIPTS = sorted((EXAMPLES / "python").glob("*.py"))
BINARIES = sorted(EXAMPLES.rglob("*.wasm"))
CALLS = {".c": r"\bprocstop_", ".rs": r"\bprocstop::", ".ts": r"\b"}
"""How a source in each language spells the functions of procstop."""


def folder(path: Path) -> str:
    return path.parent.name


def tasks() -> list[Task]:
    return [task for path in JOB_FILES for task in load_job(path).tasks]


def test_every_job_file_has_a_test() -> None:
    assert sorted(EXAMPLES.rglob("*.toml")) == JOB_FILES
    names = {f"test_{folder(path).replace('-', '_')}" for path in JOB_FILES}
    assert names <= set(vars(test_examples))


def test_every_script_has_a_test() -> None:
    assert [path.name for path in SCRIPTS] == sorted(test_examples.PRINTED)


def test_every_other_python_file_holds_host_functions_of_a_task() -> None:
    hosts = {Path(task.host) for task in tasks() if isinstance(task.host, str)}
    assert {path for path in EXAMPLES.rglob("*.py") if path not in SCRIPTS} == hosts


def test_every_module_is_run() -> None:
    run = {Path(task.module) for task in tasks()}
    for script in SCRIPTS:
        run |= {script.parent / name for name in re.findall(r'"(\w+\.(?:wat|wasm))"', script.read_text())}
    assert {*BINARIES, *EXAMPLES.rglob("*.wat")} == run


@pytest.mark.parametrize("path", BINARIES, ids=lambda path: f"{folder(path)}-{path.stem}")
def test_binary_has_a_source_and_a_command_that_builds_it(path: Path) -> None:
    assert path.name in (path.parent / "Makefile").read_text().split("all:")[1].splitlines()[0].split()
    source, calls = next(
        (path.with_suffix(suffix).read_text(), calls)
        for suffix, calls in CALLS.items()
        if path.with_suffix(suffix).is_file()
    )
    # What the source calls is what the binary imports.
    imported = {need.name for need in read_module(path.read_bytes()).imports if need.module == "procstop"}
    assert imported == {name for name in SIGNATURES if re.search(rf"{calls}{name}\(", source)}


@pytest.mark.parametrize("path", JOB_FILES, ids=folder)
def test_job_file_names_its_schema(path: Path) -> None:
    match = re.fullmatch(r"#:schema (\S+)", path.read_text().splitlines()[0])
    assert match and (path.parent / match[1]).resolve() == ROOT / "config" / "job.schema.json"


@pytest.mark.parametrize("name", ["procstop.h", "procstop.rs", "procstop.ts"])
def test_declarations_name_every_function(name: str) -> None:
    text = (EXAMPLES / "include" / name).read_text()
    assert not [function for function in SIGNATURES if not re.search(rf"\b{function}\b", text)]


def test_index_names_every_folder_and_script() -> None:
    index = (EXAMPLES / "README.md").read_text()
    names = {path.name + "/" for path in EXAMPLES.iterdir() if path.is_dir()} | {path.name for path in SCRIPTS}
    assert not [name for name in names if name not in index]


def test_no_file_holds_a_path_of_the_machine_it_was_made_on() -> None:
    for path in EXAMPLES.rglob("*"):
        if path.is_file() and path.name != "words.txt":
            assert not re.search(rb"/(?:home|root|work|Users)/", path.read_bytes()), path
