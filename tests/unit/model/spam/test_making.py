"""When texts leave the default bundle early, by what both heads say of validation texts."""

from types import SimpleNamespace

import numpy as np
import pytest

from worker.errors import BundleError
from worker.model.spam import making
from worker.pipeline.interpret import softmax


def measured(early, last, channels=None):
    """Texts with these spam logits, against zero for ham."""
    early, last = (np.array([[0.0, each] for each in some], np.float32) for some in (early, last))
    return SimpleNamespace(
        early=early,
        quantized=last,
        truth=np.zeros(len(early), int),
        channels=channels or ["sms"] * len(early),
        weights=np.ones(len(early)),
    )


def test_a_text_leaves_where_no_text_as_sure_differs_or_nearly_does():
    """0.5 is a logit of 0: an early 4 whose last is 0.6 keeps its label, but within a logit of the other."""
    found = making._calibrated(measured([6, 5.5, 5, 4, -7], [6, 5.5, 5, 0.6, -7]), 1.0, 0.5)
    sure = softmax(np.array([[0.0, each] for each in (5, 4, 7)]), found.temperature).max(axis=1)
    ham, spam = found.least(("ham", "spam"))
    assert sure[1] < spam <= sure[0] + 1e-6
    assert spam < ham <= sure[2] + 1e-6
    assert (found.threshold, found.thresholds) == (ham, {"spam": spam})
    assert (found.left, found.agreement, found.texts) == (0.8, 1.0, 5)
    assert (found.layer, found.layers) == (2, 6)


def test_every_channel_counts_by_itself():
    """One mistake among a few comments is too many, whatever the mails say."""
    early, last = [3.0] * 4000 + [5.0, 4.0, -3.0], [3.0] * 4000 + [5.0, -4.0, -3.0]
    found = making._calibrated(measured(early, last, ["mails"] * 4000 + ["comments"] * 3), 1.0, 0.5)
    assert found.left == round(2 / 4003, 4)


def test_texts_that_leave_are_as_sure_as_all_layers_are():
    rng = np.random.default_rng(0)
    last = np.concatenate([rng.normal(5, 0.5, 200), rng.normal(-5, 0.5, 200)])
    found = making._calibrated(measured(1.4 * last, last), 1.0, 0.5)
    assert found.temperature == pytest.approx(1.4, abs=0.01)
    assert found.left == 1.0


def test_an_early_head_that_knows_nothing_is_refused():
    with pytest.raises(BundleError, match="No validation text may leave early as 'ham': train the early head longer"):
        making._calibrated(measured([9, -9], [-9, 9]), 1.0, 0.5)
