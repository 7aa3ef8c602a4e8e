"""A lone module's output: byte for byte into pipes and files, clean lines on a terminal, and nothing raised."""

from __future__ import annotations

import errno
import io

from procstop.events import AttemptOver, Output, TaskOver
from procstop.model import Outcome, Value
from procstop.records import AttemptRecord, TaskRecord
from procstop.reporting import RawOutput


class Stream(io.TextIOWrapper):
    """A text stream over memory, which may say that it is a terminal."""

    def __init__(self, terminal: bool = False) -> None:
        self.memory = io.BytesIO()
        self.terminal = terminal
        super().__init__(self.memory, encoding="utf-8")

    def isatty(self) -> bool:
        return self.terminal


def over(*values: Value, outcome: Outcome = Outcome.COMPLETED) -> TaskOver:
    attempt = AttemptRecord(1, "wasmer", outcome, values=values)
    return TaskOver(TaskRecord("add", True, outcome, (attempt,)))


def output(data: bytes, stream: str = "stdout") -> Output:
    return Output("add", 1, stream, data)


def test_bytes_go_to_their_streams_as_they_are() -> None:
    out, err = Stream(), Stream()
    raw = RawOutput(stdout=out, stderr=err)
    for data in (b"\xff\0\r", b"\x1b[2J", b"no newline"):
        raw(output(data))
        raw(output(data[::-1], "stderr"))
    raw(over(8))
    assert out.memory.getvalue() == b"\xff\0\r\x1b[2Jno newline"
    assert err.memory.getvalue() == b"\r\0\xffJ2[\x1benilwen on"
    assert raw.failed is None


def test_a_terminal_gets_clean_lines() -> None:
    out, err = Stream(), Stream(terminal=True)
    raw = RawOutput(stdout=out, stderr=err)
    raw(output(b"\x1b[2Jone\ntwo", "stderr"))
    assert err.memory.getvalue() == b"\\x1b[2Jone\n"
    raw(AttemptOver("add", AttemptRecord(1, "wasmer", Outcome.COMPLETED), False))
    assert err.memory.getvalue() == b"\\x1b[2Jone\ntwo\n"


def test_returned_values_are_one_line() -> None:
    out = Stream()
    raw = RawOutput(stdout=out, stderr=Stream(), values=True)
    raw(over(8, 0.5, "nan"))
    assert out.memory.getvalue() == b"8 0.5 nan\n"


def test_returned_values_begin_a_line_of_their_own() -> None:
    out = Stream()
    raw = RawOutput(stdout=out, stderr=Stream(), values=True)
    raw(output(b"half a line"))
    raw(over(8))
    assert out.memory.getvalue() == b"half a line\n8\n"


def test_nothing_is_said_of_a_call_that_returned_nothing_or_not_at_all() -> None:
    out = Stream()
    raw = RawOutput(stdout=out, stderr=Stream(), values=True)
    raw(over())
    raw(over(8, outcome=Outcome.TRAPPED))
    raw(TaskOver(TaskRecord("add", False, Outcome.CANCELLED)))
    assert out.memory.getvalue() == b""


def test_a_reader_that_left_disturbs_nothing() -> None:
    class Left(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            raise left

    left, err = BrokenPipeError(errno.EPIPE, "Broken pipe"), Stream()
    pipe = io.BufferedWriter(Left())
    raw = RawOutput(stdout=io.TextIOWrapper(pipe), stderr=err, values=True)
    raw(output(b"x"))
    raw(output(b"y", "stderr"))
    raw(over(8))
    assert raw.failed is left
    assert err.memory.getvalue() == b"y"
    pipe.raw.close()


def test_a_closed_stream_disturbs_nothing() -> None:
    out = Stream()
    out.close()
    raw = RawOutput(stdout=out, stderr=Stream())
    raw(output(b"x"))
    assert raw.failed is not None and raw.failed.errno == errno.EBADF
