"""Figures, temperature and threshold on numbers that can be checked by hand."""

import numpy as np
import pytest

from worker.model.spam import figures as evaluate

TRUTH = np.array([0, 0, 1, 1])


def logits(*spam_scores):
    return np.array([[0.0, np.log(p / (1 - p))] for p in spam_scores])


def test_figures_by_label():
    scores = evaluate.probabilities(logits(0.1, 0.8, 0.9, 0.4), 1.0)
    found = evaluate.figures(("ham", "spam"), scores, evaluate.decide(scores, {}), TRUTH)
    assert found.accuracy == 0.5
    assert found.precision == {"ham": 0.5, "spam": 0.5}
    assert found.recall == {"ham": 0.5, "spam": 0.5}
    assert found.f1["spam"] == 0.5


def test_a_label_with_a_threshold_needs_it_and_no_more():
    """Spam from 0.8 on and only then, as the worker decides."""
    scores = evaluate.probabilities(logits(0.1, 0.79, 0.81, 0.99), 1.0)
    assert evaluate.decide(scores, {1: 0.8}).tolist() == [0, 0, 1, 1]
    assert evaluate.decide(scores, {1: 0.05}).tolist() == [1, 1, 1, 1]


def test_scores_that_say_their_share_are_calibrated():
    scores = np.array([[0.75, 0.25]] * 4)
    assert evaluate.calibration_error(scores, np.array([0, 0, 0, 1])) == pytest.approx(0)
    assert evaluate.calibration_error(scores, np.array([1, 1, 1, 1])) == pytest.approx(0.75)


def test_overconfident_logits_get_a_temperature_above_one():
    rng = np.random.default_rng(0)
    share = rng.uniform(0.05, 0.95, 4000)
    truth = (rng.uniform(size=4000) < share).astype(int)
    found = evaluate.fit_temperature(2 * logits(*share), truth, np.ones(4000))
    assert found == pytest.approx(2.0, abs=0.15)


def test_threshold_is_the_middle_of_the_best_stretch():
    scores = evaluate.probabilities(logits(0.3, 0.6, 0.8, 0.9), 1.0)
    found = evaluate.fit_threshold(scores, TRUTH, ["sms"] * 4)
    assert 0.66 <= found <= 0.74


def test_agreement_counts_labels_and_logits():
    found = evaluate.agreement(logits(0.2, 0.6), logits(0.2, 0.4), 1.0, {})
    assert found.same_label == 0.5
    assert found.largest_logit_difference == pytest.approx(0.8109, abs=1e-3)
