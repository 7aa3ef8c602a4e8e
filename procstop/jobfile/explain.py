"""Checks a table against its model and puts what pydantic found into sentences.

No text of pydantic's reaches the user as it is, save for kinds of errors that nobody has met yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from procstop.jobfile.schema import (
    NOT_ENFORCED,
    ConfigTable,
    ContainmentTable,
    DirTable,
    HeadTable,
    LimitsTable,
    NextTable,
    StdinTable,
    StopTable,
    TaskTable,
    TaskWorkersTable,
    WorkersTable,
)
from procstop.jobfile.values import TAGS
from procstop.jobfile.wording import closest, did_you_mean, key_path, line, listed, quoted, show

Place = tuple[Any, ...]
"""Keys and list indexes that lead from a table to a value."""

TableT = TypeVar("TableT", bound=BaseModel)

_INNER: dict[str, type[BaseModel]] = {
    "limits": LimitsTable,
    "stop": StopTable,
    "workers": WorkersTable,
    "containment": ContainmentTable,
    "strategy": NextTable,
    "on_interrupt": NextTable,
    "stdin": StdinTable,
    "dirs": DirTable,
}
_MUST_BE = {
    "string_type": "a text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
_HOW_TO_GIVE = {
    "name": "give the task a name of its own",
    "module": "name its .wasm or .wat file",
    "next": "write { next = 3 }",
    "path": "name the directory",
}
_EXAMPLES = {
    "limits": '{ time = "10s" }',
    "stop": '{ interrupt = "2s" }',
    "containment": '{ require = "full" }',
    "env": '{ LANG = "C" }',
    "dirs": '{ "/in" = "images" }',
    "imports": '{ "env.early_exit" = "exit" }',
    "stdin": '"in.txt" or { text = "..." }',
}
"""What the keys take that are most often given something else."""
_ALIASES = {
    "timeout": "limits.time",
    "depends_on": "needs",
    "jobs": "concurrency",
    "tasks": "task",
    "path": "module",
    "file": "module",
    "function": "call",
    "export": "call",
    "sandbox": "containment.sandbox",
    "cpu_time": "limits.cpu",
    "max_memory": "limits.memory",
    "nofile": "limits.open_files",
    "fsize": "limits.file_size",
    "pool": "workers.reuse",
    "max_tasks": "workers.reuse",
    "max_tasks_per_child": "workers.reuse",
    "max_tasks_per_worker": "workers.reuse",
    "maxtasksperchild": "workers.reuse",
}

_OF_THE_JOB = frozenset(WorkersTable.model_fields) - frozenset(TaskWorkersTable.model_fields)


def check(
    model: type[TableT], raw: Mapping[str, Any], *where: str, context: str | None = None
) -> tuple[TableT | None, list[str]]:
    """Check a table; return it and one line per problem, each beginning with `where`.

    What has problems is left out of the table that is returned, so that the rest can be checked further; it
    is None when something that must be there is among it.
    """
    try:
        return model.model_validate(dict(raw), context=context), []
    except ValidationError as error:
        problems: dict[str, None] = {}
        rest = raw
        for detail in error.errors(include_url=False):
            place = _place(detail["loc"], raw)
            problems[line(*where, key_path(place), _sentence(model, detail, place))] = None
            rest = _without(rest, _droppable(raw, place))
    try:
        return model.model_validate(dict(rest), context=context), list(problems)
    except ValidationError:
        return None, list(problems)


def unknown_key(model: type[BaseModel], place: Place) -> str:
    """The sentence for a key that the table at `place` does not have."""
    *above, key = place
    if above:
        return _unknown_inner_key(_inner(model, above[0]), above, key)
    if model is TaskTable and key in _OF_THE_JOB:
        return _belongs_to_the_job(key)
    if model is not ConfigTable and key not in _ALIASES and closest(key, [*model.model_fields, "task"]) is None:
        if key in TaskTable.model_fields and model is HeadTable:
            return "unknown here; it is a key of a task and goes below [[task]]"
        if key in HeadTable.model_fields and model is TaskTable:
            return "unknown here; it is a key of the job and goes above the first [table]"
    if model is ConfigTable and key in TaskTable.model_fields:
        return "unknown here; it is a key of a task and belongs in a job file"
    offer = [*model.model_fields, "task"] if model is HeadTable else list(model.model_fields)
    inner_keys = [
        f"{name}.{inner}"
        for name in ("limits", "stop", "workers", "containment")
        for inner in _inner(model, name).model_fields
    ]
    known = [*offer, *inner_keys]
    for dotted in known:
        if _ALIASES.get(key) == dotted or dotted.endswith(f".{key}"):
            return f"unknown key; did you mean {quoted(dotted)}?"
    return "unknown key" + did_you_mean(key, known, offer)


def meant_key(model: type[BaseModel], key: str) -> str | None:
    """The key of a table that was probably meant, which is itself if the table has it."""
    if key in model.model_fields:
        return key
    return _ALIASES.get(key) or closest(key, model.model_fields)


def _unknown_inner_key(table: type[BaseModel], above: Sequence[Any], key: str) -> str:
    """The sentence for an unknown key of a table inside the job's or a task's."""
    if list(above) == ["limits"] and key in NOT_ENFORCED:
        return (
            "not enforced by this version of procstop; leave it out (limits.cpu is a limit that works on every engine)"
        )
    if table is TaskWorkersTable and key in _OF_THE_JOB:
        return _belongs_to_the_job(key)
    guess = closest(key, table.model_fields)
    # Other pools' words for it are not alike.
    alias = _ALIASES.get(key, "")
    if alias.startswith(f"{key_path(above)}."):
        return f"unknown key; did you mean {quoted(alias)}?"
    if guess is None and key in HeadTable.model_fields:
        # In TOML a key after a [table] header belongs to that table, which surprises everybody once.
        return "unknown here; the job's own keys go above the first [table]"
    # A guest's path is no help in a guess.
    prefix = "" if table is DirTable else key_path(above) + "."
    if guess is not None:
        return f"unknown key; did you mean {quoted(prefix + guess)}?"
    names = [prefix + name for name in table.model_fields]
    return f"unknown key; there {'is' if len(names) == 1 else 'are'} {listed(names, 'and')}"


def _inner(model: type[BaseModel], name: str) -> type[BaseModel]:
    return TaskWorkersTable if name == "workers" and model is TaskTable else _INNER[name]


def _belongs_to_the_job(key: str) -> str:
    return f"belongs to the job, as {key} below [workers]; a task sets reuse only"


def _how_it_is_written(model: type[BaseModel], place: Place, kind: str, got: object) -> str:
    """What to write instead of a value of the wrong kind, as the end of a sentence; empty where that is plain."""
    if place == ("workers",):
        if model is TaskTable:
            return "; write { reuse = n }"
        return f"; how many attempts run side by side is {quoted('concurrency')}"
    if place == ("containment",) and isinstance(got, bool):
        return f"; write {{ sandbox = {show(got)} }}"
    if len(place) == 1 and place[0] in _EXAMPLES:
        return f"; as in {_EXAMPLES[place[0]]}"
    if kind == "list_type" and isinstance(got, (str, int, float)):
        return f"; write [{show(got)}]"
    if kind == "string_type" and isinstance(got, (int, float)) and place[0] in ("env", "name"):
        return f"; write {quoted(show(got))}"
    if kind == "int_type" and isinstance(got, str) and got.isdecimal() and len(got) < 10:
        return f"; write {int(got)}"
    if kind == "bool_type" and got in ("true", "false"):
        return f"; write {got} without quotes"
    return ""


def _droppable(raw: Any, place: Place) -> Place:
    """What goes when a value is bad: a list for its item, a table for a key that it misses."""
    for depth, key in enumerate(place):
        if not isinstance(raw, dict) or key not in raw:
            return place[:depth]
        raw = raw[key]
    return place


def _without(raw: Mapping[str, Any], place: Place) -> Mapping[str, Any]:
    """A copy without the value at a place, if it is still there."""
    if not place or place[0] not in raw:
        return raw
    key, *inner = place
    rest = {name: value for name, value in raw.items() if name != key}
    return {**rest, key: _without(raw[key], tuple(inner))} if inner else rest


def _place(loc: Sequence[Any], raw: Any) -> Place:
    """The location that pydantic gives, without the tags that are no keys of the file."""
    place: list[Any] = []
    here = raw
    for part in loc:
        inside = isinstance(here, dict) and part in here
        inside = inside or (isinstance(here, list) and isinstance(part, int) and part < len(here))
        if inside:
            here = here[part]
        elif part in TAGS:
            continue
        place.append(part)
    return tuple(place)


def _sentence(model: type[BaseModel], detail: Any, place: Place) -> str:
    kind, got = detail["type"], detail["input"]
    ctx = detail.get("ctx", {})
    if kind == "value_error":
        return str(ctx["error"])
    if kind == "extra_forbidden":
        return unknown_key(model, place)
    if kind == "missing":
        how = _HOW_TO_GIVE.get(place[-1])
        return "is missing" + (f"; {how}" if how else "")
    if kind in _MUST_BE:
        return f"must be {_MUST_BE[kind]}, got {show(got)}{_how_it_is_written(model, place, kind, got)}"
    if kind == "greater_than_equal":
        return f"must be a whole number of at least {ctx['ge']}, got {show(got)}"
    if kind == "less_than_equal":
        return f"must be a whole number of at most {ctx['le']}, got {show(got)}"
    message = str(detail["msg"])
    return f"{message[:1].lower()}{message[1:]}, got {show(got)}"
