"""A cache that several processes use, some of which are killed in the middle of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from procstop.cache import Cache, read_whole, unseal
from support.places import ROOT, SUPPORT, WAIT_S
from support.storing import content
from support.watching import wait_until

NAME = "wasmer-0123456789abcdef"


@contextlib.contextmanager
def storing(*args: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that uses a cache; it is killed at the end of the block."""
    popen = subprocess.Popen(
        [sys.executable, str(SUPPORT / "storing.py"), *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        bufsize=0,
    )
    try:
        yield popen
    finally:
        popen.kill()
        popen.wait(WAIT_S)
        for stream in (popen.stdin, popen.stdout):
            if stream is not None:
                stream.close()


def hear(process: subprocess.Popen[bytes]) -> str:
    """Wait for a line of what a process says."""
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


@pytest.mark.parametrize("how", ["unnamed", "named"])
def test_killed_writer_leaves_a_whole_artifact_or_none(tmp_path: Path, how: str) -> None:
    random = Random(7)
    store = Cache(str(tmp_path / "cache"))
    secret = store.secret()
    for trial in range(20):
        if trial % 3 == 0:
            store.remove(NAME)
        with storing("store", store.directory, NAME, how) as writer:
            # It is somewhere in the middle of the next when it is killed.
            for _ in range(random.randint(1 if trial % 3 else 0, 12)):
                assert hear(writer)
        fd = store.open(NAME)
        if fd is not None:
            artifact = bytes(unseal(secret, NAME, read_whole(fd)))
            os.close(fd)
            assert artifact in [content(number) for number in range(10)]
        assert trial % 3 == 0 or fd is not None
        left = set(os.listdir(store.directory)) - {"secret", f"{NAME}.artifact"}
        assert len(left) <= 1 and all(name.startswith(".new-") for name in left)
        for name in left:
            # As if an hour had gone by.
            os.utime(os.path.join(store.directory, name), (1000, 1000))
        store.prune()
        assert set(os.listdir(store.directory)) <= {"secret", f"{NAME}.artifact"}


def test_several_writers_do_not_disturb_each_other(tmp_path: Path) -> None:
    store = Cache(str(tmp_path / "cache"))
    with contextlib.ExitStack() as stack:
        # They make the directory and the secret side by side, too.
        writers = [
            stack.enter_context(storing("store", store.directory, NAME, how))
            for how in ("unnamed", "unnamed", "named", "named")
        ]
        for writer in writers:
            assert hear(writer)
        secret = store.secret()
        for _ in range(50):
            hear(writers[0])
            fd = store.open(NAME)
            assert fd is not None
            assert len(unseal(secret, NAME, read_whole(fd))) == len(content(0))
            os.close(fd)


def waits_for_lock(pid: int) -> bool:
    """Tell whether the kernel has a process wait for a lock."""
    with open("/proc/locks") as locks:
        return any("->" in line and f" {pid} " in line for line in locks)


@pytest.mark.parametrize("end", ["lets go", "is killed"])
def test_lock_keeps_a_second_process_waiting_until_the_first_is_done(tmp_path: Path, end: str) -> None:
    directory = str(tmp_path / "cache")
    with storing("lock", directory, NAME) as first:
        assert (hear(first), hear(first)) == ("wants it", "has it")
        with storing("lock", directory, NAME) as second, storing("lock", directory, "another") as third:
            assert hear(second) == "wants it"
            wait_until(lambda: waits_for_lock(second.pid), "the second waits for the lock")
            # What is made under another name is nobody's business.
            assert (hear(third), hear(third)) == ("wants it", "has it")
            assert waits_for_lock(second.pid)
            if end == "is killed":
                first.send_signal(signal.SIGKILL)
            else:
                assert first.stdin is not None
                first.stdin.close()
            assert hear(second) == "has it"


def test_lock_of_a_process_that_stands_still_is_kept(tmp_path: Path) -> None:
    directory = str(tmp_path / "cache")
    with storing("lock", directory, NAME) as first:
        assert (hear(first), hear(first)) == ("wants it", "has it")
        first.send_signal(signal.SIGSTOP)
        with storing("lock", directory, NAME) as second:
            assert hear(second) == "wants it"
            wait_until(lambda: waits_for_lock(second.pid), "the second waits for the lock")
            first.send_signal(signal.SIGKILL)
            assert hear(second) == "has it"
