"""Every procstop command that the README shows runs, and ends as expected."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.places import GUESTS, ROOT, WAIT_S

_BLOCKS = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
_LINES = [line for block in _BLOCKS for line in block.splitlines()]
COMMANDS = [line[2:].split("  #")[0].strip() for line in _LINES if line.startswith("$ ")]
ADD = '(module (func (export "run") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))'


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with the files that the README speaks of, and the command."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("words.txt"))
    (tmp_path / "in.txt").write_text("b\na\n")
    for name, text in (
        ("add.wasm", ADD),
        ("program.wasm", (GUESTS / "prints_args.wat").read_text()),
        ("words.wasm", (GUESTS / "copies_stdin.wat").read_text()),
    ):
        # A text is known by its first bytes, whatever its name.
        (tmp_path / name).write_text(text)
    (tmp_path / "job.toml").write_text('[[task]]\nname = "add"\nmodule = "add.wasm"\ncall = "run"\nargs = [1, 7]\n')
    command = tmp_path / "bin" / "procstop"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m procstop "$@"\n')
    command.chmod(0o755)
    return tmp_path


def test_readme_shows_commands_of_procstop_and_make_only() -> None:
    assert {command.split()[0] for command in COMMANDS} == {"procstop", "make"}
    assert {"run", "check", "inspect", "engines", "compile", "cache", "selftest"} <= {
        line.split()[1] for line in COMMANDS
    }


RUN = [line for line in COMMANDS if line.startswith("procstop ") and line != "procstop selftest"]
"""The selftest has tests of its own that run all of it."""


@pytest.mark.parametrize("line", RUN)
def test_command_of_the_readme_runs(directory: Path, line: str) -> None:
    search = os.pathsep.join([str(directory / "bin"), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        env={**os.environ, "PATH": search, "PYTHONPATH": str(ROOT)},
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert done.returncode == 0, done.stderr
