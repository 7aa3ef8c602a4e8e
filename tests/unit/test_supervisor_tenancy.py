"""What runs of one process share."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from procstop import linux
from procstop.supervisor import tenancy


@pytest.fixture
def few() -> Iterator[int]:
    """Have this process start from few descriptors."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, before[1]))
    yield 300
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def soft() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_run_may_open_more_files_while_it_goes_on(few: int) -> None:
    tenancy.enter(20)
    try:
        assert soft() > few
        assert linux.is_child_subreaper() == linux.ON_LINUX
    finally:
        tenancy.leave()
    assert soft() == few


def test_run_that_needs_no_more_changes_nothing(few: int) -> None:
    tenancy.enter(1)
    tenancy.leave()
    assert soft() == few


@pytest.mark.parametrize("order", [(20, 30), (30, 20)], ids=["more later", "less later"])
def test_run_that_ends_leaves_another_its_files(few: int, order: tuple[int, int]) -> None:
    for concurrency in order:
        tenancy.enter(concurrency)
    tenancy.leave()
    try:
        assert soft() == 256 + 8 * 30
        assert linux.is_child_subreaper() == linux.ON_LINUX
    finally:
        tenancy.leave()
    assert soft() == few
    assert not linux.is_child_subreaper()
