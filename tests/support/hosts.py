"""Host functions for tests, as importable callables. They run in a worker."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any, NoReturn

from procstop import Exit


def say(text: str) -> None:
    """Write a line where the guest's output goes."""
    os.write(1, f"{text}\n".encode())


MARKS = "TEST_MARKS"
"""The variable that names the directory for `leaves_mark`."""


def leaves_mark() -> None:
    """Make a file with the worker's pid for a name."""
    open(os.path.join(os.environ[MARKS], str(os.getpid())), "x").close()


def says_environment() -> None:
    """Write the names of the environment's variables."""
    say(" ".join(os.environ))


def says_rights() -> None:
    """Write the capabilities of this process as three hexadecimal numbers: effective, permitted, inheritable."""
    libc = ctypes.CDLL(None)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    say(" ".join(f"{sets[one] | sets[3 + one] << 32:x}" for one in range(3)))


def nothing() -> None:
    """Do nothing."""


def raises() -> NoReturn:
    """Raise an exception with a message."""
    raise KeyError("no such colour")


def raises_without_message() -> NoReturn:
    """Raise an exception without one."""
    raise ZeroDivisionError


def raises_runtime_error() -> NoReturn:
    """Raise the type that wasmer uses for traps."""
    raise RuntimeError("unreachable")


def raises_at_length() -> NoReturn:
    """Raise an exception with a message of a million characters."""
    raise ValueError("x" * 1_000_000)


def raises_keyboard_interrupt() -> NoReturn:
    """Raise what is no `Exception`."""
    raise KeyboardInterrupt


def exits_with_4() -> NoReturn:
    """Leave as the guest's own exit."""
    raise Exit(4)


def exits_with_message() -> NoReturn:
    """Leave with a message."""
    raise Exit(message="nothing to do")


def calls_sys_exit() -> NoReturn:
    """Leave as a Python program would."""
    sys.exit(5)


def returns_text() -> Any:
    """Return what no import of nothing may return."""
    return "text"


def exits_the_process() -> NoReturn:
    """End the worker without a word."""
    os._exit(7)


def exits_the_process_well() -> NoReturn:
    """End the worker without a word, as if all were well."""
    os._exit(0)


def segfaults() -> None:
    """Send itself what a wild pointer causes."""
    # An engine's handler takes the first for a fault that will come again, and steps aside.
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGSEGV)


def reads_null() -> None:
    """Follow a wild pointer."""
    ctypes.string_at(0)


def kills_itself() -> None:
    """End as by the kernel's out-of-memory killer."""
    os.kill(os.getpid(), signal.SIGKILL)


def terminates_itself() -> None:
    """End by a SIGTERM that nobody else sent."""
    os.kill(os.getpid(), signal.SIGTERM)


def blocks() -> None:
    """Read from a pipe into which nobody writes, for ever."""
    read, _write = os.pipe()
    say("blocked")
    os.read(read, 1)


def ignores_sigterm() -> None:
    """Ignore SIGTERM from now on."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say("deaf")


def blocks_sigterm() -> None:
    """Block SIGTERM in the guest's thread; the worker has another, which takes it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    say("deaf")


def handles_sigterm() -> None:
    """Take SIGTERM with a Python handler that does nothing, which a spinning guest on wasmer never runs."""
    signal.signal(signal.SIGTERM, lambda *_: None)
    say("deaf")


def ignores_everything_and_blocks() -> None:
    """Ignore all signals that can be ignored, and block."""
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    say("deaf")
    blocks()


def leaves_at_sigterm_with_0() -> None:
    """Answer SIGTERM by an exit with code 0."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    say("ready")
    while True:
        signal.pause()


def stops_itself() -> None:
    """Stand still, as by SIGSTOP from somebody else."""
    say("stopping")
    os.kill(os.getpid(), signal.SIGSTOP)


def ignores_sigxcpu() -> None:
    """Take no notice of the kernel's word that CPU time is used up."""
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)


def starts_native_thread() -> None:
    """Leave a thread running of which Python does not know; it never ends."""
    libc = ctypes.CDLL(None)
    pause = ctypes.cast(libc.pause, ctypes.c_void_p)
    assert libc.pthread_create(ctypes.byref(ctypes.c_ulong()), None, pause, None) == 0


def lays_links() -> None:
    """Put symbolic links to what is outside in the place of what is in the directory that a variable names."""
    place, outside = os.environ[LINKS].split(":")
    for name in os.listdir(place):
        os.rename(os.path.join(place, name), os.path.join(place, f"{name}.old"))
        os.symlink(os.path.join(outside, name), os.path.join(place, name))


LINKS = "TEST_LINKS"
"""The variable for `lays_links`: two directories, with a colon between them."""


def starts_thread() -> None:
    """Leave a thread running that never ends."""
    threading.Thread(target=lambda: time.sleep(1e6)).start()


def starts_child() -> None:
    """Start a child that outlives everything, and say its pid."""
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(1e6)"])
    say(f"child {child.pid}")


def _start(**options: Any) -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(1e6)"], **options)
    say(f"child {child.pid}")


def starts_child_in_session() -> None:
    """Start a child with a session of its own."""
    _start(start_new_session=True)


def starts_child_without_mark() -> None:
    """Start a child with an empty environment."""
    _start(env={})


def starts_child_without_mark_in_session() -> None:
    """Start a child with an empty environment and a session of its own."""
    _start(env={}, start_new_session=True)


def dies_of_a_hidden_child() -> None:
    """Start a child that bears no sign of whose it is, and die when it could have been seen."""
    starts_child_without_mark_in_session()
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)


def starts_stubborn_escapee() -> None:
    """Fork twice, with a session of its own and SIGTERM ignored; it holds all of the worker's descriptors open."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.write(write, str(os.getpid()).encode())
            os.environ.clear()
            while True:
                time.sleep(1e6)
        os._exit(0)
    os.wait()
    say(f"child {int(os.read(read, 20))}")


def breeds() -> None:
    """Start a process that forks anew as fast as it can, each generation with a session of its own."""
    if os.fork() == 0:
        say("breeding")
        while True:
            if os.fork():
                os._exit(0)
            os.setsid()


def report_descriptor() -> int:
    """Find the writing end of the report pipe among what this worker has open."""
    ours = {os.readlink(f"/proc/self/fd/{number}") for number in (1, 2)}
    for name in sorted(map(int, os.listdir("/proc/self/fd"))):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
            with open(f"/proc/self/fdinfo/{name}") as info:
                flags = int(info.read().split("flags:")[1].split()[0], 8)
        except OSError:
            continue
        if name > 2 and target.startswith("pipe:") and target not in ours and flags & os.O_ACCMODE == os.O_WRONLY:
            # The flag's own pipe, which wakes sleepers, has its reading end in this process as well.
            if sum(_target(other) == target for other in os.listdir("/proc/self/fd")) == 1:
                return name
    raise LookupError("no report pipe")


def _target(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        return ""


def _tell(body: bytes) -> None:
    os.write(report_descriptor(), len(body).to_bytes(4, "big") + body)


def reports_garbage() -> None:
    """Write what is no message into the report pipe, and go on."""
    os.write(report_descriptor(), b"\xff" * 64)


def reports_garbage_json() -> None:
    """Write a message that is JSON but no message."""
    _tell(b'{"v": 1, "type": "final", "attempt": "x"}')


def reports_for_another() -> None:
    """Write a message about another attempt."""
    _tell(b'{"v": 1, "type": "ready", "attempt": "another", "pid": 2, "interruptible": true, "since": 0}')


def _attempt() -> str:
    return os.environ["PROCSTOP_ATTEMPT"]


def reports_ready_again() -> None:
    """Say ready a second time."""
    ready = {"v": 1, "type": "ready", "attempt": _attempt(), "pid": os.getpid(), "interruptible": True, "since": 0}
    _tell(json.dumps(ready).encode())


def _final(outcome: str) -> bytes:
    report = {
        "outcome": outcome,
        "values": None,
        "exit_code": None,
        "message": None,
        "partial": None,
        "stopping_points": {"passed": 0, "longest_gap_s": None, "stopped_at": None},
        "peak_memory_bytes": None,
        "cpu_s": None,
        "out_of_memory": False,
    }
    return json.dumps({"v": 1, "type": "final", "attempt": _attempt(), "report": report, "free": False}).encode()


def reports_killed() -> None:
    """Claim that we were killed, which only the supervisor can know."""
    _tell(_final("killed"))


def reports_interrupted() -> None:
    """Claim that we left because we were asked to, which nobody did."""
    _tell(_final("interrupted"))


def reports_completed_and_goes_on() -> None:
    """Claim to have completed; the guest goes on."""
    _tell(_final("completed"))


def reports_half_a_message() -> None:
    """Begin a message and never end it."""
    os.write(report_descriptor(), b"\0\0\0\x40{")
    say("half")


def reports_final_for_another() -> None:
    """Write another attempt's final report."""
    _tell(_final("completed").replace(_attempt().encode(), b"another"))


def reports_completed_twice() -> None:
    """Claim to have completed, and once more; the guest goes on."""
    _tell(_final("completed"))
    _tell(_final("completed"))


def reports_completed_and_floods() -> None:
    """Claim to have completed, and then talk for ever."""
    _tell(_final("completed"))
    floods_report()


def reports_megabytes_of_garbage() -> None:
    """Write frames that are no messages, many megabytes of them; go on when nobody reads them any more."""
    fd = report_descriptor()
    os.set_blocking(fd, True)
    for _ in range(16):
        os.write(fd, (b"\0\0\xff\xff" + b"[" * 0xFFFF) * 16)


def floods_with_guarded() -> None:
    """Say for ever that the guards are on, which a worker says once."""
    fields = {"v": 1, "type": "guarded", "attempt": _attempt(), "pid": os.getpid(), "note": "x" * 8000}
    body = json.dumps(fields).encode()
    fd = report_descriptor()
    os.set_blocking(fd, True)
    say("floods")
    while True:
        os.write(fd, len(body).to_bytes(4, "big") + body)


def closes_everything() -> None:
    """Close all descriptors, whatever they are for."""
    os.closerange(0, 4096)


def closes_report() -> None:
    """Close the report pipe."""
    os.close(report_descriptor())


def floods_report() -> None:
    """Fill the report pipe with heartbeats, as fast as it can, for ever."""
    beat = json.dumps({"v": 1, "type": "beat", "attempt": _attempt(), "passed": 1, "done": 1, "total": 2}).encode()
    fd = report_descriptor()
    os.set_blocking(fd, True)
    say("floods")
    while True:
        os.write(fd, len(beat).to_bytes(4, "big") + beat)


def checkpoints(guest: Any) -> None:
    """Pass a stopping point of our own."""
    guest.checkpoint()


def sleeps_politely(guest: Any) -> None:
    """Sleep for long, in a way that can be interrupted."""
    say("asleep")
    guest.sleep(1000)


def prints_variable() -> None:
    """Write an environment variable that the task gave."""
    print(os.environ["COLOUR"])


def returns_argument(value: Any) -> Any:
    """Return what came."""
    return value


def returns_both(first: int, second: int) -> tuple[int, int]:
    """Return two values, the last first."""
    return second, first


def returns_too_much(value: int) -> int:
    """Return a number that is too large."""
    return 2**70


def returns_none(value: Any) -> None:
    """Return nothing where something is due."""
    return


def fails_once() -> None:
    """Raise unless a file is there, and make it."""
    path = os.environ["MARK"]
    if not os.path.exists(path):
        with open(path, "w"):
            pass
        raise OSError("not this time")


class Counter:
    """An object with a method that is no function at the top of a module."""

    def work(self) -> None:
        """Do nothing."""


def ignores_sigterm_and_waits() -> None:
    """Ignore SIGTERM and block, so that fifty of them do not fight for the processor."""
    ignores_sigterm()
    os.read(os.pipe()[0], 1)


def waits_for_mark() -> None:
    """Wait until a file is there."""
    say("waiting")
    while not os.path.exists(os.environ["MARK"]):
        time.sleep(0.005)


def dies_at_mark_with_an_escapee() -> None:
    """Start a process that hides, wait until a file is there, and end without having seen to it."""
    starts_stubborn_escapee()
    waits_for_mark()
    os.kill(os.getpid(), signal.SIGKILL)


def says_so() -> None:
    """Say that it was called."""
    say("here")


def progresses_by_halves(guest: Any) -> None:
    """Tell progress in numbers that a guest could not tell."""
    guest.progress(0.5, 1.0)


def progresses_too_far(guest: Any) -> None:
    """Tell progress that does not fit 64 bits."""
    guest.progress(2**70, 1)


def exits_with_minus_1() -> NoReturn:
    """Leave with a code that no process could have."""
    raise Exit(-1)


class _Speechless(Exception):
    def __str__(self) -> str:
        raise ValueError("cannot say")


def raises_what_cannot_be_said() -> NoReturn:
    """Raise an exception that fails to say what it is."""
    raise _Speechless


def writes_a_file_and_leaves_it_open() -> None:
    """Write into a file beside the guest's output, and rely on its end for the flush."""
    global _left_open
    _left_open = open(os.environ["LEFT_OPEN"], "w")  # noqa: SIM115
    _left_open.write("all of it")


def naps() -> None:
    """Take longer than a short time limit, and pass no stopping point."""
    time.sleep(0.6)


def _talk_later(talk: Any) -> None:
    signal.signal(signal.SIGALRM, lambda *_: talk())
    signal.setitimer(signal.ITIMER_REAL, 0.3)


def writes_later() -> None:
    """Write to standard output when nobody expects it any more."""
    _talk_later(lambda: say("one more thing"))


def reports_later() -> None:
    """Write into the report pipe when nobody expects it any more."""
    _talk_later(reports_garbage)


def reports_twice_and_waits() -> None:
    """Claim to have completed and to be free, twice at once, and go on."""
    body = _final("completed").replace(b'"free": false', b'"free": true').replace(b'"values": null', b'"values": [5]')
    message = len(body).to_bytes(4, "big") + body
    os.write(report_descriptor(), message + message)
    time.sleep(1e6)
