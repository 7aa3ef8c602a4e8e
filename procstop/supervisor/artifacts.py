"""Get each attempt its compiled module: from the cache, or by compiling it once for all that wait for it.

Every (module, engine) is in one of three conditions: at hand (an open file), being compiled (by a `Compiler`, a child
of ours), or not asked for yet. Nothing is loaded here, and nothing is waited for. Where the cache cannot be used, a
compiler writes into a file in memory instead, which lasts as long as the run; one line says so.
"""

from __future__ import annotations

import collections
import contextlib
import os
import secrets
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from procstop.cache import SECRET_BYTES, BadArtifact, Cache, CacheError, Key
from procstop.errors import SHORTAGES
from procstop.messages.compiler import Compiled
from procstop.process import SpawnError
from procstop.process.compiler import Compiler
from procstop.supervisor.assignment import Assignment
from procstop.supervisor.family import Family
from procstop.supervisor.loop import Loop

OUTLIVED = "its dead-man's timer ran out, while procstop stood still or was paused"
"""What is said of a process that was ended by its own timer."""
_KEPT = 64
"""Artifacts that are held open."""
_POLL_S = 0.01
_SHORTAGE_S = 0.05


class Artifact:
    """An artifact at hand: its name, and a file that is open as long as anybody has this object."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


@dataclass(frozen=True)
class CompilerEnd:
    """How a compiler ended that gave no answer.

    `message` says what is known of it, None if it was stopped. `out_of_memory` says that it was for want of memory that
    its limit kept from it, `outlived` that its own timer ended it.
    """

    wait: tuple[str, int] | None
    message: str | None = None
    out_of_memory: bool = False
    outlived: bool = False


@dataclass
class Waiting:
    """Somebody waits for a compiler. One of the three is called, once.

    `refused` is told last whether it was for want of memory that the compiler's limit kept from it.
    """

    ready: Callable[[Artifact], None]
    refused: Callable[[str, bool], None]
    ended: Callable[[CompilerEnd], None]
    compilation: _Compilation | None = None
    given_up: bool = False

    @property
    def pid(self) -> int | None:
        """The compiler's pid; None where there is nothing to wait for."""
        return None if self.compilation is None else self.compilation.compiler.pid

    def stop(self, *, kill: bool) -> bool:
        """Wait no longer; return whether a compiler ends with that, so that `ended` is still to come."""
        self.given_up = True
        compilation = self.compilation
        if compilation is None:
            return False
        if len(compilation.waiting) > 1:
            compilation.waiting.remove(self)
            self.compilation = None
            return False
        compilation.stop(kill)
        return True


@dataclass
class _Compilation:
    """A compiler at work, and who waits for it."""

    name: str
    label: str
    compiler: Compiler
    memory: int | None
    life: float | None
    forget: Callable[[], None]
    waiting: list[Waiting] = field(default_factory=list)
    stopped: bool = False
    began: float = field(default_factory=time.monotonic)

    def ending(self, wait: tuple[str, int] | None) -> CompilerEnd:
        """Judge its end."""
        if self.stopped:
            return CompilerEnd(wait)
        if wait == ("signal", signal.SIGKILL) and self.life and time.monotonic() - self.began >= self.life:
            return CompilerEnd(wait, OUTLIVED, outlived=True)
        return CompilerEnd(wait, _describe(self, wait), _was_refused_memory(self, wait))

    def stop(self, kill: bool) -> None:
        # Who comes from now on gets a compiler of his own.
        self.stopped = True
        self.forget()
        if kill:
            self.compiler.kill()
        else:
            self.compiler.terminate()


class Artifacts:
    """The compiled modules of one run. `directory` is the cache's, None for none; `notice` gets lines for the user.

    `others_run` tells whether workers are there whose end would free descriptors or processes.
    """

    def __init__(
        self,
        loop: Loop,
        family: Family,
        run: str,
        directory: str | None,
        notice: Callable[[str], None],
        others_run: Callable[[], bool] = lambda: False,
    ) -> None:
        self._others_run = others_run
        self._loop = loop
        self._family = family
        self._run = run
        self._notice = notice
        self._cache = None if directory is None else Cache(directory)
        self._secret: bytes | None = None
        self._at_hand: collections.OrderedDict[str, Artifact] = collections.OrderedDict()
        self._compiling: dict[str, _Compilation] = {}
        self._running: list[_Compilation] = []
        self._spoilt: set[str] = set()
        self._said: set[str] = set()

    @property
    def secret(self) -> bytes:
        """The secret under which this run's artifacts are sealed: the cache's, or without a cache the run's own."""
        if self._secret is None:
            if self._cache is not None:
                try:
                    self._secret = self._cache.secret()
                except CacheError as error:
                    self._say(f"{error}; compiling without the cache")
                    self._cache = None
            if self._secret is None:
                self._secret = secrets.token_bytes(SECRET_BYTES)
        return self._secret

    def get(self, assignment: Assignment, waiting: Waiting) -> None:
        """Get an assignment's artifact: `waiting.ready` is called now or later, or one of the others is."""
        secret = self.secret
        name = Key(assignment.order.module_digest, assignment.engine or "", assignment.build).name
        artifact = self._find(name, assignment)
        if artifact is not None:
            return waiting.ready(artifact)
        compilation = self._compiling.get(name)
        if compilation is None:
            try:
                compilation = self._compile(name, assignment, secret)
            except SpawnError as error:
                if error.is_shortage and (self._running or self._others_run()):
                    return self._try_later(assignment, waiting)
                return waiting.refused(str(error), False)
            except OSError as error:
                if error.errno in SHORTAGES and (self._running or self._others_run()):
                    return self._try_later(assignment, waiting)
                what = f'open "{error.filename}"' if error.filename is not None else "start a compiler"
                return waiting.refused(f"cannot {what}: {error.strerror}", False)
        waiting.compilation = compilation
        compilation.waiting.append(waiting)

    def _try_later(self, assignment: Assignment, waiting: Waiting) -> None:
        """Descriptors and processes come back when others end."""

        def again() -> None:
            if not waiting.given_up:
                self.get(assignment, waiting)

        self._loop.call_at(self._loop.clock.now() + _SHORTAGE_S, again)

    def drop(self, artifact: Artifact, label: str, why: str) -> None:
        """Forget an artifact that could not be loaded, and say so; the next that needs it has it made anew."""
        name = artifact.name
        # Not the one that has taken its place: several may have met the old one.
        if self._at_hand.get(name) is artifact:
            del self._at_hand[name]
            # A disk that can only be read keeps it, whole to look at: it is not looked at again.
            self._spoilt.add(name)
            if self._cache is not None:
                self._cache.remove(name)
        self._say(f"{label}: {why}; compiling it again")

    @property
    def is_compiling(self) -> bool:
        """Tell whether compilers are at work."""
        return bool(self._running)

    def stop_all(self) -> None:
        """Kill all compilers: nobody waits for them any more."""
        for compilation in tuple(self._running):
            compilation.stop(kill=True)

    def reap(self) -> bool:
        """Reap compilers outside of the loop, at the end of a run; return whether none is left."""
        for compilation in tuple(self._running):
            if compilation.compiler.reap() is not None:
                self._clear_away(compilation)
        return not self._running

    def close(self) -> None:
        """Let go of all that is open."""
        self._at_hand.clear()

    def _find(self, name: str, assignment: Assignment) -> Artifact | None:
        found = self._at_hand.get(name)
        if found is not None:
            self._at_hand.move_to_end(name)
            return found
        if self._cache is None or name in self._spoilt:
            return None
        try:
            fd = self._cache.open(name)
        except BadArtifact as error:
            self._say(f"{assignment.label}: the artifact in the cache cannot be used ({error}); compiling it again")
            self._cache.remove(name)
            return None
        return None if fd is None else self._keep(name, fd)

    def _keep(self, name: str, fd: int) -> Artifact:
        artifact = self._at_hand[name] = Artifact(name, fd)
        while len(self._at_hand) > _KEPT:
            self._at_hand.popitem(last=False)
        return artifact

    def _compile(self, name: str, assignment: Assignment, secret: bytes) -> _Compilation:
        request = {
            "name": name,
            "engine": assignment.engine,
            "module": assignment.order.module_digest,
            "secret": secret.hex(),
            "cache": None if self._cache is None else self._cache.directory,
            "memory": assignment.limits.compile_memory,
            "sys_path": assignment.order.sys_path,
            "life": assignment.order.start or 0.0,
            "landlock": assignment.order.landlock,
            "seccomp": assignment.order.seccomp,
            "about": {
                "label": assignment.label,
                "module": assignment.order.module_digest,
                "engine": assignment.engine,
                "build": assignment.build,
            },
        }
        module = assignment.open_module()
        try:
            compiler = Compiler(request, module, run=self._run)
        finally:
            os.close(module)
        self._family.add(compiler.pid)
        memory = assignment.limits.compile_memory
        life = assignment.order.start
        compilation = _Compilation(name, assignment.label, compiler, memory, life, lambda: self._forget(compilation))
        self._compiling[name] = compilation
        self._running.append(compilation)
        self._loop.watch(compiler.answer, lambda: self._on_answer(compilation))
        if compiler.pidfd is not None:
            self._loop.watch(compiler.pidfd, lambda: self._on_end(compilation))
        else:
            self._look_again(compilation)
        return compilation

    def _forget(self, compilation: _Compilation) -> None:
        if self._compiling.get(compilation.name) is compilation:
            del self._compiling[compilation.name]

    def _look_again(self, compilation: _Compilation) -> None:
        self._loop.call_at(self._loop.clock.now() + _POLL_S, lambda: self._on_end(compilation))

    def _on_answer(self, compilation: _Compilation) -> None:
        if not compilation.compiler.listen():
            self._loop.unwatch(compilation.compiler.answer)

    def _on_end(self, compilation: _Compilation) -> None:
        if compilation not in self._running:
            return None
        compiler = compilation.compiler
        ended = compiler.reap()
        if ended is None:
            return self._look_again(compilation)
        with contextlib.suppress(OSError):
            compiler.listen()
        waiting, compilation.waiting = compilation.waiting, []
        answer = None if compilation.stopped else compiler.answered()
        try:
            self._settle(compilation, waiting, answer, ended.wait)
        finally:
            self._clear_away(compilation)

    def _settle(
        self,
        compilation: _Compilation,
        waiting: list[Waiting],
        answer: Compiled | None,
        wait: tuple[str, int] | None,
    ) -> None:
        self._forget(compilation)
        for one in waiting:
            one.compilation = None
        if answer is None:
            end = compilation.ending(wait)
            for one in waiting:
                one.ended(end)
        elif answer.error is not None:
            for one in waiting:
                one.refused(answer.error, answer.out_of_memory and compilation.memory is not None)
        else:
            self._take(compilation, waiting, answer)

    def _take(self, compilation: _Compilation, waiting: list[Waiting], answer: Compiled) -> None:
        if answer.note is not None:
            self._say(f"{answer.note}; {compilation.label} is kept for this run only")
        name = compilation.name
        fd = None
        if answer.stored and self._cache is not None:
            self._spoilt.discard(name)
            with contextlib.suppress(BadArtifact):
                fd = self._cache.open(name)
        # Where it has left the cache already, cleared by somebody, there is still what the compiler handed over.
        artifact = self._keep(name, fd if fd is not None else compilation.compiler.take_artifact())
        for one in waiting:
            one.ready(artifact)

    def _clear_away(self, compilation: _Compilation) -> None:
        compiler = compilation.compiler
        self._forget(compilation)
        if compilation in self._running:
            self._running.remove(compilation)
            for fd in (compiler.answer, compiler.pidfd):
                if fd is not None:
                    self._loop.unwatch(fd)
            self._family.remove(compiler.pid)
            compiler.close()

    def _say(self, text: str) -> None:
        # Once in a run: a thousand attempts may meet the same trouble.
        if text not in self._said:
            self._said.add(text)
            self._notice(text)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        # A real-time signal has none.
        return f"signal {number}"


def _was_refused_memory(compilation: _Compilation, wait: tuple[str, int] | None) -> bool:
    """Tell whether its engine gave up for want of memory, which is an abort with these words."""
    aborted = wait == ("signal", signal.SIGABRT) and compilation.memory is not None
    return aborted and "memory allocation of" in compilation.compiler.last_words()


def _describe(compilation: _Compilation, wait: tuple[str, int] | None) -> str:
    how = "ended without an answer"
    if wait is not None and wait[0] == "signal":
        how = f"was ended by {_signal_name(wait[1])}"
    elif wait is not None:
        how = f"ended with {wait[1]} and without an answer"
    text = f"the compiler {how}"
    if words := compilation.compiler.last_words():
        text += f" ({words})"
    if compilation.memory is not None:
        text += f"; it may use {compilation.memory >> 20} MiB (limits.compile_memory)"
    return text
