"""What the tasks of a job have in common, looked up once: most jobs call few modules many times.

What is handed out is shared by all the tasks that asked alike, so nobody may change it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from procstop import sandbox
from procstop.engines.abilities import PREFERENCE, why_not
from procstop.linking import Link, link
from procstop.model import HOST_ALLOWABLE, Dir, Job, Task
from procstop.module import ModuleInfo
from procstop.preflight.available import engine_status, module_path
from procstop.preflight.contained import barred, contained, is_open_to_nobody, too_little
from procstop.preflight.hosts import HostNames, find_host
from procstop.preflight.sources import Source, read_sources
from procstop.records import Contained
from procstop.sandbox import Support
from procstop.settled import settle
from procstop.wasi.signatures import SIGNATURES

T = TypeVar("T")


@dataclass(frozen=True)
class Fit:
    """A module with its imports and its engine; None where no engine will do, and `why` says what is in the way.

    `interruptible` tells whether it may pass a stopping point.
    """

    problems: tuple[str, ...]
    engine: str | None
    why: str
    interruptible: bool


class Common:
    """Look things up for the tasks of one job."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._known: dict[Hashable, Any] = {}
        self._sources = read_sources(map(self.absolute, {str(task.module): None for task in job.tasks}))
        self._written: dict[str, str] | None = None
        self.sys_path = module_path()

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what was made for a key, which names all that goes into it; make it the first time."""
        try:
            found: T = self._known[key]
        except KeyError:
            found = self._known[key] = make()
        return found

    def absolute(self, path: Any) -> str:
        """Return a path as a worker gets it."""
        return self.once(("absolute", path), lambda: os.path.abspath(str(path)))

    def settled(self, path: Any) -> str:
        """Return where a path leads now (see `settled`), as a worker gets it."""
        return self.once(("settled", path), lambda: settle(str(path)))

    def table(self, table: Mapping[str, str]) -> dict[str, str]:
        """Return a mapping that tasks with the same one share."""
        return self.once(("table", tuple(table.items())), lambda: dict(table))

    def source(self, task: Task) -> Source:
        """Return a task's module as it was read."""
        return self._sources[self.absolute(task.module)]

    def host(self, task: Task) -> tuple[HostNames, list[str]]:
        """Return a task's host functions, and what is wrong with them."""
        # A mapping is known by being the same one; the task keeps it alive.
        key = ("host", id(task.host) if isinstance(task.host, Mapping) else task.host)
        return self.once(key, lambda: find_host(task))

    def exposed(self, host: HostNames) -> list[str]:
        """Find host functions whose code some guest could replace: it runs before the sandbox is closed."""
        modules = sorted({reference.partition(":")[0] for reference in host.references.values()})
        of_modules = (getattr(sys.modules.get(module), "__file__", None) for module in modules)
        for file in filter(None, (host.path, host.main_path, *of_modules)):
            who = self._who_may_write(os.path.dirname(self.settled(file)))
            if who is not None:
                return [
                    f'host: "{file}" is in a directory that task "{who}" may write to, so a guest could replace it; '
                    "keep it elsewhere"
                ]
        return []

    def fit(self, task: Task, source: Source, info: ModuleInfo, host: HostNames) -> Fit:
        """Link a task's module, and choose its engine."""
        imports, has_dirs, allowed = tuple(task.imports.items()), bool(task.dirs), self.contained(task, host).allowed
        return self.once(
            ("fit", source.path, task.engine, imports, host.names, has_dirs, allowed),
            lambda: _fit(task, info, host, barred(self._job.containment, self.support, has_dirs, allowed)),
        )

    @property
    def support(self) -> Support:
        """Return what this kernel has of a sandbox."""
        return self.once("support", sandbox.probe)

    def contained(self, task: Task, host: HostNames) -> Contained:
        """Return what will keep a task's guest inside."""
        has_functions = host.path is not None or bool(host.references)
        # What they start needs programs and libraries.
        asked = {*task.host_allow, "files"} if "processes" in task.host_allow else set(task.host_allow)
        allowed = tuple(one for one in HOST_ALLOWABLE if one in asked) if has_functions else ()
        # Directories and host functions may need the rights that root has.
        drops = os.geteuid() == 0 and not has_functions and all(map(self._is_open, task.dirs))
        wanted = self._job.containment
        return self.once(("contained", allowed, drops), lambda: contained(wanted, self.support, allowed, drops))

    def _is_open(self, one: Dir) -> bool:
        path = os.path.abspath(one.host)
        return self.once(("open", path, one.write), lambda: is_open_to_nobody(path, one.write))

    def too_little(self, found: Contained) -> list[str]:
        """Say what containment the job requires and cannot have."""
        return too_little(self._job.containment, found)

    def missing(self, task: Task) -> list[str]:
        """Find paths that are missing, unless a task before this one may make them."""
        faults = [
            f'dirs: "{one.host}" is not a directory'
            for one in task.dirs
            if not self._is_there(os.path.isdir, str(one.host)) and not self._may_come(task, str(one.host))
        ]
        path = str(task.stdin.path) if task.stdin is not None and task.stdin.path is not None else None
        if path is not None and not self._is_there(os.path.exists, path) and not self._may_come(task, path):
            faults.append(f'stdin: "{path}" does not exist')
        return faults

    def _is_there(self, look: Callable[[str], bool], path: str) -> bool:
        return self.once((look, path), lambda: look(path))

    def _may_come(self, task: Task, path: str) -> bool:
        """Tell whether it is below a directory that a task may write to."""
        if not task.needs:
            return False
        return self._who_may_write(os.path.dirname(self.settled(path))) is not None

    def _who_may_write(self, directory: str) -> str | None:
        """Return the name of a task that may write to a directory, of those that may; None for nobody."""
        if self._written is None:
            self._written = {
                self.settled(one.host): other.name for other in self._job.tasks for one in other.dirs if one.write
            }
        while directory not in self._written:
            if directory == os.path.dirname(directory):
                return None
            directory = os.path.dirname(directory)
        return self._written[directory]


def _fit(task: Task, info: ModuleInfo, host: HostNames, shut_out: Mapping[str, str]) -> Fit:
    linked = link(info, task.imports, host.names, SIGNATURES)
    engine, why = choose_engine(task.engine, info, linked.links, shut_out)
    # Whether a host function looks for interrupts is known to the worker only, which says so with `ready`.
    possible = bool(linked.stopping_points) or any(link.provider == "host" for link in linked.links)
    return Fit(tuple(linked.problems), engine, why, possible)


def choose_engine(
    wanted: str, info: ModuleInfo, links: list[Link], shut_out: Mapping[str, str] | None = None
) -> tuple[str | None, str]:
    """Return the engine to use and why that one; None and what is in the way where there is none.

    `shut_out` says of engines why they should not be used, though they could.
    """
    status, others = engine_status(), shut_out or {}
    obstacles = {name: status[name].why_not or why_not(name, info, links) or others.get(name) for name in PREFERENCE}
    if wanted != "auto":
        obstacle = obstacles[wanted]
        if obstacle is None:
            return wanted, "asked for"
        able = [name for name in PREFERENCE if name != wanted and obstacles[name] is None]
        hint = f"; {able[0]} can run it" if able else ""
        return None, f"{wanted} cannot run it: {obstacle}{hint}"
    for name in PREFERENCE:
        if obstacles[name] is None:
            before = PREFERENCE[: PREFERENCE.index(name)]
            why = "; ".join(f"{other} cannot run it: {obstacles[other]}" for other in before)
            return name, why or "the first choice"
    return None, "; ".join(f"{name} cannot run it: {obstacles[name]}" for name in PREFERENCE)
