"""Entities as the worker gives them: tokens grouped by an aggregation, in characters of the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from worker.model.evaluation.spans import SpanScores, score, spans_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.model.data import Example


class Place(NamedTuple):
    """Where an entity is in its text: characters from `start` up to, without, `end`."""

    type: str
    start: int
    end: int


@dataclass(frozen=True)
class Served:
    """The entities of each example, true ones and those that were found by `aggregation`."""

    aggregation: str
    true: tuple[frozenset[Place], ...]
    found: tuple[frozenset[Place], ...]

    def scores(self) -> SpanScores:
        """An entity counts if its type and both its ends are right, to the character."""
        return score(self.true, self.found)


def places(example: Example, labels: Sequence[str]) -> frozenset[Place]:
    """The true entities of a tagged example."""
    return frozenset(
        Place(span.type, example.offsets[span.start][0], example.offsets[span.end - 1][1])
        for span in spans_of(example.tags, labels)
    )
