"""Valid streams of messages, spoilt in every way that comes to mind: only `ProtocolError` may come of it."""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from procstop.messages import MAX_TEXT, ProtocolError
from procstop.messages.compiler import Compiled, decode_compiled, encode_compiled
from procstop.messages.forkserver import ForkAnswer, decode_answer, encode_answer
from procstop.messages.worker import (
    MAX_MESSAGE,
    MAX_VALUES,
    Assign,
    Beat,
    Decoder,
    Final,
    Guarded,
    Interrupt,
    Message,
    Ready,
    encode,
)
from procstop.model import Outcome
from procstop.records import Report, StoppingPoints
from support.fuzzing import TIMEOUT, fuzz

T = TypeVar("T")
LONGEST = MAX_TEXT + 40
"""A text that was cut says so."""

NUMBERS = [
    "0", "-0", "-1", "1", "2", "1.0", "1e0", "-0.0", "0.1e-400", "1e308", "1e309", "-1e999", "NaN", "Infinity",
    "-Infinity", "9" * 400, "9" * 5000, "0x10", "01", "1_000", "+1", ".5", "1.", str(2**31), str(2**32), str(2**53),
    str(2**53 + 1), str(2**63 - 1), str(2**63), str(-(2**63)), str(-(2**63) - 1), str(2**64), "1e12", "999999999999.9",
]  # fmt: skip
TEXTS = [
    '""', '"a"', '"\\ud800"', '"\\udfff\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"\\u001b[2J"', '"\u202e"',
    '"\x1b"', '"\\x"', '"', "'a'", '"completed"', '"killed"', '"final"', '"' + "x" * 201 + '"',
    '"' + "\\u00e9" * 9000 + '"', '"' + "y" * 60_000 + '"', '"nan"', '"1"',
]  # fmt: skip
OTHERS = [
    "null", "true", "false", "[]", "{}", "[[]]", '[{"a":[]}]', "[1,[2]]", "[null]", "[true]", "",
    "[" * 900, "[" * 900 + "]" * 900, "[" * 30_000, "[" * 30_000 + "]" * 30_000, '{"a":' * 9000,
    "[" + "0," * MAX_VALUES + "0]", "[" + "0," * (MAX_VALUES - 1) + "0]", '{"v":1,"v":2}', '{"passed":1}',
]  # fmt: skip
ANYTHING = [*NUMBERS, *TEXTS, *OTHERS]
BYTES = [
    b"", b"\0", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"\xfe\xff", b'"', b"\\",
    b"{", b"}", b",", b"\x80" * 40, b"\0\0\0\0", b"\0\0\0\2{}", b"\xff\xff\xff\xff",
]  # fmt: skip
LENGTHS = [0, 1, 3, 4, 255, MAX_MESSAGE - 1, MAX_MESSAGE, MAX_MESSAGE + 1, 2**31 - 1, 2**31, 2**32 - 1]


def some_text(rng: random.Random) -> str:
    return "".join(rng.choices('ab" \\\0\x1b\x9b\n\u202eé☃🙂\ud800\udfff', k=rng.choice([0, 1, 5, 40])))


def some_value(rng: random.Random) -> Any:
    return rng.choice([rng.randint(-(2**70), 2**70), rng.randint(-9, 9), rng.random(), math.inf, -0.0, some_text(rng)])


def some_message(rng: random.Random) -> Message:
    name = rng.choice(["a", "run-1", "x" * 200])
    count = rng.choice([0, 1, 2**53 + 1, 2**63 - 1])
    kind = rng.randrange(6)
    if kind == 0:
        return Interrupt(name)
    if kind == 1:
        return Guarded(name, rng.choice([2, 4127, 2**31 - 1]), rng.choice([None, some_text(rng)]))
    if kind == 2:
        return Ready(name, 4127, rng.random() < 0.5)
    if kind == 3:
        return Beat(name, count, rng.choice([None, -(2**63), 5]), rng.choice([None, 2**63 - 1]))
    if kind == 4:
        return Assign(name, tuple(some_value(rng) for _ in range(rng.randrange(4))), rng.random() < 0.5)
    values = rng.choice([None, tuple(some_value(rng) for _ in range(rng.choice([0, 1, 30])))])
    report = Report(
        rng.choice(list(Outcome)),
        values,
        rng.choice([None, 0, 2**32 - 1]),
        rng.choice([None, some_text(rng), "m" * 20_000]),
        values,
        StoppingPoints(count, rng.choice([None, 0, 0.25]), rng.choice([None, count])),
        rng.choice([None, count]),
        rng.choice([None, 0.5, 1]),
    )
    return Final(name, report, rng.random() < 0.5)


def framed(rng: random.Random, message: Message) -> bytes:
    try:
        data = encode(message)
    except (ProtocolError, ValueError):
        # Values that JSON does not have, in an `Assign`, which takes none but encoded ones.
        return b""
    if rng.random() < 0.6:
        return data
    body = spoil_json(rng, data[4:])
    return struct.pack(">I", len(body)) + body


def spoil_json(rng: random.Random, body: bytes) -> bytes:
    """Put another value, key or object in some place, and leave the rest as it was."""
    fields = json.loads(body)
    holder = fields
    while (inner := [value for value in holder.values() if isinstance(value, dict)]) and rng.random() < 0.6:
        holder = rng.choice(inner)
    if not holder:
        return body
    key = rng.choice(list(holder))
    way = rng.randrange(6)
    if way == 0:
        del holder[key]
    elif way == 1:
        holder[rng.choice(["more", "", "v", "type", "pid", "passed", "free"])] = holder[key]
    else:
        holder[key] = "@HERE@"
    text = json.dumps(fields)
    spoilt = rng.choice(ANYTHING)
    if way == 5:
        # The same key again: whichever counts, it is checked.
        return text.replace('"@HERE@"', f'0, "{key}": {spoilt}', 1).encode("utf-8", "surrogatepass")
    return text.replace('"@HERE@"', spoilt).encode("utf-8", "surrogatepass")


def spoil_bytes(rng: random.Random, data: bytes) -> bytes:
    spoilt = bytearray(data)
    for _ in range(rng.choice([0, 0, 1, 1, 2, 8])):
        at = rng.randint(0, len(spoilt))
        end = min(len(spoilt), at + rng.choice([1, 4, 100]))
        way = rng.randrange(7)
        if way == 0 and at < len(spoilt):
            spoilt[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            del spoilt[at:]
        elif way == 2:
            spoilt[at:end] = rng.choice(BYTES)
        elif way == 3:
            spoilt[at:at] = spoilt[rng.randint(0, len(spoilt)) :][: rng.choice([4, 60, 4000])]
        elif way == 4:
            spoilt[at:end] = struct.pack(">I", rng.choice(LENGTHS))
        elif way == 5:
            del spoilt[at:end]
        else:
            spoilt[at:at] = rng.randbytes(rng.choice([1, 7, 300]))
    return bytes(spoilt)


def heard(pieces: list[bytes]) -> tuple[list[Message], str | None]:
    """Return the messages that came out, and what was wrong at last."""
    decoder, found = Decoder(), list[Message]()
    for number, piece in enumerate(pieces):
        try:
            for message in decoder.feed(piece):
                found.append(message)
        except ProtocolError as error:
            assert not disbelieved(decoder, pieces[number + 1 :])
            return found, str(error)
        assert decoder.pending <= MAX_MESSAGE + 4, "no more is kept than one message"
    return found, None


def disbelieved(decoder: Decoder, later: list[bytes]) -> list[Message]:
    """Feed what comes after a breach, and a message as it should be; return what was believed of it."""
    believed = []
    for piece in [*later[:20], encode(Ready("a", 4127))]:
        with pytest.raises(ProtocolError):
            believed += list(decoder.feed(piece))
        assert decoder.pending == 0, "nothing is kept of what nobody will read"
    return believed


def cut(rng: random.Random, data: bytes) -> list[bytes]:
    size = rng.choice([1, 3, 50, 4096, 65536]) if len(data) < 5000 else rng.choice([50, 4096, 65536])
    pieces = []
    while data:
        length = rng.randint(1, size)
        pieces.append(data[:length])
        data = data[length:]
    return pieces


def check_message(message: Message) -> None:
    """All that others rely on, however it was made."""
    assert 0 < len(message.attempt) <= 200
    if isinstance(message, (Ready, Guarded)):
        assert type(message.pid) is int and 1 < message.pid < 2**31
    if isinstance(message, Guarded) and message.note is not None:
        check_text(message.note)
    if isinstance(message, Beat):
        assert type(message.passed) is int and 0 <= message.passed < 2**63
        for number in (message.done, message.total):
            assert number is None or (type(number) is int and -(2**63) <= number < 2**63)
    if isinstance(message, Final):
        report = message.report
        for values in (report.values, report.partial):
            assert values is None or len(values) <= MAX_VALUES
            for value in values or ():
                if isinstance(value, str):
                    check_text(value)
                else:
                    assert type(value) in (int, float) and math.isfinite(value) and abs(value) <= max(2**53, abs(value))
        if report.message is not None:
            check_text(report.message)
        assert isinstance(report.outcome, Outcome)
        points = vars(report.stopping_points)
        json.dumps([report.values, report.exit_code, report.cpu_s, report.peak_memory_bytes, points], allow_nan=False)


def check_text(text: str) -> None:
    text.encode("utf-8")
    assert len(text) <= LONGEST


@pytest.mark.timeout(TIMEOUT)
def test_spoilt_streams_give_messages_or_a_protocol_error_whatever_pieces_they_are_read_in() -> None:
    def attempt(rng: random.Random) -> None:
        stream = b"".join(framed(rng, some_message(rng)) for _ in range(rng.choice([1, 1, 2, 4])))
        data = spoil_bytes(rng, stream)
        try:
            whole = heard([data])
            for message in whole[0]:
                check_message(message)
            for _ in range(2):
                assert heard(cut(rng, data)) == whole
        except BaseException:
            print(f"the stream was {data[:4000]!r}{' ...' if len(data) > 4000 else ''}")
            raise

    assert fuzz(attempt) > 0


@pytest.mark.timeout(TIMEOUT)
def test_spoilt_answers_of_a_fork_server_give_an_answer_or_a_protocol_error() -> None:
    def attempt(rng: random.Random) -> None:
        answer = ForkAnswer(rng.choice([0, 7]), rng.choice([None, 4127]), rng.choice([None, some_text(rng)]))
        read = read_spoilt(rng, encode_answer(answer), decode_answer)
        if read is not None:
            assert read.pid is None or 1 < read.pid < 2**31
            if read.error is not None:
                check_text(read.error)

    assert fuzz(attempt) > 0


@pytest.mark.timeout(TIMEOUT)
def test_spoilt_answers_of_a_compiler_give_an_answer_or_a_protocol_error() -> None:
    def attempt(rng: random.Random) -> None:
        texts = [None, "", some_text(rng), "m" * 20_000]
        answer = Compiled(rng.random() < 0.5, rng.choice(texts), rng.choice(texts), rng.random() < 0.5)
        read = read_spoilt(rng, encode_compiled(answer), decode_compiled)
        if read is not None:
            assert type(read.stored) is bool
            for text in (read.note, read.error):
                if text is not None:
                    check_text(text)

    assert fuzz(attempt) > 0


def read_spoilt(rng: random.Random, data: bytes, decode: Callable[[bytes], T]) -> T | None:
    """Spoil an answer that is a JSON list, and return what is read of it, None for a `ProtocolError`."""
    if rng.random() < 0.6:
        parts = json.loads(data)
        parts[rng.randrange(len(parts))] = "@HERE@"
        data = json.dumps(parts).replace('"@HERE@"', rng.choice(ANYTHING)).encode("utf-8", "surrogatepass")
    data = spoil_bytes(rng, data)
    try:
        return decode(data)
    except ProtocolError:
        return None
    except BaseException:
        print(f"the answer was {data[:4000]!r}")
        raise
