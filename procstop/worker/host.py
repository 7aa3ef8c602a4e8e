"""Run one attempt after another of one task: each in a new store and instance, with stopping points of its own."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from procstop import arguments, hosting, linking
from procstop.engines import Engine, GuestTrap, HostFunction
from procstop.errors import EngineError, GuestError
from procstop.linking import Link
from procstop.messages import MAX_TEXT, Order, cut_text
from procstop.model import Outcome, StrategyKind, Value
from procstop.module import FuncType, ModuleInfo
from procstop.records import Report
from procstop.settled import open_settled
from procstop.stopping import Exit, Flag, HostError, Interrupted, NoPoints, StopFlag, guest_functions
from procstop.wasi import Preopen, Wasi
from procstop.wasi.signatures import SIGNATURES as WASI_SIGNATURES
from procstop.worker.channel import Channel
from procstop.worker.children import kill_children
from procstop.worker.confine import Confiner, readable_by_functions
from procstop.worker.prepare import Prepared

_COLLECT_EVERY = 16
"""Attempts after which cycles are looked for: an instance that is not freed keeps gigabytes of addresses."""


class Host:
    """One worker's module and host functions. `run` hosts an attempt."""

    def __init__(
        self,
        order: Order,
        channel: Channel,
        make: Callable[[], Prepared],
        peak: Callable[[], int | None],
        confiner: Confiner,
    ) -> None:
        self.has_functions = order.host is not None or bool(order.host_functions)
        self._order = order
        self._channel = channel
        self._make = make
        self._peak = peak
        self._confiner = confiner
        channel.beats_asleep = order.beats_asleep
        self._prepared: Prepared | None = None
        self._links: list[Link] = []
        self._functions: dict[str, Callable[..., Any]] = {}
        self._flag: StopFlag | None = None
        self._wasi: Wasi | None = None
        self._hosted = 0

    def run(self, args: tuple[Value, ...]) -> tuple[Report, bool]:
        """Run one attempt; return its report, and whether the guest returned by itself, unasked, with a value."""
        self._clear_away()
        order, cpu = self._order, time.process_time()
        flag: Flag = NoPoints()
        ready = clean = full = False
        engine: Engine | None = None
        try:
            if self._prepared is None:
                self._prepared = self._make()
                confiner = self._confiner
                confiner.give_up_rights(order)
                self._load_functions()
                if self.has_functions and "processes" not in order.allow and order.seccomp:
                    # From here on it could not end what was started by an import.
                    kill_children()
                more = readable_by_functions(order) if self.has_functions else []
                confiner.confine(order, _memory_at_first(self._prepared.info), more)
            if self._links:
                flag = self._flag = StopFlag(StrategyKind(order.strategy), order.strategy_n, order.check_every)
            prepared, info = self._prepared, self._prepared.info
            type, values = arguments.fit_call(info, order.call, args)
            engine = prepared.engine.again() if self._hosted else prepared.engine
            self._hosted += 1
            functions, interruptible = self._bind(engine, flag, args)
            prepared.compile()
            if order.memory is not None:
                _check_memories(info, order.memory)
                engine.cap_memory(order.memory)
            self._channel.open(flag, interruptible, self._confiner.since, always_listen=self.has_functions)
            flag.restart_gap()
            engine.instantiate(functions, flag)
            ready = True
            if arguments.INITIALIZE in info.exports and order.call not in (arguments.INITIALIZE, arguments.START):
                engine.call(arguments.INITIALIZE, FuncType((), ()), ())
            returned = engine.call(order.call, type, values)
        except Interrupted:
            outcome = Report(Outcome.INTERRUPTED)
        except Exit as exit:
            outcome = _exited(exit)
        except GuestTrap as trap:
            outcome = Report(Outcome.TRAPPED, message=str(trap))
        except HostError as error:
            outcome = Report(Outcome.HOST_ERROR, message=spell(error.error) + self._hint(error.error))
            full = isinstance(error.error, MemoryError)
        except MemoryError:
            full = ready
            outcome = Report(
                Outcome.HOST_ERROR if ready else Outcome.REJECTED, message="MemoryError: the worker is out of memory"
            )
        except (GuestError, EngineError) as error:
            # Once the guest has run, it was not rejected, whatever it was that it could not get.
            outcome = Report(Outcome.HOST_ERROR if ready else Outcome.REJECTED, message=str(error))
        else:
            outcome = Report(Outcome.COMPLETED, values=tuple(_portable(value) for value in returned))
            clean = not flag.told()
        if flag.told() and outcome.outcome in (Outcome.COMPLETED, Outcome.EXITED) and ready:
            # It asked, was told to leave, and left by itself: what it returned is what it had so far.
            outcome = Report(Outcome.INTERRUPTED, exit_code=outcome.exit_code, message=outcome.message,
                             partial=outcome.values or None)  # fmt: skip
        if order.memory is not None and _gave_up(outcome) and not flag.told() and engine is not None:
            full = full or engine.is_out_of_memory(_memories(self._prepared))
        return self._complete(outcome, flag, cpu, full and order.memory is not None), clean

    def _complete(self, report: Report, flag: Flag, cpu: float, full: bool) -> Report:
        return Report(
            outcome=report.outcome,
            values=report.values,
            exit_code=report.exit_code,
            message=None if report.message is None else cut_text(report.message),
            partial=report.partial,
            stopping_points=flag.record(),
            peak_memory_bytes=self._peak(),
            # Where a worker hosts several, only it can tell them apart.
            cpu_s=time.process_time() - cpu if self._order.hosts > 1 else None,
            out_of_memory=full,
        )

    def _hint(self, error: BaseException) -> str:
        """Say that it was the sandbox that stood in a host function's way, if that may be."""
        order = self._order
        if not isinstance(error, PermissionError) or not (order.landlock or order.seccomp) or len(order.allow) == 3:
            return ""
        if "files" in order.allow and error.filename is not None:
            return ""  # All files are open to it that are to its user.
        return "; host functions reach no more than the task's dirs, and what its host_allow names"

    def _load_functions(self) -> None:
        """Load the task's host functions and link the module's imports; raise `GuestError` if some have none."""
        order = self._order
        assert self._prepared is not None
        if self.has_functions:
            # Only host functions see the process's environment; the guest's own goes through WASI. Python may have
            # added this one by itself.
            os.environ.pop("LC_CTYPE", None)
            os.environ.update(order.env)
            if order.host is not None:
                sys.path.insert(0, os.path.dirname(order.host))
                self._functions = hosting.load_host_file(order.host)
            self._functions.update(hosting.load_references(order.host_functions, order.main_path))
        linked = linking.link(self._prepared.info, order.bindings, self._functions, WASI_SIGNATURES)
        if linked.problems:
            raise GuestError("; ".join(linked.problems))
        self._links = linked.links

    def _bind(self, engine: Engine, flag: Flag, args: tuple[Value, ...]) -> tuple[list[HostFunction], bool]:
        """Bind every import; return the functions in order, and whether any of them is a stopping point."""
        if not isinstance(flag, StopFlag):
            return [], False
        guest = hosting.Guest(engine, flag)
        own = guest_functions(flag, lambda pointer, length: _read_text(guest, pointer, length))
        functions = []
        interruptible = False
        for link in self._links:
            needed = link.needed
            assert needed.type is not None
            point = None
            if link.provider == "procstop":
                call, point = own[link.function], link.function if link.is_stopping_point else None
            elif link.provider == "wasi":
                self._wasi = self._wasi or self._make_wasi(engine, flag, args)
                call = self._wasi.function(needed.module, link.function)[2]
            else:
                interruptible = interruptible or hosting.wants_guest(self._functions[link.function])
                call = hosting.adapt(self._functions[link.function], needed.type, guest)
            interruptible = interruptible or link.is_stopping_point
            functions.append(HostFunction(needed.module, needed.name, needed.type, call, point))
        return functions, interruptible

    def _make_wasi(self, engine: Engine, flag: StopFlag, args: tuple[Value, ...]) -> Wasi:
        order = self._order
        argv = [order.module_name]
        if order.call == arguments.START:
            argv += [str(arg) for arg in args]
        preopens = [Preopen(guest, host, write, open_settled) for guest, host, write in order.dirs]
        try:
            return Wasi(_WasiHost(engine, flag), argv, order.env, preopens, order.open_files, order.file_size)
        except OSError as error:
            raise GuestError(f"dirs: {error.filename!r}: {error.strerror}") from None

    def _clear_away(self) -> None:
        """Close what the attempt before this one left open."""
        if self._wasi is not None:
            self._wasi.close()
            self._wasi = None
        if self._flag is not None:
            self._flag.close()
            self._flag = None
        # The memory of those before counts against the limit of the next.
        every = 1 if self._order.memory is not None else _COLLECT_EVERY
        if self._hosted and self._hosted % every == 0:
            gc.collect()


def _gave_up(report: Report) -> bool:
    """Tell whether a guest ended as one does that did not get the memory that it needed."""
    words = report.message or ""
    return report.outcome is Outcome.TRAPPED and words.startswith(("unreachable", "out of bounds memory access"))


def _memory_at_first(info: ModuleInfo) -> int:
    """Return how many bytes a module's own memories begin with."""
    return sum(one.minimum * one.page_size for one in info.memories if not one.imported)


def _memories(prepared: Prepared | None) -> list[str]:
    """Return the names of the memories that a module exports."""
    exports = prepared.info.exports if prepared is not None else {}
    return [name for name, export in exports.items() if export.kind == "memory"]


def _check_memories(info: ModuleInfo, most: int) -> None:
    """Raise `GuestError` for a module whose memories begin with more than they may have."""
    least = _memory_at_first(info)
    if least > most:
        raise GuestError(f"its memories begin with {least >> 10} KiB, and limits.memory is {most >> 10} KiB")


class _WasiHost:
    """What WASI needs of a worker."""

    def __init__(self, engine: Engine, flag: StopFlag) -> None:
        self.memory = engine.memory
        self.wait = flag.wait

    def exit(self, code: int) -> NoReturn:
        raise Exit(code, proc_exit=True)


def spell(error: BaseException) -> str:
    """Name an exception and what it says."""
    try:
        text = str(error)
    except Exception:
        # An exception of a host module may be unable to say what it is.
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _exited(exit: Exit) -> Report:
    if exit.proc_exit and exit.code == 0:
        return Report(Outcome.COMPLETED, values=(), exit_code=0)
    return Report(Outcome.EXITED, exit_code=exit.code, message=exit.message)


def _read_text(guest: hosting.Guest, pointer: int, length: int) -> bytes:
    try:
        # A message is cut before it is sent: no need to copy gigabytes of it out of the guest first.
        return guest.read(pointer, min(length & 0xFFFFFFFF, 4 * MAX_TEXT))
    except IndexError as error:
        raise HostError(error) from None


def _portable(value: Any) -> Any:
    """Spell a result that is no number, as references and vectors are."""
    return value if type(value) in (int, float) else str(value)[:100]
