"""MPNet's bias by distance between tokens: a table by buckets, near distances one each, far ones in ranges."""

from __future__ import annotations

import math

import numpy as np

_MAX_DISTANCE = 128


def by_distance(table: np.ndarray, max_tokens: int) -> np.ndarray:
    """[buckets, heads] to [heads, 2 · max_tokens - 1]: the bias of a key by its distance; 0 is in the middle."""
    distances = np.arange(-(max_tokens - 1), max_tokens)
    return np.ascontiguousarray(table[buckets(distances, len(table))].T)


def buckets(distances: np.ndarray, count: int) -> np.ndarray:
    """The bucket of each distance (key's position - query's position); the upper half of them is for keys after it.

    In float32 throughout, as MPNet computes it, since the result is cut to a whole number.
    """
    half = count // 2
    exact = half // 2
    far = np.maximum(np.abs(distances), 1).astype(np.float32)
    steps = np.log(far / np.float32(exact)) / np.float32(math.log(_MAX_DISTANCE / exact)) * np.float32(half - exact)
    bucket = np.where(
        np.abs(distances) < exact, np.abs(distances), np.minimum(exact + steps.astype(np.int64), half - 1)
    )
    return np.asarray(bucket + np.where(distances > 0, half, 0))
