"""What the job says of its tasks, by name: limits, graces, expectations. All of it unknown without a job."""

from __future__ import annotations

from procstop.model import Job, Limits, Outcome, Rung, StopPolicy, Task

STOPPING_STATES = frozenset({"interrupting", "preempting", "terminating", "killing"})
"""The states of the lifecycle that are rungs; in "exiting" the rung that was reached is history."""


class JobFacts:
    """Look up what a job says of a task; the answer is None where the job or the task is not known."""

    def __init__(self, job: Job | None = None) -> None:
        self._job = job
        self._tasks: dict[str, Task] = {task.name: task for task in job.tasks} if job else {}

    @property
    def count(self) -> int:
        """How many tasks the job has."""
        return len(self._tasks)

    def limits(self, task: str) -> Limits | None:
        """Give the limits that hold for a task: its own, or the job's."""
        found = self._tasks.get(task)
        if found is None or self._job is None:
            return None
        return found.limits or self._job.limits

    def expect(self, task: str) -> tuple[Outcome, ...] | None:
        """Give the outcomes that count as ok for a task."""
        found = self._tasks.get(task)
        return None if found is None else tuple(found.expect)

    def following(self, task: str, rung: Rung) -> str | None:
        """Say what comes when the grace of a rung is over.

        Preemption is not foretold: whether it can work for a task is not in the job, and it is announced when
        it comes.
        """
        if rung is Rung.KILL:
            return "given up as lost"
        if rung is Rung.TERMINATE:
            return Rung.KILL.value
        found = self._tasks.get(task)
        if found is None or self._job is None:
            return None
        policy: StopPolicy = found.stop or self._job.stop
        return Rung.TERMINATE.value if policy.terminate > 0 else Rung.KILL.value
