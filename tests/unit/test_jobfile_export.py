"""The models, the JSON schema and defaults.toml agree with the model; what is generated is current."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from procstop.jobfile import job_schema, load_job
from procstop.jobfile.__main__ import main
from procstop.jobfile.export import defaults_text, job_schema_text
from procstop.jobfile.layers import SETTABLE
from procstop.jobfile.schema import (
    CommonTaskTable,
    ConfigTable,
    JobTable,
    LimitsTable,
    SetTable,
    StopTable,
    TaskTable,
    TaskWorkersTable,
    WorkersTable,
)
from procstop.jobfile.units import format_duration, format_size
from procstop.jobfile.values import FUNCTIONS
from procstop.model import ENGINES, Job, Limits, OnInterrupt, Outcome, StopPolicy, Task, Workers

CONFIG = Path(__file__).parents[2] / "config"


def fields(model: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(model)}


def test_keys_of_the_job_file_are_the_fields_of_the_model() -> None:
    assert set(StopTable.model_fields) == fields(StopPolicy)
    assert set(LimitsTable.model_fields) == fields(Limits)
    assert set(WorkersTable.model_fields) == fields(Workers)
    assert set(TaskTable.model_fields) - {"each", "workers"} == fields(Task) - {"group", *TaskWorkersTable.model_fields}
    assert {key.replace("task", "tasks") for key in JobTable.model_fields} == fields(Job) - {"source"}
    assert set(ConfigTable.model_fields) == fields(Job) - {"name", "tasks", "source"}


def test_everything_shared_can_be_set_on_the_command_line() -> None:
    assert {key.partition(".")[0] for key in SETTABLE} == set(SetTable.model_fields)
    assert set(CommonTaskTable.model_fields) < fields(Task)


def test_files_in_config_are_current() -> None:
    hint = "run python -m procstop.jobfile --write config"
    assert (CONFIG / "job.schema.json").read_text(encoding="utf-8") == job_schema_text(), hint
    assert (CONFIG / "defaults.toml").read_text(encoding="utf-8") == defaults_text(), hint


def test_defaults_file_holds_every_default_of_the_model() -> None:
    written = dict(re.findall(r'^(?:# )?(\w+) = "?([^"\n]*)"?$', defaults_text(), flags=re.MULTILINE))
    stop, limits = StopPolicy(), Limits()
    expected = {field: format_duration(getattr(stop, field)) for field in fields(StopPolicy)}
    assert limits.start is not None
    assert limits.output is not None and limits.compile_memory is not None
    expected |= {"start": format_duration(limits.start), "time": "none", "output": format_size(limits.output)}
    expected |= {"compile_memory": format_size(limits.compile_memory)}
    expected |= dict.fromkeys(("cpu", "stall", "memory", "open_files", "file_size"), "none")
    expected |= {"require": "full", "sandbox": "true"}
    expected |= {"spawn": Workers().spawn.value, "reuse": str(Workers().reuse), "cache": "true"}
    expected |= {"on_interrupt": OnInterrupt().kind.value, "concurrency": "4"}
    assert written == expected
    commented_out = set(re.findall(r"^# (\w+) = ", defaults_text(), flags=re.MULTILINE))
    limits_unset = {"time", "cpu", "stall", "memory", "open_files", "file_size"}
    assert commented_out == {"concurrency", "require"} | limits_unset


def test_defaults_file_changes_nothing_as_a_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "add.wat").write_text("")
    job = tmp_path / "job.toml"
    job.write_text('[[task]]\nname = "a"\nmodule = "add.wat"\n')
    plain = load_job(job, user_config=False)
    assert load_job(job, config=CONFIG / "defaults.toml", user_config=False) == plain
    everything = tmp_path / "everything.toml"
    everything.write_text(defaults_text().replace("# time", "time"))
    assert load_job(job, config=everything, user_config=False) == plain


def _properties(schema: Any) -> Any:
    yield from schema.get("properties", {}).items()
    for table in schema.get("$defs", {}).values():
        yield from _properties(table)


def test_every_key_of_the_schema_is_described() -> None:
    assert [name for name, value in _properties(job_schema()) if not value.get("description")] == []


def test_schema_names_its_dialect_and_knows_no_null() -> None:
    schema = job_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "procstop job file"
    assert '"null"' not in job_schema_text()
    assert ": null" not in job_schema_text()


def test_schema_lists_the_words_that_the_model_has() -> None:
    task = job_schema()["$defs"]["TaskTable"]
    assert task["required"] == ["name", "module"]
    assert task["additionalProperties"] is False
    assert task["properties"]["engine"]["enum"] == list(ENGINES)
    assert task["properties"]["expect"]["oneOf"][0]["enum"] == [outcome.value for outcome in Outcome]
    assert task["properties"]["imports"]["additionalProperties"]["enum"] == list(FUNCTIONS)


@pytest.mark.parametrize("value", ["2s", "500ms", "1h30m", "1.5s", "0s", "30d", "none"])
def test_pattern_of_limits_takes_durations(value: str) -> None:
    pattern = job_schema()["$defs"]["LimitsTable"]["properties"]["time"]["pattern"]
    assert re.search(pattern, value)


@pytest.mark.parametrize("value", ["5", "5 s", "s", "", "5M", "x5s", "5sx"])
def test_pattern_of_limits_refuses_what_is_no_duration(value: str) -> None:
    limits = job_schema()["$defs"]["LimitsTable"]["properties"]
    assert not re.search(limits["time"]["pattern"], value)
    assert not re.search(limits["output"]["pattern"], value)


def test_writing_the_files_says_what_was_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--write", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"wrote {tmp_path}/job.schema.json",
        f"wrote {tmp_path}/defaults.toml",
    ]
    assert (tmp_path / "defaults.toml").read_text(encoding="utf-8") == defaults_text()


def test_writing_without_a_folder_prints_the_schema_and_bad_usage_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out == job_schema_text()
    assert main(["--wrote", "x"]) == 2
    assert main(["--write", str(tmp_path / "none")]) == 2
    assert "No such file" in capsys.readouterr().err
