"""Fixtures for every test: the engines, the guests, and a check that nothing is left behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from procstop.preflight import engine_status
from support.command import Procstop
from support.guests import Guests
from support.leaks import Belongings, left_behind


@pytest.fixture(scope="session")
def temporary_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where procstop and its workers make temporary files, if they make any."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="session", autouse=True)
def _own_surroundings(tmp_path_factory: pytest.TempPathFactory, temporary_directory: Path) -> Iterator[None]:
    """Keep the tester's configuration, terminal and temporary files out of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("TMPDIR", str(temporary_directory))
        patch.setattr(tempfile, "tempdir", str(temporary_directory))
        for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "PROCSTOP_DEBUG", "PROCSTOP_ATTEMPT"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(autouse=True)
def _nothing_left_behind(temporary_directory: Path) -> Iterator[None]:
    """Fail a test that leaves a child, a descriptor, a thread or a temporary file."""
    before = Belongings.now(temporary_directory)
    yield
    left = left_behind(before, temporary_directory)
    assert not left, "the test left behind:\n" + "\n".join(left)


@pytest.fixture(params=["wasmer", "wasmtime"])
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine in turn; one that is not here is skipped with the reason."""
    name: str = request.param
    status = engine_status()[name]
    if status.why_not is not None:
        pytest.skip(f"{name}: {status.why_not}")
    return name


@pytest.fixture(scope="session")
def guests(tmp_path_factory: pytest.TempPathFactory) -> Guests:
    """The guests of tests/guests and of the selftest by name, and those that are made when they are asked for."""
    return Guests(tmp_path_factory.mktemp("guests"))


@pytest.fixture
def procstop_command(tmp_path: Path) -> Iterator[Procstop]:
    """The command, in a directory of the test's own; what still runs at the end of the test is killed."""
    with Procstop(tmp_path) as command:
        yield command


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a file in the test's directory and return its path."""

    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write_file


def pytest_report_header() -> list[str]:
    """Say which engines the tests run on."""
    states = [f"{name} {one.version or 'missing: ' + str(one.why_not)}" for name, one in engine_status().items()]
    return [f"engines: {'; '.join(states)}; cpus: {os.cpu_count()}"]
