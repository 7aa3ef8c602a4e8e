"""One living attempt: its way to a worker, that worker, its place in the lifecycle.

It gets its worker by its `hiring`. Facts come in from there, from the worker's port and from timers, go through
`lifecycle.step`, and its actions are carried out on whatever works for it at the time. A worker's end is a fact only
when all three are done: it is reaped, its pipes are drained, and nothing that it started is left.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace

from procstop import events
from procstop.lifecycle import (
    Action,
    Attempt,
    Deadline,
    Event,
    Freed,
    Gone,
    IllegalEvent,
    Ready,
    Reported,
    Spawned,
    SpawnFailed,
    State,
    Stop,
    step,
)
from procstop.messages import ProtocolError
from procstop.messages import worker as messages
from procstop.model import Outcome, Reason, Rung
from procstop.process import Worker
from procstop.records import AttemptRecord, Contained, StoppingPoints, Tree
from procstop.supervisor.artifacts import OUTLIVED, CompilerEnd
from procstop.supervisor.assignment import Assignment
from procstop.supervisor.crew import Crew
from procstop.supervisor.hiring import Hiring, Ways
from procstop.supervisor.loop import Timer
from procstop.supervisor.meters import Meters
from procstop.supervisor.outputs import Sink, output_path
from procstop.supervisor.port import CHUNK, REST_S, Port
from procstop.supervisor.streams import MOST_LEFT, STREAMS, Streams

_MORSEL = 4096
"""A pipe passes on what was written at a stretch in pieces of no less than this."""


class LiveAttempt:
    """An attempt from its start to its record, which `on_over` gets once.

    `on_paused` is called when a pause that had to wait for the guards has taken hold.
    """

    def __init__(
        self,
        assignment: Assignment,
        number: int,
        token: str,
        *,
        crew: Crew,
        on_over: Callable[[LiveAttempt, AttemptRecord], None],
        on_paused: Callable[[], None],
    ) -> None:
        self.assignment = assignment
        self.task = assignment.task.name
        self.number = number
        self.token = token
        self.port: Port | None = None
        self._crew = crew
        self._loop = crew.loop
        self._announce = crew.announce
        self._on_over = on_over
        self._on_paused = on_paused
        self._state = Attempt(assignment.stop, assignment.limits, assignment.abilities)
        self._timer: Timer | None = None
        ways = Ways(self._own, self._on_refused, self._on_compiler_end, self._on_compiling)
        self._hiring = Hiring(crew, assignment, token, ways)
        self._owed: Action | None = None
        self._meters: Meters | None = None
        self._ended_at: float | None = None
        self._peak: int | None = None
        self._points_passed = 0
        self._chatted = float("-inf")
        self._compiler: int | None = None
        self._silent = True
        self._lives_since = 0.0
        sinks = {name: self._make_sink(name) for name in STREAMS}
        self._streams = Streams(crew.loop, crew.announce, self.task, number, sinks, self._on_output_limit)

    @property
    def worker(self) -> Worker | None:
        """The worker, once there is one."""
        return None if self.port is None else self.port.worker

    def start(self) -> None:
        """Begin: take a worker that is free, or have one made; end at once where there can be none."""
        if self.assignment.rejected is not None:
            return self._feed(SpawnFailed(self.assignment.rejected))
        self._feed(Spawned())
        self._hiring.begin()

    def stop(self, reason: Reason, rung: Rung, message: str | None = None) -> None:
        """Ask for its end, on a rung or the first above it that can work."""
        self._feed(Stop(reason, rung, message))

    def pause(self) -> bool:
        """Stop the worker's tree in its tracks; return whether nothing of it runs now.

        A worker whose guards are not on yet goes on until they are: stopped before, it could not put them on.
        """
        worker = self.worker
        if worker is not None and worker.guarded and worker.ended is None:
            worker.pause()
        return self.is_quiet

    @property
    def ends_itself_in(self) -> float | None:
        """How long it takes until its worker's own timer ends it, in seconds, paused or not; None if none will."""
        life = self._life
        if life is None or self.port is None or self.port.worker.ended is not None:
            return None
        return max(0.0, life - time.monotonic())

    @property
    def is_quiet(self) -> bool:
        """Tell whether nothing of it runs that a pause has to wait for."""
        if self.port is None:
            # A compiler goes on meanwhile; a fork server may be making a worker at this moment.
            return not self._hiring.may_have_made_one
        return self.port.worker.guarded or self.port.worker.ended is not None

    # The way to a worker

    def _on_refused(self, text: str, out_of_memory: bool) -> None:
        starting = self._state.state is State.STARTING
        failed = SpawnFailed(text, out_of_memory)
        self._feed(failed if starting else Gone(None, self._now(), text, was_there=False))

    def _on_compiling(self, pid: int) -> None:
        self._compiler = pid
        engine = self.assignment.engine or ""
        self._announce(events.AttemptCompiling(self.task, self.number, pid, engine))

    def _on_compiler_end(self, end: CompilerEnd) -> None:
        if end.outlived:
            self._feed(Stop(Reason.START_LIMIT, Rung.KILL, end.message))
        text = end.message or "its module was still being compiled"
        self._feed(Gone(end.wait, self._now(), text, out_of_memory=end.out_of_memory))

    def _own(self, port: Port) -> None:
        self.port = port
        port.owner = self
        if self._announce.is_heard:
            engine = self.assignment.engine or ""
            self._announce(events.AttemptStarted(self.task, self.number, port.worker.pid, engine))
        if self._silent:
            self._silent = False
            self._tell_move()
        if self._owed is not None:
            # It was made while the attempt was already to end.
            owed, self._owed = self._owed, None
            self._carry_out(owed)

    # Facts

    def on_report(self, data: bytes) -> None:
        """Take what the worker says; what breaks the format ends it."""
        port = self._alive()
        if port.decoder is None or not data:
            return  # It broke the format before, so that nothing that it says counts, or has no more to say.
        beat: messages.Beat | None = None
        chatter = whole = False
        try:
            for message in port.decoder.feed(data):
                whole = True
                if message.attempt != self.token:
                    # The first thing that a worker says may come with its first attempt's, never later.
                    raise ProtocolError("a message about another attempt")
                chatter = chatter or isinstance(message, (messages.Beat, messages.Guarded))
                if isinstance(message, messages.Beat):
                    # Of many that have piled up only the last is news.
                    beat = message
                else:
                    self._take(message)
        except (ProtocolError, IllegalEvent) as error:
            port.decoder = None
            if port.owner is self:
                self.stop(Reason.PROTOCOL, Rung.KILL, f"the worker sent {error}")
            else:
                # It was passed on in the middle of what it said, and is fit for nothing any more.
                port.worker.kill()
        if (chatter or (not whole and len(data) < _MORSEL)) and port.owner is self:
            # An honest worker beats ten times a second, says but once that it is guarded, and writes at a stretch.
            if self._now() - self._chatted < REST_S:
                port.rest()
            self._chatted = self._now()
        if beat is not None and self._state.state is not State.OVER:
            self._points_passed = max(self._points_passed, beat.passed)
            if self._meters is not None:
                self._meters.heard()
            if self._announce.crowded:
                return  # A flood of beats must not pile up before observers that lag behind.
            told = events.AttemptProgress(self.task, self.number, beat.passed, beat.done, beat.total)
            self._announce(told)

    def _take(self, message: messages.Message) -> None:
        if isinstance(message, messages.Ready):
            self._be_guarded()
            # It says itself since when, which may be learned only now; a lie is held to what is possible.
            self._lives_since = min(max(message.since, self._hiring.asked_at), time.monotonic())
            self._hiring.loaded()
            self._feed(Ready(message.interruptible))
            if self._state.state is State.RUNNING:
                self._begin_to_meter(message.interruptible)
        elif isinstance(message, messages.Final):
            self._feed(Reported(message.report))
            if message.free:
                self._on_free(message.report.outcome)
        elif isinstance(message, messages.Guarded):
            self._be_guarded()
            if message.note is not None:
                self._hiring.found_spoilt(message.note)
        else:
            raise ProtocolError("a message that only a supervisor may send")

    def _begin_to_meter(self, has_points: bool) -> None:
        limits = self.assignment.limits
        if limits.cpu is not None or limits.stall is not None:
            port = self._alive()

            def stop(reason: Reason) -> None:
                self.stop(reason, Rung.INTERRUPT)

            def listen() -> None:
                # All of it, since the newest is what counts, and no more than a pipe holds.
                for _ in range(MOST_LEFT // CHUNK):
                    if port.worker.ended is not None or not port.has_report or not port.read_report():
                        break

            self._meters = Meters(self._loop, port.worker, limits, stop, listen)
            self._meters.begin(has_points=has_points)

    def _be_guarded(self) -> None:
        """Its guards are on: now it can be stopped in its tracks."""
        worker = self._alive().worker
        if not worker.guarded:
            worker.guarded = True
            if self._loop.clock.paused:
                self.pause()
                self._on_paused()

    def _on_free(self, outcome: Outcome) -> None:
        """The worker waits for another attempt: it is drained and passed on, or sent away if it was to stop."""
        port, state = self._alive(), self._state
        clean = state.state is State.EXITING and state.rung is None and outcome is Outcome.COMPLETED
        # One that stands still is resumed with the attempts that live, so this one has to live on until then.
        if not clean or port.left <= 1 or self.assignment.kin is None or self._loop.clock.paused:
            port.worker.let_go()
            return
        # What the guest wrote is in the pipes by now, and nothing of another's can be.
        self._streams.hand_over(port)
        self._feed(Freed())

    def on_output(self, stream: str) -> None:
        """Take output that has come, or its end."""
        # One that is to stop is read on, or it could never write its way to a stopping point.
        self._streams.take(self._alive(), stream, may_wait=self._state.state is State.RUNNING)

    def _on_output_limit(self, stream: str) -> None:
        # What is found in the pipe of a dead worker is no reason to ask it for anything.
        if self._state.reason is None and self._ended_at is None:
            self.stop(Reason.OUTPUT_LIMIT, Rung.INTERRUPT, f"{stream} went beyond its limit")

    def on_end(self) -> None:
        """The worker has ended, or is about to: reap it, drain its pipes, clear away what it left."""
        port = self._alive()
        ended = port.worker.reap()
        if ended is None:
            # Only systems without pidfds have to ask.
            return port.ask_again()
        if self._ended_at is None:
            self._ended_at = self._now()
            port.unwatch_end()
            self._drain(port)
        if self._state.state is State.OVER:
            return None
        if self._hiring.ends_unused and self._state.state is State.STARTING:
            return self._start_over(port)
        # A guest starts no processes, and its worker starts none for it; host functions may. What a receipt is given
        # for is looked at.
        family = self._crew.family
        looks = self.assignment.has_functions or self._was_forced(port.worker) or family.is_due()
        if looks and family.clear_orphans(port.worker):
            return port.ask_again()
        if self._outlived(ended.wait):
            reason = Reason.TIME_LIMIT if self._state.ready else Reason.START_LIMIT
            self._feed(Stop(reason, Rung.KILL, OUTLIVED))
        most_cpu = self.assignment.order.cpu
        out_of_cpu = most_cpu is not None and ended.cpu_s is not None and ended.cpu_s >= most_cpu
        refused = self._was_refused_memory(ended.wait)
        self._feed(Gone(ended.wait, self._ended_at, out_of_memory=refused, out_of_cpu=out_of_cpu))

    def _was_refused_memory(self, wait: tuple[str, int] | None) -> bool:
        """Tell whether its engine gave up for want of memory, which is an abort with these words."""
        aborted = wait == ("signal", signal.SIGABRT) and self._state.report is None
        return aborted and self._streams.has_said("stderr", b"memory allocation of")

    def _outlived(self, wait: tuple[str, int] | None) -> bool:
        """Tell whether it was its own timer that killed it, since this supervisor stood still for too long."""
        if wait != ("signal", signal.SIGKILL) or Action.KILL in self._state.sent:
            return False
        return self._life is not None and time.monotonic() >= self._life

    @property
    def _life(self) -> float | None:
        """When its worker's own timer ends it, by the monotonic clock."""
        order = self.assignment.order
        if self._state.ready:
            return None if order.life is None else self._lives_since + order.life
        # Not since it was there, which may be learned only now: that is soon after it was asked for.
        return None if order.start is None else self._hiring.asked_at + order.start

    def _start_over(self, port: Port) -> None:
        """Its worker has ended unused, which is no end of this attempt."""
        self._crew.family.remove(port.worker.pid)
        port.close()
        self.port, self._ended_at = None, None
        self._hiring.begin_again()

    def _drain(self, port: Port) -> None:
        """Read what the worker left in its pipes, and no more: a survivor may hold them open for ever."""
        # The report first, or a last word is lost and looks like a crash.
        for _ in range(MOST_LEFT // CHUNK):
            if not port.read_report():
                break
        port.unwatch_report()
        self._streams.drain(port)

    def _on_deadline(self) -> None:
        # An answer that came in time counts, even if we only look now.
        port = self.port
        if port is not None and port.worker.ended is None and port.has_report:
            port.read_report()
        deadline = self._state.deadline
        if deadline is None or self._now() < deadline:
            return None
        if port is None and self._state.state is State.KILLING and self._hiring.may_have_made_one:
            # Its fork server says nothing. Nobody hears of that worker any more, and it is killed when it is found.
            self._hiring.abandon()
            return self._feed(Gone(None, self._now(), "its worker was only just being made"))
        self._feed(Deadline())

    # The lifecycle

    def _feed(self, event: Event) -> None:
        before = self._state
        if isinstance(event, Stop) and event.rung is not Rung.INTERRUPT and self.port is not None:
            self._peak = self.port.worker.peak_memory_bytes() or self._peak
        self._state, actions = step(before, event, self._now())
        for action in actions:
            self._carry_out(action)
        if self._state.deadline != before.deadline or self._state.state is not before.state:
            if self._timer is not None:
                self._timer.cancel()
            deadline = self._state.deadline
            self._timer = None if deadline is None else self._loop.call_at(deadline, self._on_deadline)
        if self._state.state is not before.state:
            self._tell_move()
            if self._state.state is State.OVER:
                self._finish(freed=isinstance(event, Freed))

    def _carry_out(self, action: Action) -> None:
        worker = self.worker
        if worker is None:
            return self._give_up(action)
        # A dead worker cannot say how much memory it used: ask before the blow.
        self._peak = worker.peak_memory_bytes() or self._peak
        if action is Action.INTERRUPT:
            try:
                os.write(worker.control, messages.encode(messages.Interrupt(self.token)))
            except OSError:
                pass  # It closed its end; the grace runs all the same.
        elif action is Action.TERMINATE:
            worker.terminate()
        elif action is Action.KILL:
            worker.kill()

    def _give_up(self, action: Action) -> None:
        """There is no worker yet: want none any more, and end one that is made all the same."""
        self._owed = action
        note = self._hiring.give_up(kill=action is Action.KILL)
        if note is not None:
            # Not from here: this is the middle of a step.
            self._loop.post(lambda: self._vanish(note))

    def _vanish(self, note: str) -> None:
        if self._state.state is not State.OVER:
            self._feed(Gone(None, self._now(), note, was_there=False))

    def _tell_move(self) -> None:
        # One that has no worker yet has nothing to tell, unless it was stopped.
        if self._silent and self._state.rung is None and self._state.state is not State.OVER:
            return
        if not self._announce.is_heard:
            return
        state = self._state
        left = None if state.deadline is None else state.deadline - self._now()
        moved = events.AttemptMoved(self.task, self.number, state.state.value, left, state.rung, state.reason)
        self._announce(moved)

    def _finish(self, *, freed: bool) -> None:
        self._hiring.finish()
        if self._meters is not None:
            self._meters.end()
        if self._timer is not None:
            self._timer.cancel()
        record = self._record()
        port, crew = self.port, self._crew
        if port is not None and not freed and port.worker.ended is not None:
            # The guardians go on knowing what of it could not be ended.
            if not port.worker.ended.held and record.outcome is not Outcome.LOST:
                crew.family.remove(port.worker.pid)
            port.close()
        elif port is not None and not freed:
            # It is lost: nobody hears of it, but it is still ours to kill.
            port.close()
        self._on_over(self, record)
        if port is not None and freed:
            port.left -= 1
            crew.pool.offer(port, self.assignment.kin)

    def _record(self) -> AttemptRecord:
        state, worker, report = self._state, self.worker, self._state.report
        assert state.outcome is not None
        ended = worker.ended if worker is not None else None
        points, cpu, peak = StoppingPoints(self._points_passed), None, self._peak
        if ended is not None:
            cpu = ended.cpu_s
            peak = max(peak or 0, ended.peak_memory_bytes or 0) or None
        if report is not None:
            points, peak = report.stopping_points, max(peak or 0, report.peak_memory_bytes or 0) or None
            if self.assignment.order.hosts > 1:
                # The kernel knows only what all of them used that this worker hosted.
                cpu = report.cpu_s or cpu
        stdout, stderr = self._streams.close()
        return AttemptRecord(
            number=self.number,
            engine=self.assignment.engine,
            engine_reason=self.assignment.engine_reason,
            outcome=state.outcome,
            # Whether it was asked to stop, or had ended before anybody saw that it wrote too much.
            reason=state.reason or (Reason.OUTPUT_LIMIT if self._streams.over_limit else None),
            rung=state.rung,
            values=report.values if report is not None else None,
            exit_code=report.exit_code if report is not None else None,
            message=(report.message if report is not None else None) or state.message,
            partial=report.partial if report is not None else None,
            pid=worker.pid if worker is not None else self._compiler if state.wait is not None else None,
            wait=state.wait or (ended.wait if ended is not None else None),
            stopping_points=points,
            phases=state.phases,
            peak_memory_bytes=peak,
            cpu_s=cpu,
            stdout=stdout,
            stderr=stderr,
            worker=worker.number if worker is not None else None,
            # Before its guest was about to run it may not have put everything on.
            contained=self._contained() if state.ready else None,
            tree=self._receipt(worker),
        )

    def _contained(self) -> Contained | None:
        found, lack = self.assignment.contained, self._crew.guarding.lack
        if found is None or lack is None or not self.assignment.may_start_processes:
            return found
        # Its host functions may reach all files then, or there is no filter: the level is not the highest already.
        return replace(found, missing=(*found.missing, lack))

    def _was_forced(self, worker: Worker) -> bool:
        return worker.killed > 0 or self._state.rung in (Rung.TERMINATE, Rung.KILL)

    def _receipt(self, worker: Worker | None) -> Tree | None:
        """Tell what force found and did, once the end of it all is known."""
        if worker is None or not self._was_forced(worker):
            return None
        left = worker.left() if self._state.outcome is Outcome.LOST else 0
        return Tree(worker.found, worker.killed, left, worker.named)

    def _make_sink(self, stream: str) -> Sink:
        directory = self._crew.output_dir
        path = output_path(directory, self.task, self.number, stream) if directory else None
        return Sink(self.assignment.limits.output, path, lambda text: self._crew.not_kept(f"{self.task}: {text}"))

    def _now(self) -> float:
        return self._loop.clock.now()

    def _alive(self) -> Port:
        assert self.port is not None
        return self.port
