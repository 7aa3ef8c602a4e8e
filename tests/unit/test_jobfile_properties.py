"""Whatever a file holds, loading it gives a job or a JobFileError with printable lines, never a traceback."""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procstop.errors import JobFileError
from procstop.jobfile import load_job, single_job
from procstop.jobfile.layers import SETTABLE, Layer, set_layer
from procstop.jobfile.load import _job_of
from procstop.jobfile.needs import closure, find_cycles
from procstop.jobfile.schema import JobTable, LimitsTable, StopTable, TaskTable
from procstop.jobfile.values import TAGS
from procstop.model import Job


@pytest.fixture(scope="module")
def folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as name:
        for file in ("add.wat", "a.png"):
            Path(name, file).write_text("")
        Path(name, "data").mkdir()
        yield name


KEYS = [
    *TaskTable.model_fields,
    *JobTable.model_fields,
    *LimitsTable.model_fields,
    *StopTable.model_fields,
    *TAGS,
    *("next", "path", "write", "text", "memory", "", "a", "/a", "env.x"),
]
TEXTS = st.one_of(
    st.sampled_from(
        ["a", "b", "add.wat", "data", "*.png", "{path}", "{foo}", "1s", "0s", "1MiB", "none", "stop", "exit"]
    ),
    st.sampled_from(["ignore", "next", "completed", "auto", "a[a.png]", "..", "/", "~", "", "[", "**"]),
    st.text(max_size=5),
)
LEAVES = st.one_of(
    TEXTS,
    st.integers(),
    st.floats(),
    st.booleans(),
    st.dates(),
    st.times(),
    st.datetimes(timezones=st.sampled_from([None, datetime.timezone.utc])),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=4)), inner, max_size=4),
    ),
    max_leaves=8,
)
ENTRIES = st.builds(
    lambda base, more: {**base, **more},
    st.fixed_dictionaries({"name": st.sampled_from("abc"), "module": st.just("add.wat")}),
    st.one_of(st.just({}), st.dictionaries(st.sampled_from(list(TaskTable.model_fields)), VALUES, max_size=3)),
)
TABLES = st.builds(
    lambda base, more: {**base, **more},
    st.one_of(st.just({}), st.fixed_dictionaries({"task": st.lists(ENTRIES, max_size=3)})),
    st.one_of(
        st.just({}),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=4)), VALUES, max_size=3),
    ),
)


def assert_explained(error: JobFileError) -> None:
    assert error.problems
    assert len(set(error.problems)) == len(error.problems)
    for problem in error.problems:
        assert problem.isprintable()
        # A sentence of pydantic's own would begin or end like these.
        for foreign in ("Input should", "input should", "Value error", "<text>: ", "validation error"):
            assert foreign not in problem


@given(TABLES, st.lists(TEXTS, max_size=2))
@settings(max_examples=400, deadline=None)
def test_any_table_is_a_job_or_is_explained(folder: str, raw: dict[str, Any], chosen: list[str]) -> None:
    try:
        job = _job_of(raw, "job.toml", folder, Layer(), Layer(), chosen, [])
    except JobFileError as error:
        assert_explained(error)
    else:
        assert isinstance(job, Job)
        known = {task.name for task in job.tasks}
        assert all(set(task.needs) <= known for task in job.tasks)
        assert all(task.limits is not None and task.stop is not None for task in job.tasks)


@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
@settings(deadline=None)
def test_any_bytes_are_a_job_or_are_explained(folder: str, content: bytes) -> None:
    path = Path(folder, "any.toml")
    path.write_bytes(content)
    try:
        load_job(path, user_config=False)
    except JobFileError as error:
        assert_explained(error)


@given(
    st.one_of(
        st.text(max_size=20),
        st.builds("{}={}".format, st.sampled_from(SETTABLE), st.one_of(TEXTS, st.integers().map(str))),
    )
)
def test_any_set_option_is_a_setting_or_is_explained(override: str) -> None:
    layer, problems = set_layer([override])
    assert bool(problems) != bool(layer.plain or layer.stop or layer.limits or layer.workers)
    assert all(problem.startswith("--set") and problem.isprintable() for problem in problems)


@given(st.lists(st.text(max_size=6), max_size=3), st.text(max_size=6), st.text(max_size=6))
@settings(deadline=None)
def test_any_command_line_is_a_job_or_is_explained(folder: str, args: list[str], call: str, module: str) -> None:
    for path in (module, f"{folder}/add.wat"):
        try:
            single_job(path, call=call, args=args, user_config=False)
        except JobFileError as error:
            assert_explained(error)


GRAPHS = st.dictionaries(st.sampled_from("abcdefg"), st.lists(st.sampled_from("abcdefg"), max_size=3))


@given(GRAPHS)
def test_circle_is_found_exactly_when_there_is_one(graph: dict[str, list[str]]) -> None:
    cycles = find_cycles(graph)
    for cycle in cycles:
        assert len(set(cycle)) == len(cycle) > 1
        assert all(after in graph[name] for name, after in zip(cycle, [*cycle[1:], cycle[0]], strict=True))
    without_loops = {name: [need for need in needs if need != name] for name, needs in graph.items()}
    assert bool(cycles) == any(name in closure(needs, without_loops) for name, needs in without_loops.items())
