"""A histogram as Prometheus keeps it, and the quantiles that Prometheus would compute of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Quantile:
    """A value, or the least that it can be: `beyond` the last bound nothing more is known."""

    value: float
    beyond: bool = False


@dataclass(frozen=True)
class Histogram:
    """Upper bounds, the last infinite, and how many were at most so large."""

    bounds: tuple[float, ...] = ()
    cumulative: tuple[float, ...] = ()
    total: float = 0.0
    """The sum of all values."""

    @classmethod
    def of(cls, buckets: Iterable[tuple[float, float]], total: float) -> Histogram:
        """Of bounds and cumulative counts, in any order."""
        ordered = sorted(buckets)
        return cls(tuple(bound for bound, _ in ordered), tuple(count for _, count in ordered), total)

    @property
    def count(self) -> float:
        return self.cumulative[-1] if self.cumulative else 0.0

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count else None

    def quantile(self, share: float) -> Quantile | None:
        """As `histogram_quantile` finds it: within its bucket by interpolation; None where there are no values."""
        if not self.count:
            return None
        rank = share * self.count
        number = next(i for i, count in enumerate(self.cumulative) if count >= rank and count > 0)
        upper = self.bounds[number]
        if math.isinf(upper):
            return Quantile(self.bounds[number - 1], beyond=True) if number else None
        lower = self.bounds[number - 1] if number else min(0.0, upper)
        below = self.cumulative[number - 1] if number else 0.0
        inside = self.cumulative[number] - below
        return Quantile(lower + (upper - lower) * (rank - below) / inside if inside else upper)

    def shares(self) -> dict[float, float]:
        """What share was at most so large, by bound; empty where there are no values."""
        return {
            bound: count / self.count for bound, count in zip(self.bounds, self.cumulative, strict=True) if self.count
        }

    def counts(self) -> list[tuple[float, float]]:
        """How many fell into each bucket, by its upper bound."""
        steps = [after - before for before, after in pairwise((0.0, *self.cumulative))]
        return list(zip(self.bounds, steps, strict=True))
