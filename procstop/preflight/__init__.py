"""Decide everything about a job before anything starts: modules, imports, arguments, engines.

`prepare` reads every module once, without compiling, and finds all problems at once. A job with problems is refused
as a whole, except for a task that expects `rejected`: that one gets its outcome without a worker.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from procstop.arguments import fit_call
from procstop.engines.abilities import PREFERENCE, why_not
from procstop.errors import GuestError, JobFileError
from procstop.lifecycle import Abilities
from procstop.linking import Link, Linked, link
from procstop.messages import Order, encode_value
from procstop.model import Job, Outcome, StrategyKind, Task
from procstop.module import ModuleInfo
from procstop.preflight.available import EngineStatus, engine_status, module_path
from procstop.preflight.hosts import HostNames, find_host
from procstop.preflight.sources import Source, read_sources
from procstop.schedule import find_cycle
from procstop.supervisor.assignment import Assignment
from procstop.wasi.signatures import SIGNATURES

__all__ = ["EngineStatus", "Plan", "engine_status", "load_plan", "prepare", "read_sources"]


@dataclass(frozen=True)
class Plan:
    """A job's assignments in its order, and a line for each problem. With problems there is nothing to run."""

    job: Job
    assignments: tuple[Assignment, ...]
    problems: tuple[str, ...]

    def check(self) -> Plan:
        """Return itself; raise `JobFileError` if there are problems."""
        if self.problems:
            raise JobFileError(self.problems)
        return self


def load_plan(load: Callable[[], Job]) -> Plan:
    """Load a job and prepare it; raise `JobFileError` with the problems that either finds, all at once."""
    try:
        job = load()
    except JobFileError as error:
        sound = error.sound
        more = prepare(sound).problems if isinstance(sound, Job) and sound.tasks else ()
        raise JobFileError([*error.problems, *more]) from None
    return prepare(job).check()


def prepare(job: Job) -> Plan:
    """Look at every task; return what to run, or everything that is in the way."""
    lone = job.source is None and len(job.tasks) == 1
    where = f"{job.tasks[0].module if lone else job.source or job.name}: "
    problems = _check_names(job)
    sources = read_sources([os.path.abspath(task.module) for task in job.tasks])
    assignments = []
    for task in job.tasks:
        assignment, faults = _assign(job, task, sources[os.path.abspath(task.module)])
        if faults and Outcome.REJECTED in task.expect:
            assignment, faults = replace(assignment, rejected="; ".join(faults)), []
        problems += faults if lone else [f'task "{task.name}": {fault}' for fault in faults]
        assignments.append(assignment)
    return Plan(job, tuple(assignments), tuple(where + problem for problem in problems))


def _check_names(job: Job) -> list[str]:
    """Find what is wrong between tasks. A job file was checked before; one made in Python was not."""
    problems = []
    names: set[str] = set()
    for task in job.tasks:
        if task.name in names:
            problems.append(f'two tasks are named "{task.name}"')
        names.add(task.name)
    if not job.tasks:
        problems.append("no task: nothing to run")
    for task in job.tasks:
        problems += [f'task "{task.name}": needs "{need}": no such task' for need in task.needs if need not in names]
    cycle = find_cycle({task.name: task.needs for task in job.tasks})
    if cycle:
        problems.append("needs form a cycle: " + " -> ".join(f'"{name}"' for name in cycle))
    return problems


def _assign(job: Job, task: Task, source: Source) -> tuple[Assignment, list[str]]:
    host, faults = find_host(task)
    assignment = Assignment(
        task,
        None,
        _order(task, host),
        source.module,
        limits=task.limits or job.limits,
        stop=task.stop or job.stop,
    )
    faults += _check_paths(job, task)
    if source.info is None:
        return assignment, [*faults, f"module: {source.error}"]
    linked = link(source.info, task.imports, host.names, SIGNATURES)
    faults += linked.problems
    try:
        fit_call(source.info, task.call, task.args)
    except GuestError as error:
        faults.append(str(error))
    engine, why = choose_engine(task.engine, source.info, linked.links)
    if engine is None:
        faults.append(f"engine: {why}")
    return _with(assignment, engine, why, _abilities(task, linked)), faults


def _check_paths(job: Job, task: Task) -> list[str]:
    """Find paths that are missing, unless a task before this one may make them."""
    made = [os.path.abspath(one.host) + os.sep for other in job.tasks for one in other.dirs if one.write]

    def may_come(path: str) -> bool:
        return bool(task.needs) and os.path.abspath(path).startswith(tuple(made))

    faults = [
        f'dirs: "{one.host}" is not a directory'
        for one in task.dirs
        if not os.path.isdir(one.host) and not may_come(str(one.host))
    ]
    path = str(task.stdin.path) if task.stdin is not None and task.stdin.path is not None else None
    if path is not None and not os.path.exists(path) and not may_come(path):
        faults.append(f'stdin: "{path}" does not exist')
    return faults


def choose_engine(wanted: str, info: ModuleInfo, links: list[Link]) -> tuple[str | None, str]:
    """Return the engine to use and why that one; None and what is in the way where there is none."""
    status = engine_status()
    obstacles = {name: status[name].why_not or why_not(name, info, links) for name in PREFERENCE}
    if wanted != "auto":
        obstacle = obstacles[wanted]
        if obstacle is None:
            return wanted, "asked for"
        others = [name for name in PREFERENCE if name != wanted and obstacles[name] is None]
        hint = f"; {others[0]} can run it" if others else ""
        return None, f"{wanted} cannot run it: {obstacle}{hint}"
    for name in PREFERENCE:
        if obstacles[name] is None:
            before = PREFERENCE[: PREFERENCE.index(name)]
            why = "; ".join(f"{other} cannot run it: {obstacles[other]}" for other in before)
            return name, why or "the first choice"
    return None, "; ".join(f"{name} cannot run it: {obstacles[name]}" for name in PREFERENCE)


def _abilities(task: Task, linked: Linked) -> Abilities:
    ignores = task.strategy.kind is StrategyKind.IGNORE
    # Whether a host function looks for interrupts is known to the worker only, which says so with `ready`.
    possible = bool(linked.stopping_points) or any(link.provider == "host" for link in linked.links)
    return Abilities(interrupt=possible and not ignores, soft=not ignores)


def _order(task: Task, host: HostNames) -> Order:
    return Order(
        attempt="",
        engine="",
        module_name=os.path.basename(task.module),
        call=task.call,
        args=[encode_value(value) for value in task.args],
        env=dict(task.env),
        dirs=[(one.guest, os.path.abspath(one.host), one.write) for one in task.dirs],
        bindings=dict(task.imports),
        host=host.path,
        host_functions=host.references,
        main_path=host.main_path,
        strategy=task.strategy.kind.value,
        strategy_n=task.strategy.n,
        check_every=task.check_every,
        sys_path=module_path(),
    )


def _with(assignment: Assignment, engine: str | None, why: str, abilities: Abilities) -> Assignment:
    order = replace(assignment.order, engine=engine or "")
    return replace(assignment, engine=engine, engine_reason=why, order=order, abilities=abilities)
