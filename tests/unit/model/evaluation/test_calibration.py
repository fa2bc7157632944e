"""Calibration error and temperature on numbers that can be checked by hand."""

import numpy as np
import pytest

from worker.model.evaluation.calibration import calibration_error, fit_temperature


def test_scores_that_say_their_share_are_calibrated():
    scores = np.full(4, 0.25)
    assert calibration_error(scores, np.array([0, 0, 0, 1])) == pytest.approx(0)
    assert calibration_error(scores, np.array([1, 1, 1, 1])) == pytest.approx(0.75)


@pytest.mark.parametrize("task", ["single-label", "multi-label"])
def test_overconfident_logits_get_a_temperature_above_one(task):
    rng = np.random.default_rng(0)
    share = rng.uniform(0.05, 0.95, 4000)
    truth = (rng.uniform(size=4000) < share).astype(int)
    logits = np.log(share / (1 - share))[:, None]
    if task == "single-label":
        logits = np.concatenate([np.zeros_like(logits), logits], 1)
    found = fit_temperature(task, 2 * logits, truth if task == "single-label" else truth[:, None], np.ones(4000))
    assert found == pytest.approx(2.0, abs=0.15)


def test_rows_that_weigh_more_have_more_say():
    logits = np.array([[0.0, 2.0], [0.0, 2.0], [0.0, 2.0]])
    truth = np.array([1, 1, 0])
    sure = fit_temperature("single-label", logits, truth, np.array([10.0, 10.0, 1.0]))
    unsure = fit_temperature("single-label", logits, truth, np.array([1.0, 1.0, 10.0]))
    assert sure < unsure
