"""INT8 numbers for weights and activations: how a float becomes eight bits, and with which scale."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

# Full range; the reduced one keeps two products of a pair within 16 bits, where the CPU adds pairs with saturation.
WEIGHT_LIMIT = 127
REDUCED_WEIGHT_LIMIT = 63


# How far the channels of an activation are brought to one size. Between 0.65 and 0.85 little changes; at 1, channels
# that were small on the calibration texts have no room left for greater values in others.
_EQUALIZED = 0.7
_LEAST = 1e-3
"""Of the largest channel: those that hardly move count as this large."""

GROUPS = (1 / 2, 15 / 32, 1 / 32)
"""Shares of the channels between two feed-forward products, from the smallest up: each group is a product with a scale
of its own, so that no channel is divided by itself. With the largest apart, as little is lost as with a divisor each.
"""


@dataclass(frozen=True)
class Range:
    """The smallest and the largest value that an activation took on the calibration texts.

    Attributes:
        low: of all channels, after the division.
        high: likewise.
        divisors: by which each channel is divided before it is quantized, [channels]; the weights that read it are
            multiplied with them. None divides by nothing.
    """

    low: float
    high: float
    divisors: np.ndarray | None = field(default=None, compare=False)

    @property
    def scale(self) -> np.float32:
        """Step between two neighbouring codes; zero is always exactly representable."""
        return np.float32(max(max(self.high, 0.0) - min(self.low, 0.0), 1e-8) / 255)

    @property
    def zero_point(self) -> np.uint8:
        """The code of 0.0."""
        return np.uint8(np.clip(round(-min(self.low, 0.0) / float(self.scale)), 0, 255))

    @property
    def steps(self) -> list[tuple[slice, np.float32]]:
        """Neighbouring channels with one divisor, and it; nothing without divisors."""
        if self.divisors is None:
            return []
        starts = [0, *(np.flatnonzero(np.diff(self.divisors)) + 1).tolist()]
        ends = [*starts[1:], len(self.divisors)]
        return [(slice(start, end), self.divisors[start]) for start, end in zip(starts, ends, strict=True)]


def equalized(low: np.ndarray, high: np.ndarray, groups: Sequence[float] = ()) -> Range:
    """The range of an activation whose channels, with these extremes, are brought nearer to one size.

    A few channels of an encoder are ten times as large as the others, which under one scale for all are left with few
    codes. `groups` are shares of the channels, from the smallest up, that have one divisor, that of the largest in it.
    """
    size = np.maximum(np.abs(low), np.abs(high)).astype(np.float64)
    size = np.maximum(size, max(_LEAST * size.max(), 1e-8))
    ends = np.rint(np.cumsum(groups) * len(size)).astype(int)
    for group in np.split(np.argsort(size, kind="stable"), ends[:-1]) if len(groups) else ():
        size[group] = size[group].max(initial=0)
    divisors = ((size / np.median(size)) ** _EQUALIZED).astype(np.float32)
    return Range(float((low / divisors).min()), float((high / divisors).max()), divisors)


def by_column(weight: np.ndarray, limit: int = WEIGHT_LIMIT) -> tuple[np.ndarray, np.ndarray]:
    """A weight [in, out] as symmetric INT8 codes and one scale per column, shape [out]."""
    scale = _scale(np.abs(weight).max(axis=0), limit)
    return _codes(weight, scale, limit), scale


def by_row(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An embedding table [rows, hidden] as symmetric INT8 codes and one scale per row, shape [rows, 1]."""
    scale = _scale(np.abs(table).max(axis=1, keepdims=True), WEIGHT_LIMIT)
    return _codes(table, scale, WEIGHT_LIMIT), scale


def _scale(largest: np.ndarray, limit: int) -> np.ndarray:
    return np.asarray(np.maximum(largest / limit, np.finfo(np.float32).tiny), np.float32)


def _codes(values: np.ndarray, scale: np.ndarray, limit: int) -> np.ndarray:
    return np.asarray(np.clip(np.rint(values / scale), -limit, limit), np.int8)
