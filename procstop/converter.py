"""A one-shot child that turns WebAssembly text into bytes, each in a process of its own with nothing open to it.

A reader of text is native code that was handed a stranger's file: it may do no more than answer. To the request
{"sys_path": [...], "texts": [...]} it answers (see `oneshot`) for each text {"bytes": base64 or null, "error": text or
null}.
"""

from __future__ import annotations

import base64
import os
import resource
import signal
from collections.abc import Callable
from typing import Any, NoReturn

from procstop import containment, linux, sandbox
from procstop.engines.probe import find_reader
from procstop.oneshot import answer_once

_MEMORY, _MEMORY_EACH = 256 << 20, 32
"""What a reader may use in bytes, and how many more for each byte of text."""
_ANSWER, _ANSWER_EACH = 64 << 10, 8
"""What it may answer: bytes are fewer than the text of them."""
_DESCRIPTORS = 4096
_LIFE_S = 90
"""Longer than the supervisor waits for all of them."""


def main() -> None:
    """Answer one request."""
    # A parent may have had SIGCHLD ignored, and then the kernel would reap our readers for us.
    containment.take_default_signals()
    answer_once(_convert_all)


def _convert_all(request: dict[str, Any]) -> list[dict[str, str | None]]:
    read, close = find_reader(), sandbox.make_closer()
    return [_convert(text, read, close) for text in request["texts"]]


def _convert(
    text: str, read: Callable[[str], bytes] | None, close: Callable[[sandbox.Grants], None]
) -> dict[str, str | None]:
    if read is None:
        return {"bytes": None, "error": "no engine is installed that reads WebAssembly text"}
    ours, theirs = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _be_reader(text, read, close, theirs, parent)
    os.close(theirs)
    most = _ANSWER + _ANSWER_EACH * len(text)
    with os.fdopen(ours, "rb") as pipe:
        data = pipe.read(most + 1)
    if len(data) > most:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return {"bytes": None, "error": f"the reader of WebAssembly text made more than {most} bytes of it"}
    status = os.waitpid(child, 0)[1]
    if status != 0 or not data:
        how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit code {os.WEXITSTATUS(status)}"
        return {"bytes": None, "error": f"the reader of WebAssembly text ended by {how}"}
    if data[:1] == b"+":
        return {"bytes": base64.b64encode(data[1:]).decode(), "error": None}
    return {"bytes": None, "error": data[1:].decode("utf-8", "replace")}


def _be_reader(
    text: str, read: Callable[[str], bytes], close: Callable[[sandbox.Grants], None], pipe: int, parent: int
) -> NoReturn:
    linux.set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    # Not one descriptor of the parent's, whose answer it is not to touch.
    os.closerange(0, pipe)
    os.closerange(pipe + 1, max(pipe + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0], _DESCRIPTORS))
    # A supervisor that stands still does not count its time.
    signal.alarm(_LIFE_S)
    try:
        containment.cap(resource.RLIMIT_DATA, containment.data_bytes() + _MEMORY + _MEMORY_EACH * len(text), hard=True)
        support = sandbox.probe()
        if os.geteuid() == 0:
            linux.make_keep_rights()(frozenset())
        close(sandbox.Grants(support.landlock, support.seccomp, []))
        answer = b"+" + read(text)
    except MemoryError:
        answer = b"-not enough memory to read it"
    except BaseException as error:
        answer = b"-" + str(error)[:2000].encode("utf-8", "replace")
    with os.fdopen(pipe, "wb") as file:
        file.write(answer)
    os._exit(0)


if __name__ == "__main__":
    main()
