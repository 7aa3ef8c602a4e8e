"""Ids of runs are ULIDs."""

from __future__ import annotations

import re

import pytest

from procstop.supervisor import runid
from procstop.supervisor.runid import new_run_id


def test_id_is_a_ulid() -> None:
    assert re.fullmatch(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", new_run_id())


def test_two_ids_never_meet() -> None:
    assert len({new_run_id() for _ in range(5000)}) == 5000


@pytest.mark.parametrize(
    ("milliseconds", "chance", "text"),
    [
        (0, 0, "0" * 26),
        (0, 2**80 - 1, "0" * 10 + "Z" * 16),
        (2**48 - 1, 2**80 - 1, "7" + "Z" * 25),
        # The example of the specification: 01ARZ3NDEK is its time.
        (1469922850259, 0, "01ARZ3NDEK" + "0" * 16),
    ],
)
def test_time_comes_first_and_then_chance(
    monkeypatch: pytest.MonkeyPatch, milliseconds: int, chance: int, text: str
) -> None:
    monkeypatch.setattr(runid.time, "time_ns", lambda: milliseconds * 1_000_000 + 999_999)
    monkeypatch.setattr(runid.secrets, "randbits", lambda bits: chance if bits == 80 else 0)
    assert new_run_id() == text


def test_later_ids_sort_later(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = []
    for milliseconds in (1, 31, 32, 1023, 1024, 10**12, 2**47):
        monkeypatch.setattr(runid.time, "time_ns", lambda ms=milliseconds: ms * 1_000_000)
        ids.append(new_run_id())
    assert ids == sorted(ids)
