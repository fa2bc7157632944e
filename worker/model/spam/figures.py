"""Figures of a single-label classifier: decisions, precision and recall by label, calibration, agreement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from worker.model.evaluation.answers import probabilities
from worker.model.evaluation.by_label import by_label
from worker.model.evaluation.calibration import calibration_error
from worker.model.manifest import Agreement, Evaluation, Figures, WithExits
from worker.pipeline import interpret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.model.evaluation.early_exit import Heads, Threshold

_DIGITS = 4
_THRESHOLDS = np.round(np.arange(0.3, 0.91, 0.01), 2)
_SMOOTHING = 0.5


def decide(scores: np.ndarray, thresholds: dict[int, float]) -> np.ndarray:
    """Label ids [rows], as the worker chooses them; `thresholds` by label id."""
    return interpret.decide("single-label", range(scores.shape[1]), scores, thresholds)


def figures(labels: Sequence[str], scores: np.ndarray, decided: np.ndarray, truth: np.ndarray) -> Figures:
    """All figures of one graph on one set of texts."""
    each = np.eye(len(labels), dtype=int)
    found = by_label(each[truth], each[decided])
    return Figures(
        accuracy=round(float((decided == truth).mean()), _DIGITS),
        calibration_error=round(calibration_error(scores[:, 1], truth == 1), _DIGITS),
        **found.named(labels),
    )


def evaluation(
    channel: str,
    labels: Sequence[str],
    logits: tuple[np.ndarray, np.ndarray],
    truth: np.ndarray,
    temperature: float,
    thresholds: dict[int, float],
    note: str = "",
) -> Evaluation:
    """The figures of the quantized and of the FP32 graph, whose `logits` are given in this order."""
    scores = [probabilities(each, temperature) for each in logits]
    decided = [decide(each, thresholds) for each in scores]
    quantized, fp32 = (figures(labels, s, d, truth) for s, d in zip(scores, decided, strict=True))
    return Evaluation(
        channel=channel,
        texts=len(truth),
        per_label={label: int((truth == i).sum()) for i, label in enumerate(labels)},
        quantized=quantized,
        fp32=fp32,
        same_label=round(float((decided[0] == decided[1]).mean()), _DIGITS),
        note=note,
    )


def with_exits(both: Heads, threshold: Threshold, truth: np.ndarray, thresholds: dict[int, float]) -> WithExits:
    """What is served where texts leave from `threshold` on; `thresholds` of the labels by their ids."""
    scores = both.scores(threshold)
    return WithExits(
        figures=figures(both.labels, scores, decide(scores, thresholds), truth),
        same_label=round(float(both.same(threshold).mean()), _DIGITS),
        left=round(float(both.left(threshold).mean()), _DIGITS),
    )


def agreement(quantized: np.ndarray, fp32: np.ndarray, temperature: float, thresholds: dict[int, float]) -> Agreement:
    """How far the logits of the two graphs are apart, and how often their labels are the same."""
    labels = [decide(probabilities(each, temperature), thresholds) for each in (quantized, fp32)]
    apart = np.abs(quantized - fp32)
    return Agreement(
        texts=len(fp32),
        same_label=round(float((labels[0] == labels[1]).mean()), _DIGITS),
        mean_logit_difference=round(float(apart.mean()), _DIGITS),
        largest_logit_difference=round(float(apart.max()), _DIGITS),
    )


def fit_threshold(scores: np.ndarray, truth: np.ndarray, channels: Sequence[str]) -> float:
    """The threshold of label 1, two digits, by the mean over the channels of a smoothed F1.

    On a few hundred texts F1 jumps with single ones, so that thresholds far apart tie. Each text therefore counts as
    chosen by the share that a logistic distribution around its logit, of scale `_SMOOTHING`, has above the threshold.
    """
    names = np.asarray(channels)
    score = np.clip(scores[:, 1], 1e-9, 1 - 1e-9)
    logits = np.log(score / (1 - score))
    means = [
        np.mean([_smoothed_f1(logits[names == c], truth[names == c] == 1, t) for c in sorted(set(channels))])
        for t in _THRESHOLDS
    ]
    return float(_THRESHOLDS[int(np.argmax(means))])


def _smoothed_f1(logits: np.ndarray, positive: np.ndarray, threshold: float) -> float:
    chosen = 1 / (1 + np.exp((np.log(threshold / (1 - threshold)) - logits) / _SMOOTHING))
    return float(2 * chosen[positive].sum() / (chosen.sum() + positive.sum()))
