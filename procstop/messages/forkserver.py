"""Between supervisor and fork server, one to a packet: requests, which are trusted, and answers, which are not.

The fork server speaks first, as number 0. Then every request is answered, in the order that they came in.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from procstop.messages.bounds import ENCODER, TRUE_ENCODER, ProtocolError, expect, is_count, is_pid, text_of
from procstop.model import Value

KEPT_ORDERS = 64
"""Orders that a fork server keeps; the supervisor knows which these are."""


@dataclass(frozen=True)
class ForkRequest:
    """Start a worker. `order` is the order's JSON; None if it was sent before, as number `key`.

    With the request come these descriptors: standard input, output and error, control, report, lifeline, module, the
    artifact where there is one, and a file with order and arguments if they are too long for a packet: then `filed` is
    true, and `join_request` puts them back.
    """

    number: int
    key: int
    order: str | None
    artifact: str | None
    attempt: str
    args: tuple[Value, ...]
    filed: bool = False


@dataclass(frozen=True)
class ForkAnswer:
    """What became of a request: the worker's pid, or why there is none. The first one, number 0, says: here I am.

    `spoilt` says that the artifact is what is wrong: with another one it may work. `short` says that it may work once
    others have ended.
    """

    number: int
    pid: int | None
    error: str | None = None
    spoilt: bool = False
    short: bool = False


def encode_request(request: ForkRequest) -> bytes:
    """Write a request as JSON."""
    return TRUE_ENCODER.encode(list(vars(request).values())).encode()


def decode_request(data: bytes) -> ForkRequest:
    """Read what `encode_request` wrote; it comes from the supervisor and is trusted."""
    number, key, order, artifact, attempt, args, filed = json.loads(data)
    return ForkRequest(number, key, order, artifact, attempt, tuple(args), filed)


def split_request(request: ForkRequest, most: int) -> tuple[ForkRequest, bytes | None]:
    """Return a request that fits into a packet of `most` bytes, and what goes into its file; None if it needs none."""
    if len(encode_request(request)) <= most:
        return request, None
    return replace(request, order=None, args=(), filed=True), encode_request(request)


def join_request(request: ForkRequest, file: bytes) -> ForkRequest:
    """Return the request that was split."""
    whole = decode_request(file)
    return replace(request, order=whole.order, args=whole.args)


def encode_answer(answer: ForkAnswer) -> bytes:
    """Write an answer as JSON."""
    return ENCODER.encode(list(vars(answer).values())).encode("utf-8", "replace")


def decode_answer(data: bytes) -> ForkAnswer:
    """Read a fork server's answer; raise `ProtocolError` for anything else."""
    try:
        number, pid, error, spoilt, short = json.loads(data)
    except (ValueError, TypeError, RecursionError):
        raise ProtocolError("an answer that is no answer") from None
    expect(is_count(number), "number")
    expect(pid is None or is_pid(pid), "pid")
    error = text_of(error, "error")
    expect(type(spoilt) is bool, "spoilt")
    expect(type(short) is bool, "short")
    return ForkAnswer(number, pid, error, spoilt, short)
