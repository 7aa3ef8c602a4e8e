"""The sandbox around real processes: what one cannot reach any more, and what goes on working in it."""

from __future__ import annotations

import ast
import contextlib
import ctypes
import errno
import fcntl
import functools
import mmap
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

from procstop.process.child import make_lifeline
from procstop.sandbox import ALLOWABLE, Grants, make_closer, probe
from procstop.sandbox.calls import NUMBERS

SUPPORT = probe()
pytestmark = pytest.mark.skipif(bool(SUPPORT.missing), reason="; ".join(SUPPORT.missing) or "-")

Act = Callable[[], object]


def grants(
    *dirs: tuple[Path, bool],
    readable: Sequence[str] = (),
    allow: Sequence[str] = (),
    keep: Sequence[int] = (),
    **others: Any,
) -> Grants:
    """Both layers, as much of them as this kernel has."""
    made = {"landlock": SUPPORT.landlock, "seccomp": True, **others}
    return Grants(
        dirs=[(str(path), writable) for path, writable in dirs],
        readable=readable,
        allow=frozenset(allow),
        keep_fds=keep,
        **made,
    )


def inside(what: Grants, *acts: Act, before: Act | None = None) -> list[object]:
    """Do `acts` in a child that has closed the sandbox; return what each returned, or the name of its error."""
    close = make_closer()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _be_child(what, close, acts, before, write)
    os.close(write)
    with open(read, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with {status}: {said}"
    answer = ast.literal_eval(said)
    assert isinstance(answer, list), answer
    return answer


def _be_child(
    what: Grants, close: Callable[[Grants], None], acts: Sequence[Act], before: Act | None, write: int
) -> NoReturn:
    code = 1
    try:
        if before is not None:
            before()
        close(what)
        os.write(write, repr([outcome(act) for act in acts]).encode())
        code = 0
    except BaseException as error:
        os.write(write, repr(error).encode())
    finally:
        os._exit(code)


def outcome(act: Act) -> object:
    try:
        value = act()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return value if isinstance(value, (int, str, bytes, list)) else None


LIBC = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: int) -> int:
    """Make a system call by its name."""
    number = NUMBERS[platform.machine()][name]
    result: int = LIBC.syscall(*map(ctypes.c_long, (number, *arguments)))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def opens(path: Path | str, flags: int = os.O_RDONLY) -> Act:
    return lambda: os.close(os.open(path, flags, 0o600))


def reads(path: Path | str) -> Act:
    def read() -> bytes:
        fd = os.open(path, os.O_RDONLY)
        try:
            return os.read(fd, 100)
        finally:
            os.close(fd)

    return read


# Files


class Tree:
    """A directory to read, one to write to, and one that is nobody's business."""

    def __init__(self, root: Path) -> None:
        self.ro, self.rw, self.outside = root / "ro", root / "rw", root / "outside"
        for directory in (self.ro, self.rw, self.outside):
            directory.mkdir()
            (directory / "file").write_text("content")
            (directory / "more").mkdir()
        for directory in (self.ro, self.rw):
            (directory / "link").symlink_to(self.outside / "file")
            (directory / "away").symlink_to(self.outside)
            (directory / "up").symlink_to("../outside")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.fixture(params=["no directory", "one to read", "one to write to", "one of each"])
def granted(request: pytest.FixtureRequest, tree: Tree) -> Grants:
    return grants(*_dirs(request.param, tree))


def _dirs(name: str, tree: Tree) -> list[tuple[Path, bool]]:
    ro, rw = (tree.ro, False), (tree.rw, True)
    return {"no directory": [], "one to read": [ro], "one to write to": [rw], "one of each": [ro, rw]}[name]


READING_ESCAPES: dict[str, Callable[[Tree], Act]] = {
    "absolute path": lambda tree: opens(tree.outside / "file"),
    "dots from a directory to read": lambda tree: opens(f"{tree.ro}/../outside/file"),
    "dots from a directory to write to": lambda tree: opens(f"{tree.rw}/more/../../outside/file"),
    "symlink": lambda tree: opens(tree.rw / "link"),
    "symlink to write through": lambda tree: opens(tree.rw / "link", os.O_WRONLY),
    "directory symlink": lambda tree: opens(tree.ro / "away" / "file"),
    "relative directory symlink": lambda tree: opens(tree.rw / "up" / "file"),
    "listing": lambda tree: lambda: os.listdir(tree.outside),
    "listing by a symlink": lambda tree: lambda: os.listdir(tree.rw / "away"),
    "the root": lambda tree: lambda: os.listdir("/"),
    "writing": lambda tree: opens(tree.outside / "file", os.O_WRONLY),
    "truncating": lambda tree: lambda: os.truncate(tree.outside / "file", 0),
    "truncating by a symlink": lambda tree: lambda: os.truncate(tree.rw / "link", 0),
    "creating": lambda tree: opens(tree.outside / "new", os.O_CREAT | os.O_WRONLY),
    "creating by a symlink": lambda tree: opens(tree.rw / "away" / "new", os.O_CREAT | os.O_WRONLY),
    "creating beside it": lambda tree: opens(f"{tree.rw}/../new", os.O_CREAT | os.O_WRONLY),
    "a temporary file": lambda tree: opens(tree.outside, os.O_TMPFILE | os.O_RDWR),
    "making a directory": lambda tree: lambda: os.mkdir(tree.outside / "new"),
    "making a symlink": lambda tree: lambda: os.symlink("file", tree.outside / "new"),
    "removing": lambda tree: lambda: os.unlink(tree.outside / "file"),
    "removing by a symlink": lambda tree: lambda: os.unlink(tree.rw / "away" / "file"),
    "removing a directory": lambda tree: lambda: os.rmdir(tree.outside / "more"),
    "removing what was granted": lambda tree: lambda: os.rmdir(tree.rw),
    "renaming": lambda tree: lambda: os.rename(tree.outside / "file", tree.outside / "new"),
    "fetching": lambda tree: lambda: os.rename(tree.outside / "file", tree.rw / "new"),
    "sending": lambda tree: lambda: os.rename(tree.rw / "file", tree.outside / "new"),
    "linking": lambda tree: lambda: os.link(tree.outside / "file", tree.rw / "new"),
    "changing a mode": lambda tree: lambda: os.chmod(tree.outside / "file", 0o777),
    "changing an owner": lambda tree: lambda: os.chown(tree.outside / "file", os.getuid(), os.getgid()),
    "setting an attribute": lambda tree: lambda: os.setxattr(tree.outside / "file", "user.a", b"1"),
    "reading the disk": lambda tree: opens("/proc/self/root/etc/passwd"),
    "writing to the own memory by name": lambda tree: opens("/proc/self/mem", os.O_RDWR),
    "a parent's environment": lambda tree: opens(f"/proc/{os.getppid()}/environ"),
    "a parent's memory": lambda tree: opens(f"/proc/{os.getppid()}/mem", os.O_RDWR),
}


@pytest.mark.parametrize("escape", READING_ESCAPES)
def test_no_way_leads_out_of_the_directories_that_were_granted(escape: str, granted: Grants, tree: Tree) -> None:
    inodes = {path: path.lstat().st_ino for path in sorted(tree.outside.parent.rglob("*"))}
    (said,) = inside(granted, READING_ESCAPES[escape](tree))
    assert said in ("EACCES", "EPERM", "EXDEV")
    assert {path: path.lstat().st_ino for path in sorted(tree.outside.parent.rglob("*"))} == inodes
    assert (tree.outside / "file").read_text() == "content"


def test_directory_to_read_can_be_read_and_not_changed(tree: Tree) -> None:
    said = inside(
        grants((tree.ro, False)),
        reads(tree.ro / "file"),
        lambda: sorted(os.listdir(tree.ro)),
        opens(tree.ro / "file", os.O_WRONLY),
        opens(tree.ro / "file", os.O_RDONLY | os.O_TRUNC),
        opens(tree.ro / "new", os.O_CREAT | os.O_WRONLY),
        lambda: os.truncate(tree.ro / "file", 0),
        lambda: os.unlink(tree.ro / "file"),
        lambda: os.rename(tree.ro / "file", tree.ro / "new"),
        lambda: os.mkdir(tree.ro / "new"),
    )
    assert said[:2] == [b"content", ["away", "file", "link", "more", "up"]]
    assert set(said[2:]) == {"EACCES"}


def test_directory_to_write_to_can_be_changed_all_through(tree: Tree) -> None:
    said = inside(
        grants((tree.rw, True)),
        reads(tree.rw / "file"),
        opens(tree.rw / "new", os.O_CREAT | os.O_RDWR),
        lambda: os.truncate(tree.rw / "new", 5),
        lambda: os.mkdir(tree.rw / "made"),
        lambda: os.symlink("file", tree.rw / "made" / "sym"),
        lambda: os.rename(tree.rw / "new", tree.rw / "made" / "moved"),
        lambda: os.link(tree.rw / "made" / "moved", tree.rw / "linked"),
        lambda: os.utime(tree.rw / "linked", (0, 0)),
        lambda: os.unlink(tree.rw / "file"),
        lambda: os.rmdir(tree.rw / "more"),
    )
    assert said == [b"content", *[None] * 9]
    assert (tree.rw / "made" / "moved").stat().st_size == 5


def test_nothing_that_others_wait_at_can_be_made(tree: Tree) -> None:
    assert inside(grants((tree.rw, True)), lambda: os.mkfifo(tree.rw / "pipe")) == ["EPERM"]
    only_landlock = grants((tree.rw, True), seccomp=False)
    assert inside(only_landlock, lambda: os.mkfifo(tree.rw / "pipe")) == ["EACCES"]


def test_programs_in_a_granted_directory_are_not_executed(tree: Tree) -> None:
    program = tree.rw / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    for seccomp, said in ((True, "EPERM"), (False, "EACCES")):
        assert inside(grants((tree.rw, True), seccomp=seccomp), lambda: os.execv(program, [str(program)])) == [said]


def test_readable_paths_can_be_read_and_missing_ones_are_skipped(tree: Tree) -> None:
    readable = [str(tree.outside / "file"), str(tree.ro), str(tree.outside / "none"), str(tree.outside / "file" / "x")]
    said = inside(
        grants(readable=readable),
        reads(tree.outside / "file"),
        reads(tree.ro / "file"),
        opens(tree.outside / "file", os.O_RDWR),
        opens(tree.ro / "new", os.O_CREAT | os.O_RDWR),
        lambda: os.listdir(tree.outside),
    )
    assert said == [b"content", b"content", "EACCES", "EACCES", "EACCES"]


def test_granted_directory_that_is_not_there_is_an_error_with_its_path(tree: Tree) -> None:
    def missing(path: Path) -> str:
        try:
            make_closer()(grants((path, False)))
        except OSError as error:
            return f"{errno.errorcode[error.errno or 0]} {error.filename}"
        return "closed"

    # In a child that has no sandbox yet, as a success would be for good.
    nothing = grants(landlock=0, seccomp=False)
    said = inside(nothing, lambda: missing(tree.outside / "none"), lambda: missing(tree.outside / "file"))
    assert said == [f"ENOENT {tree.outside / 'none'}", f"ENOTDIR {tree.outside / 'file'}"]


def test_what_was_open_before_stays_open(tree: Tree) -> None:
    fd = os.open(tree.outside / "file", os.O_RDWR)
    try:
        assert inside(grants(), lambda: os.pread(fd, 7, 0), lambda: os.pwrite(fd, b"C", 0)) == [b"content", 1]
    finally:
        os.close(fd)


def test_asking_about_a_file_by_its_name_is_not_covered(tree: Tree) -> None:
    # Landlock has no right for it. Whoever closes this one day changes this test, and the documentation.
    assert inside(grants(), lambda: os.stat(tree.outside / "file").st_size) == [7]


# Processes


PROCESSES: dict[str, Act] = {
    "fork": lambda: os.fork() or os._exit(3),
    "vfork": lambda: subprocess.call(["true"]),
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "kill a parent": lambda: os.kill(os.getppid(), 0),
    "kill a group": lambda: os.kill(0, 0),
    "kill everything": lambda: os.kill(-1, 0),
    "find a parent by a descriptor": lambda: os.close(call("pidfd_open", os.getppid(), 0)),
    "signal a thread of a parent": lambda: call("tgkill", os.getppid(), os.getppid(), 0),
}
ALWAYS_DENIED: dict[str, Act] = {
    "trace": lambda: call("ptrace", 0, 0, 0, 0),
    "trace a parent": lambda: call("ptrace", 16, os.getppid(), 0, 0),
    "clear the parent-death signal": lambda: call("prctl", 1, 0, 0, 0, 0),
    "stop being a subreaper": lambda: call("prctl", 36, 0, 0, 0, 0),
    "install a filter": lambda: call("seccomp", 1, 0, 0),
    "set a limit": lambda: call("setrlimit", resource.RLIMIT_CORE, 0),
    "set a parent's limit": lambda: call("prlimit64", os.getppid(), resource.RLIMIT_CORE, 8, 0),
    "take a namespace": lambda: call("unshare", 0x10000000),
    "be somebody else": lambda: os.setuid(os.getuid()),
    "be nicer": lambda: os.setpriority(os.PRIO_PROCESS, 0, 19),
    "write to a parent's memory": lambda: call("process_vm_writev", os.getppid(), 0, 0, 0, 0, 0),
    "have a ring of calls": lambda: call("io_uring_setup", 1, 0),
}


@pytest.mark.parametrize("what", PROCESSES)
def test_nothing_is_started_and_nobody_signalled(what: str) -> None:
    assert inside(grants(), PROCESSES[what]) == ["EPERM"]


@pytest.mark.parametrize("what", ALWAYS_DENIED)
def test_guards_and_limits_stay_on_whatever_is_allowed(what: str) -> None:
    assert inside(grants(), ALWAYS_DENIED[what]) == ["EPERM"]
    assert inside(grants(allow=ALLOWABLE), ALWAYS_DENIED[what]) == ["EPERM"]


def test_signals_are_scoped_by_landlock_alone_as_well() -> None:
    if SUPPORT.landlock < 6:
        pytest.skip("Landlock scopes signals from ABI 6 on")
    assert inside(grants(seccomp=False), PROCESSES["kill a parent"]) == ["EPERM"]


def test_timers_are_set_where_they_are_granted() -> None:
    def sets() -> None:
        signal.setitimer(signal.ITIMER_REAL, 1000)

    assert inside(grants(), sets, lambda: signal.alarm(1000) and None) == ["EPERM", None]
    assert inside(grants(may_set_timers=True), sets, lambda: signal.alarm(0)) == [None, 1000]


def test_own_signals_work() -> None:
    caught: list[int] = []

    def catches() -> list[int]:
        signal.signal(signal.SIGUSR1, lambda number, frame: caught.append(number))
        os.kill(os.getpid(), signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        return caught

    assert inside(grants(), catches) == [[signal.SIGUSR1] * 3]


def test_threads_start_and_get_the_sandbox_too(tree: Tree) -> None:
    def in_thread() -> list[object]:
        found: list[object] = []
        acts = (opens(tree.outside / "file"), socket.socket, reads(tree.ro / "file"))
        thread = threading.Thread(target=lambda: found.extend(map(outcome, acts)))
        thread.start()
        thread.join()
        return found

    assert inside(grants((tree.ro, False)), in_thread) == [["EACCES", "EPERM", b"content"]]


def test_thread_that_was_there_before_gets_the_filter_and_landlock_where_the_kernel_can(tree: Tree) -> None:
    closed, found = threading.Event(), []
    threads: list[threading.Thread] = []

    def waits() -> None:
        closed.wait()
        found.extend(map(outcome, (socket.socket, reads(tree.outside / "file"))))

    def starts() -> None:
        threads.append(threading.Thread(target=waits))
        threads[0].start()

    def ask() -> list[object]:
        closed.set()
        threads[0].join()
        return found

    expected = ["EPERM", "EACCES" if SUPPORT.landlock >= 8 else b"content"]
    assert inside(grants(), ask, before=starts) == [expected]


def test_memory_is_mapped_and_protected_as_engines_do() -> None:
    def maps() -> int:
        with mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as memory:
            memory[0] = 1
        fd = os.memfd_create("code")
        os.ftruncate(fd, 4096)
        with mmap.mmap(fd, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC):
            os.close(fd)
        return len(os.urandom(8))

    assert inside(grants(), maps) == [8]


def test_processes_are_started_and_signalled_where_that_is_allowed() -> None:
    def forks() -> int:
        child = os.fork()
        if child == 0:
            signal.pause()
        os.kill(child, signal.SIGKILL)
        return os.waitpid(child, 0)[1]

    allowed = grants(allow=["processes"], readable=["/"])
    said = inside(
        allowed,
        forks,
        lambda: subprocess.call(["true"]),
        lambda: subprocess.call(["true"], start_new_session=True),
        PROCESSES["kill a parent"],
        socket.socket,
    )
    assert said == [9, 0, 0, None, "EPERM"]


# The network


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def abstract() -> Iterator[str]:
    name = f"\0procstop-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        yield name


def connects(address: Any, family: int = socket.AF_INET) -> Act:
    def connect() -> None:
        with socket.socket(family) as client:
            client.connect(address)

    return connect


def binds() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))


def test_no_connection_is_made(listener: socket.socket, abstract: str) -> None:
    acts = (connects(listener.getsockname()), connects(abstract, socket.AF_UNIX), binds)
    assert inside(grants(), *acts) == ["EPERM"] * 3
    assert inside(grants(allow=["files", "processes"]), *acts) == ["EPERM"] * 3
    # A local socket is somebody's file.
    assert inside(grants(allow=["network"]), *acts) == [None, "EPERM", None]
    assert inside(grants(allow=["network", "files"]), *acts) == [None] * 3


def test_no_connection_is_made_by_landlock_alone_either(listener: socket.socket, abstract: str) -> None:
    if SUPPORT.landlock < 6:
        pytest.skip("Landlock scopes local sockets from ABI 6 on")
    acts = (connects(listener.getsockname()), connects(abstract, socket.AF_UNIX), binds)
    assert inside(grants(seccomp=False), *acts) == ["EACCES", "EPERM", "EACCES"]


def test_pair_of_sockets_is_made_but_reaches_nobody_else(tmp_path: Path) -> None:
    address = str(tmp_path / "socket")

    def pair() -> list[object]:
        one, other = socket.socketpair(type=socket.SOCK_DGRAM)
        with one, other:
            one.send(b"word")
            return [other.recv(10), outcome(lambda: one.sendto(b"word", address))]

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(address)
        assert inside(grants(), pair) == [[b"word", "EPERM"]]
        assert inside(grants(allow=["network"]), pair, socket.socketpair) == ["EPERM", None]
        assert inside(grants(allow=["network", "files"]), pair) == [[b"word", 4]]


def test_files_are_open_and_nothing_else_where_they_are_allowed(tree: Tree) -> None:
    allowed = grants(allow=["files"])
    said = inside(
        allowed,
        reads(tree.outside / "file"),
        lambda: os.chmod(tree.outside / "file", 0o600),
        lambda: os.mkfifo(tree.outside / "pipe"),
        lambda: os.unlink(tree.outside / "file"),
        PROCESSES["exec"],
        socket.socket,
        opens(f"/proc/{os.getpid()}/mem"),
    )
    assert said == [b"content", None, None, None, "EPERM", "EPERM", "EACCES"]


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6000], ids=oct)
def test_no_file_is_made_that_lends_the_rights_of_its_owner(tree: Tree, mode: int) -> None:
    def makes(flags: int) -> Act:
        return lambda: os.close(os.open(tree.rw / "new", os.O_WRONLY | flags, mode))

    writable = (tree.rw, True)
    assert inside(grants(writable), makes(os.O_CREAT), makes(os.O_CREAT | os.O_EXCL)) == ["EPERM"] * 2
    (tree.rw / "new").touch()
    # Of what is there the mode stays as it is.
    assert inside(grants(writable), makes(0)) == [None]
    assert inside(grants(writable, allow=["files"]), makes(os.O_CREAT)) == [None]


def test_no_memory_is_taken_that_nobody_counts() -> None:
    def takes(flags: int) -> Act:
        return lambda: mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | flags).close()

    assert inside(grants(allow=ALLOWABLE), takes(0), takes(0x100)) == [None, "EPERM"]


# The lifeline


def shut_down(fd: int) -> None:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=fd)
    try:
        one.shutdown(socket.SHUT_RDWR)
    finally:
        one.detach()


KEPT: dict[str, Callable[[int, int], Act]] = {
    "close": lambda fd, other: lambda: os.close(fd),
    "replace": lambda fd, other: lambda: os.dup2(other, fd),
    "duplicate": lambda fd, other: lambda: os.close(os.dup(fd)),
    "duplicate by dup2": lambda fd, other: lambda: os.dup2(fd, other),
    "duplicate by fcntl": lambda fd, other: lambda: fcntl.fcntl(fd, fcntl.F_DUPFD, 100),
    "flags": lambda fd, other: lambda: fcntl.fcntl(fd, fcntl.F_SETFL, 0),
    "owner": lambda fd, other: lambda: fcntl.fcntl(fd, fcntl.F_SETOWN, 0),
    "signal": lambda fd, other: lambda: fcntl.fcntl(fd, 10, 0),
    "no signals": lambda fd, other: lambda: fcntl.ioctl(fd, 0x5452, b"\0\0\0\0"),
    "owner by ioctl": lambda fd, other: lambda: fcntl.ioctl(fd, 0x8901, b"\0\0\0\0"),
    "shut down": lambda fd, other: lambda: shut_down(fd),
    "another's owner": lambda fd, other: lambda: fcntl.fcntl(other, fcntl.F_SETOWN, os.getpid()),
}


@pytest.fixture
def lifeline() -> Iterator[tuple[int, int]]:
    both = make_lifeline()
    yield both
    for fd in both:
        with contextlib.suppress(OSError):
            os.close(fd)


@pytest.mark.parametrize("what", KEPT)
def test_lifeline_stays_as_it_is(what: str, lifeline: tuple[int, int]) -> None:
    for allow in ((), ALLOWABLE):
        assert inside(grants(keep=[lifeline[0]], allow=allow), KEPT[what](*lifeline)) == ["EPERM"]


def test_lifeline_is_not_opened_again(lifeline: tuple[int, int]) -> None:
    """A pipe can be, by whoever has the reading end: to write to it, or to hold it open."""
    fd, _ = lifeline
    again = opens(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK)
    assert inside(grants(keep=[fd], allow=ALLOWABLE), again) == ["ENXIO"]


def test_lifeline_is_not_sent_to_oneself(lifeline: tuple[int, int]) -> None:
    def sends() -> None:
        one, other = socket.socketpair()
        with one, other:
            socket.send_fds(one, [b"x"], [lifeline[0]])

    assert inside(grants(keep=[lifeline[0]]), sends) == ["EPERM"]


def test_closing_a_range_passes_over_the_lifeline(lifeline: tuple[int, int]) -> None:
    fd, other = lifeline

    def closes() -> list[object]:
        os.closerange(fd, other + 1)
        return [outcome(functools.partial(os.fstat, one)) for one in lifeline]

    assert inside(grants(keep=[fd]), closes) == [[None, "EBADF"]]


def test_cutting_the_lifeline_kills_across_the_sandbox(lifeline: tuple[int, int]) -> None:
    read, write = lifeline
    close = make_closer()
    ready, say = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(write)
            fcntl.fcntl(read, 10, signal.SIGKILL)
            fcntl.fcntl(read, fcntl.F_SETOWN, os.getpid())
            fcntl.fcntl(read, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
            close(grants(keep=[read]))
            for act in KEPT.values():
                outcome(act(read, ready))
            os.write(say, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(say)
    with open(ready, "rb", buffering=0) as pipe:
        assert pipe.read(1) == b"x"
        os.close(write)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL


# Engines


WASMER = """
import wasmer
from wasmer import engine
from wasmer_compiler_cranelift import Compiler
store = wasmer.Store(engine.Universal(Compiler))
def use(data):
    exports = wasmer.Instance(wasmer.Module(store, data)).exports
    return exports.add, exports.trap
binary = wasmer.wat2wasm(TEXT)
"""
WASMTIME = """
import wasmtime
store = wasmtime.Store()
def use(data):
    exports = wasmtime.Instance(store, wasmtime.Module(store.engine, data), []).exports(store)
    return (lambda *args: exports["add"](store, *args)), (lambda: exports["trap"](store))
binary = wasmtime.wat2wasm(TEXT)
"""
SCRIPT = """
import os, sys
from procstop.sandbox import Grants, make_closer, probe
TEXT = '''(module (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add)
    (func (export "trap") unreachable))'''
{engine}
support = probe()
make_closer()(Grants(support.landlock, support.seccomp, [], keep_fds=[0]))
add, trap = use(binary)
for turn in range(3):
    assert add(1, 7) == 8
    try:
        trap()
    except Exception as error:
        assert "unreachable" in str(error), error
    else:
        sys.exit("it did not trap")
try:
    os.fork()
except PermissionError:
    print("fine")
"""


def test_engine_compiles_runs_and_traps_in_the_sandbox(engine: str) -> None:
    script = SCRIPT.replace("{engine}", WASMER if engine == "wasmer" else WASMTIME)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


ROOT = Path(__file__).parents[2]
