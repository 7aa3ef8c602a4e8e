"""Host functions that say what a worker has around it, and that start threads and processes in it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import gc
import json
import multiprocessing
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from typing import Any

from procstop import linux
from support.hosts import say


def describes_itself() -> None:
    """Say in JSON all that a worker has from whoever made it."""
    say(json.dumps(describe()))


def describe() -> dict[str, Any]:
    """Return what must be the same in every worker, however it was made: no pids, no numbers of descriptors."""
    me = os.getpid()
    return {
        "environment": {**os.environ, "PROCSTOP_ATTEMPT": _pattern(os.environ["PROCSTOP_ATTEMPT"])},
        "leads its session": os.getsid(0) == me,
        "leads its group": os.getpgid(0) == me,
        "has a terminal": _has_terminal(),
        "parent-death signal": _parent_death_signal(),
        "is a subreaper": linux.is_child_subreaper(),
        "children": linux.children(me),
        "directory": os.getcwd(),
        "umask": oct(_umask()),
        "name": _read("comm"),
        "descriptors": sorted(_descriptors()),
        "signals": _status("SigBlk", "SigIgn", "SigCgt"),
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in _LIMITS},
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "processors": sorted(os.sched_getaffinity(0)),
        "ids": [os.getresuid(), os.getresgid(), os.getgroups()],
        "path": sys.path,
        "flags": list(sys.flags),
        "collects garbage": gc.isenabled(),
        "frozen": bool(gc.get_freeze_count()) and "as a fork server froze it",
        "thread is the main one": threading.current_thread() is threading.main_thread(),
        "thread leads the process": threading.get_native_id() == me,
    }


_LIMITS = [name for name in dir(resource) if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"]


def _descriptors() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
            flags = fcntl.fcntl(int(name), fcntl.F_GETFL)
        except OSError:
            continue  # The one that listed the others.
        fd = int(name)
        kind = target if target.startswith("/dev/") else re.sub(r"\d+", "N", target)
        access = {os.O_RDONLY: "r", os.O_WRONLY: "w"}.get(flags & os.O_ACCMODE, "rw")
        marks = [
            mark
            for mark, on in (
                ("async", flags & os.O_ASYNC),
                ("nonblocking", flags & os.O_NONBLOCK),
                ("inherited", fd > 2 and os.get_inheritable(fd)),
                ("signals", flags & os.O_ASYNC and f"{_signal_of(fd)} to us: {_owner_of(fd) == os.getpid()}"),
            )
            if on
        ]
        found.append(" ".join([str(fd) if fd < 3 else "-", kind, access, *marks]))
    return found


def _signal_of(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_GETSIG)  # type: ignore[attr-defined,unused-ignore]


def _owner_of(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_GETOWN)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY))
    except OSError:
        return False
    return True


def _parent_death_signal() -> int:
    import ctypes

    number = ctypes.c_int(-1)
    ctypes.CDLL(None).prctl(2, ctypes.byref(number), 0, 0, 0)
    return number.value


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _read(name: str) -> str:
    with open(f"/proc/self/{name}") as file:
        return file.read().strip()


def _status(*names: str) -> dict[str, str]:
    lines = dict(line.split(":\t", 1) for line in _read("status").splitlines() if ":\t" in line)
    return {name: lines[name] for name in names}


def _pattern(token: str) -> str:
    return re.sub(r"[0-9A-Z]{10,}", "RUN", token)


def says_random_things() -> None:
    """Say what no two workers may have in common."""
    say(json.dumps([random.random(), str(uuid.uuid4()), os.urandom(8).hex(), next(tempfile._get_candidate_names())]))


def _answer(_: object = None) -> int:
    return 42


def computes_in_a_thread() -> None:
    """Have threads do the work."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        say(str(sum(pool.map(_answer, range(2))) // 2))
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(_answer()))
    thread.start()
    thread.join()
    say(str(found[0]))


def computes_in_a_forked_process() -> None:
    """Have a forked child do the work."""
    _compute_in("fork")


def computes_in_a_spawned_process() -> None:
    """Have a child with an interpreter of its own do the work."""
    _compute_in("spawn")


def _compute_in(method: str) -> None:
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        say(str(pool.submit(_answer).result()))
    queue = context.SimpleQueue()
    process = context.Process(target=_put, args=(queue,))
    process.start()
    say(str(queue.get()))
    process.join()
    assert process.exitcode == 0


def _put(queue: Any) -> None:
    queue.put(_answer())


def computes_in_another_program() -> None:
    """Have other programs do the work."""
    done = subprocess.run([sys.executable, "-c", "print(42)"], capture_output=True, text=True, check=True, timeout=60)
    say(done.stdout.strip())
    with subprocess.Popen(["sh", "-c", "echo 42; exit 7"], stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        say(shell.stdout.read().strip())
    assert shell.returncode == 7


def leaves_a_pool() -> None:
    """Leave threads and children of every kind at work, held by names that live as long as this module."""
    say("42")
    _left.append(threading.Thread(target=signal.pause, daemon=True))
    _left.append(multiprocessing.get_context("fork").Process(target=signal.pause))
    for one in _left:
        one.start()
    _left.append(subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True))
    with contextlib.suppress(OSError):
        _left.append(multiprocessing.get_context("fork").Pool(1))
    say("42")


_left: list[Any] = []


def appends_a_line() -> None:
    """Leave a trace that counts how often a guest ran, and take a moment."""
    with open(os.environ["LINES"], "a") as lines:
        lines.write("here\n")
