"""Counters and histograms for what happens once a message.

The client library's own take a lock and check their labels at every call, a microsecond or more each: together as much
as the rest of a message's way. These are written by one thread, without locks, and read by a `Collector` at a scrape,
which may see one message counted in one series and not yet in the next.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric


def edges(bounds: Sequence[float]) -> list[str]:
    """Upper bounds as the label `le` has them."""
    return [repr(float(bound)) for bound in bounds]


class Count:
    """One series of a counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Distribution:
    """One series of a histogram."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bounds and cumulative counts, as Prometheus has them."""
        names = [*edges(self._bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self._counts)), strict=True))


class Counts(Collector):
    """A counter with one series a label value, or a single one without a label."""

    def __init__(self, name: str, text: str, label: str | None = None, values: Sequence[str] = ("",)) -> None:
        self._about = (name, text, [label] if label else [])
        self.series = {value: Count() for value in values}

    def register(self, registry: CollectorRegistry) -> dict[str, Count]:
        """Add it to a registry. Returns its series by label value."""
        registry.register(self)
        return self.series

    def collect(self) -> Iterator[Metric]:
        name, text, labels = self._about
        family = CounterMetricFamily(name, text, labels=labels)
        for value, count in self.series.items():
            family.add_metric([value] if labels else [], count.value)
        yield family


class Distributions(Collector):
    """A histogram with one series a label value, or a single one without a label."""

    def __init__(
        self, name: str, text: str, bounds: Sequence[float], label: str | None = None, values: Sequence[str] = ("",)
    ) -> None:
        self._about = (name, text, [label] if label else [])
        self.series = {value: Distribution(bounds) for value in values}

    def register(self, registry: CollectorRegistry) -> dict[str, Distribution]:
        """Add it to a registry. Returns its series by label value."""
        registry.register(self)
        return self.series

    def collect(self) -> Iterator[Metric]:
        name, text, labels = self._about
        family = HistogramMetricFamily(name, text, labels=labels)
        for value, distribution in self.series.items():
            family.add_metric([value] if labels else [], distribution.buckets(), distribution.total)
        yield family


class Gauges(Collector):
    """A gauge whose series are set all at once; those that are not named any more have gone."""

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        self._about = (name, text, labels)
        self._series: dict[tuple[str, ...], float] = {}

    def register(self, registry: CollectorRegistry) -> Gauges:
        """Add it to a registry."""
        registry.register(self)
        return self

    def set(self, series: Mapping[tuple[str, ...], float]) -> None:
        """Values by the values of the labels."""
        self._series = dict(series)  # a new one: a scrape may be in the middle of the other

    def collect(self) -> Iterator[Metric]:
        name, text, labels = self._about
        family = GaugeMetricFamily(name, text, labels=labels)
        for values, value in self._series.items():
            family.add_metric(values, value)
        yield family
