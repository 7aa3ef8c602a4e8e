"""Run a job: one event loop, facts in, state machine, actions out.

Theory of operation. The supervisor gets a worker for each attempt (`attempt.LiveAttempt`), as many side by side as
the job allows (`schedule.Schedule`), and sleeps until a pipe, a pidfd or a deadline wakes it. An attempt finds its way
to a worker (`hiring`): workers are made (`spawner`) by a fork server (`forkservers`), with a module that was compiled
once (`artifacts`), or are taken over from an attempt before (`pool`); all of them are children of this process
(`family`). It runs no guest code, loads no engine, and never waits for a worker: every rung of every ladder is a timer,
so that many stubborn workers are stopped in the time of one. It alone holds the other ends of its children's lifelines,
so its death ends every one of them; what those leave behind is ended by guardians (`guarding`), which alone outlive it.

`run` belongs to one thread, which starts all workers and must live as long as they do. `press`, `stop`, `pause` and
`resume` may be called from any thread and from signal handlers.
"""

from __future__ import annotations

import collections
import itertools
import os
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone

from procstop import events
from procstop.errors import InternalError
from procstop.events import Observer
from procstop.folding import FoldedTasks
from procstop.model import Job, OnInterrupt, OnInterruptKind, Outcome, Reason, Rung
from procstop.process import Worker
from procstop.records import AttemptRecord, RunRecord, TaskRecord
from procstop.schedule import Cancelled, Schedule, may_retry
from procstop.settled import settle
from procstop.supervisor import tenancy
from procstop.supervisor.announcer import Announcer
from procstop.supervisor.artifacts import Artifacts
from procstop.supervisor.assignment import Assignment
from procstop.supervisor.attempt import LiveAttempt
from procstop.supervisor.crew import Crew
from procstop.supervisor.family import Family
from procstop.supervisor.guarding import Guarding
from procstop.supervisor.loop import Clock, Loop
from procstop.supervisor.pool import Pool
from procstop.supervisor.runid import new_run_id
from procstop.supervisor.spawner import Spawner
from procstop.supervisor.verdict import exit_code

REPEAT_S = 0.2
"""Presses that follow one another faster than this are one: a terminal and a wrapper may both deliver Ctrl-C."""
_LAST_WAIT_S = 5.0
_LOST_WAIT_S = 0.5
"""How long to wait at the end for those that had outlived their kill."""
_MOST_NOT_KEPT = 8
_SLOWED_S = 0.02


class Supervisor:
    """One run of one job.

    `owns_process` says that this process has no children but ours, so that every orphan that comes to it is some
    worker's; otherwise only those that are known to be are touched. `observers` are told of everything, and change
    nothing. `output_dir` must exist. Compiled modules
    are kept in `cache_directory`; without one, for this run only. Close it at the end, or use it as a context manager.
    """

    def __init__(
        self,
        job: Job,
        assignments: Sequence[Assignment],
        *,
        observers: Sequence[Observer] = (),
        output_dir: str | None = None,
        owns_process: bool = False,
        run_id: str | None = None,
        cache_directory: str | None = None,
    ) -> None:
        self.run_id = run_id or new_run_id()
        self._job = job
        self._assignments = {one.task.name: one for one in assignments}
        self._concurrency = job.concurrency or usable_cpus()
        self._schedule = Schedule({name: one.task.needs for name, one in self._assignments.items()}, self._concurrency)
        self._output_dir = None if output_dir is None else settle(output_dir)
        self._cache_directory = cache_directory if job.workers.cache else None
        self._owns_process = owns_process
        self._observers = observers
        self._announce: Announcer | None = None
        self._loop = Loop(Clock())
        self._live: dict[str, LiveAttempt] = {}
        self._lost: dict[int, Worker] = {}
        self._crew: Crew | None = None
        self._may_start_processes = any(one.may_start_processes for one in assignments)
        self._kin_left = collections.Counter(one.kin for one in assignments if one.kin is not None)
        self._made: dict[str, list[AttemptRecord]] = {}
        self._tasks = FoldedTasks()
        self._places = {one.task.name: place for place, one in enumerate(assignments)}
        self._numbers = itertools.count(1)
        self._when_paused: Callable[[], None] | None = None
        self._when_resumed: list[Callable[[], None]] = []
        self._presses = 0
        self._pressed_at: float | None = None
        self._reason: Reason | None = None
        self._started = False
        self._slowed = False
        self.not_kept: list[str] = []
        """What became of output that was to be kept and is not: the first such lines."""

    def run(self) -> RunRecord:
        """Run the job to its end and return what happened. Call it once.

        If it raises, which only a fault of procstop's own can make it do, every worker is killed before.
        """
        if self._started:
            raise InternalError("a supervisor runs once")
        self._started = True
        started_at = datetime.now(timezone.utc)
        began = time.monotonic()
        self._announce = Announcer(self._observers)
        tenancy.enter(self._concurrency)
        try:
            self._crew = self._make_crew(self._announce)
            self._tell(events.RunStarted(self.run_id, self._job, self._concurrency))
            if self._may_start_processes:
                self._crew.guarding.start(2)
            self._start_tasks()
            while not self._schedule.over:
                self._loop.turn()
        finally:
            try:
                self._kill_all_and_wait()
            finally:
                if self._crew is not None:
                    self._crew.guarding.close()
                    self._crew.family.close()
            tenancy.leave()
        record = RunRecord(
            run=self.run_id,
            job=self._job.name,
            started_at=started_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            duration_s=time.monotonic() - began,
            exit_code=exit_code(self._tasks, self._reason, lost=bool(self._lost), all_kept=not self.not_kept),
            reason=self._reason,
            tasks=self._tasks,
        )
        self._tell(events.RunOver(record))
        return record

    def close(self) -> None:
        """Release what the supervisor holds, once nobody can call it any more: signal handlers first of all."""
        self._loop.close()

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait_for_observers(self, timeout: float | None = None) -> list[BaseException]:
        """Wait until observers were told everything, at most `timeout` seconds; return what they raised."""
        if self._announce is None:
            return []
        self._announce.close(timeout)
        return self._announce.failures

    def settle_observers(self, timeout: float = 0.5) -> None:
        """Wait, at most `timeout` seconds, until observers were told all that has happened so far."""
        if self._announce is not None:
            self._announce.settle(timeout)

    @property
    def wake_fd(self) -> int:
        """What to give to `signal.set_wakeup_fd`, so that a signal wakes the run whichever thread it hits."""
        return self._loop.wake_fd

    # What others ask for; from any thread

    def press(self, reason: Reason = Reason.USER) -> None:
        """Do what Ctrl-C does: interrupt first, terminate at the second press, kill at the third."""
        at = time.monotonic()
        self._loop.post(lambda: self._on_press(reason, at))

    def stop(self, reason: Reason = Reason.STOP_COMMAND, rung: Rung = Rung.INTERRUPT) -> None:
        """Stop the run: start no further task, and stop those that run, from `rung` on."""
        self._loop.post(lambda: self._stop_all(reason, rung))

    def pause(self, then: Callable[[], None] | None = None) -> None:
        """Stop all guests and clocks in their tracks; call `then` once that is done."""
        self._loop.post(lambda: self._on_pause(then))

    def resume(self) -> None:
        """Let guests and clocks go on."""
        self._loop.post(self._on_resume)

    def _make_crew(self, announce: Announcer) -> Crew:
        """Make what all attempts share, once the run begins: it knows then which children it was born with."""

        def notice(text: str) -> None:
            self._tell(events.Notice(text))

        loop, run = self._loop, self.run_id
        guarding = Guarding(loop, run, notice, lambda pid: family.add(pid), lambda pid: family.remove(pid))
        family = Family(run, self._owns_process, lambda: spawner.unanswered(), guarding)
        spawner = Spawner(loop, family, run, self._job.workers.spawn, notice, self._others_run, self._check_paused)
        artifacts = Artifacts(loop, family, run, self._cache_directory, notice, self._others_run)
        pool = Pool(loop, family, self._concurrency)
        output_dir, not_kept = self._output_dir, self._on_not_kept
        return Crew(loop, announce, family, guarding, artifacts, spawner, pool, output_dir, not_kept)

    def _on_not_kept(self, text: str) -> None:
        if len(self.not_kept) < _MOST_NOT_KEPT:
            self.not_kept.append(text)
        self._tell(events.Notice(text))

    def _others_run(self) -> bool:
        crew = self._crew
        if crew is not None and (crew.artifacts.is_compiling or crew.spawner.unanswered()):
            return True
        if any(one.worker is not None for one in self._live.values()):
            return True
        return crew is not None and crew.pool.let_one_go()

    # The queue

    def _start_tasks(self) -> None:
        """Start one task, and have the loop come back for the next: in between it hears stops and deadlines."""
        if self._loop.clock.paused:
            return
        if self._announcer().crowded and not self._slowed:
            # So that what was not told yet does not pile up; slower, not never: observers decide nothing.
            self._slowed = True
            self._loop.call_at(self._loop.clock.now() + _SLOWED_S, self._start_tasks)
            return
        self._slowed = False
        name = self._schedule.next()
        if name is not None:
            self._start_attempt(name)
            self._loop.post(self._start_tasks)
        else:
            self._crew_of().pool.retire(lambda kin: self._kin_left[kin] > 0 and not self._schedule.halted)

    def _start_attempt(self, name: str) -> None:
        assignment = self._assignments[name]
        if assignment.kin is not None and name not in self._made:
            self._kin_left[assignment.kin] -= 1
        attempt = LiveAttempt(
            assignment,
            len(self._made.setdefault(name, [])) + 1,
            f"{self.run_id}-{next(self._numbers)}",
            crew=self._crew_of(),
            on_over=self._on_attempt_over,
            on_paused=self._check_paused,
        )
        self._live[name] = attempt
        attempt.start()

    def _on_attempt_over(self, attempt: LiveAttempt, record: AttemptRecord) -> None:
        name, task = attempt.task, attempt.assignment.task
        del self._live[name]
        if record.outcome is Outcome.LOST and attempt.worker is not None:
            self._lost[attempt.worker.pid] = attempt.worker
        made = self._made[name]
        made.append(record)
        ok = record.outcome in task.expect
        retried = not ok and not self._schedule.halted and may_retry(record, len(made), task.retries)
        self._tell(events.AttemptOver(name, record, retried))
        if retried:
            # Not from here: this call may stand deep inside the attempt that has just ended.
            self._loop.post(lambda: self._retry(name))
        else:
            self._settle(name)
        self._check_paused()

    def _retry(self, name: str) -> None:
        # A stop may have come in between.
        if self._schedule.halted:
            self._settle(name)
        elif self._loop.clock.paused:
            self._when_resumed.append(lambda: self._retry(name))
        else:
            self._start_attempt(name)

    def _settle(self, name: str) -> None:
        """A task is over with the attempts that were made."""
        task, made = self._assignments[name].task, self._made.pop(name)
        outcome = made[-1].outcome
        ok = outcome in task.expect
        self._end_task(TaskRecord(name, ok, outcome, tuple(made), group=task.group))
        self._cancel(self._schedule.ended(name, ok))
        self._loop.post(self._start_tasks)

    def _cancel(self, cancelled: Sequence[Cancelled]) -> None:
        for one in cancelled:
            kin, task = self._assignments[one.task].kin, self._assignments[one.task].task
            if kin is not None:
                self._kin_left[kin] -= 1
            ok = Outcome.CANCELLED in task.expect
            self._end_task(TaskRecord(one.task, ok, Outcome.CANCELLED, (), one.why, task.group))

    def _end_task(self, record: TaskRecord) -> None:
        self._tasks.put(self._places[record.task], record)
        self._tell(events.TaskOver(record))

    # Stopping

    def _on_press(self, reason: Reason, at: float) -> None:
        if self._pressed_at is not None and at - self._pressed_at < REPEAT_S:
            return
        self._pressed_at = at
        self._on_resume()
        self._presses += 1
        self._reason = self._reason or reason
        if self._presses == 1:
            what = self._first_press(self._job.on_interrupt, reason)
            self._tell(events.RunStopping(1, what, "terminate what still runs"))
        elif self._presses == 2:
            self._tell(events.RunStopping(2, "terminating what still runs", "kill it at once"))
            self._stop_all(reason, Rung.TERMINATE)
        else:
            self._tell(events.RunStopping(self._presses, "killing what still runs", None))
            self._stop_all(reason, Rung.KILL)

    def _first_press(self, how: OnInterrupt, reason: Reason) -> str:
        if how.kind is OnInterruptKind.STOP:
            self._stop_all(reason, Rung.INTERRUPT)
            return "interrupting what runs; no further task starts"
        self._cancel(self._schedule.interrupt(how))
        if how.kind is OnInterruptKind.FINISH_CURRENT:
            return "what runs may finish; no further task starts"
        if how.kind is OnInterruptKind.NEXT:
            return f"what runs may finish; at most {how.n} more tasks start"
        return "this job ignores the first interrupt and carries on"

    def _stop_all(self, reason: Reason, rung: Rung) -> None:
        self._reason = self._reason or reason
        self._cancel(self._schedule.halt())
        for attempt in tuple(self._live.values()):
            attempt.stop(reason, rung)

    def _on_pause(self, then: Callable[[], None] | None) -> None:
        self._when_paused = then
        if not self._loop.clock.paused:
            self._loop.clock.pause()
            ends = [left for one in self._live.values() if (left := one.ends_itself_in) is not None]
            self._tell(events.RunPaused(min(ends, default=None)))
        for attempt in tuple(self._live.values()):
            attempt.pause()
        self._check_paused()

    def _check_paused(self) -> None:
        """Once nothing of the run moves any more, do what was to be done then."""
        if self._loop.clock.paused and all(one.is_quiet for one in self._live.values()):
            then, self._when_paused = self._when_paused, None
            if then is not None:
                then()

    def _on_resume(self) -> None:
        if self._loop.clock.paused:
            self._loop.clock.resume()
            self._when_paused = None
            for attempt in self._live.values():
                if attempt.worker is not None:
                    attempt.worker.resume()
            self._tell(events.RunResumed())
            for call in [*self._when_resumed, self._crew_of().spawner.go_on, self._start_tasks]:
                self._loop.post(call)
            self._when_resumed.clear()

    # The end of workers

    def _kill_all_and_wait(self) -> None:
        """Leave no child behind, also when something of ours went wrong."""
        crew = self._crew
        workers = [one.worker for one in self._live.values() if one.worker is not None] + list(self._lost.values())
        for worker in workers:
            try:
                worker.kill()
            except Exception as error:
                # The others are to die all the same, and this one with our thread.
                self._tell(events.Notice(f"worker {worker.pid}: {error}"))
        if crew is not None:
            crew.pool.kill_all()
            crew.artifacts.stop_all()
            crew.spawner.close_servers()
            if not self._may_start_processes:
                crew.guarding.release()
        now = time.monotonic()
        until, until_lost = now + _LAST_WAIT_S, now + _LOST_WAIT_S
        while not self._all_reaped(workers, crew, time.monotonic() < until_lost) and time.monotonic() < until:
            # Nothing is left to be notified by: all were killed, and are on their way.
            time.sleep(0.0005)
        for attempt in self._live.values():
            if attempt.port is not None:
                attempt.port.close()
        if crew is not None:
            crew.artifacts.close()

    def _all_reaped(self, workers: Sequence[Worker], crew: Crew | None, lost_too: bool) -> bool:
        # Every one of them is asked, whatever another says.
        left = [worker for worker in workers if worker.reap() is None and (lost_too or worker.pid not in self._lost)]
        if crew is None:
            return not left
        settled = [crew.pool.reap(), crew.artifacts.reap(), crew.spawner.reap()]
        return not left and all(settled) and not crew.family.clear_orphans()

    def _tell(self, event: events.Event) -> None:
        self._announcer()(event)

    def _crew_of(self) -> Crew:
        assert self._crew is not None
        return self._crew

    def _announcer(self) -> Announcer:
        assert self._announce is not None
        return self._announce


def usable_cpus() -> int:
    """Return how many CPUs this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
