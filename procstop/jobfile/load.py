"""From a job file, or from a command line, to a `Job` in which nothing is left to look up.

All problems are collected, and raised as one `JobFileError` with a line each. The order of work: read and
check each layer by itself (`layers`), check each [[task]] by itself, so that one broken key hides no other
problem, expand `each`, resolve `needs`, look for the files, and make the model's objects.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Union

from procstop.errors import JobFileError
from procstop.jobfile.entries import Entry, Files, tasks_of
from procstop.jobfile.explain import check
from procstop.jobfile.layers import Layer, config_layers, set_layer
from procstop.jobfile.needs import Expanded, Graph, Names, closure, cycle_text, find_cycles
from procstop.jobfile.read import read_table
from procstop.jobfile.schema import HeadTable, TaskTable
from procstop.jobfile.wording import line, printable, quoted, show
from procstop.model import Dir, Job, Stdin, Task, Value

StrPath = Union[str, "os.PathLike[str]"]

# Few enough digits for any 64-bit number; more stay a text, and the export's signature refuses it.
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][+-]?[0-9]{1,4})?|[+-]?(?:inf|nan)")


def load_job(
    path: StrPath,
    *,
    config: StrPath | None = None,
    overrides: Iterable[str] = (),
    tasks: Iterable[str] = (),
    user_config: bool = True,
) -> Job:
    """Read a job file into a job; raise `JobFileError` with everything that is wrong with it.

    `overrides` are texts as in "limits.time=5s". `tasks` chooses tasks or `each` entries by name and brings
    in what they need. Paths in the job are absolute. Modules are looked for and not read.
    """
    file = os.fsdecode(path)
    base, over, problems = _outer_layers(config, overrides, user_config)
    try:
        raw = read_table(file)
    except JobFileError as error:
        raise JobFileError([*problems, *error.problems]) from None
    return _job_of(raw, file, _absolute(os.path.dirname(file)), base, over, tuple(tasks), problems)


def single_job(
    module: StrPath,
    *,
    call: str = "_start",
    args: Sequence[Value] = (),
    config: StrPath | None = None,
    overrides: Iterable[str] = (),
    user_config: bool = True,
    dirs: Iterable[Dir] = (),
    env: Mapping[str, str] | None = None,
    stdin: Stdin | None = None,
    engine: str | None = None,
    host: StrPath | None = None,
    host_allow: Iterable[str] = (),
    imports: Mapping[str, str] | None = None,
) -> Job:
    """A job of one task for a module without a job file, named for it; settings come in the same layers.

    Paths are relative to the current directory. For any call but "_start", arguments that read as numbers
    become numbers.
    """
    base, over, problems = _outer_layers(config, overrides, user_config)
    file = os.fsdecode(module)
    name = os.path.splitext(os.path.basename(file))[0].strip() or "module"
    entry: dict[str, Any] = {"name": printable(name), "module": file, "call": call}
    entry["args"] = list(args) if call == "_start" else [_number_if_it_reads_as_one(arg) for arg in args]
    entry["env"] = dict(env or {})
    entry["dirs"] = {}
    for directory in dirs:
        if directory.guest in entry["dirs"]:
            problems.append(line(f"dirs.{quoted(directory.guest)}", "is given twice"))
        entry["dirs"][directory.guest] = {"path": directory.host, "write": directory.write}
    if stdin is not None:
        entry["stdin"] = {"path": stdin.path} if stdin.path is not None else {"text": stdin.text}
    if engine is not None:
        entry["engine"] = engine
    if host is not None:
        entry["host"] = os.fsdecode(host)
    if host_allow:
        entry["host_allow"] = list(host_allow)
    if imports is not None:
        entry["imports"] = dict(imports)
    return _job_of({"name": entry["name"], "task": [entry]}, None, _absolute(""), base, over, (), problems)


def _absolute(folder: str) -> str:
    try:
        return os.path.abspath(folder)
    except OSError:
        raise JobFileError(["the current directory is gone; go to another one"]) from None


def _outer_layers(
    config: StrPath | None, overrides: Iterable[str], user_config: bool
) -> tuple[Layer, Layer, list[str]]:
    base, problems = config_layers(config, user_config)
    over, more = set_layer(overrides)
    return base, over, problems + more


def _job_of(
    raw: Mapping[str, Any],
    file: str | None,
    folder: str,
    base: Layer,
    over: Layer,
    chosen: Sequence[str],
    problems: Sequence[str],
) -> Job:
    """Check a whole table and make the job of it, between the layers below and above it.

    `file` is None for a job that stands in no file; `problems` are those that the outer layers have.
    """
    where = printable(file) if file is not None else ""
    head, of_head = check(HeadTable, {key: value for key, value in raw.items() if key != "task"}, where)
    entries, of_entries = _entries(raw, where, file is None)
    layer = Layer.of(head).over(base)
    layers = [over.over(Layer.of(entry.table).over(layer)) for entry in entries]
    tasks, of_tasks = _tasks(entries, layers, folder, where, chosen)
    problems = [*problems, *of_head, *of_entries, *of_tasks]
    layer = over.over(layer)
    if problems:
        sound = Job(_name_from(file), _sound(tasks, entries), containment=layer.containment_model(), source=file)
        raise JobFileError(dict.fromkeys(problems), sound)
    return Job(
        name=layer.plain.get("name") or _name_from(file),
        tasks=tasks,
        concurrency=layer.plain.get("concurrency"),
        on_interrupt=layer.on_interrupt(),
        stop=layer.stop_policy(),
        limits=layer.limits_model(),
        workers=layer.workers_model(),
        containment=layer.containment_model(),
        source=file,
    )


def _sound(tasks: Sequence[Task], entries: Sequence[Entry]) -> list[Task]:
    """The tasks of which more can be said: what was refused in the others would be missed, and reported again."""
    maimed = {entry.name for entry in entries if entry.is_maimed}
    # Paths were looked for, and needs resolved; without the tasks left out here neither would come out the same.
    return [
        dataclasses.replace(task, needs=(), stdin=None, dirs=())
        for task in tasks
        if (task.group or task.name) not in maimed
    ]


def _tasks(
    entries: Sequence[Entry], layers: Sequence[Layer], folder: str, where: str, chosen: Sequence[str]
) -> tuple[list[Task], list[str]]:
    """The chosen tasks and those that they need, `each` expanded and `needs` resolved; and the problems."""
    names = Names((entry.name, entry.has_each) for entry in entries if entry.name is not None)
    graph = {entry.name: names.entries(entry.needs) for entry in entries if entry.name is not None}
    problems = _needs_problems(entries, names, graph)
    files = Files(folder, entries, graph)
    members: dict[str, list[Task]] = {}
    for entry, layer in zip(entries, layers, strict=True):
        made, found = tasks_of(entry, layer, files)
        problems += found
        if made and not found and entry.name is not None:
            members.setdefault(entry.name, made)
    expanded = Expanded({name: [task.name for task in made] for name, made in members.items()}, names)
    problems += [line(where, "name", problem) for problem in expanded.clashes()]
    for entry in entries:
        problems += [line(entry.where, "needs", problem) for problem in expanded.unknown(entry.needs)]
    for name in chosen:
        problems += [line(f"--task {printable(name)}", problem) for problem in expanded.unknown([name])]

    tasks = [task for made in members.values() for task in made]
    tasks = [_with_needs(task, expanded.tasks(task.needs)) for task in tasks]
    if chosen:
        kept = closure(expanded.tasks(chosen), {task.name: task.needs for task in tasks})
        tasks = [task for task in tasks if task.name in kept]
    return tasks, problems


def _with_needs(task: Task, needs: tuple[str, ...]) -> Task:
    # A copy checks itself again, which for many tasks takes a while.
    return task if task.needs == needs else dataclasses.replace(task, needs=needs)


def _entries(raw: Mapping[str, Any], where: str, single: bool) -> tuple[list[Entry], list[str]]:
    """The [[task]] entries, each checked by itself, and one line per problem."""
    items = raw.get("task", [])
    if isinstance(items, dict):
        return [], [line(where, "task", "must be a list of tables, got one table; write [[task]]")]
    if not isinstance(items, list):
        return [], [line(where, "task", f"must be a list of tables, each a [[task]], got {show(items)}")]
    if not items:
        return [], [line(where, "there is no [[task]], so nothing to run; add one with a name and a module")]
    entries, problems = [], []
    first_of: dict[str, int] = {}
    # A broken entry stays in the list: its name is known to the needs of others.
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict):
            problems.append(line(where, f"task #{number}", f"must be a table, got {show(item)}"))
            continue
        name = item.get("name")
        name = name if isinstance(name, str) and name else None
        label = "" if single else f"task {quoted(name)}" if name is not None else f"task #{number}"
        if name is not None and name in first_of:
            taken = f"is taken by task #{first_of[name]}; every task needs a name of its own"
            problems.append(line(where, f"task #{number}", "name", f"{quoted(name)} {taken}"))
            label = f"task #{number}"
        elif name is not None:
            first_of[name] = number
        table, found = check(TaskTable, item, *filter(None, (where, label)))
        problems += found
        entries.append(Entry(item, table, name, line(where, label)))
    return entries, problems


def _needs_problems(entries: Sequence[Entry], names: Names, graph: Graph) -> list[str]:
    """Lines for needs that go round in a circle."""
    where = {entry.name: entry.where for entry in reversed(entries)}
    problems = [
        line(entry.where, "needs", "a task cannot need itself; drop its own name")
        for entry in entries
        if entry.name is not None and entry.name in names.entries(entry.needs)
    ]
    for cycle in find_cycles(graph):
        text = f"tasks cannot wait for each other, {cycle_text(cycle)}; drop one of these needs"
        problems.append(line(where[cycle[0]], "needs", text))
    return problems


def _name_from(file: str | None) -> str:
    """A job's name when it gives none: the stem of its file."""
    return printable(os.path.splitext(os.path.basename(file or ""))[0]) or "job"


def _number_if_it_reads_as_one(arg: Value) -> Value:
    """The number that a word of a command line stands for, the word itself if it is none."""
    if isinstance(arg, str):
        if _INTEGER.fullmatch(arg):
            return int(arg)
        if _FLOAT.fullmatch(arg):
            return float(arg)
    return arg
