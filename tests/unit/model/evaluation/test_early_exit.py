"""The threshold of an exit: the smallest that keeps the labels, by the labels that are really served."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.model.evaluation.early_exit import Heads, Validation, calibrate, heads, least_agreement

LABELS = ("ham", "spam")


def scores(*spam):
    return np.array([[1 - p, p] for p in spam])


def logits(*spam):
    return np.log(scores(*spam)).astype(np.float32)


def test_the_threshold_lies_right_above_the_surest_mistake():
    """The early head is wrong about the second text, with 0.9."""
    both = Heads(LABELS, {}, scores(0.99, 0.9, 0.95, 0.3), scores(0.99, 0.2, 0.99, 0.1))
    assert both.threshold(1.0) == 0.95
    assert both.left(0.95).tolist() == [True, False, True, False]
    assert both.same(0.95).all()
    assert both.same(0.9).tolist() == [True, False, True, True]
    assert both.scores(0.95)[:, 1].tolist() == [0.99, 0.2, 0.95, 0.1]


def test_each_label_may_have_a_threshold_of_its_own():
    """The early head is wrong about a spam with 0.9; of the ham nothing keeps it from leaving."""
    both = Heads(LABELS, {}, scores(0.99, 0.9, 0.95, 0.3, 0.4), scores(0.99, 0.2, 0.99, 0.1, 0.2))
    thresholds = np.array(both.by_label(1.0, ["a"] * 5))
    assert thresholds.tolist() == [0.6, 0.95]
    assert both.left(thresholds).tolist() == [True, False, True, True, True]
    assert both.same(thresholds).all()
    assert both.scores(thresholds)[:, 1].tolist() == [0.99, 0.2, 0.95, 0.3, 0.4]


def test_each_kind_of_texts_keeps_each_label():
    """One mistake in four is allowed, and among three of a kind none."""
    both = Heads(LABELS, {}, scores(0.99, 0.98, 0.97, 0.9, 0.1), scores(0.99, 0.98, 0.97, 0.2, 0.1))
    assert both.by_label(0.75, ["a", "a", "b", "a", "a"]) == [0.9, 0.97]
    assert both.by_label(0.75, ["a"] * 5) == [0.9, 0.9]


def test_a_label_with_which_no_text_may_leave_has_no_threshold():
    """Because its surest is wrong, or because there is no text."""
    assert Heads(LABELS, {}, scores(0.99, 0.1), scores(0.1, 0.1)).by_label(1.0, ["a", "a"]) == [0.9, None]
    assert Heads(LABELS, {}, scores(0.99, 0.9), scores(0.99, 0.9)).by_label(1.0, ["a", "a"]) == [None, 0.9]


def test_as_many_mistakes_are_allowed_as_the_agreement_says():
    both = Heads(LABELS, {}, scores(0.99, 0.9, 0.95, 0.3), scores(0.99, 0.2, 0.99, 0.1))
    assert both.threshold(0.75) == 0.7
    assert both.threshold(0.76) == 0.95


def test_texts_that_are_equally_sure_leave_together_or_not_at_all():
    both = Heads(LABELS, {}, scores(0.9, 0.9, 0.99), scores(0.9, 0.2, 0.9))
    assert both.threshold(1.0) == 0.99


def test_no_text_may_leave_where_the_surest_is_wrong():
    both = Heads(LABELS, {}, scores(0.99, 0.9), scores(0.1, 0.9))
    assert both.threshold(1.0) is None
    assert both.threshold(0.5) == 0.9


def test_labels_are_those_that_are_served():
    """With spam from 0.8 on only, 0.7 is ham: the heads agree where the likeliest labels differ, and the other way."""
    both = Heads(LABELS, {"spam": 0.8}, scores(0.7, 0.75), scores(0.4, 0.85))
    assert both.same(0.0).tolist() == [True, False]


def test_the_scores_of_each_head_have_its_own_temperature():
    both = heads(LABELS, {}, (logits(0.9), logits(0.9)), (1.0, 2.0))
    assert both.early[0, 1] == pytest.approx(0.9)
    assert both.last[0, 1] == pytest.approx(0.75)


@given(
    st.lists(st.tuples(st.integers(1, 99), st.integers(1, 99)), min_size=1, max_size=40),
    st.sampled_from([0.5, 0.9, 0.99, 1.0]),
    st.sampled_from([{}, {"spam": 0.8}, {"ham": 0.6}]),
)
def test_no_smaller_threshold_keeps_as_many_labels(pairs, agreement, thresholds):
    """Held against all candidates one by one."""
    early, last = (scores(*(each / 100 for each in column)) for column in zip(*pairs, strict=True))
    both = Heads(LABELS, thresholds, early, last)
    found = both.threshold(agreement)
    fitting = [t for t in early.max(axis=1) if both.same(t).mean() >= agreement - 1e-9]
    # A mistake at a threshold stays one below it, so those that fit are the greatest.
    assert found == (min(fitting) if fitting else None)


def test_calibration_by_validation_texts():
    """An early head that is too timid is made surer, and what was measured is written down."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 400)
    margin = np.where(truth == 1, 1, -1) * rng.uniform(0.5, 1.5, 400)
    early = np.stack([-margin, margin], 1) / 2
    early[:8] *= -1  # the first texts, of which the early head is wrong
    last = 4 * np.stack([-margin, margin], 1)
    found = calibrate(Validation(early, last, truth), LABELS, 1.0, {}, (2, 6), 0.99)
    assert (found.layer, found.layers, found.texts) == (2, 6, 400)
    assert found.temperature < 1
    both = heads(LABELS, {}, (early, last), (found.temperature, 1.0))
    assert found.agreement == both.same(found.threshold).mean() == 0.99
    assert found.left == both.left(found.threshold).mean()
    stricter = calibrate(Validation(early, last, truth), LABELS, 1.0, {}, (2, 6), 1.0)
    assert stricter.agreement == 1.0
    assert stricter.left < found.left


def test_the_agreement_may_be_asked_of_every_kind_of_text():
    """One mistake among eleven texts is allowed, but not where it is one of two."""
    early, last = logits(*[0.99] * 9, 0.9, 0.95), logits(*[0.99] * 9, 0.2, 0.9)
    truth = np.ones(11, int)
    all_alike = calibrate(Validation(early, last, truth), LABELS, 1.0, {}, (1, 2), 0.9)
    by_kind = calibrate(Validation(early, last, truth, kinds=["sms"] * 9 + ["mail"] * 2), LABELS, 1.0, {}, (1, 2), 0.9)
    assert (all_alike.left, all_alike.agreement) == (1.0, round(10 / 11, 4))
    assert (by_kind.left, by_kind.agreement) == (round(10 / 11, 4), 1.0)


def test_nothing_is_calibrated_where_no_text_may_leave():
    wrong = Validation(logits(0.9, 0.8), logits(0.1, 0.2), np.array([0, 0]))
    assert calibrate(wrong, LABELS, 1.0, {}, (1, 2)) is None


def test_few_texts_prove_little():
    """The rule of three: none of n seen, up to 3 / n unseen; and the bound of Clopper and Pearson for one of 1,300."""
    assert least_agreement(300, 300) == pytest.approx(1 - 3 / 300, abs=2e-4)
    assert least_agreement(1299, 1300) == pytest.approx(0.99636, abs=1e-5)
    assert least_agreement(0, 10) == pytest.approx(0.0, abs=1e-9)
