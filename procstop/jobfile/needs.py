"""Who needs whom: names that `needs` and `--task` know, cycles, and what a choice of tasks brings in.

Pure functions on names. None recurses: a chain of a hundred thousand tasks is as good as one of three.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from procstop.jobfile.wording import did_you_mean, quoted

Graph = Mapping[str, Sequence[str]]
"""A name, and the names that it needs."""

MOST_COMPARISONS = 500_000
"""Names that guesses look at, which takes about a second; a guess for each of thousands would take hours."""


def find_cycles(graph: Graph) -> list[list[str]]:
    """Cycles without a name in common, each from its first name in the file on; needs of oneself left out."""
    done: set[str] = set()
    reported: set[str] = set()
    cycles = []
    for start in graph:
        if start in done:
            continue
        path = [start]
        position = {start: 0}
        left = [iter(graph[start])]
        while left:
            name = next(left[-1], None)
            if name is None:
                left.pop()
                finished = path.pop()
                del position[finished]
                done.add(finished)
            elif name in position:
                cycle = path[position[name] :]
                if len(cycle) > 1 and reported.isdisjoint(cycle):
                    reported.update(cycle)
                    cycles.append(cycle)
            elif name not in done and name in graph:
                position[name] = len(path)
                path.append(name)
                left.append(iter(graph[name]))
    return cycles


def cycle_text(cycle: Sequence[str]) -> str:
    """A cycle as a path that ends where it began: `"a" -> "b" -> "a"`."""
    names = [*cycle, cycle[0]]
    if len(names) > 12:
        return " -> ".join([*map(quoted, names[:10]), "...", quoted(names[-1])])
    return " -> ".join(map(quoted, names))


def closure(names: Iterable[str], graph: Graph) -> set[str]:
    """The names and all that they need, directly or not."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(graph.get(name, ()))
    return found


class Names:
    """The names of entries, each with whether it has `each`: then NAME[FILE] names one of its tasks."""

    def __init__(self, entries: Iterable[tuple[str, bool]]) -> None:
        self._has_each = dict(entries)

    def entry(self, name: str) -> str | None:
        """The entry that a name belongs to, whether or not such a file matched; None for no entry."""
        if name in self._has_each:
            return name
        start, bracket, _ = name.partition("[")
        return start if bracket and self._has_each.get(start) else None

    def entries(self, names: Iterable[str]) -> list[str]:
        """The entries that the names belong to, unknown names left out."""
        return [entry for entry in map(self.entry, names) if entry is not None]

    def all(self) -> list[str]:
        """All names of entries, in the order of the file."""
        return list(self._has_each)


class Expanded:
    """The names of tasks by their entry, once `each` is expanded. Entries with problems are not in it."""

    def __init__(self, members: Mapping[str, Sequence[str]], names: Names) -> None:
        self._found: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._comparisons = MOST_COMPARISONS
        self._members = members
        self._names = names
        self._tasks = {task: entry for entry, tasks in members.items() for task in tasks}

    def tasks(self, names: Iterable[str]) -> tuple[str, ...]:
        """The tasks that names of tasks and entries stand for, in order, each once."""
        key = tuple(names)
        if key not in self._found:
            found: dict[str, None] = {}
            for name in key:
                found.update(dict.fromkeys(self._members.get(name, [name])))
            # The tasks of an `each` entry all have the same needs.
            self._found[key] = tuple(found)
        return self._found[key]

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Sentences for the names that no task and no entry has."""
        problems = []
        for name in dict.fromkeys(names):
            entry = self._names.entry(name)
            # The tasks of an entry with problems are not known, so nothing can be said of them.
            broken = entry is not None and entry not in self._members
            if name not in self._tasks and name not in self._members and not broken:
                known = self._members[entry] if entry is not None else self._names.all()
                problems.append(f"no task is called {quoted(name)}{self._guess(name, known)}")
        return problems

    def _guess(self, name: str, known: Sequence[str]) -> str:
        """End a sentence with the name that was probably meant, as long as that does not take too long."""
        self._comparisons -= len(known)
        return did_you_mean(name, known) if self._comparisons > 0 else ""

    def clashes(self) -> list[str]:
        """Sentences for tasks that `each` made whose name another task has."""
        names = [task for tasks in self._members.values() for task in tasks]
        twice = [name for name, count in Counter(names).items() if count > 1]
        return [f"two tasks are called {quoted(name)}, one of them made by each; rename one" for name in twice]
