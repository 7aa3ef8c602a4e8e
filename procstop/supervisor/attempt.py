"""One living attempt: its worker, its pipes, its place in the lifecycle.

Facts come in from descriptors and timers, go through `lifecycle.step`, and its actions are carried out on the
worker. A worker's end is a fact only when all three are done: it is reaped, its pipes are drained, and nothing that
it started is left.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from procstop import events, messages, process
from procstop.lifecycle import (
    Action,
    Attempt,
    Deadline,
    Event,
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
from procstop.messages import Decoder, Interrupt, ProtocolError
from procstop.model import Reason, Rung
from procstop.process import SpawnError, Worker
from procstop.records import AttemptRecord
from procstop.supervisor.announcer import Announcer
from procstop.supervisor.assignment import Assignment
from procstop.supervisor.loop import Loop, Timer
from procstop.supervisor.outputs import Sink, output_path

_CHUNK = 64 * 1024
_DRAIN = 16 * _CHUNK
"""No pipe holds more than this, so what is read beyond it was written by a survivor, and is not waited for."""
_RETRY_S = 0.01
_CROWDED_S = 0.05


class LiveAttempt:
    """An attempt from its start to its record, which `on_over` gets once.

    `find_orphans(worker)` returns what is left of a worker's tree once that has ended. `on_paused` is called when a
    pause that had to wait for the guards has taken hold.
    """

    def __init__(
        self,
        assignment: Assignment,
        number: int,
        token: str,
        *,
        loop: Loop,
        announce: Announcer,
        output_dir: str | None,
        find_orphans: Callable[[Worker], Sequence[object]],
        on_over: Callable[[LiveAttempt, AttemptRecord], None],
        on_paused: Callable[[], None],
    ) -> None:
        self.assignment = assignment
        self.number = number
        self.token = token
        self.worker: Worker | None = None
        self._loop = loop
        self._announce = announce
        self._find_orphans = find_orphans
        self._on_over = on_over
        self._on_paused = on_paused
        self._state = Attempt(assignment.stop, assignment.limits, assignment.abilities)
        self._timer: Timer | None = None
        self._poll: Timer | None = None
        self._decoder: Decoder | None = Decoder()
        self._ended_at: float | None = None
        self._peak: int | None = None
        self._points_passed = 0
        limit, task = assignment.limits.output, assignment.task.name
        self._sinks = {
            name: Sink(
                limit,
                output_path(output_dir, task, number, name) if output_dir else None,
                lambda text: self._announce(events.Notice(f"{task}: {text}")),
            )
            for name in ("stdout", "stderr")
        }

    @property
    def task(self) -> str:
        """The task's name."""
        return self.assignment.task.name

    def start(self, lifeline: int) -> None:
        """Start the worker, or end at once with the reason why there can be none."""
        if self.assignment.rejected is not None:
            return self._feed(SpawnFailed(self.assignment.rejected))
        opened: list[int] = []
        try:
            opened.append(module := self.assignment.open_module())
            opened.append(stdin := self.assignment.open_stdin())
            order = messages.encode_order(self.assignment.order_for(self.token))
            self.worker = process.spawn_worker(self.token, order, module=module, stdin=stdin, lifeline=lifeline)
        except SpawnError as error:
            return self._feed(SpawnFailed(str(error)))
        except OSError as error:
            return self._feed(SpawnFailed(f'cannot open "{error.filename}": {error.strerror}'))
        finally:
            for fd in opened:
                os.close(fd)
        worker, engine = self.worker, self.assignment.engine or ""
        self._announce(events.AttemptStarted(self.task, self.number, worker.pid, engine))
        self._loop.watch(worker.report, self._on_report)
        self._loop.watch(worker.stdout, lambda: self._on_output("stdout", worker.stdout))
        self._loop.watch(worker.stderr, lambda: self._on_output("stderr", worker.stderr))
        if worker.pidfd is not None:
            self._loop.watch(worker.pidfd, self._on_end)
        else:
            self._check_again(self._on_end)
        self._feed(Spawned())

    def stop(self, reason: Reason, rung: Rung, message: str | None = None) -> None:
        """Ask for its end, on a rung or the first above it that can work."""
        self._feed(Stop(reason, rung, message))

    def pause(self) -> bool:
        """Stop the worker's tree in its tracks; return whether nothing of it runs now.

        A worker whose guards are not on yet goes on until they are: stopped before, it could not put them on.
        """
        worker = self.worker
        if worker is None or worker.ended is not None:
            return True
        if not worker.guarded:
            return False
        worker.pause()
        return True

    # Facts

    def _on_report(self) -> None:
        """Read what the worker says; what breaks the format ends it."""
        worker = self._alive()
        try:
            data = os.read(worker.report, _CHUNK)
        except BlockingIOError:
            return
        if not data:
            self._loop.unwatch(worker.report)
            return
        if self._decoder is None:
            return  # It broke the format before: nothing that it says counts.
        beat: messages.Beat | None = None
        try:
            for message in self._decoder.feed(data):
                if message.attempt != self.token:
                    raise ProtocolError("a message about another attempt")
                if isinstance(message, messages.Beat):
                    # Of many that have piled up only the last is news.
                    beat = message
                else:
                    self._take(message)
        except (ProtocolError, IllegalEvent) as error:
            self._decoder = None
            self.stop(Reason.PROTOCOL, Rung.KILL, f"the worker sent {error}")
        if beat is not None:
            self._points_passed = max(self._points_passed, beat.passed)
            told = events.AttemptProgress(self.task, self.number, beat.passed, beat.done, beat.total)
            self._announce(told)

    def _take(self, message: messages.Message) -> None:
        if isinstance(message, messages.Ready):
            self._feed(Ready(message.interruptible))
        elif isinstance(message, messages.Final):
            self._feed(Reported(message.report))
        elif isinstance(message, messages.Guarded):
            self._alive().guarded = True
            if self._loop.clock.paused:
                self.pause()
                self._on_paused()
        else:
            raise ProtocolError("a message that only a supervisor may send")

    def _on_output(self, stream: str, fd: int) -> None:
        if self._announce.crowded and self._state.state is State.RUNNING:
            # Leave it in the pipe, where it slows down nobody but its guest. One that is
            # to stop is read on, or it could never write its way to a stopping point.
            self._loop.unwatch(fd)
            self._loop.call_at(self._loop.clock.now() + _CROWDED_S, lambda: self._rewatch(stream, fd))
            return
        if not self._read_output(stream, fd):
            self._loop.unwatch(fd)

    def _rewatch(self, stream: str, fd: int) -> None:
        worker = self.worker
        # The attempt may be over, and the number used again for another's pipe.
        if worker is not None and fd in (worker.stdout, worker.stderr) and self._state.state is not State.OVER:
            self._loop.watch(fd, lambda: self._on_output(stream, fd))

    def _read_output(self, stream: str, fd: int) -> int:
        """Read one chunk of output; return its size, 0 at the end of the stream."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return 1 if self._ended_at is None else 0
        sink = self._sinks[stream]
        kept = sink.feed(data)
        if kept:
            self._announce(events.Output(self.task, self.number, stream, kept))
        # What is found in the pipe of a dead worker is no reason to ask it for anything.
        if sink.over_limit and self._state.reason is None and self._ended_at is None:
            self.stop(Reason.OUTPUT_LIMIT, Rung.INTERRUPT, f"{stream} went beyond its limit")
        return len(data)

    def _on_end(self) -> None:
        """The worker has ended, or is about to: reap it, drain its pipes, clear away what it left."""
        worker = self._alive()
        if worker.reap() is None:
            # Only systems without pidfds have to ask.
            self._check_again(self._on_end)
            return
        if self._ended_at is None:
            self._ended_at = self._loop.clock.now()
            if worker.pidfd is not None:
                self._loop.unwatch(worker.pidfd)
            self._drain(worker)
        if self._state.state is State.OVER:
            return
        if self._find_orphans(worker):
            self._check_again(self._on_end)
            return
        if worker.ended is not None:
            self._feed(Gone(worker.ended.wait, self._ended_at))

    def _check_again(self, check: Callable[[], None]) -> None:
        if self._poll is not None:
            self._poll.cancel()
        self._poll = self._loop.call_at(self._loop.clock.now() + _RETRY_S, check)

    def _drain(self, worker: Worker) -> None:
        """Read what the worker left in its pipes, and no more: a survivor may hold them open for ever."""
        # The report first, or a last word is lost and looks like a crash.
        self._loop.unwatch(worker.report)
        for _ in range(_DRAIN // _CHUNK):
            if not process.readable(worker.report):
                break
            self._on_report()
        for name, fd in (("stdout", worker.stdout), ("stderr", worker.stderr)):
            self._loop.unwatch(fd)
            left = _DRAIN
            while left > 0 and (count := self._read_output(name, fd)):
                left -= count

    def _on_deadline(self) -> None:
        # An answer that came in time counts, even if we only look now.
        worker = self.worker
        if worker is not None and worker.ended is None and process.readable(worker.report):
            self._on_report()
        deadline = self._state.deadline
        if deadline is not None and self._loop.clock.now() >= deadline:
            self._feed(Deadline())

    # The lifecycle

    def _feed(self, event: Event) -> None:
        before = self._state
        if isinstance(event, Stop) and event.rung is not Rung.INTERRUPT and self.worker is not None:
            self._peak = self.worker.peak_memory_bytes() or self._peak
        self._state, actions = step(before, event, self._loop.clock.now())
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
                self._finish()

    def _carry_out(self, action: Action) -> None:
        worker = self._alive()
        # A dead worker cannot say how much memory it used: ask before the blow.
        self._peak = worker.peak_memory_bytes() or self._peak
        if action is Action.INTERRUPT:
            try:
                os.write(worker.control, messages.encode(Interrupt(self.token)))
            except OSError:
                pass  # It closed its end; the grace runs all the same.
        elif action is Action.TERMINATE:
            worker.terminate()
        elif action is Action.KILL:
            worker.kill()

    def _tell_move(self) -> None:
        state = self._state
        left = None if state.deadline is None else state.deadline - self._loop.clock.now()
        moved = events.AttemptMoved(self.task, self.number, state.state.value, left, state.rung, state.reason)
        self._announce(moved)

    def _finish(self) -> None:
        for timer in (self._timer, self._poll):
            if timer is not None:
                timer.cancel()
        worker = self.worker
        if worker is not None:
            for fd in (worker.report, worker.stdout, worker.stderr, worker.pidfd):
                if fd is not None:
                    self._loop.unwatch(fd)
        record = self._record()
        if worker is not None:
            worker.close()
        self._on_over(self, record)

    def _record(self) -> AttemptRecord:
        state, worker = self._state, self.worker
        assert state.outcome is not None
        record = AttemptRecord(
            number=self.number,
            engine=self.assignment.engine,
            engine_reason=self.assignment.engine_reason,
            outcome=state.outcome,
            reason=state.reason,
            rung=state.rung,
            message=state.message,
            wait=state.wait,
            phases=state.phases,
            stdout=self._sinks["stdout"].close(),
            stderr=self._sinks["stderr"].close(),
        )
        points = replace(record.stopping_points, passed=self._points_passed)
        record = replace(record, stopping_points=points)
        if worker is not None:
            ended = worker.ended
            peaks = [peak for peak in (self._peak, ended and ended.peak_memory_bytes) if peak]
            record = replace(
                record,
                pid=worker.pid,
                wait=state.wait or (ended.wait if ended else None),
                cpu_s=ended.cpu_s if ended else None,
                peak_memory_bytes=max(peaks, default=None),
            )
        if state.report is not None:
            report = state.report
            record = replace(
                record,
                values=report.values,
                exit_code=report.exit_code,
                message=report.message or record.message,
                partial=report.partial,
                stopping_points=report.stopping_points,
                peak_memory_bytes=report.peak_memory_bytes or record.peak_memory_bytes,
            )
        return record

    def _alive(self) -> Worker:
        assert self.worker is not None
        return self.worker
