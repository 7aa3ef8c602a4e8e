"""Where procstop starts, and what it says where it does not."""

from __future__ import annotations

import pytest

from procstop.errors import ProcstopError
from procstop.platforms import UnsupportedPlatform, check_platform


@pytest.mark.parametrize("platform", ["win32", "cygwin"])
def test_windows_is_refused_with_what_to_do(platform: str) -> None:
    with pytest.raises(UnsupportedPlatform, match="use Linux, macOS or the Windows Subsystem for Linux") as caught:
        check_platform(platform)
    assert isinstance(caught.value, ProcstopError)


@pytest.mark.parametrize("platform", ["linux", "darwin", "freebsd14"])
def test_posix_is_not(platform: str) -> None:
    check_platform(platform)


def test_this_platform_is_fine() -> None:
    check_platform()
