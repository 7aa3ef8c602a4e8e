"""The parts of `process` that need no process; the rest is in tests/process."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from procstop import guardian, process
from procstop.process import PACKAGE_ROOT, TOKEN, Ended, Worker, file_of, python_command, readable, remove_orphans


class FakePopen:
    returncode: int | None = None


class FakeProcess:
    """As much of psutil's process as `owns` asks for."""

    def __init__(self, pid: int, environ: dict[str, str] | Exception) -> None:
        self.pid = pid
        self._environ = environ

    def environ(self) -> dict[str, str]:
        if isinstance(self._environ, Exception):
            raise self._environ
        return self._environ


def worker(pid: int, **more: Any) -> Worker:
    return Worker(pid, None, FakePopen(), "token-1", -1, -1, -1, -1, **more)  # type: ignore[arg-type]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    for fd in (read, write):
        try:
            os.close(fd)
        except OSError:
            pass


@pytest.mark.parametrize("data", [b"", b"order", b"x" * 300_000])
@pytest.mark.parametrize("in_memory", [True, False])
def test_file_holds_its_data_from_the_start(monkeypatch: pytest.MonkeyPatch, data: bytes, in_memory: bool) -> None:
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    with file_of(data) as file:
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 0
        assert os.read(file.fileno(), 1 << 20) == data
        assert os.fstat(file.fileno()).st_nlink == 0
        # A child gets it only if it is passed on.
        assert not os.get_inheritable(file.fileno())


def test_file_is_closed_once() -> None:
    file = file_of(b"x")
    fd = file.fileno()
    file.close()
    file.close()
    with pytest.raises(OSError):
        os.fstat(fd)


def test_pipe_is_readable_when_something_came_and_at_its_end(pipe: tuple[int, int]) -> None:
    read, write = pipe
    assert not readable(read)
    os.write(write, b"x")
    assert readable(read)
    os.read(read, 1)
    assert not readable(read)
    os.close(write)
    assert readable(read)


def test_child_starts_without_site_packages_and_finds_this_package() -> None:
    command = python_command("worker")
    assert {"-I", "-S"} <= set(command[1:-1]) and command[-2] == "-c"
    assert repr(PACKAGE_ROOT) in command[-1] and "from procstop.worker import main" in command[-1]
    assert os.path.isfile(os.path.join(PACKAGE_ROOT, "procstop", "worker", "__init__.py"))
    compile(command[-1], "boot", "exec")


def test_child_that_somebody_else_reaped_has_ended() -> None:
    # Our own pid is no child of ours, so there is nothing to wait for.
    one = worker(os.getpid())
    assert one.reap() == Ended(None, None, None)
    assert one.popen.returncode == 0


def test_worker_that_was_reaped_is_never_signalled() -> None:
    # Its number may be another's by now: here it is our own.
    one = worker(os.getpid(), ended=Ended(("exit", 0), 0.0, None))
    for stop in (one.terminate, one.kill, one.pause, one.resume, lambda: one.signal(signal.SIGKILL)):
        stop()
    assert one.descendants() == []


def test_closing_a_worker_twice_closes_nobody_elses_files() -> None:
    ends = [*os.pipe(), *os.pipe()]
    one = worker(1)
    one.control, one.report, one.stdout, one.stderr = ends
    one.close()
    assert (one.control, one.report, one.stdout, one.stderr, one.pidfd) == (-1, -1, -1, -1, None)
    again = os.pipe()
    one.close()
    for fd in again:
        os.close(fd)


@pytest.mark.parametrize(
    ("environ", "owned"),
    [
        ({TOKEN: "token-1"}, True),
        ({TOKEN: "token-11"}, False),
        ({}, False),
        (psutil.AccessDenied(1), False),
        (psutil.NoSuchProcess(1), False),
        (PermissionError(), False),
    ],
)
def test_orphan_is_known_by_its_token(environ: dict[str, str] | Exception, owned: bool) -> None:
    orphan = FakeProcess(os.getpid(), environ)
    assert worker(2**22 + 1).owns(orphan) is owned  # type: ignore[arg-type]


def test_guardian_knows_by_the_same_mark_as_everybody_else() -> None:
    # It is imported without its package, and so has to spell it by itself.
    assert f"{TOKEN}=".encode() == guardian.MARK


def test_orphan_is_known_by_its_session() -> None:
    orphan = FakeProcess(os.getpid(), {})
    assert worker(os.getsid(0)).owns(orphan)  # type: ignore[arg-type]


def test_orphan_that_was_seen_before_is_known_but_not_another_with_its_number() -> None:
    own, parent = psutil.Process(), psutil.Process(os.getppid())
    seen = worker(2**22 + 1, _seen={own.pid: own})
    assert seen.owns(own)
    confused = worker(2**22 + 1, _seen={own.pid: parent})
    assert not confused.owns(FakeProcess(own.pid, {}))  # type: ignore[arg-type]


def test_orphan_that_is_gone_is_nobodys() -> None:
    orphan = FakeProcess(2**22 + 7, psutil.NoSuchProcess(2**22 + 7))
    assert not worker(1).owns(orphan)  # type: ignore[arg-type]


def test_signal_to_what_is_gone_does_nothing() -> None:
    gone = psutil.Process()
    gone._pid = 2**22 + 7
    process.send(gone, signal.SIGKILL)


def test_removing_no_orphans_does_nothing() -> None:
    remove_orphans([])


def test_memory_of_a_worker_is_read_while_it_lives() -> None:
    peak = worker(os.getpid()).peak_memory_bytes()
    assert peak is None or peak > 1 << 20
    assert worker(2**22 + 7).peak_memory_bytes() is None


def test_no_temporary_file_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with file_of(b"x"):
        assert list(tmp_path.iterdir()) == []
