"""Medians and tails. No I/O."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """What is kept of many samples: how many, the middle, and the tail that hurts."""

    count: int
    median: float
    tail: float


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the smallest sample that at least `share` of all samples do not exceed (the nearest rank)."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def summarize(samples: Sequence[float], *, more_is_better: bool = False) -> Summary:
    """Sum up samples; the tail is the 99th percentile, or the 1st where more is better."""
    return Summary(len(samples), statistics.median(samples), percentile(samples, 0.01 if more_is_better else 0.99))
