"""For all unit tests: generated examples take the time that they take, and nothing stays open."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no reason to fail: the time of one example says nothing about it.
settings.register_profile("procstop", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("procstop")


def open_descriptors() -> dict[str, str]:
    """Every descriptor of this process and what it is."""
    found = {}
    for fd in os.listdir("/dev/fd"):
        try:
            found[fd] = os.readlink(f"/dev/fd/{fd}")
        except OSError:
            continue  # The listing itself had it open, or it is not a link on this system.
    return found


@pytest.fixture(autouse=True)
def no_leaked_descriptor() -> Iterator[None]:
    before = open_descriptors()
    yield
    leaked = {fd: what for fd, what in open_descriptors().items() if before.get(fd) != what}
    if leaked:
        # What a finished generator or an exception's frame still holds is not lost.
        gc.collect()
        leaked = {fd: what for fd, what in open_descriptors().items() if before.get(fd) != what}
    assert not leaked
