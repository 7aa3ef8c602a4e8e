"""A one-shot process that compiles one module and puts the artifact into the cache, or into a file it was handed.

The supervisor starts it for a module that is not in the cache. Several may ask for the same module at once: the first
one compiles, the others wait for it and find it done. Its arguments are the descriptors of the request (a file, JSON),
the module (a file), the artifact (a file to write to where the cache cannot be used), the answer (a pipe, one JSON
object) and the lifeline, then the supervisor's pid.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from typing import Any, NoReturn

from procstop import cache, containment, linux, sandbox
from procstop.cache import Cache, CacheError, read_whole, write_whole
from procstop.engines import Engine, load
from procstop.errors import EngineError, GuestError
from procstop.messages import cut_text
from procstop.messages.compiler import Compiled, encode_compiled
from procstop.settled import settle
from procstop.worker.prepare import prepare

_REFUSED = "Cannot allocate memory"
"""What an engine's error says that comes from the system's refusal."""


def main() -> NoReturn:
    """Compile, store, say what became of it; `containment.guard` was called before."""
    request_fd, module_fd, artifact_fd, answer_fd = map(int, sys.argv[1:5])
    request = json.loads(read_whole(request_fd))
    linux.make_life_timer()(request["life"])
    sys.path.extend(path for path in request["sys_path"] if path not in sys.path)
    # What an engine prints belongs into no answer.
    os.dup2(2, 1)
    try:
        engine = load(request["engine"])
        if request["memory"] is not None:
            containment.cap(resource.RLIMIT_DATA, request["memory"])
        _close_sandbox(request)
        answer = _work(request, engine, read_whole(module_fd), artifact_fd)
    except (EngineError, GuestError) as error:
        answer = _out_of_memory(request, str(error)) if _REFUSED in str(error) else Compiled(error=str(error))
    except MemoryError:
        answer = _out_of_memory(request, "the compiler is out of memory")
    with contextlib.suppress(OSError):
        write_whole(answer_fd, encode_compiled(answer))
    os._exit(0)


def _out_of_memory(request: dict[str, Any], error: str) -> Compiled:
    """Name the limit, as the supervisor does where an engine takes the process down with it instead."""
    if request["memory"] is None:
        return Compiled(error=error)
    most = f"; it may use {request['memory'] >> 20} MiB (limits.compile_memory)"
    return Compiled(error=cut_text(error) + most, out_of_memory=True)


def _close_sandbox(request: dict[str, Any]) -> None:
    """Leave nothing open but the cache: a module may know of a hole in the compiler."""
    if not (request["landlock"] or request["seccomp"]):
        return
    dirs = (
        [(settle(request["cache"]), True)] if request["cache"] is not None and os.path.isdir(request["cache"]) else []
    )
    grants = sandbox.Grants(request["landlock"], request["seccomp"], dirs, keep_fds=containment.lifelines())
    try:
        if os.geteuid() == 0:
            linux.make_keep_rights()(linux.FILE_RIGHTS)
        sandbox.make_closer()(grants)
    except OSError as error:
        raise EngineError(f"the compiler cannot be confined: {error.strerror}") from None


def _work(request: dict[str, Any], engine: Engine, data: bytes, artifact_fd: int) -> Compiled:
    """Return whether the cache has it, and why not.

    What was compiled here is handed over as well: it may leave the cache before anybody could open it there.
    """
    store = Cache(request["cache"]) if request["cache"] is not None else None
    name, secret = request["name"], bytes.fromhex(request["secret"])
    if store is None:
        write_whole(artifact_fd, *_compile(request, engine, data, secret))
        return Compiled()
    try:
        with store.lock(name):
            made = _find(store, name, secret)
            if made is not None:
                # Another made it while this one waited.
                write_whole(artifact_fd, made)
                return Compiled(stored=True)
            head, artifact = _compile(request, engine, data, secret)
            write_whole(artifact_fd, head, artifact)
            try:
                store.store(name, head, artifact)
                return Compiled(stored=True)
            except CacheError as error:
                return Compiled(note=str(error))
    except CacheError as error:
        write_whole(artifact_fd, *_compile(request, engine, data, secret))
        return Compiled(note=str(error))


def _find(store: Cache, name: str, secret: bytes) -> bytes | None:
    """Return a sealed artifact from the cache; None if there is no sound one."""
    try:
        fd = store.open(name)
        if fd is None:
            return None
        try:
            data = read_whole(fd)
        finally:
            os.close(fd)
        cache.unseal(secret, name, data)
    except (cache.BadArtifact, OSError):
        return None
    return data


def _compile(request: dict[str, Any], engine: Engine, data: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """Return the sealed head and the artifact."""
    began = time.monotonic()
    ready = prepare(engine, data, request["module"], None, None, secret)
    ready.compile()
    artifact = ready.engine.serialize()
    about = {**request["about"], "compile_s": round(time.monotonic() - began, 3), "made_at": int(time.time())}
    return cache.seal(secret, request["name"], about, artifact), artifact


if __name__ == "__main__":
    main()
