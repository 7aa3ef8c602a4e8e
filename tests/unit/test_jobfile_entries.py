"""A file that is missing may come from a task before; who comes before is found out without a walk for each file."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from procstop.jobfile.entries import Entry, Files
from procstop.jobfile.needs import MOST_COMPARISONS, Expanded, Names, closure
from procstop.jobfile.schema import TaskTable

FOLDERS = ("a", "a/b", "c")


def entry(name: str, writes: list[str]) -> Entry:
    dirs = {f"/{folder}": {"path": folder, "write": True} for folder in writes}
    raw = {"name": name, "module": "m.wat", "dirs": dirs}
    return Entry(raw, TaskTable.model_validate(raw), name, name)


@st.composite
def jobs(draw: st.DrawFn) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Who needs whom, without cycles, and who writes where; in a shuffled order."""
    size = draw(st.integers(1, 7))
    names = [f"t{number}" for number in range(size)]
    needs = {name: [one for one in names[:number] if draw(st.booleans())] for number, name in enumerate(names)}
    writes = {name: draw(st.lists(st.sampled_from(FOLDERS), unique=True, max_size=2)) for name in names}
    return {name: needs[name] for name in draw(st.permutations(names))}, writes


@given(jobs(), st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_file_may_be_missing_exactly_where_a_task_before_writes(
    tmp_path: Path, job: tuple[dict[str, list[str]], dict[str, list[str]]], data: st.DataObject
) -> None:
    needs, writes = job
    entries = {name: entry(name, writes[name]) for name in needs}
    files = Files(str(tmp_path), list(entries.values()), needs)
    questions = [(name, path) for name in needs for path in ("a/x", "a/b/x", "c/x", "x", "a")]
    for name, path in data.draw(st.permutations(questions)):
        before = closure(needs[name], needs)
        above = [os.path.join(folder, "") for one in before for folder in writes[one]]
        problem = files.problem(entries[name], path, "file")
        assert (problem is None) == path.startswith(tuple(above)), (name, path)


def test_first_of_many_unknown_names_get_a_guess() -> None:
    names = Names((f"task{number}", False) for number in range(1000))
    expanded = Expanded({name: [name] for name in names.all()}, names)
    problems = expanded.unknown(f"tusk{number}" for number in range(MOST_COMPARISONS // 1000 + 1))
    assert problems[0] == 'no task is called "tusk0"; did you mean "task0"?'
    assert problems[-1].startswith('no task is called "tusk') and "did you mean" not in problems[-1]
