"""Start workers, signal their trees, and prove that they are gone.

A worker leads a session of its own, so that no terminal's signal reaches it, and is the subreaper of what it
starts: whatever a host function detaches stays below the worker while that lives. When a worker ends, the orphans
come to the supervisor, which is a subreaper too, and are found and killed there.

Nothing is ever signalled by a bare pid that could have been used again: a worker is a child that nobody has
reaped, and a descendant is held by a pidfd that was checked against psutil's (pid, start time). There is one reaper:
`Worker.reap`; the `Popen` object is never asked.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import IO

import psutil

from procstop import linux
from procstop.errors import ProcstopError

PACKAGE_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOKEN = "PROCSTOP_ATTEMPT"
"""Environment variable that marks a worker and, unless they drop it, all of its descendants."""
_BOOT = """
import sys
sys.path.insert(0, {root!r})
{first}
from procstop.{module} import main
main()
"""
# A worker's guards come before all else that it imports: a supervisor may die in the meantime.
_GUARD = "from procstop.containment import guard\nguard(sys.argv)"
_FREEZE_ROUNDS = 50
# What it means that a process cannot be looked at. psutil parses /proc/PID/stat, which is empty, and makes it raise
# IndexError or ValueError, when the process ends at just that moment.
_GONE = (OSError, psutil.Error, IndexError, ValueError)
# Some Pythons do not even start without it; nothing else of the environment reaches a worker.
_LOADER = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}


def _has_pidfds() -> bool:
    """Tell whether this kernel gives pidfds, and whatever confines us allows them."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


HAS_PIDFDS = _has_pidfds()


@dataclass
class Ended:
    """How a worker ended: ("exit", code) or ("signal", number), its CPU seconds and peak memory in bytes.

    `wait` and `cpu_s` are None if somebody else reaped it, as the kernel does where SIGCHLD is ignored.
    `peak_memory_bytes` is None where the kernel's figure could be the supervisor's own, from before the exec.
    """

    wait: tuple[str, int] | None
    cpu_s: float | None
    peak_memory_bytes: int | None


@dataclass
class Worker:
    """A child process that hosts one attempt, and the supervisor's ends of its pipes.

    `pidfd` is None where the system has none; then `reap` has to be asked now and then. `guarded` is set once the
    worker has said that its guards are on: one that is stopped before could not put them on, and would stay for ever.
    """

    pid: int
    token: str
    control: int
    report: int
    stdout: int
    stderr: int
    pidfd: int | None
    popen: subprocess.Popen[bytes]
    guarded: bool = False
    ended: Ended | None = None
    _seen: dict[int, psutil.Process] = field(default_factory=dict)

    def reap(self) -> Ended | None:
        """Reap the worker if it has ended; return how, None while it runs."""
        if self.ended is None:
            try:
                pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            except ChildProcessError:
                # Somebody else waited for our child. Its end is all that is known.
                self.ended = Ended(None, None, None)
                self.popen.returncode = 0
                return self.ended
            if pid:
                code = os.waitstatus_to_exitcode(status)
                unit = 1024 if linux.ON_LINUX else 1
                own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                peak = usage.ru_maxrss * unit if usage.ru_maxrss > own else None
                wait = ("signal", -code) if code < 0 else ("exit", code)
                self.ended = Ended(wait, usage.ru_utime + usage.ru_stime, peak)
                # Else Popen would complain, and later wait for a pid that is no longer ours.
                self.popen.returncode = code
        return self.ended

    def signal(self, number: int) -> None:
        """Signal the worker itself; nothing happens once it was reaped."""
        if self.ended is None:
            try:
                if self.pidfd is not None:
                    signal.pidfd_send_signal(self.pidfd, number)  # type: ignore[attr-defined,unused-ignore]
                else:
                    os.kill(self.pid, number)
            except ProcessLookupError:
                pass

    def terminate(self) -> None:
        """SIGTERM to the whole tree; SIGCONT with it, since a stopped process would not notice."""
        members = self.descendants()
        for number in (signal.SIGTERM, signal.SIGCONT):
            self.signal(number)
            for member in members:
                send(member, number)

    def kill(self) -> None:
        """SIGKILL to the whole tree. It is frozen first, so that nothing is born while it dies."""
        try:
            if self.guarded:
                self._kill_descendants()
        finally:
            self.signal(signal.SIGKILL)

    def _kill_descendants(self) -> None:
        self.signal(signal.SIGSTOP)
        members: dict[int, psutil.Process] = {}
        for _ in range(_FREEZE_ROUNDS):
            new = [member for member in self.descendants() if member.pid not in members]
            if not new:
                break
            for member in new:
                send(member, signal.SIGSTOP)
                members[member.pid] = member
        for member in members.values():
            send(member, signal.SIGKILL)

    def pause(self) -> None:
        """Stop the whole tree in its tracks. Only once it is `guarded`."""
        self.signal(signal.SIGSTOP)
        for member in self.descendants():
            send(member, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused tree go on."""
        for member in self.descendants():
            send(member, signal.SIGCONT)
        self.signal(signal.SIGCONT)

    def descendants(self) -> list[psutil.Process]:
        """Return everything that the worker started and that still lives; remember it for `adopted`."""
        found = [] if self.ended is not None else descendants(self.pid)
        self._seen.update((process.pid, process) for process in found)
        return found

    def owns(self, orphan: psutil.Process) -> bool:
        """Tell whether an orphan was this worker's: seen below it, of its session, or marked with its token."""
        known = self._seen.get(orphan.pid)
        if known is not None and known == orphan:
            return True
        try:
            if os.getsid(orphan.pid) == self.pid:
                return True
            return bool(orphan.environ().get(TOKEN) == self.token)
        except _GONE:
            return False

    def peak_memory_bytes(self) -> int | None:
        """Return the most memory the worker had resident so far; None where that cannot be read."""
        try:
            with open(f"/proc/{self.pid}/status", "rb") as status:
                for line in status:
                    if line.startswith(b"VmHWM:"):
                        return int(line.split()[1]) * 1024
        except OSError:
            pass
        return None

    def close(self) -> None:
        """Close the supervisor's ends of everything."""
        for name in ("control", "report", "stdout", "stderr"):
            fd = getattr(self, name)
            if fd >= 0:
                os.close(fd)
                setattr(self, name, -1)
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None


class SpawnError(ProcstopError):
    """No process could be started."""


def spawn_worker(token: str, order: bytes, *, module: int, stdin: int, lifeline: int) -> Worker:
    """Start a worker; raise `SpawnError` where the system refuses, with nothing left behind.

    `module` and `stdin` are open files, which stay open here; `lifeline` is the reading end of the run's pipe.
    Call it from the thread that will live as long as the worker: the kernel ends the worker with that thread.
    """
    opened: list[int] = []
    try:
        with file_of(order) as order_file:
            control_read, control_write = _pipe(opened)
            report_read, report_write = _pipe(opened)
            out_read, out_write = _pipe(opened)
            err_read, err_write = _pipe(opened)
            passed = (order_file.fileno(), module, control_read, report_write, lifeline)
            popen = subprocess.Popen(
                [*python_command("worker", _GUARD), *map(str, passed), str(os.getpid())],
                stdin=stdin,
                stdout=out_write,
                stderr=err_write,
                pass_fds=passed,
                env={TOKEN: token, **_LOADER},
                start_new_session=True,
            )
    except OSError as error:
        for fd in opened:
            os.close(fd)
        raise SpawnError(f"cannot start a worker: {error.strerror or error}") from error
    for fd in (control_read, report_write, out_write, err_write):
        os.close(fd)
    for fd in (control_write, report_read, out_read, err_read):
        os.set_blocking(fd, False)
    worker = Worker(popen.pid, token, control_write, report_read, out_read, err_read, None, popen)
    if HAS_PIDFDS:
        try:
            worker.pidfd = os.pidfd_open(popen.pid)
        except OSError as error:
            # A worker that cannot be watched must not run.
            popen.kill()
            popen.wait()
            worker.close()
            raise SpawnError(f"cannot watch a worker: {error.strerror}") from error
    return worker


def python_command(module: str, first: str = "") -> list[str]:
    """Return the command that runs `main` of one of procstop's modules, with no site packages: it starts fast.

    Its standard streams are not buffered, so that nothing printed is lost when it is killed.
    """
    return [sys.executable, "-I", "-S", "-u", "-c", _BOOT.format(root=PACKAGE_ROOT, first=first, module=module)]


def file_of(data: bytes) -> IO[bytes] | _Memory:
    """Return an unnamed file that holds `data`, positioned at its start."""
    memory = hasattr(os, "memfd_create")
    file: _Memory | IO[bytes] = _Memory(os.memfd_create("procstop")) if memory else tempfile.TemporaryFile()  # noqa: SIM115
    view = memoryview(data)
    while view:
        view = view[os.write(file.fileno(), view) :]
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    return file


class _Memory:
    """A file without a name, in memory."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> _Memory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _pipe(opened: list[int]) -> tuple[int, int]:
    read, write = os.pipe()
    opened += (read, write)
    return read, write


def descendants(pid: int) -> list[psutil.Process]:
    """Return the living descendants of a process, parents before children."""
    found: list[psutil.Process] = []
    try:
        if linux.children(pid) is None:
            return list(psutil.Process(pid).children(recursive=True))
        waiting = [pid]
        seen = {pid}
        while waiting:
            for child in linux.children(waiting.pop()) or ():
                if child not in seen:
                    seen.add(child)
                    waiting.append(child)
                    try:
                        found.append(psutil.Process(child))
                    except _GONE:
                        continue
    except _GONE:
        pass  # Out of descriptors, say. The worker itself is signalled all the same.
    return found


def adopted(known: Collection[int], owners: Sequence[Worker] | None) -> list[psutil.Process]:
    """Return the orphans that came to this process: children that are no worker of ours (`known`).

    With `owners`, only those that were one of these workers' descendants: this process may have children of its own
    that are none of our business. Without, all of them.
    """
    orphans = []
    try:
        pids = linux.children(os.getpid())
        if pids is None:
            pids = [child.pid for child in psutil.Process().children()]
    except _GONE:
        return []
    for pid in pids:
        if pid in known:
            continue
        try:
            orphan = psutil.Process(pid)
        except _GONE:
            continue
        if owners is None or any(owner.owns(orphan) for owner in owners):
            orphans.append(orphan)
    return orphans


def remove_orphans(orphans: Sequence[psutil.Process]) -> None:
    """Kill orphans with all that is below them, and reap those that are dead."""
    for orphan in orphans:
        for member in [*descendants(orphan.pid), orphan]:
            send(member, signal.SIGKILL)
        try:
            os.waitpid(orphan.pid, os.WNOHANG)
        except ChildProcessError:
            pass


def send(process: psutil.Process, number: int) -> None:
    """Signal exactly this process: never another one that got its pid later."""
    try:
        if HAS_PIDFDS:
            fd = os.pidfd_open(process.pid)
            try:
                # Still there with its start time after the pidfd was opened: so the pidfd is it.
                if process.is_running():
                    signal.pidfd_send_signal(fd, number)  # type: ignore[attr-defined,unused-ignore]
            finally:
                os.close(fd)
        else:
            process.send_signal(number)
    except _GONE:
        pass  # It ended by itself, which is all that was wanted, or is not ours to signal.


def run_helper(module: str, request: bytes, *, timeout: float) -> bytes:
    """Run one of procstop's modules as a one-shot child and return what it prints.

    Raise `SpawnError` where it can't be started, fails or takes longer than `timeout` seconds; it is gone then.
    """
    try:
        child = subprocess.Popen(
            [*python_command(module), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_LOADER,
            start_new_session=True,
        )
    except OSError as error:
        raise SpawnError(f"cannot start a process: {error.strerror or error}") from error
    try:
        answer, errors = child.communicate(request, timeout=timeout)
    except BaseException as error:
        child.kill()
        child.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise SpawnError(f"{module} took longer than {timeout:g} s") from None
        raise
    if child.returncode != 0:
        last = errors.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise SpawnError(f"{module} failed with {child.returncode}: {''.join(last)[:500]}")
    return answer


def readable(fd: int) -> bool:
    """Tell whether a descriptor has something to read now, its end included."""
    # Not select(): it knows no descriptor above 1023.
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(0))
