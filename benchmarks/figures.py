"""What a measurement brings back, as plain data that travels between processes as JSON. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

UNITS = ("s", "tasks/s", "ns", "MiB", "x", "count", "answer")
"""Seconds are shown as milliseconds; a count and an answer have no tail."""


@dataclass(frozen=True)
class Figures:
    """Samples of one thing. `answer` stands in for them where there is nothing to count; `never` says it had no end."""

    unit: str
    samples: tuple[float, ...] = ()
    answer: str | None = None
    never: bool = False
    note: str = ""
    label: str = ""
    """What sets it apart from the other figures of the same contender and row."""

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"unit must be one of {', '.join(UNITS)}, got {self.unit!r}")

    @property
    def empty(self) -> bool:
        """Tell whether nothing was measured."""
        return not self.samples and self.answer is None and not self.never


@dataclass(frozen=True)
class Result:
    """One line of the table: the figures of a contender in a row; `floor_s` is the floor beside them, in seconds."""

    row: str
    who: str
    figures: Figures
    floor_s: float | None = None


@dataclass(frozen=True)
class Report:
    """Everything that one run found out."""

    results: tuple[Result, ...]
    floor: Figures
    machine: tuple[tuple[str, str], ...] = ()
    missing: tuple[tuple[str, str], ...] = field(default=())
    """Who, or whose row, was not measured, and why or how to install it."""


def to_json(figures: Figures) -> dict[str, Any]:
    """Return it as what JSON knows."""
    return asdict(figures)


def from_json(data: Mapping[str, Any]) -> Figures:
    """Return what `to_json` was given."""
    return Figures(**{**data, "samples": tuple(data["samples"])})
