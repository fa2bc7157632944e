"""Logits to labels and scores."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from worker.pipeline.interpret import SCORE_DIGITS, SingleLabel, softmax

logits = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.floats(-80, 80, width=32))


@given(logits, st.floats(0.1, 10))
def test_softmax_rows_are_probabilities(rows: np.ndarray, temperature: float):
    """Each row sums to 1, keeps the order of its logits and does not overflow."""
    scores = softmax(rows, temperature)
    assert scores.shape == rows.shape
    assert np.allclose(scores.sum(axis=1), 1)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (scores.max(axis=1) == np.take_along_axis(scores, rows.argmax(axis=1)[:, None], 1)[:, 0]).all()


def test_softmax_survives_extreme_logits():
    """Logits at the ends of float32 give 0 and 1, not NaN."""
    assert softmax(np.array([[3e38, -3e38]], np.float32)).tolist() == [[1.0, 0.0]]


@given(logits)
def test_a_row_does_not_depend_on_its_neighbours(rows: np.ndarray):
    """A row alone says bit for bit what it says in company."""
    interpret = SingleLabel([f"l{i}" for i in range(rows.shape[1])], 1.3, {})
    assert interpret(rows) == [interpret(rows[i : i + 1])[0] for i in range(len(rows))]


@given(logits)
def test_scores_name_every_label_in_order(rows: np.ndarray):
    """`scores` holds each label once, rounded, and `score` is the chosen one's."""
    labels = [f"l{i}" for i in range(rows.shape[1])]
    for said in SingleLabel(labels, 1.0, {})(rows):
        assert list(said.scores) == labels
        assert said.score == said.scores[said.label] == max(said.scores.values())
        assert all(round(score, SCORE_DIGITS) == score for score in said.scores.values())


@pytest.mark.parametrize(
    ("logit", "threshold", "label"), [(0.0, 0.5, "spam"), (0.0, 0.51, "ham"), (5.0, 0.99, "spam"), (5.0, 0.999, "ham")]
)
def test_a_threshold_decides_alone(logit: float, threshold: float, label: str):
    """A label with a threshold is taken from its threshold on, else the other one, be it the less likely."""
    (said,) = SingleLabel(["ham", "spam"], 1.0, {"spam": threshold})(np.array([[0.0, logit]], np.float32))
    assert said.label == label
    assert said.score == said.scores[label]


def test_thresholds_on_all_labels_fall_back_to_the_best():
    """Where no label reaches its threshold and each has one, the best is taken."""
    interpret = SingleLabel(["a", "b"], 1.0, {"a": 0.99, "b": 0.99})
    assert interpret(np.array([[1.0, 0.0]], np.float32))[0].label == "a"


def test_of_several_labels_at_their_thresholds_the_best_is_taken():
    """Thresholds say who may be chosen; scores say who is."""
    interpret = SingleLabel(["a", "b", "c"], 1.0, {"a": 0.05, "b": 0.05})
    assert interpret(np.array([[1.0, 1.5, 3.0]], np.float32))[0].label == "b"


def test_temperature_flattens_scores_and_keeps_the_label():
    """Dividing the logits makes the winner less sure, and no other."""
    row = np.array([[0.0, 2.0]], np.float32)
    (sharp,), (flat,) = SingleLabel(["a", "b"], 1.0, {})(row), SingleLabel(["a", "b"], 2.0, {})(row)
    assert sharp.label == flat.label == "b"
    assert sharp.score > flat.score > 0.5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_are_an_error(bad: float):
    """A graph that yields NaN or infinity fails the run: the row is a dead letter, not a result without a score."""
    with pytest.raises(ValueError, match="finite"):
        SingleLabel(["a", "b"], 1.0, {})(np.array([[0.0, 1.0], [bad, 0.0]], np.float32))
