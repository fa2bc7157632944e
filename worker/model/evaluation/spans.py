"""Precision, recall and F1 of named entities: an entity counts if its type and both its ends are right.

Tags become entities by the one rule that the worker goes by (`worker.pipeline.entities`). For IOB1, IOB2, BILOU, BIOES
and BMEWO it is conlleval's, which seqeval took over: tags against the scheme still make entities.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from worker.pipeline.entities import OUTSIDE, read_tags

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from worker.model.evaluation.served import Place
    from worker.pipeline.entities import Tag

_Typed = TypeVar("_Typed", "Span", "Place")


class Span(NamedTuple):
    """An entity in a sequence of tags: from the tag `start` up to, without, the tag `end`."""

    type: str
    start: int
    end: int


class SpanScore(NamedTuple):
    """Each from 0 to 1, and 0 where there is nothing to divide by."""

    precision: float
    recall: float
    f1: float
    support: int
    """How many true entities there are."""


class SpanScores(NamedTuple):
    """Over all entities alike (micro), and by type."""

    precision: float
    recall: float
    f1: float
    support: int
    """How many true entities there are."""
    types: dict[str, SpanScore]
    """By the alphabet; a type that is only predicted is there too, with support 0."""


def span_f1(
    true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], labels: Sequence[str] | None = None
) -> SpanScores:
    """How well the predicted entities are the true ones.

    Args:
        true: tags of each text.
        predicted: tags of the same texts, as many of each.
        labels: all tags of the model. The scheme is read from these and from the tags that occur, which do for all but
            a few texts.

    Raises:
        ValueError: a text has not as many predicted tags as true ones, or there are not as many texts.
    """
    _check_lengths(true, predicted)
    tags = _tags(labels, [*true, *predicted])
    return score([set(_spans(each, tags)) for each in true], [set(_spans(each, tags)) for each in predicted])


def score(true: Sequence[AbstractSet[_Typed]], predicted: Sequence[AbstractSet[_Typed]]) -> SpanScores:
    """The same of entities themselves, a set for each text; they count as right where they are equal."""
    right, wanted, given = Counter[str](), Counter[str](), Counter[str]()
    for truth, guess in zip(true, predicted, strict=True):
        wanted.update(span.type for span in truth)
        given.update(span.type for span in guess)
        right.update(span.type for span in truth & guess)
    types = {kind: _score(right[kind], wanted[kind], given[kind]) for kind in sorted(wanted | given)}
    return SpanScores(*_score(right.total(), wanted.total(), given.total()), types)


def spans_of(sequence: Sequence[str], labels: Sequence[str] | None = None) -> list[Span]:
    """The entities of one sequence of tags, in order; `labels` as for `span_f1`."""
    return _spans(sequence, _tags(labels, [sequence]))


def _tags(labels: Sequence[str] | None, sequences: Iterable[Sequence[str]]) -> dict[str, Tag]:
    known = list(dict.fromkeys([*(labels or ()), *(tag for sequence in sequences for tag in sequence)]))
    return dict(zip(known, read_tags(known), strict=True))


def _spans(sequence: Sequence[str], tags: Mapping[str, Tag]) -> list[Span]:
    read = [tags[tag] for tag in sequence]
    starts = [
        i for i, tag in enumerate(read) if i == 0 or tag.kind != read[i - 1].kind or tag.begins or read[i - 1].ends
    ]
    ends = [*starts[1:], len(read)]
    return [
        Span(read[start].type, start, end)
        for start, end in zip(starts, ends, strict=False)
        if read[start].type != OUTSIDE
    ]


def _score(right: int, wanted: int, given: int) -> SpanScore:
    precision, recall = right / given if given else 0.0, right / wanted if wanted else 0.0
    return SpanScore(precision, recall, 2 * right / (wanted + given) if right else 0.0, wanted)


def _check_lengths(true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> None:
    if len(true) != len(predicted):
        raise ValueError(f"{len(true)} texts with true tags and {len(predicted)} with predicted ones")
    for number, (expected, found) in enumerate(zip(true, predicted, strict=True)):
        if len(expected) != len(found):
            raise ValueError(f"text {number} has {len(expected)} true tags and {len(found)} predicted ones")
