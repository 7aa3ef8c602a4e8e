"""What crosses the pipes: whatever is not exactly a message is a `ProtocolError`, and nothing else ever."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from procstop.messages import MAX_TEXT, Order, ProtocolError, cut_text, encode_value
from procstop.messages.compiler import Compiled, decode_compiled, encode_compiled
from procstop.messages.forkserver import (
    ForkAnswer,
    ForkRequest,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
    join_request,
    split_request,
)
from procstop.messages.orders import Start, decode_order, decode_start, encode_order, encode_start
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
    decode,
    encode,
)
from procstop.model import Outcome
from procstop.records import Report, StoppingPoints

FULL = Report(
    Outcome.COMPLETED,
    values=(8, -1, 2.5, "ext"),
    exit_code=2**32 - 1,
    message='line\n"quoted" \x1b[31m ☃ 🙂',
    partial=(1,),
    stopping_points=StoppingPoints(3, 0.25, 2),
    peak_memory_bytes=1 << 40,
)
MESSAGES = [
    Interrupt("a"),
    Guarded("run-1", 4127),
    Ready("run-1", 4127),
    Guarded("run-1", 4127, "why"),
    Ready("run-1", 4127, False),
    Beat("a", 0),
    Beat("a", 2**63 - 1, -(2**63), 2**63 - 1),
    Final("a", Report(Outcome.TRAPPED)),
    Final("a", FULL),
]


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def body_of(message: Message) -> dict[str, Any]:
    return json.loads(encode(message)[4:])  # type: ignore[no-any-return]


def broken(fields: Any) -> None:
    with pytest.raises(ProtocolError):
        decode(json.dumps(fields).encode())


# Whole messages.


@pytest.mark.parametrize("message", MESSAGES)
def test_message_comes_out_as_it_went_in(message: Message) -> None:
    assert list(Decoder().feed(encode(message))) == [message]


def test_messages_come_out_whatever_pieces_they_are_read_in() -> None:
    data = b"".join(map(encode, MESSAGES))
    for size in (1, 3, 7, 1000, len(data)):
        decoder, found = Decoder(), []
        for start in range(0, len(data), size):
            found += decoder.feed(data[start : start + size])
        assert found == MESSAGES
        assert decoder.pending == 0


@pytest.mark.parametrize("left", [1, 3, 4, 5, -1])
def test_unfinished_message_waits_for_its_rest(left: int) -> None:
    data, decoder = encode(MESSAGES[-1]), Decoder()
    assert list(decoder.feed(data[:left])) == []
    assert decoder.pending == len(data[:left])
    assert list(decoder.feed(data[left:])) == [MESSAGES[-1]]


def test_length_beyond_the_most_is_refused_before_the_rest_comes() -> None:
    with pytest.raises(ProtocolError, match=str(MAX_MESSAGE + 1)):
        list(Decoder().feed(struct.pack(">I", MAX_MESSAGE + 1)))
    assert list(Decoder().feed(struct.pack(">I", MAX_MESSAGE))) == []


def test_message_that_would_be_too_long_is_not_encoded() -> None:
    values = tuple("x" * 100 for _ in range(MAX_VALUES))
    with pytest.raises(ProtocolError, match=f"the most is {MAX_MESSAGE}"):
        encode(Final("a", Report(Outcome.COMPLETED, values=values)))


@pytest.mark.parametrize("letter", ["x", "\0", "é", "☃", "🙂", "\ud800", '"'])
def test_longest_text_fits_whatever_it_is_made_of(letter: str) -> None:
    report = Report(Outcome.EXITED, message=cut_text(letter * 20_000))
    (message,) = Decoder().feed(encode(Final("a", report)))
    assert isinstance(message, Final) and message.report.message is not None
    assert message.report.message.startswith(letter.encode("utf-8", "replace").decode() * MAX_TEXT)


# What is no message.


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"1",
        b"{}",
        b"\xff\xfe",
        b"\0" * 8,
        b'{"v":1,"type":"interrupt","attempt":"a"} x',
        b'{"v":1,"type":"interrupt","attempt":NaN}',
        b'{"v":1,"type":"beat","attempt":"a","passed":Infinity,"done":null,"total":null}',
        b'{"v":1,"type":"beat","attempt":"a","passed":1e999,"done":null,"total":null}',
        b'{"v":1,"type":"beat","attempt":"a","passed":' + b"9" * 5000 + b',"done":null,"total":null}',
        b"[" * 60_000,
        b'{"v":' * 10_000,
        b'{"v":1,"type":"interrupt","attempt":"a","x":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    ],
    ids=range(17),
)
def test_body_that_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(body)
    with pytest.raises(ProtocolError):
        list(Decoder().feed(frame(body)))


@pytest.mark.parametrize("version", [0, 2, "1", None, 1.0, True, [1]])
def test_other_version_is_refused(version: Any) -> None:
    broken({"v": version, "type": "interrupt", "attempt": "a"})


@pytest.mark.parametrize("attempt", [None, 1, "", "x" * 201, ["a"], {}])
def test_attempt_must_be_a_short_text(attempt: Any) -> None:
    broken({"v": 1, "type": "interrupt", "attempt": attempt})


@pytest.mark.parametrize("kind", [None, "", "Interrupt", "order", 1, [], {}])
def test_unknown_type_is_refused(kind: Any) -> None:
    broken({"v": 1, "type": kind, "attempt": "a"})


@pytest.mark.parametrize("message", MESSAGES)
def test_unknown_and_missing_keys_are_refused(message: Message) -> None:
    fields = body_of(message)
    broken({**fields, "more": 1})
    for key in fields:
        broken({name: value for name, value in fields.items() if name != key})


WRONG_COUNTS = [-1, 2**63, 1.0, "1", True, [], {}]


@pytest.mark.parametrize(
    ("message", "key", "values"),
    [
        (Ready("a", 4127), "interruptible", [None, 0, 1, "true"]),
        (Beat("a", 1), "passed", [None, *WRONG_COUNTS]),
        (Beat("a", 1), "done", [2**63, -(2**63) - 1, 1.0, "1", True, []]),
        (Beat("a", 1), "total", [2**63, -(2**63) - 1, 1.0, "1", False, {}]),
        (Final("a", FULL), "report", [None, [], {}, "completed", 1]),
    ],
)
def test_wrong_value_is_refused(message: Message, key: str, values: list[Any]) -> None:
    for value in values:
        broken({**body_of(message), key: value})


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("outcome", [None, "", "COMPLETED", 1, [], {}, ["completed"]]),
        ("values", [1, "1", {}, [None], [True], [[1]], [{}], [0] * (MAX_VALUES + 1)]),
        ("partial", [1, "1", {}, [None], [False], [[1]]]),
        ("exit_code", [*WRONG_COUNTS, 2**32]),
        ("message", [1, [], {}, True]),
        ("peak_memory_bytes", WRONG_COUNTS),
        ("stopping_points", [None, [], {}, {"passed": 1}]),
    ],
)
def test_wrong_value_in_a_report_is_refused(key: str, values: list[Any]) -> None:
    fields = body_of(Final("a", FULL))
    for value in values:
        broken({**fields, "report": {**fields["report"], key: value}})
    broken({**fields, "report": {name: value for name, value in fields["report"].items() if name != key}})
    broken({**fields, "report": {**fields["report"], "more": None}})


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("passed", [None, *WRONG_COUNTS]),
        ("longest_gap_s", [-0.5, 1e12, "1", True, []]),
        ("stopped_at", WRONG_COUNTS),
    ],
)
def test_wrong_value_in_stopping_points_is_refused(key: str, values: list[Any]) -> None:
    fields = body_of(Final("a", FULL))
    for value in values:
        points = {**fields["report"]["stopping_points"], key: value}
        broken({**fields, "report": {**fields["report"], "stopping_points": points}})


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_value_that_json_does_not_have_is_refused(constant: str) -> None:
    with pytest.raises(ProtocolError):
        decode(json.dumps(body_of(Final("a", FULL))).replace("2.5", constant).encode())


def test_gap_that_is_no_number_is_refused() -> None:
    text = json.dumps(body_of(Final("a", FULL))).replace("0.25", "1e999")
    with pytest.raises(ProtocolError):
        decode(text.encode())


# What is taken, and made safe.


def test_half_a_surrogate_pair_does_not_get_through() -> None:
    fields = body_of(Final("a", FULL))
    fields["report"].update(message="x\ud800y", values=["\udfff"])
    message = decode(json.dumps(fields).encode())
    assert isinstance(message, Final)
    assert (message.report.message, message.report.values) == ("x?y", ("?",))


def test_texts_of_a_report_are_cut() -> None:
    fields = body_of(Final("a", FULL))
    fields["report"].update(message="x" * (MAX_TEXT + 5), values=["y" * (MAX_TEXT + 5)])
    message = decode(json.dumps(fields).encode())
    assert isinstance(message, Final)
    assert message.report.message == "x" * MAX_TEXT + " ... (5 characters more)"
    assert message.report.values == ("y" * MAX_TEXT,)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (2**53, 2**53),
        (-(2**53), -(2**53)),
        (2**53 + 1, "9007199254740993"),
        (-(2**63), "-9223372036854775808"),
        (1.5, 1.5),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (-float("inf"), "-inf"),
        ("text", "text"),
    ],
)
def test_values_that_json_cannot_hold_become_text(value: Any, encoded: Any) -> None:
    assert encode_value(value) == encoded
    (message,) = Decoder().feed(encode(Final("a", Report(Outcome.COMPLETED, values=(value,)))))
    assert isinstance(message, Final) and message.report.values == (encoded,)


def test_short_text_is_not_cut() -> None:
    assert cut_text("x" * MAX_TEXT) == "x" * MAX_TEXT
    assert cut_text("abcdef", 4) == "abcd ... (2 characters more)"


# Orders.


ORDER = Order(
    engine="wasmer",
    module_name="add.wasm",
    call="run",
    env={"LANG": "C", "odd": "\udcff"},
    dirs=[("/data", "/host/data", False), ("/out", "/host/out", True)],
    bindings={"env.early_exit": "exit"},
    host="/host/hostfuncs.py",
    host_functions={"env.f": "module:f"},
    main_path="/host/main.py",
    strategy="next-n",
    strategy_n=3,
    check_every=7,
    sys_path=["/site"],
    module_digest="ab" * 32,
    hosts=500,
)
ARGS = (1, 2.5, "9007199254740993", "nan", "b\udcff.txt")


def test_order_comes_out_as_it_went_in() -> None:
    assert decode_order(encode_order(ORDER)) == ORDER
    smallest = Order("wasmer", "m", "_start")
    assert decode_order(encode_order(smallest)) == smallest


def test_start_comes_out_as_it_went_in() -> None:
    start = Start(ORDER, "a-1", ARGS, "wasmer-1")
    assert decode_start(encode_start(start)) == start


def test_request_comes_out_as_it_went_in_whole_or_with_a_file() -> None:
    request = ForkRequest(7, 1, encode_order(ORDER).decode(), "wasmer-1", "a-1", ARGS)
    assert decode_request(encode_request(request)) == request
    assert split_request(request, 64 * 1024) == (request, None)
    short, file = split_request(request, 500)
    assert file is not None and len(encode_request(short)) <= 500 and short.filed
    joined = join_request(decode_request(encode_request(short)), file)
    assert (joined.order, joined.args, joined.attempt) == (request.order, request.args, request.attempt)


def test_assigned_arguments_come_out_as_they_went_in() -> None:
    (message,) = Decoder().feed(encode(Assign("a-1", ARGS, stdin=True)))
    assert message == Assign("a-1", ARGS, stdin=True)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[",
        b"[1]",
        b"{}",
        b"[1, 2, 3, 4]",
        b"[1, 2, 3, 4, 5]",
        b'["1", 2, null, false, false]',
        b"[1, 1, null, false, false]",
        b"[1, -5, null, false, false]",
        b"[1, 5, null, 0, false]",
        b"[1, 5, null, false, 0]",
    ],
)
def test_answer_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_answer(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b"[true, null]", b"[1, null, null]", b"[true, 1, null]", b"[true, null, {}]", b"[" * 60_000],
)
def test_word_of_a_compiler_that_makes_no_sense_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_compiled(data)


def test_word_of_a_compiler_comes_out_as_it_went_in_but_no_longer() -> None:
    for compiled in (Compiled(stored=True), Compiled(note="full"), Compiled(error="no module")):
        assert decode_compiled(encode_compiled(compiled)) == compiled
    long = decode_compiled(encode_compiled(Compiled(error="x" * 30_000)))
    assert len(long.error or "") < 10_000


def test_answer_comes_out_as_it_went_in() -> None:
    answers = (
        ForkAnswer(0, 4127),
        ForkAnswer(3, None, "no more processes", short=True),
        ForkAnswer(4, None, "spoilt", spoilt=True),
    )
    for answer in answers:
        assert decode_answer(encode_answer(answer)) == answer


# Anything at all.

texts = st.text(st.characters(codec=None, categories=None), max_size=30)
numbers = st.integers(-(2**70), 2**70) | st.floats() | texts
points = st.builds(
    StoppingPoints,
    st.integers(0, 2**63 - 1),
    st.none() | st.floats(0, 1e11),
    st.none() | st.integers(0, 2**63 - 1),
)
values = st.none() | st.lists(numbers, max_size=5).map(tuple)
reports = st.builds(
    Report,
    st.sampled_from(Outcome),
    values=values,
    exit_code=st.none() | st.integers(0, 2**32 - 1),
    message=st.none() | texts,
    partial=values,
    stopping_points=points,
    peak_memory_bytes=st.none() | st.integers(0, 2**63 - 1),
)
ids = st.text(min_size=1, max_size=40)
i64 = st.none() | st.integers(-(2**63), 2**63 - 1)
messages = st.one_of(
    st.builds(Interrupt, ids),
    st.builds(Guarded, ids, st.integers(2, 2**31 - 1)),
    st.builds(Ready, ids, st.integers(2, 2**31 - 1), st.booleans()),
    st.builds(Beat, ids, st.integers(0, 2**63 - 1), i64, i64),
    st.builds(Final, ids, reports),
)


def safe(message: Message) -> Message:
    """What must come out for what went in."""
    if not isinstance(message, Final):
        return message

    def clean(value: Any) -> Any:
        return value.encode("utf-8", "replace").decode() if isinstance(value, str) else encode_value(value)

    report = message.report
    return Final(
        message.attempt,
        replace(
            report,
            values=report.values and tuple(map(clean, report.values)),
            partial=report.partial and tuple(map(clean, report.partial)),
            message=report.message and clean(report.message),
        ),
    )


@given(st.lists(messages, max_size=4), st.lists(st.integers(1, 50), min_size=1))
def test_any_messages_come_out_of_any_pieces(sent: list[Message], sizes: list[int]) -> None:
    data, decoder, found = b"".join(map(encode, sent)), Decoder(), []
    while data:
        size, sizes = sizes[0], [*sizes[1:], sizes[0]]
        found += decoder.feed(data[:size])
        data = data[size:]
    assert found == [safe(message) for message in sent]


@given(st.lists(st.binary(max_size=60), max_size=6))
@example([b"\0\0\0\2{}"])
@example([b"\0\0\0\0"])
def test_arbitrary_bytes_raise_nothing_but_protocol_error(pieces: list[bytes]) -> None:
    decoder = Decoder()
    try:
        for piece in pieces:
            list(decoder.feed(piece))
    except ProtocolError:
        pass


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(message=messages, key=st.sampled_from(["v", "type", "attempt", "report", "passed", "more"]), value=json_values)
def test_arbitrary_json_in_any_place_raises_nothing_but_protocol_error(message: Message, key: str, value: Any) -> None:
    for fields in ({**body_of(message), key: value}, value):
        try:
            decode(json.dumps(fields).encode())
        except ProtocolError:
            pass


@given(report=reports, key=st.sampled_from([*Report.__dataclass_fields__]), value=json_values)
def test_arbitrary_json_in_a_report_is_refused_or_made_safe(report: Report, key: str, value: Any) -> None:
    fields = body_of(Final("a", report))
    fields["report"][key] = value
    try:
        message = decode(json.dumps(fields).encode())
    except ProtocolError:
        return
    assert isinstance(message, Final)
    # Whatever was let through can be sent on and comes out the same.
    assert list(Decoder().feed(encode(message))) == [safe(message)]


@given(messages, st.data())
def test_changed_byte_raises_nothing_but_protocol_error(message: Message, data: st.DataObject) -> None:
    changed = bytearray(encode(message))
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        list(Decoder().feed(bytes(changed)))
    except ProtocolError:
        pass


def test_what_came_before_a_wrong_message_counts_in_whatever_pieces_it_was_read() -> None:
    decoder, found = Decoder(), []
    with pytest.raises(ProtocolError):
        for message in decoder.feed(encode(MESSAGES[-1]) + frame(b"garbage")):
            found.append(message)
    assert found == [MESSAGES[-1]]


@pytest.mark.parametrize("value", ["1e999", "9" * 30, str(2**53 + 1)])
def test_number_that_should_have_come_as_a_text_is_refused(value: str) -> None:
    body = json.dumps(body_of(Final("a", Report(Outcome.COMPLETED, values=("HERE",)))))
    with pytest.raises(ProtocolError):
        decode(body.replace('"HERE"', value).encode())


@pytest.mark.parametrize("wrong", [frame(b"garbage"), struct.pack(">I", MAX_MESSAGE + 1)], ids=["body", "length"])
def test_nothing_is_believed_or_kept_after_the_first_thing_that_is_wrong(wrong: bytes) -> None:
    decoder = Decoder()
    with pytest.raises(ProtocolError) as first:
        list(decoder.feed(wrong + encode(MESSAGES[-1])))
    for _ in range(3):
        with pytest.raises(ProtocolError) as later:
            list(decoder.feed(encode(MESSAGES[-1])))
        assert str(later.value) == str(first.value)
        assert decoder.pending == 0
