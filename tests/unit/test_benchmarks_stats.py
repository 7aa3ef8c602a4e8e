"""Medians, tails, and figures on their way between processes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import Figures, from_json, to_json
from benchmarks.machine import kernel
from benchmarks.stats import percentile, summarize

samples = st.lists(st.floats(min_value=0, max_value=1e6), min_size=1, max_size=300)


@given(samples)
def test_tail_is_a_sample_and_not_below_the_middle(values: list[float]) -> None:
    summary = summarize(values)
    assert summary.count == len(values)
    assert summary.tail in values
    assert percentile(values, 0.5) <= summary.tail <= max(values)


@given(samples)
def test_tail_is_the_low_end_where_more_is_better(values: list[float]) -> None:
    assert min(values) <= summarize(values, more_is_better=True).tail <= percentile(values, 0.5)


@given(samples, st.floats(min_value=0, max_value=1))
def test_enough_samples_are_at_most_the_percentile(values: list[float], share: float) -> None:
    least = percentile(values, share)
    assert sum(value <= least for value in values) >= share * len(values)


@pytest.mark.parametrize(("count", "tail"), [(1, 1.0), (50, 50.0), (100, 99.0), (1000, 990.0)])
def test_99th_percentile_is_the_nearest_rank(count: int, tail: float) -> None:
    assert summarize([float(number) for number in range(1, count + 1)]).tail == tail


@pytest.mark.parametrize(
    "figures",
    [
        Figures("s", (0.1, 0.2), note="so it is", label="again"),
        Figures("answer", answer="yes"),
        Figures("s", never=True),
        Figures("count", (0,)),
    ],
)
def test_figures_come_back_as_they_were_sent(figures: Figures) -> None:
    assert from_json(json.loads(json.dumps(to_json(figures)))) == figures


def test_unknown_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="unit must be one of"):
        Figures("hours", (1,))


@pytest.mark.parametrize(
    ("release", "shown"), [("6.18.44-somebodys-own", "6.18.44"), ("23.1.0", "23.1.0"), ("rolling", "rolling")]
)
def test_kernel_is_known_by_its_version_only(release: str, shown: str) -> None:
    assert kernel(release) == shown
