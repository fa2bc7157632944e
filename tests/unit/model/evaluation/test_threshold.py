"""Thresholds on scores that can be checked by hand."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from sklearn.metrics import precision_recall_curve

from worker.errors import ConfigError
from worker.model.evaluation.threshold import Curve, best_f1, for_cost, for_precision, for_recall
from worker.pipeline.interpret import decide

SCORES = np.array([0.1, 0.4, 0.35, 0.8, 0.9, 0.7])
TRUTH = np.array([0, 0, 1, 1, 1, 0])


def test_precision_leaves_as_much_recall_as_it_can():
    found = for_precision(Curve(SCORES, TRUTH), 0.99, "spam")
    assert (found.threshold, found.precision, found.recall) == (0.75, 1.0, pytest.approx(2 / 3))
    assert (found.given, found.false_positives, found.false_negatives) == (2, 0, 1)


def test_recall_leaves_as_much_precision_as_it_can():
    found = for_recall(Curve(SCORES, TRUTH), 1.0)
    assert (found.threshold, found.precision, found.recall) == (0.225, 0.6, 1.0)


def test_costs_weigh_the_mistakes():
    curve = Curve(SCORES, TRUTH)
    assert for_cost(curve, 5, 1).false_positives == 0
    assert for_cost(curve, 1, 5).false_negatives == 0


def test_what_cannot_be_reached_says_what_can():
    curve = Curve(np.array([0.9, 0.8, 0.2]), np.array([0, 1, 1]))
    with pytest.raises(ConfigError, match=r"No threshold of spam reaches a precision of 0.9 .* the best is 0\.6667"):
        for_precision(curve, 0.9, "spam")


def test_any_threshold_does_what_the_scores_say():
    curve = Curve(SCORES, TRUTH)
    for threshold in np.linspace(0, 1, 41):
        given = threshold <= SCORES
        found = curve.at(float(threshold))
        assert (found.given, found.false_positives) == (given.sum(), (given & (TRUTH == 0)).sum())


def test_the_curve_is_scikit_learns():
    rng = np.random.default_rng(0)
    scores, truth = rng.uniform(0, 0.99, 300).round(2), rng.integers(0, 2, 300)
    curve = Curve(scores, truth)
    precision, recall, _ = precision_recall_curve(truth, scores)
    assert curve.precision[:-1] == pytest.approx(precision[:-1])
    assert curve.recall == pytest.approx(recall)


def test_scores_that_are_hardly_apart_are_still_told_apart():
    scores = np.array([0.5, 0.5 + 1e-9])
    found = for_precision(Curve(scores, np.array([0, 1])), 1.0, "x")
    assert scores[0] < found.threshold <= scores[1]


def test_best_f1_by_label():
    """What is true of 19 texts keeps 0.5, though 0.1 were best on these."""
    scores = np.stack([np.tile([0.2, 0.3, 0.6, 0.7], 10), np.linspace(0.02, 0.2, 40)], axis=1)
    truth = np.stack([np.tile([0, 0, 1, 1], 10), [*[0] * 21, *[1] * 19]], axis=1)
    found = best_f1(("common", "rare"), scores, truth)
    assert found["common"] == pytest.approx(0.45, abs=0.02)
    assert found["rare"] == 0.5


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=20),
    st.sampled_from(["single-label", "multi-label"]),
)
def test_every_point_of_a_curve_is_what_the_threshold_then_decides(rows, task):
    """To the last bit of a score: what is shown is what the worker will give."""
    scores, truth = np.array([score for score, _ in rows]), np.array([true for _, true in rows])
    both = np.stack([1 - scores, scores], axis=1)
    curve = Curve(scores, truth.astype(int))
    for i in range(len(curve.thresholds)):
        point = curve.point(i)
        decided = decide(task, ("ham", "spam"), both, {"spam": point.threshold})
        given_it = (decided[:, 1] if decided.ndim == 2 else decided) == 1
        assert (point.given, point.false_positives) == (given_it.sum(), (given_it & ~truth).sum())
        assert point.false_negatives == (~given_it & truth).sum()
