"""Where procstop starts, and what it says where it does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from procstop.errors import ProcstopError
from procstop.platforms import UnsupportedPlatform, check_platform


@pytest.mark.parametrize("platform", ["win32", "cygwin"])
def test_windows_is_refused_with_what_to_do(platform: str) -> None:
    with pytest.raises(UnsupportedPlatform, match="use Linux, macOS or the Windows Subsystem for Linux") as caught:
        check_platform(platform)
    assert isinstance(caught.value, ProcstopError)


@pytest.mark.parametrize("platform", ["darwin", "freebsd14"])
def test_posix_is_not(platform: str) -> None:
    check_platform(platform)


def test_linux_that_does_not_tell_of_processes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedPlatform, match=r"is not mounted here, .*; mount it: mount -t proc proc"):
        check_platform("linux", str(tmp_path))


def test_linux_that_tells_of_the_processes_of_others_is_refused(tmp_path: Path) -> None:
    """As after `unshare --pid --fork` without `--mount-proc`: the pids in there are not ours to signal."""
    (tmp_path / "self").symlink_to(str(os.getpid() + 1))
    with pytest.raises(UnsupportedPlatform, match="tells of another PID namespace than this one"):
        check_platform("linux", str(tmp_path))
    (tmp_path / "self").unlink()
    (tmp_path / "self").symlink_to(str(os.getpid()))
    check_platform("linux", str(tmp_path))


def test_this_platform_is_fine() -> None:
    check_platform()
