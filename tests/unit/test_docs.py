"""The pages that are made from code are what the code says now."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from procstop import lifecycle
from procstop.lifecycle import State

ROOT = Path(__file__).parents[2]


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = ROOT / "docs" / "generate.py"
    spec = importlib.util.spec_from_file_location("docs_generate", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec.loader.exec_module(module)
    return module


def test_lifecycle_page_is_current(generate: ModuleType) -> None:
    assert generate.main(["--check"]) == 0, "run `make docs`"


@pytest.mark.parametrize("text", [None, "", "# Something else"])
def test_page_that_is_stale_or_missing_is_told_and_left_alone(
    generate: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    generate.TARGET = tmp_path / "lifecycle.md"
    if text is not None:
        generate.TARGET.write_text(text)
    assert generate.main(["--check"]) == 1
    assert "make docs" in capsys.readouterr().err
    assert text is None or generate.TARGET.read_text() == text


def test_page_is_written_and_then_current(generate: ModuleType, tmp_path: Path) -> None:
    generate.TARGET = tmp_path / "lifecycle.md"
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0


def test_changed_table_makes_the_page_stale(generate: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    rules: dict[type, Any] = dict(lifecycle.TABLE[State.KILLING])
    del rules[lifecycle.Ready]
    monkeypatch.setitem(lifecycle.TABLE, State.KILLING, rules)
    assert generate.main(["--check"]) == 1


def test_unknown_option_is_refused(generate: ModuleType) -> None:
    assert generate.main(["--chekc"]) == 2


def test_every_arrow_and_every_row_of_the_table_is_drawn(generate: ModuleType) -> None:
    page = generate.page()
    arrows = set(re.findall(r"^    (\w+) --> (\w+): ", page, re.MULTILINE))
    assert arrows == {
        (state.value, target.value)
        for state, rules in lifecycle.TABLE.items()
        for rule in rules.values()
        for target in rule.leads_to - {state}
    }
    rows = re.findall(r"^\| (\w+) \| ([a-z ]+) \| ", page, re.MULTILINE)[1:]
    assert len(rows) == len(set(rows)) == sum(map(len, lifecycle.TABLE.values()))


def test_deadlines_are_named_by_their_graces(generate: ModuleType) -> None:
    assert generate.deadlines() == {
        State.PENDING: "none",
        State.STARTING: "`limits.start`",
        State.RUNNING: "`limits.time`",
        State.INTERRUPTING: "`stop.interrupt`",
        State.PREEMPTING: "`stop.preempt`",
        State.EXITING: "1 s",
        State.TERMINATING: "`stop.terminate`",
        State.KILLING: "`stop.kill_wait`",
        State.OVER: "none",
    }
