"""In which buckets scores are counted: those of results, and those of the texts that they are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCORES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
"""Upper bounds, each part of its bucket."""
Reference: TypeAlias = "Mapping[str, Sequence[float]]"
"""By label: of the reference texts that have it, the shares whose score is not above each of `SCORES`."""
