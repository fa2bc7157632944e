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


def test_threshold_lies_between_what_it_parts():
    """Any between 0.6 and 0.8 has the best F1; the smoothed one has its best well inside."""
    scores = evaluate.probabilities(logits(0.3, 0.6, 0.8, 0.9), 1.0)
    found = evaluate.fit_threshold(scores, TRUTH, ["sms"] * 4)
    assert 0.62 <= found <= 0.78


def test_a_single_text_does_not_move_the_threshold_far():
    """Counted as they are, one text among a hundred takes the best threshold from one end of a stretch to the other."""
    rng = np.random.default_rng(3)
    truth = np.array([0, 1] * 50)
    spread = rng.normal(np.where(truth == 1, 2.0, -2.0), 1.2)
    scores = 1 / (1 + np.exp(-spread))
    found = {
        evaluate.fit_threshold(np.stack([1 - scores, scores], 1)[kept], truth[kept], ["sms"] * 99)
        for kept in (np.delete(np.arange(100), out) for out in range(0, 100, 5))
    }
    assert max(found) - min(found) <= 0.06


def test_agreement_counts_labels_and_logits():
    found = evaluate.agreement(logits(0.2, 0.6), logits(0.2, 0.4), 1.0, {})
    assert found.same_label == 0.5
    assert found.largest_logit_difference == pytest.approx(0.8109, abs=1e-3)
