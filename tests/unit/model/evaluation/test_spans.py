"""Precision, recall and F1 of entities, against cases counted by hand."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from worker.model.evaluation.spans import Span, span_f1, spans_of

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def texts(*sequences: str) -> list[list[str]]:
    return [sequence.split() for sequence in sequences]


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("", []),
        ("O O", []),
        ("B-PER I-PER O B-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("I-PER I-PER B-PER O I-PER", [("PER", 0, 2), ("PER", 2, 3), ("PER", 4, 5)]),
        ("B-PER I-LOC I-LOC", [("PER", 0, 1), ("LOC", 1, 3)]),
        ("B-PER I-PER L-PER U-PER U-PER", [("PER", 0, 3), ("PER", 3, 4), ("PER", 4, 5)]),
        ("S-LOC B-LOC E-LOC E-LOC I-LOC", [("LOC", 0, 1), ("LOC", 1, 3), ("LOC", 3, 4), ("LOC", 4, 5)]),
    ],
)
def test_tags_to_entities(tags: str, spans: list):
    """As conlleval counts, for tags of every scheme and against it."""
    assert spans_of(tags.split()) == [Span(*span) for span in spans]


def test_the_scheme_may_be_told():
    """Where the tags of a text do not show it."""
    assert spans_of(["U-PER", "U-PER"], ["O", "B-PER", "I-PER", "L-PER", "U-PER"]) == [("PER", 0, 1), ("PER", 1, 2)]


def test_scores_counted_by_hand():
    """True: 3 of PER, 2 of LOC. Predicted: 3 of PER, one right; 1 of LOC, right; 1 of ORG."""
    true = texts("B-PER I-PER O B-LOC", "B-PER O B-LOC I-LOC O B-PER")
    predicted = texts("B-PER O O B-LOC", "B-PER O B-PER I-PER B-ORG O")
    scores = span_f1(true, predicted)
    assert scores[:4] == pytest.approx((2 / 5, 2 / 5, 2 / 5, 5))
    assert scores.types == {
        "LOC": pytest.approx((1.0, 1 / 2, 2 / 3, 2)),
        "ORG": pytest.approx((0.0, 0.0, 0.0, 0)),
        "PER": pytest.approx((1 / 3, 1 / 3, 1 / 3, 3)),
    }


@pytest.mark.parametrize(
    ("true", "predicted", "f1"),
    [
        ("B-PER I-PER I-PER", "B-PER I-PER O", 0.0),  # an end is wrong
        ("B-PER I-PER", "B-LOC I-LOC", 0.0),  # the type is wrong
        ("B-PER I-PER", "I-PER I-PER", 1.0),  # another spelling of the same
        ("B-PER I-PER", "B-PER B-PER", 0.0),  # one became two
        ("O O", "O O", 0.0),  # nothing to find
    ],
)
def test_an_entity_is_right_or_wrong_as_a_whole(true: str, predicted: str, f1: float):
    assert span_f1(texts(true), texts(predicted)).f1 == f1


def test_schemes_score_alike():
    """The same entities in IOB2 and BILOU."""
    iob = span_f1(texts("B-PER I-PER O B-PER"), texts("B-PER I-PER O O"))
    assert span_f1(texts("B-PER L-PER O U-PER"), texts("B-PER L-PER O O")) == iob


@given(st.lists(st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), max_size=8), max_size=5))
def test_scores_are_fractions_and_swap_with_their_sides(pairs: list):
    """Swapped sides swap precision and recall, and truth itself scores 1."""
    true, predicted = [[t for t, _ in text] for text in pairs], [[p for _, p in text] for text in pairs]
    scores, swapped = span_f1(true, predicted), span_f1(predicted, true)
    assert (scores.precision, scores.recall, scores.f1) == (swapped.recall, swapped.precision, swapped.f1)
    assert all(0 <= score <= 1 for score in scores[:3])
    assert span_f1(true, true).f1 == (1.0 if scores.support else 0.0)
    assert scores.support == sum(score.support for score in scores.types.values())


@pytest.mark.parametrize(
    ("true", "predicted", "message"),
    [([["O"]], [], "1 texts with true tags and 0"), ([["O"], ["O"]], [["O"], []], "text 1 has 1 true tags and 0")],
)
def test_sequences_must_fit(true: list, predicted: list, message: str):
    with pytest.raises(ValueError, match=message):
        span_f1(true, predicted)
