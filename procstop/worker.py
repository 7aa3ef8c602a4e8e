"""The child's entry point: host one attempt, report once, leave nothing.

Theory of operation. A supervisor starts `python -I -S` with this module's `main` and these descriptors:

    0, 1, 2    the guest's standard streams, used by nobody else
    order      a file: what to do (`messages.Order`); read and closed
    module     a file: the bytes of the module; read and closed
    control    supervisor -> worker: interrupts
    report     worker -> supervisor: ready, beats, one final report
    lifeline   never written; its end means that the supervisor is gone

The main thread puts on the guards, loads the engine, compiles, says `ready`, and runs the guest. One other thread,
the listener, waits on the control pipe: it raises the interrupt flag and sends a beat ten times a second while
the guest passes stopping points. On wasmer it gets its turn only when the guest calls a host function, which is
also the only time at which the flag matters.

This side imports the standard library and an engine, nothing else.
"""

from __future__ import annotations

import gc
import io
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from procstop import arguments, containment, hosting, linking, linux, messages
from procstop.engines import Engine, GuestTrap, HostFunction, load
from procstop.errors import EngineError, GuestError
from procstop.messages import Beat, Decoder, Final, Guarded, Interrupt, Order, ProtocolError, Ready, cut_text
from procstop.model import Outcome, StrategyKind
from procstop.module import FuncType, ModuleInfo, read_module
from procstop.records import Report
from procstop.stopping import TICK_S, Exit, HostError, Interrupted, StopFlag, guest_functions
from procstop.wasi import Preopen, Wasi
from procstop.wasi.signatures import SIGNATURES as WASI_SIGNATURES

SLOW_TICK_S = 1.0
"""How long the listener sleeps while the guest does: a thousand sleeping guests shall cost nothing."""
SWITCH_INTERVAL_S = 0.0005
"""How long the listener waits for the GIL before it asks for it; bounds how late an interrupt is seen."""


def main() -> NoReturn:
    """Host one attempt; its descriptors are the arguments. `containment.guard` was called before."""
    order_fd, module_fd, control, report = map(int, sys.argv[1:5])
    order = messages.decode_order(_read_whole(order_fd))
    channel = Channel(order.attempt, control, report)
    channel.say_guarded()
    try:
        outcome = _host(order, _read_whole(module_fd), channel)
    except BaseException as error:
        outcome = Report(Outcome.CRASHED, message=f"the worker failed: {_spell(error)}")
    channel.finish(outcome)
    if order.host is not None or order.host_functions:
        # Files that host functions have open are theirs to keep: have what is buffered written.
        _flush_files()
    _kill_children()
    # Nothing that a host module registered or left running may hold the worker up.
    os._exit(0)


def _host(order: Order, data: bytes, channel: Channel) -> Report:
    """Run the attempt from the engine's import to its report."""
    sys.path.extend(path for path in order.sys_path if path not in sys.path)
    flag = StopFlag(StrategyKind(order.strategy), order.strategy_n, order.check_every)
    ready = False
    try:
        engine = load(order.engine)
        info = read_module(data, scan_code=False)
        type, args = arguments.fit_call(info, order.call, order.args)
        functions, interruptible = _link(order, info, engine, flag)
        engine.compile(data)
        del data
        channel.open(flag, interruptible)
        flag.restart_gap()
        engine.instantiate(functions)
        ready = True
        if arguments.INITIALIZE in info.exports and order.call not in (arguments.INITIALIZE, arguments.START):
            engine.call(arguments.INITIALIZE, FuncType((), ()), ())
        values = engine.call(order.call, type, args)
    except Interrupted:
        outcome = Report(Outcome.INTERRUPTED)
    except Exit as exit:
        outcome = _exited(exit)
    except GuestTrap as trap:
        outcome = Report(Outcome.TRAPPED, message=str(trap))
    except HostError as error:
        outcome = Report(Outcome.HOST_ERROR, message=_spell(error.error))
    except (GuestError, EngineError) as error:
        # Once the guest has run, it was not rejected, whatever it was that it could not get.
        outcome = Report(Outcome.HOST_ERROR if ready else Outcome.REJECTED, message=str(error))
    else:
        outcome = Report(Outcome.COMPLETED, values=tuple(_portable(value) for value in values))
    if flag.told() and outcome.outcome in (Outcome.COMPLETED, Outcome.EXITED) and ready:
        # It asked, was told to leave, and left by itself: what it returned is what it had so far.
        outcome = Report(Outcome.INTERRUPTED, exit_code=outcome.exit_code, message=outcome.message,
                         partial=outcome.values or None)  # fmt: skip
    return _complete(outcome, flag)


def _exited(exit: Exit) -> Report:
    if exit.proc_exit and exit.code == 0:
        return Report(Outcome.COMPLETED, values=(), exit_code=0)
    return Report(Outcome.EXITED, exit_code=exit.code, message=exit.message)


def _complete(report: Report, flag: StopFlag) -> Report:
    return Report(
        outcome=report.outcome,
        values=report.values,
        exit_code=report.exit_code,
        message=None if report.message is None else cut_text(report.message),
        partial=report.partial,
        stopping_points=flag.record(),
        peak_memory_bytes=containment.peak_memory_bytes(),
    )


def _link(order: Order, info: ModuleInfo, engine: Engine, flag: StopFlag) -> tuple[list[HostFunction], bool]:
    """Bind every import; return the functions in order, and whether any of them is a stopping point."""
    hosted: dict[str, Callable[..., Any]] = {}
    if order.host is not None or order.host_functions:
        # Only host functions see the process's environment; the guest's own goes through WASI.
        os.environ.update(order.env)
        if order.host is not None:
            sys.path.insert(0, os.path.dirname(order.host))
            hosted = hosting.load_host_file(order.host)
        hosted.update(hosting.load_references(order.host_functions, order.main_path))
    linked = linking.link(info, order.bindings, hosted, WASI_SIGNATURES)
    if linked.problems:
        raise GuestError("; ".join(linked.problems))
    guest = hosting.Guest(engine, flag)
    own = guest_functions(flag, lambda pointer, length: _read_text(guest, pointer, length))
    wasi = None
    functions = []
    interruptible = bool(linked.stopping_points)
    for needed, provider, name in linked.links:
        assert needed.type is not None
        if provider == "procstop":
            call = own[name]
        elif provider == "wasi":
            wasi = wasi or _wasi(order, engine, flag)
            call = wasi.functions(needed.module)[name][2]
        else:
            interruptible = interruptible or hosting.wants_guest(hosted[name])
            call = hosting.adapt(hosted[name], needed.type, guest)
        functions.append(HostFunction(needed.module, needed.name, needed.type, call))
    return functions, interruptible


def _read_text(guest: hosting.Guest, pointer: int, length: int) -> bytes:
    try:
        # A message is cut before it is sent: no need to copy gigabytes of it out of the guest first.
        return guest.read(pointer, min(length & 0xFFFFFFFF, 4 * messages.MAX_TEXT))
    except IndexError as error:
        raise HostError(error) from None


class _WasiHost:
    """What WASI needs of a worker."""

    def __init__(self, engine: Engine, flag: StopFlag) -> None:
        self.memory = engine.memory
        self.wait = flag.wait

    def exit(self, code: int) -> NoReturn:
        raise Exit(code, proc_exit=True)


def _wasi(order: Order, engine: Engine, flag: StopFlag) -> Wasi:
    argv = [order.module_name]
    if order.call == arguments.START:
        argv += [str(arg) for arg in order.args]
    preopens = [Preopen(guest, host, write) for guest, host, write in order.dirs]
    try:
        return Wasi(_WasiHost(engine, flag), argv, order.env, preopens)
    except OSError as error:
        raise GuestError(f"dirs: {error.filename!r}: {error.strerror}") from None


class Channel:
    """The pipes to the supervisor. The listener and the main thread share the report pipe under a lock."""

    def __init__(self, attempt: str, control: int, report: int) -> None:
        self._attempt = attempt
        self._control = control
        self._report = report
        self._lock = threading.Lock()
        self._finished = False
        os.set_blocking(report, False)

    def say_guarded(self) -> None:
        """Say that the guards are on, as `containment.guard` has put them on before all else."""
        self._send(messages.encode(Guarded(self._attempt)))

    def open(self, flag: StopFlag, interruptible: bool) -> None:
        """Say that the guest is about to run, and listen from now on."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        threading.Thread(target=self._listen, args=(flag, interruptible), name="listener", daemon=True).start()
        self._send(messages.encode(Ready(self._attempt, interruptible)))

    def finish(self, report: Report) -> None:
        """Send the one report; nothing is sent after it."""
        with self._lock:
            self._finished = True
            try:
                data = messages.encode(Final(self._attempt, report))
            except (ProtocolError, ValueError) as error:
                data = messages.encode(Final(self._attempt, Report(Outcome.CRASHED, message=f"report: {error}")))
            self._write(data)

    def _send(self, data: bytes) -> None:
        with self._lock:
            self._write(data)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._report, view) :]
            except BlockingIOError:
                poller = select.poll()
                poller.register(self._report, select.POLLOUT)
                poller.poll()
            except OSError:
                return  # The supervisor has closed its end: it wants to hear no more.

    def _beat(self, passed: int, done: int | None, total: int | None) -> None:
        data = messages.encode(Beat(self._attempt, passed, done, total))
        with self._lock:
            if not self._finished:
                try:
                    # Shorter than PIPE_BUF, so the whole of it is written or, if the pipe is full, nothing.
                    os.write(self._report, data)
                except OSError:
                    pass  # A supervisor that is busy or gone misses nothing but a beat.

    def _listen(self, flag: StopFlag, beats: bool) -> None:
        decoder = Decoder()
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        sent: tuple[int, int | None, int | None] = (0, None, None)
        while True:
            interval = SLOW_TICK_S if flag.asleep else TICK_S
            due = time.monotonic() + interval
            if poller.poll(interval * 1000 if beats else None):
                data = os.read(self._control, messages.MAX_MESSAGE)
                if not data:
                    containment.die()
                for message in decoder.feed(data):
                    if isinstance(message, Interrupt) and message.attempt == self._attempt:
                        flag.ask()
            else:
                state = flag.tick(time.monotonic() - due)
                if state != sent:
                    sent = state
                    self._beat(*state)


def _flush_files() -> None:
    for thing in gc.get_objects():
        try:
            if isinstance(thing, io.IOBase) and not thing.closed:
                thing.flush()
        except Exception:
            # Full, closed by a thread meanwhile, or a proxy that says it is a file: the report has been sent.
            continue


def _kill_children() -> None:
    """Kill what host functions started and left: as their subreaper this worker sees all of it."""
    while children := linux.children(os.getpid()):
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except OSError:
                pass  # Reaped by a thread of a host module in between.


def _read_whole(fd: int) -> bytes:
    """Read a file from its start, whatever the shared offset is, and close it."""
    parts, offset = [], 0
    while part := os.pread(fd, 1 << 24, offset):
        parts.append(part)
        offset += len(part)
    os.close(fd)
    return b"".join(parts) if len(parts) != 1 else parts[0]


def _portable(value: Any) -> Any:
    """Spell a result that is no number, as references and vectors are."""
    return value if type(value) in (int, float) else str(value)[:100]


def _spell(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:
        # An exception of a host module may be unable to say what it is.
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


if __name__ == "__main__":
    main()
