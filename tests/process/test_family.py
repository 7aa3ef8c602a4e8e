"""Children of this process: which are a run's orphans, and which are none of its business."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from procstop.linux import CORE_BYTES
from procstop.supervisor import family
from procstop.supervisor.family import Family
from support.watching import process_state, wait_until


@pytest.fixture
def own() -> Iterator[Family]:
    """The family of a run of this program, which has children of its own, and where nobody owes an answer."""
    with contextlib.closing(Family("RUN", False, lambda: frozenset())) as made:
        yield made


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (CORE_BYTES, CORE_BYTES))


def make(code: str, limit: Callable[[], None] | None) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, without any mark in its environment."""
    command = [sys.executable, "-S", "-c", code]
    return subprocess.Popen(command, env={}, start_new_session=True, preexec_fn=limit)


def until_clear(own: Family) -> None:
    wait_until(lambda: not own.clear_orphans(), "no orphan is left")


@pytest.mark.parametrize("code", ["pass", "import time; time.sleep(1e6)"], ids=["zombie", "alive"])
def test_child_with_the_limit_of_workers_is_an_orphan(own: Family, code: str) -> None:
    with make(code, limited) as child:
        if code == "pass":
            wait_until(lambda: process_state(child.pid) == "Z", "it is a zombie")
        until_clear(own)
        assert not psutil.pid_exists(child.pid)


@pytest.mark.parametrize("code", ["pass", "import time; time.sleep(1e6)"], ids=["zombie", "alive"])
def test_child_without_it_is_left_alone(own: Family, code: str) -> None:
    with make(code, None) as child:
        if code == "pass":
            wait_until(lambda: process_state(child.pid) == "Z", "it is a zombie")
        until_clear(own)
        assert psutil.pid_exists(child.pid)
        child.kill()


def test_child_that_another_run_may_not_know_yet_is_left_to_it(own: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Family("OTHER", False, lambda: frozenset())
    with contextlib.closing(other), make("import time; time.sleep(1e6)", limited) as child:
        until_clear(own)
        assert process_state(child.pid) != "Z"
        monkeypatch.setattr(family, "_KNOWN_BY_THEN_S", 0.0)
        other.add(child.pid)
        until_clear(own)
        assert process_state(child.pid) != "Z"
        other.remove(child.pid)
        # As old as a run has had time to know it.
        wait_until(lambda: time.time() > psutil.Process(child.pid).create_time(), "it is older than that")
        until_clear(own)
        assert not psutil.pid_exists(child.pid)


def test_process_that_has_the_limit_itself_knows_nobody_by_it() -> None:
    code = """if True:
        import resource, subprocess, sys
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
        from procstop.supervisor.family import Family
        child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, env={})
        assert not Family("RUN", False, lambda: frozenset()).clear_orphans()
        assert child.poll() is None
        child.communicate(b"\\n")
    """
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
