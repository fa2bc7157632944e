"""Quantiles and shares of Prometheus' histograms."""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.metrics import SECONDS
from worker.watching.histogram import Histogram, Quantile

VALUES = st.lists(st.floats(0, 20, allow_nan=False), min_size=1, max_size=200)
SHARES = st.floats(0.01, 0.999)


def told(values: list[float], bounds: tuple[float, ...] = SECONDS) -> Histogram:
    """As a histogram would be that was told these values."""
    counts = [0] * (len(bounds) + 1)
    for value in values:
        counts[bisect_left(bounds, value)] += 1
    return Histogram.of(zip((*bounds, math.inf), map(float, accumulate(counts)), strict=True), sum(values))


@given(VALUES, SHARES)
def test_a_quantile_lies_in_the_bucket_of_the_true_one(values: list[float], share: float):
    """Whatever the values: the bucket in which so many of them lie is the right one."""
    true = sorted(values)[math.ceil(share * len(values) - 1e-9) - 1]
    found = told(values).quantile(share)
    assert found is not None
    place = bisect_left(SECONDS, true)
    if place == len(SECONDS):
        assert found == Quantile(SECONDS[-1], beyond=True)
    else:
        lower = SECONDS[place - 1] if place else 0.0
        assert lower <= found.value <= SECONDS[place]
        assert not found.beyond


@given(VALUES)
def test_quantiles_do_not_fall(values: list[float]):
    """p50 is at most p95, and that at most p99."""
    found = [told(values).quantile(share) for share in (0.5, 0.95, 0.99)]
    assert all(one is not None for one in found)
    assert [one.value for one in found] == sorted(one.value for one in found)


def test_it_is_what_prometheus_computes():
    """By interpolation, as `histogram_quantile` does: 3 of 4 in (1, 2], so the half is a third of the way."""
    assert Histogram.of([(1, 1), (2, 4), (math.inf, 4)], 6.0).quantile(0.5) == Quantile(1 + 1 / 3)


def test_nothing_is_said_of_nothing():
    """Without values there are neither quantiles nor a mean nor shares."""
    for empty in (Histogram(), told([])):
        assert (empty.quantile(0.5), empty.mean, empty.shares()) == (None, None, {})


def test_beyond_the_last_bound_only_that_is_known():
    """All above 10 s: at least 10 s."""
    assert told([30.0, 40.0]).quantile(0.99) == Quantile(10.0, beyond=True)


@given(VALUES)
def test_counts_and_shares_are_of_all(values: list[float]):
    """What falls into the buckets is all that there is, and the last share is one."""
    found = told(values)
    assert sum(count for _, count in found.counts()) == len(values) == found.count
    assert found.shares()[math.inf] == 1.0
    assert found.mean == pytest.approx(sum(values) / len(values))
