"""Decide everything about a job before anything starts: modules, imports, arguments, engines.

`prepare` reads every module once, without compiling, and finds all problems at once. A job with problems is refused
as a whole, except for a task that expects `rejected`: that one gets its outcome without a worker.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from procstop import sandbox
from procstop.arguments import fit_call
from procstop.errors import GuestError, JobFileError
from procstop.lifecycle import Abilities
from procstop.linking import link
from procstop.messages import Order, encode_value
from procstop.model import Job, Level, Outcome, StopPolicy, StrategyKind, Task
from procstop.preflight.available import EngineStatus, engine_build, engine_status
from procstop.preflight.common import Common, Fit, choose_engine
from procstop.preflight.contained import contained, too_little, too_little_memory
from procstop.preflight.hosts import HostNames
from procstop.preflight.sources import read_sources
from procstop.records import Contained
from procstop.schedule import find_cycle
from procstop.supervisor.assignment import Assignment
from procstop.wasi.signatures import SIGNATURES

__all__ = ["EngineStatus", "Plan", "engine_status", "load_plan", "prepare", "prepare_modules", "read_sources"]


_LIFE_SLACK_S = 5.0
"""What a worker may be there beyond the last grace: for the kill, the exit after a report, and a busy machine."""


@dataclass(frozen=True)
class Plan:
    """A job's assignments in its order, and a line for each problem. With problems there is nothing to run.

    `notes` are lines about what will have no effect.
    """

    job: Job
    assignments: tuple[Assignment, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()

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
        more = _more_problems(sound) if isinstance(sound, Job) else ()
        raise JobFileError([*error.problems, *more]) from None
    return prepare(job).check()


def _more_problems(sound: Job) -> Sequence[str]:
    """Find what is wrong with a job besides what made it unsound; `sound.tasks` are those that can be looked at."""
    if sound.tasks:
        return prepare(sound).problems
    # What a job requires of every task can be said without any.
    where = f"{sound.source}: " if sound.source is not None else ""
    return [where + fault for fault in too_little(sound.containment, contained(sound.containment, sandbox.probe()))]


def prepare(job: Job) -> Plan:
    """Look at every task; return what to run, or everything that is in the way."""
    lone = job.source is None and len(job.tasks) == 1
    where = f"{job.tasks[0].module if lone else job.source or job.name}: "
    common = Common(job)
    problems = _check_names(job)
    assignments = []
    for task in job.tasks:
        assignment, faults = _assign(common, job, task)
        problems += faults if lone else [f'task "{task.name}": {fault}' for fault in faults]
        assignments.append(assignment)
    notes = tuple(where + note for note in _notes(job))
    return Plan(job, tuple(assignments), tuple(where + problem for problem in problems), notes)


def _notes(job: Job) -> list[str]:
    """Find what a task says without an effect. What the job says of all its tasks may well be for others."""
    return [
        f'task "{task.name}": workers.reuse has no effect: only the tasks of one `each` entry share workers'
        for task in job.tasks
        if task.group is None and task.reuse not in (None, 1, job.workers.reuse)
    ]


def prepare_modules(job: Job) -> Plan:
    """Look at no more of a job than its modules need to be compiled; calls and missing imports do not matter."""
    common = Common(job)
    assignments, problems = [], []
    for task in job.tasks:
        source = common.source(task)
        if source.info is None:
            problems.append(f"{task.name}: {source.error}")
            continue
        links = link(source.info, task.imports, (), SIGNATURES).links
        engine, why = choose_engine(task.engine, source.info, links)
        if engine is None:
            problems.append(f"{task.name}: engine: {why}")
            continue
        # A module may know of a hole in the compiler: what a job requires for its guests holds for that too.
        if too_few := common.too_little(common.contained(task, HostNames())):
            problems += [f"{task.name}: {fault}" for fault in too_few]
            continue
        order = _order(common, job, task, HostNames(), engine, source.digest, Contained(Level.NONE))
        assignments.append(
            Assignment(
                task, engine, order, source.module, limits=task.limits or job.limits, engine_reason=why,
                build=engine_build(engine),
            )
        )  # fmt: skip
    return Plan(job, tuple(assignments), tuple(problems))


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


def _assign(common: Common, job: Job, task: Task) -> tuple[Assignment, list[str]]:
    """Return what runs a task, and what is in the way of that."""
    source = common.source(task)
    host, of_host = common.host(task)
    faults = [*of_host, *common.missing(task), *common.exposed(host)]
    engine, why, abilities = None, None, Abilities()
    if source.info is None:
        faults.append(f"module: {source.error}")
    else:
        fit = common.fit(task, source, source.info, host)
        engine, why, abilities = fit.engine, fit.why, _abilities(common, task, fit)
        faults += fit.problems
        faults += too_little_memory(source.info, task.limits or job.limits)
        try:
            fit_call(source.info, task.call, task.args)
        except GuestError as error:
            faults.append(str(error))
        if engine is None:
            faults.append(f"engine: {why}")
    contained = common.contained(task, host)
    faults += common.too_little(contained)
    rejected = "; ".join(faults) if faults and Outcome.REJECTED in task.expect else None
    order = _order(common, job, task, host, engine, source.digest, contained)
    assignment = Assignment(
        task,
        engine,
        order,
        source.module,
        tuple(encode_value(value) for value in task.args),
        None if task.stdin is None or task.stdin.path is None else common.settled(task.stdin.path),
        limits=task.limits or job.limits,
        stop=task.stop or job.stop,
        abilities=abilities,
        rejected=rejected,
        engine_reason=why,
        build=engine_build(engine) if engine is not None else "",
        kin=_kin(common, job, task, order) if order.hosts > 1 else None,
        contained=contained,
    )
    return assignment, faults if rejected is None else []


def _abilities(common: Common, task: Task, fit: Fit) -> Abilities:
    soft = task.strategy.kind is not StrategyKind.IGNORE
    interrupt = fit.interruptible and soft
    return common.once(("abilities", interrupt, soft), lambda: Abilities(interrupt=interrupt, soft=soft))


def _order(
    common: Common, job: Job, task: Task, host: HostNames, engine: str | None, digest: str, contained: Contained
) -> Order:
    """Return the order for a task; those that are granted alike share one."""
    # Tasks share a worker only with those that `each` made of the same entry.
    hosts = (task.reuse or job.workers.reuse) if task.group is not None else 1
    strategy, limits, stop = task.strategy, task.limits or job.limits, task.stop or job.stop
    support = common.support
    key = (
        "order", engine, task.module, task.call, tuple(task.env.items()), task.dirs, tuple(task.imports.items()),
        host.path, tuple(host.references.items()), host.main_path, strategy, task.check_every, digest, hosts,
        limits, stop, contained,
    )  # fmt: skip
    return common.once(
        key,
        lambda: Order(
            engine=engine or "",
            module_name=os.path.basename(task.module),
            call=task.call,
            env=dict(task.env),
            dirs=[(one.guest, common.settled(one.host), one.write) for one in task.dirs],
            bindings=dict(task.imports),
            host=host.path,
            host_functions=host.references,
            main_path=host.main_path,
            strategy=strategy.kind.value,
            strategy_n=strategy.n,
            check_every=task.check_every,
            sys_path=common.sys_path,
            module_digest=digest,
            hosts=hosts,
            memory=limits.memory,
            # The supervisor comes first, with the graces; this is for when there is none that could.
            cpu=None if limits.cpu is None or hosts > 1 else limits.cpu + graces(stop),
            open_files=limits.open_files,
            file_size=limits.file_size,
            start=limits.start + graces(stop) + _LIFE_SLACK_S,
            life=None if limits.time is None else limits.time + graces(stop) + _LIFE_SLACK_S,
            landlock=support.landlock if job.containment.sandbox else 0,
            seccomp=support.seccomp and job.containment.sandbox,
            allow=list(contained.allowed),
            user=contained.user,
            beats_asleep=limits.stall is not None,
        ),
    )


def graces(stop: StopPolicy) -> float:
    """Return how long a ladder takes until it kills, in seconds."""
    return stop.interrupt + stop.preempt + stop.terminate


def _kin(common: Common, job: Job, task: Task, order: Order) -> Hashable:
    """Name those that a worker may go from one to another of: one entry of the job, granted and limited alike."""
    # A small thing to compare, whatever goes into it.
    return common.once(("kin", task.group, id(order), task.limits or job.limits, task.stop or job.stop), object)
