"""Read modules: bytes from files, text turned into bytes, and what they say of themselves."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass

from procstop.module import ModuleInfo, NotAModule, read_module
from procstop.preflight.available import module_path
from procstop.process import SpawnError, run_helper

MAX_BYTES = 1 << 30
_PIECE = 1 << 20
_CONVERT_S = 60.0


@dataclass(frozen=True)
class Source:
    """A module that was read: its path, or its bytes if it was text. `error` says why there is no `info`.

    `digest` is the SHA-256 of its bytes in hex.
    """

    path: str
    module: str | bytes
    info: ModuleInfo | None = None
    error: str | None = None
    digest: str = ""


def read_sources(paths: Iterable[str]) -> dict[str, Source]:
    """Read each path once; all texts are turned into bytes by one helper process."""
    sources: dict[str, Source] = {}
    texts: dict[str, str] = {}
    for path in dict.fromkeys(paths):
        try:
            data = _read(path)
            if _is_text(path, data):
                texts[path] = data.decode("utf-8")
            else:
                sources[path] = _describe(path, path, data)
        except OSError as error:
            sources[path] = Source(path, path, error=f'cannot read "{path}": {error.strerror}')
        except UnicodeDecodeError:
            sources[path] = Source(path, path, error=f'"{path}": neither WebAssembly nor UTF-8 text')
        except ValueError as error:
            sources[path] = Source(path, path, error=f'"{path}": {error}')
    if texts:
        sources.update(_convert(texts))
    return sources


def _read(path: str) -> bytes:
    # Opening a named pipe waits for a writer, and a device may never end.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        if not os.path.isfile(path):
            raise ValueError("not a file")
        data = bytearray()
        # Not at once, for which as much memory would be taken as the largest may need.
        while piece := file.read(_PIECE):
            data += piece
            if len(data) > MAX_BYTES:
                raise ValueError(f"larger than {MAX_BYTES >> 30} GiB")
    return bytes(data)


def _is_text(path: str, data: bytes) -> bool:
    return path.endswith(".wat") or data.lstrip()[:1] == b"(" or data.lstrip()[:2] == b";;"


def _describe(path: str, module: str | bytes, data: bytes) -> Source:
    try:
        return Source(path, module, info=read_module(data), digest=hashlib.sha256(data).hexdigest())
    except NotAModule as error:
        return Source(path, module, error=f'"{path}": {error}')


def _convert(texts: dict[str, str]) -> dict[str, Source]:
    request = {"sys_path": module_path(), "texts": list(texts.values())}
    try:
        answers = run_helper("converter", request, timeout=_CONVERT_S)
    except SpawnError as error:
        return {path: Source(path, path, error=f'"{path}": {error}') for path in texts}
    sources = {}
    for path, answer in zip(texts, answers, strict=True):
        if answer["bytes"] is None:
            sources[path] = Source(path, path, error=f'"{path}": {_one_line(answer["error"])}')
        else:
            data = base64.b64decode(answer["bytes"])
            sources[path] = _describe(path, data, data)
    return sources


def _one_line(text: str) -> str:
    """Keep what is wrong and where from a parser's picture of it."""
    lines = [line.strip() for line in text.splitlines()]
    kept = [line for line in lines if line and not set(line) <= set("|^ -~")]
    return " ".join(" ".join(kept).split())[:400]
