"""Text that is turned into bytes: in a process of its own, to which nothing is open."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from procstop import converter
from procstop.sandbox import probe
from support.command import Procstop

HERE = probe()
needs_sandbox = pytest.mark.skipif(bool(HERE.missing), reason="; ".join(HERE.missing) or "-")
OUTSIDE = __file__

Reader = Callable[[str], bytes]


def reads_file(text: str) -> bytes:
    return Path(OUTSIDE).read_bytes()


def connects(text: str) -> bytes:
    socket.socket().close()
    return b""


def forks(text: str) -> bytes:
    return str(os.fork()).encode()


def kills_itself(text: str) -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return b""


def leaves(text: str) -> bytes:
    os._exit(0)


def floods(text: str) -> bytes:
    for fd in range(64):
        try:
            os.write(fd, b"[]")
        except OSError:
            continue
    return b"x" * (converter._ANSWER + converter._ANSWER_EACH * len(text) + 1)


def takes_memory(text: str) -> bytes:
    return b"x" * (converter._MEMORY + (64 << 20))


def convert(monkeypatch: pytest.MonkeyPatch, reader: Reader | None, *texts: str) -> list[dict[str, str]]:
    """Have the converter answer, in a child of this process, with another reader."""
    monkeypatch.setattr(converter, "find_reader", lambda: reader)
    monkeypatch.setattr(sys, "argv", ["converter", str(os.getpid())])
    request = json.dumps({"sys_path": [], "texts": texts})
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(theirs, 1)
            sys.stdin = io.StringIO(request)
            converter.main()
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        answer = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    found: list[dict[str, str]] = json.loads(answer)
    return found


def test_each_text_gets_its_own_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(text: str) -> bytes:
        if text == "bad":
            raise ValueError("expected `)`")
        return text.upper().encode()

    one, bad, other = convert(monkeypatch, read, "one", "bad", "other")
    assert [base64.b64decode(answer["bytes"]) for answer in (one, other)] == [b"ONE", b"OTHER"]
    assert bad == {"bytes": None, "error": "expected `)`"}


def test_what_one_text_did_to_the_reader_does_not_reach_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def read(text: str) -> bytes:
        seen.append(text)
        return " ".join(seen).encode()

    assert [base64.b64decode(one["bytes"]) for one in convert(monkeypatch, read, "a", "b")] == [b"a", b"b"]


@needs_sandbox
@pytest.mark.parametrize("reader", [reads_file, connects, forks], ids=lambda one: one.__name__)
def test_reader_gets_nowhere(monkeypatch: pytest.MonkeyPatch, reader: Reader) -> None:
    (answer,) = convert(monkeypatch, reader, "(module)")
    assert answer["bytes"] is None
    assert "not permitted" in answer["error"] or "denied" in answer["error"]


@pytest.mark.parametrize(
    ("reader", "said"),
    [
        (kills_itself, "the reader of WebAssembly text ended by signal 9"),
        (leaves, "the reader of WebAssembly text ended by exit code 0"),
        (takes_memory, "not enough memory to read it"),
        (floods, "the reader of WebAssembly text made more than 65600 bytes of it"),
        (None, "no engine is installed that reads WebAssembly text"),
    ],
    ids=["killed", "left", "memory", "flood", "none"],
)
def test_reader_that_fails_is_an_error_of_its_text(
    monkeypatch: pytest.MonkeyPatch, reader: Reader | None, said: str
) -> None:
    (answer,) = convert(monkeypatch, reader, "(module)")
    assert answer == {"bytes": None, "error": said}


def test_text_is_read_where_the_ends_of_children_are_not_told(procstop_command: Procstop) -> None:
    """A launcher may have SIGCHLD ignored, and hand that on."""
    (procstop_command.directory / "add.wat").write_text('(module (func (export "run") (result i32) (i32.const 7)))')

    def ignore() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    answer = procstop_command("run", "add.wat", "--call", "run", preexec_fn=ignore)
    assert (answer.code, answer.stdout) == (0, "7\n"), answer.stderr
