"""Logits to labels and scores."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from worker.pipeline.decision import Decision
from worker.pipeline.interpret import SCORE_DIGITS, MultiLabel, Regression, SingleLabel, decide, sigmoid, softmax

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


@given(logits, st.floats(0.1, 10))
def test_a_sigmoid_is_a_probability_whatever_the_logit(rows: np.ndarray, temperature: float):
    """Between 0 and 1, with a logit's negative as its complement, and without overflow."""
    scores = sigmoid(rows, temperature)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert np.allclose(scores + sigmoid(-rows, temperature), 1)
    assert sigmoid(np.array([3e38, -3e38], np.float32)).tolist() == [1.0, 0.0]


@given(logits)
def test_labels_are_those_that_reach_their_thresholds(rows: np.ndarray):
    """Each label for itself, best first; the first is the label, and the score the best one's in any case."""
    labels = [f"l{i}" for i in range(rows.shape[1])]
    thresholds = {"l0": 0.9, "l2": 0.1}
    for said, scores in zip(MultiLabel(labels, 1.0, thresholds)(rows), sigmoid(rows).tolist(), strict=True):
        reached = [label for label, score in zip(labels, scores, strict=True) if score >= thresholds.get(label, 0.5)]
        assert said.labels is not None
        assert sorted(label for label, _ in said.labels) == reached
        assert [score for _, score in said.labels] == sorted((score for _, score in said.labels), reverse=True)
        assert all(said.scores[label] == score for label, score in said.labels)
        assert said.label == (said.labels[0][0] if reached else None)
        assert said.abstained == (not reached)
        assert said.score == said.scores[said.label] if reached else said.score == max(said.scores.values())


@pytest.mark.parametrize("task", [SingleLabel(["a", "b"], 1.0, {}), MultiLabel(["a", "b"], 1.0, {})])
def test_two_steps_are_one(task: SingleLabel | MultiLabel):
    """Scores, then what they say, is what the logits say at once."""
    rows = np.array([[0.0, 1.0], [3.0, -1.0]], np.float32)
    assert [task.classify(row) for row in task.scores(rows).tolist()] == task(rows) == task.each(task.scores(rows), [])


def test_a_regression_says_its_value():
    """No activation and no temperature: the number as it is, rounded as scores are."""
    (said,) = Regression("stars")(np.array([[3.123456789]], np.float32))
    assert (said.label, said.score, said.scores) == ("stars", 3.123457, {"stars": 3.123457})


@pytest.mark.parametrize(
    ("score", "action"), [(0.9, "accept"), (0.899, "review"), (0.5, "review"), (0.499, "reject"), (0.0, "reject")]
)
def test_actions_by_score(score: float, action: str):
    """From a threshold on; without the lower one there is nothing between accepting and rejecting."""
    assert Decision(accept=0.9, review=0.5).action([score], score) == action
    assert Decision(accept=0.9).action([score], score) == ("accept" if score >= 0.9 else "reject")
    assert Decision().action([score], score) is None
    assert (
        Decision(accept=0.9, review=0.5, unwanted=(1, 2)).action([0.0, 0.05, 1 - score], 0.7) == action or score > 0.95
    )


def test_the_least_score_decides_on_the_chosen_label():
    """Below it the fallback, with the score and all scores as they are; at it the label."""
    rows = np.array([[0.0, 0.0], [5.0, 0.0]], np.float32)
    unsure, sure = SingleLabel(["a", "b"], 1.0, {}, Decision(min_score=0.6, fallback="?", accept=0.9))(rows)
    assert (unsure.label, unsure.score, unsure.scores, unsure.abstained) == ("?", 0.5, {"a": 0.5, "b": 0.5}, True)
    assert (sure.label, sure.abstained) == ("a", False)
    assert (unsure.action, sure.action) == ("reject", "accept")
    (edge,) = SingleLabel(["a", "b"], 1.0, {}, Decision(min_score=0.5, fallback="?"))(rows[:1])
    assert edge.label == "a"


coarse = arrays(
    np.float64, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.integers(0, 8).map(lambda n: n / 8)
)
"""So few values that ties and scores at a threshold are common."""
some_thresholds = st.dictionaries(st.integers(0, 5), st.integers(0, 8).map(lambda n: n / 8))


@given(coarse, some_thresholds)
def test_many_rows_are_decided_as_each_is_served(scores: np.ndarray, least: dict[int, float]):
    """What `evaluate` and the gate count is what the worker answers, be all labels with thresholds and none reached."""
    labels = [f"l{i}" for i in range(scores.shape[1])]
    thresholds = {f"l{i}": value for i, value in least.items() if i < len(labels)}
    one, several = SingleLabel(labels, 1.0, thresholds), MultiLabel(labels, 1.0, thresholds)
    chosen = decide("single-label", labels, scores, thresholds)
    reached = decide("multi-label", labels, scores, thresholds)
    for row, i, held in zip(scores.tolist(), chosen.tolist(), reached.tolist(), strict=True):
        assert one.classify(row).label == labels[i]
        given_labels = several.classify(row).labels
        assert given_labels is not None
        assert {label for label, _ in given_labels} == {
            label for label, is_on in zip(labels, held, strict=True) if is_on
        }


def test_other_tasks_are_decided_without_thresholds():
    assert decide("regression", ["stars"], np.array([[1.5], [-2.0]]), {}).tolist() == [1.5, -2.0]
    assert decide("token", ["O", "B-x"], np.array([[0.4, 0.6], [0.9, 0.1]]), {}).tolist() == [1, 0]
