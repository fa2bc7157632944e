"""Percentiles of latencies by HdrHistogram: a microsecond to ten minutes, three significant digits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hdrh.histogram import HdrHistogram

if TYPE_CHECKING:
    from collections.abc import Iterable

LEAST, MOST, DIGITS = 1, 600_000_000, 3
PERCENTILES = (50.0, 90.0, 99.0, 99.9)


def percentiles(seconds: Iterable[float]) -> dict[str, float]:
    """In milliseconds, by name, with the largest as `max`; 0 counts as a microsecond."""
    histogram = HdrHistogram(LEAST, MOST, DIGITS)
    for each in seconds:
        histogram.record_value(min(MOST, max(LEAST, round(each * 1e6))))
    found = {f"p{q:g}": histogram.get_value_at_percentile(q) / 1000 for q in PERCENTILES}
    return found | {"max": histogram.get_max_value() / 1000}
