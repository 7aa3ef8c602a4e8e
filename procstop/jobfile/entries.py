"""From one checked [[task]] to the model's tasks: one, or with `each` one for every file that matches."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from procstop.errors import InvalidValue
from procstop.jobfile.each import matches, replace, token_problems, tokens_of
from procstop.jobfile.explain import meant_key
from procstop.jobfile.layers import Layer
from procstop.jobfile.needs import Graph
from procstop.jobfile.schema import DirTable, StdinTable, TaskTable
from procstop.jobfile.wording import key_path, line, quoted
from procstop.model import Dir, Outcome, Stdin, Task, same_places

_DECISIVE = frozenset({"module", "call", "args", "imports", "host"})


@dataclass(frozen=True)
class Entry:
    """A [[task]] as written. `table` is None when it is too broken to look at its files.

    `where` begins the lines of its problems: the file and the task.
    """

    raw: Mapping[str, Any]
    table: TaskTable | None
    name: str | None
    where: str

    @property
    def has_each(self) -> bool:
        """Whether it stands for a task per file."""
        return "each" in self.raw

    @property
    def is_maimed(self) -> bool:
        """Whether something was refused, or misspelt, that decides what its module is called with."""
        if self.table is None:
            return True
        refused = [key for key in self.raw if key not in self.table.model_fields_set]
        inner = self.raw.get("imports")
        if isinstance(inner, Mapping) and len(inner) != len(self.table.imports or {}):
            return True
        return any(meant_key(TaskTable, key) in _DECISIVE for key in refused)

    @property
    def needs(self) -> Sequence[str]:
        """The names that it needs, as far as they can be read."""
        return self.table.needs or () if self.table is not None else ()


class Files:
    """Looks for the files that tasks name, relative to the job's folder."""

    def __init__(self, folder: str, entries: Sequence[Entry], graph: Graph) -> None:
        self.folder = folder
        try:
            self._here = os.path.samefile(folder, os.curdir)
        except OSError:
            self._here = False
        self._graph = graph
        self._writers: dict[str, set[str]] = {}
        for entry in entries:
            for folder in self._written_by(entry) if entry.name is not None else ():
                self._writers.setdefault(folder, set()).add(entry.name or "")
        # By folder: the entries that are known to come after one that writes there, and those known not to.
        self._after: dict[str, set[str]] = {}
        self._not_after: dict[str, set[str]] = {}

    def absolute(self, path: str) -> str:
        """The path as the worker gets it; `~` is a name like any other."""
        return os.path.abspath(os.path.join(self.folder, path))

    def problem(self, entry: Entry, path: str, kind: str, *, create: bool = False) -> str | None:
        """The sentence for a file or directory that is not there, or is not what it should be."""
        absolute = self.absolute(path)
        if kind == "directory":
            if os.path.isdir(absolute):
                return None
            if os.path.lexists(absolute):
                return f"not a directory, got {quoted(path)}"
        else:
            # Devices and pipes are as good as files: stdin = "/dev/null".
            if os.path.isdir(absolute):
                return f"must be a file, got the directory {quoted(path)}"
            if os.path.exists(absolute):
                return None
        if self._may_appear(entry, absolute):
            return None
        return f"no such {kind}, got {quoted(path)}{self._hint(path, absolute, create)}"

    def _hint(self, path: str, absolute: str, create: bool) -> str:
        if create:
            return "; create it, procstop does not"
        if path.startswith("~"):
            return '; "~" is not expanded here'
        if not os.path.isabs(path) and not self._here:
            return f"; looked for {quoted(absolute)}"
        return ""

    def _may_appear(self, entry: Entry, absolute: str) -> bool:
        """Tell whether a task that comes first can write it: then it need not be there yet."""
        if entry.name is None:
            return False
        above, below = os.path.dirname(absolute), absolute
        while above != below:
            if above in self._writers and self._comes_after(entry.name, above):
                return True
            above, below = os.path.dirname(above), above
        return False

    def _comes_after(self, name: str, folder: str) -> bool:
        """Tell whether an entry needs one that writes to a folder, directly or not."""
        writers = self._writers[folder]
        after = self._after.setdefault(folder, set())
        not_after = self._not_after.setdefault(folder, set())
        seen = {name}
        waiting = deque(self._graph.get(name, ()))
        while waiting:
            need = waiting.popleft()
            if need == name:
                continue
            if need in writers or need in after:
                after.add(name)
                return True
            if need not in seen and need not in not_after:
                seen.add(need)
                waiting.extend(self._graph.get(need, ()))
        not_after |= seen
        return False

    def _written_by(self, entry: Entry) -> list[str]:
        dirs = (entry.table.dirs or {}) if entry.table is not None else {}
        return [self.absolute(value.path) for value in dirs.values() if isinstance(value, DirTable) and value.write]


def tasks_of(entry: Entry, layer: Layer, files: Files) -> tuple[list[Task], list[str]]:
    """The tasks of an entry, with its settings; and one line per problem.

    `needs` stay as written. There are no tasks when there are problems.
    """
    table = entry.table
    if table is None or (entry.has_each and table.each is None):
        return [], []
    problems = [line(entry.where, *problem) for problem in _file_problems(entry, table, files)]
    variants: list[Mapping[str, str] | None] = [None]
    if table.each is not None:
        problems += [line(entry.where, *problem) for problem in token_problems(entry.raw)]
        try:
            variants = [tokens_of(path) for path in matches(table.each, files.folder)]
        except ValueError as error:
            return [], [*problems, line(entry.where, "each", str(error))]
    tasks = []
    for tokens in variants:
        problems += [line(entry.where, *problem) for problem in _input_problems(entry, table, tokens, files)]
        if not problems:
            try:
                tasks.append(_task(table, layer, tokens, files))
            except InvalidValue as error:
                problems.append(line(entry.where, str(error)))
    return tasks, problems


def _file_problems(entry: Entry, table: TaskTable, files: Files) -> Iterator[tuple[str, str]]:
    """Key and sentence for the module and the host functions, which are the same for every match."""
    for key, path in (("module", table.module), ("host", table.host)):
        problem = files.problem(entry, path, "file") if path is not None else None
        if problem is not None:
            yield key, problem
    # A host that was refused, or misspelt, is a problem of its own.
    if table.host_allow and all(meant_key(TaskTable, key) != "host" for key in entry.raw):
        example = 'host = "hostfuncs.py"'
        yield (
            "host_allow",
            f"is for host functions, and the task has no `host`; add one, as in {example}, or leave it out",
        )


def _input_problems(
    entry: Entry, table: TaskTable, tokens: Mapping[str, str] | None, files: Files
) -> Iterator[tuple[str, str]]:
    """Key and sentence for the files that tokens may be part of."""
    stdin = _stdin(table, tokens)
    if stdin is not None and stdin.path is not None:
        problem = files.problem(entry, str(stdin.path), "file")
        if problem is not None:
            yield ("stdin.path" if isinstance(table.stdin, StdinTable) else "stdin"), problem
    dirs = _dirs(table, tokens)
    for one, other in same_places(dirs):
        what = "comes twice" if one == other else f"is the same path as {quoted(one)}"
        yield key_path(("dirs", other)), f"{what} to the guest; give each directory a path of its own"
    for directory in dirs:
        problem = files.problem(entry, str(directory.host), "directory", create=directory.write)
        if problem is not None:
            yield key_path(("dirs", directory.guest)), problem


def _task(table: TaskTable, layer: Layer, tokens: Mapping[str, str] | None, files: Files) -> Task:
    given = layer.plain
    stdin = _stdin(table, tokens)
    if stdin is not None and stdin.path is not None:
        stdin = Stdin(path=files.absolute(str(stdin.path)))
    expect = table.expect if isinstance(table.expect, list) else [table.expect or Task.expect[0]]
    return Task(
        name=table.name if tokens is None else f"{table.name}[{tokens['path']}]",
        module=files.absolute(table.module),
        call=table.call or Task.call,
        args=_filled(table.args or [], tokens),
        env=dict(table.env or {}),
        stdin=stdin,
        dirs=[Dir(d.guest, files.absolute(str(d.host)), d.write) for d in _dirs(table, tokens)],
        engine=given.get("engine", Task.engine),
        strategy=layer.strategy(),
        check_every=given.get("check_every", Task.check_every),
        imports=dict(table.imports or {}),
        host=files.absolute(table.host) if table.host is not None else None,
        host_allow=table.host_allow or () if table.host is not None else (),
        needs=table.needs or (),
        limits=layer.limits_model(),
        stop=layer.stop_policy(),
        retries=given.get("retries", Task.retries),
        expect=[Outcome(word) for word in expect],
        group=table.name if tokens is not None else None,
        reuse=layer.workers_model().reuse,
    )


def _stdin(table: TaskTable, tokens: Mapping[str, str] | None) -> Stdin | None:
    """Standard input with tokens replaced, its path as written."""
    value = table.stdin
    if value is None:
        return None
    if isinstance(value, str):
        return Stdin(path=_filled(value, tokens))
    if "path" in value.model_fields_set:
        return Stdin(path=_filled(value.path, tokens))
    return Stdin(text=_filled(value.text, tokens))


def _dirs(table: TaskTable, tokens: Mapping[str, str] | None) -> list[Dir]:
    """The directories with tokens replaced, their paths as written."""
    result = []
    for guest, value in (table.dirs or {}).items():
        path, write = (value, False) if isinstance(value, str) else (value.path, bool(value.write))
        result.append(Dir(_filled(guest, tokens), _filled(path, tokens), write))
    return result


def _filled(value: Any, tokens: Mapping[str, str] | None) -> Any:
    return value if tokens is None else replace(value, tokens)
