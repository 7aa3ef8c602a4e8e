"""What is generated from the models for people and editors: the JSON schema, and defaults.toml."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from procstop.jobfile.schema import ConfigTable, ContainmentTable, JobTable, LimitsTable, StopTable, WorkersTable
from procstop.jobfile.units import format_duration, format_size
from procstop.model import Containment, Job, Limits, StopPolicy, Workers

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_WRITERS = {"start": format_duration, "open_files": str}
"""How the limits that have a default, and are no sizes, are written."""


class _Generator(GenerateJsonSchema):
    """Leaves out the nulls that the models have and TOML has not."""

    def nullable_schema(self, schema: Any) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        if schema.get("default") is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def job_schema() -> dict[str, Any]:
    """The JSON schema of a job file, for editors that check TOML while it is written."""
    schema = JobTable.model_json_schema(schema_generator=_Generator)
    title = {"title": "procstop job file", "description": "What `procstop run FILE.toml` runs."}
    return {"$schema": _DIALECT, **title, **{key: schema[key] for key in schema if key not in title}}


def job_schema_text() -> str:
    """The JSON schema as the text of config/job.schema.json."""
    return json.dumps(job_schema(), indent=2, ensure_ascii=False) + "\n"


def defaults_text() -> str:
    """The model's defaults as the text of config/defaults.toml; what has no default is commented out."""
    lines = _comment("What procstop does unless told otherwise. Copy what you want to change into your own")
    lines += _comment("configuration file, a --config file or a job file. Generated; do not edit.")
    lines += ["", *_entry(ConfigTable, "concurrency", Job.concurrency, "4")]
    lines += ["", *_entry(ConfigTable, "on_interrupt", Job.on_interrupt.kind.value, "")]
    lines += ["", *_comment(_description(ConfigTable, "stop")), "[stop]"]
    for grace in dataclasses.fields(StopPolicy):
        lines += _entry(StopTable, grace.name, format_duration(getattr(StopPolicy(), grace.name)), "")
    lines += ["", *_comment(_description(ConfigTable, "limits")), "[limits]"]
    for limit in dataclasses.fields(Limits):
        value = getattr(Limits(), limit.name)
        write: Any = _WRITERS.get(limit.name, format_size)
        lines += _entry(LimitsTable, limit.name, None if value is None else write(value), '"none"')
    lines += ["", *_comment(_description(ConfigTable, "workers")), "[workers]"]
    for setting in dataclasses.fields(Workers):
        value = getattr(Workers(), setting.name)
        lines += _entry(WorkersTable, setting.name, getattr(value, "value", value), "")
    lines += ["", *_comment(_description(ConfigTable, "containment")), "[containment]"]
    for setting in dataclasses.fields(Containment):
        lines += _entry(ContainmentTable, setting.name, getattr(Containment(), setting.name), '"full"')
    return "\n".join(lines) + "\n"


def write_files(folder: Path) -> list[Path]:
    """Write both files into a folder; return their paths."""
    files = {folder / "job.schema.json": job_schema_text(), folder / "defaults.toml": defaults_text()}
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    return list(files)


def _entry(table: Any, key: str, value: object, example: str) -> list[str]:
    """A key with its description above it; with `example` and as a comment when there is no default."""
    written = f"# {key} = {example}" if value is None else f"{key} = {json.dumps(value)}"
    return [*_comment(_description(table, key)), written]


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _description(table: Any, key: str) -> str:
    return str(table.model_fields[key].description)
