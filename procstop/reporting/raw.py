"""What a lone module writes, byte for byte, so that `procstop run MODULE` can stand in a pipeline.

The guest's stdout goes to our stdout and its stderr to our stderr, with nothing added. Only a terminal gets clean
lines instead: a guest must not steer it with escape sequences.
"""

from __future__ import annotations

from typing import TextIO

from procstop import events
from procstop.model import Outcome
from procstop.reporting.streams import QuietStream
from procstop.reporting.text import LineCutter, printable


class RawOutput:
    """An observer that hands on what a guest writes; with `values`, also what its call returned, in a line."""

    def __init__(self, *, stdout: TextIO, stderr: TextIO, values: bool = False) -> None:
        self._streams = {"stdout": QuietStream(stdout), "stderr": QuietStream(stderr)}
        self._terminals = {name for name, stream in self._streams.items() if stream.isatty()}
        self._cutter = LineCutter()
        self._values = values
        self._line_open = False

    @property
    def failed(self) -> OSError | None:
        """Why writing stopped on one of the streams, None while both work."""
        return self._streams["stderr"].failed or self._streams["stdout"].failed

    def __call__(self, event: events.Event) -> None:
        """Write what one event brings."""
        if isinstance(event, events.Output):
            self._output(event)
        elif isinstance(event, events.AttemptOver):
            for stream, line in self._cutter.flush(event.task):
                self._streams[stream].write(f"{line}\n")
        elif isinstance(event, events.TaskOver) and self._values and event.record.outcome is Outcome.COMPLETED:
            values = event.record.values
            if values:
                # A guest that ended in the middle of a line must not run into them.
                start = "\n" if self._line_open else ""
                line = " ".join(map(str, values))
                # They may be texts of a host function's.
                line = printable(line) if "stdout" in self._terminals else line
                self._streams["stdout"].write(f"{start}{line}\n")

    def _output(self, event: events.Output) -> None:
        stream = self._streams[event.stream]
        if event.stream in self._terminals:
            lines = self._cutter.feed(event.task, event.stream, event.data)
            stream.write("".join(f"{line}\n" for line in lines))
            return
        stream.write_bytes(event.data)
        if event.stream == "stdout" and event.data:
            self._line_open = not event.data.endswith(b"\n")
