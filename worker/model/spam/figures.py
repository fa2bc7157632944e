"""Figures of a single-label classifier: decisions, precision and recall by label, calibration, agreement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from worker.model.evaluation.answers import probabilities
from worker.model.manifest import Agreement, Evaluation, Figures
from worker.pipeline import interpret

if TYPE_CHECKING:
    from collections.abc import Sequence

_BINS = 10
_DIGITS = 4


def decide(scores: np.ndarray, thresholds: dict[int, float]) -> np.ndarray:
    """Label ids [rows], as the worker chooses them; `thresholds` by label id."""
    return interpret.decide("single-label", range(scores.shape[1]), scores, thresholds)


def calibration_error(scores: np.ndarray, truth: np.ndarray) -> float:
    """Expected calibration error of two-label scores: the score of label 1 against its share, in ten equal bins."""
    score, positive = scores[:, 1], truth == 1
    bins = np.minimum((score * _BINS).astype(int), _BINS - 1)
    gaps = [abs(score[bins == b].sum() - positive[bins == b].sum()) for b in range(_BINS)]
    return float(sum(gaps) / len(truth))


def figures(labels: Sequence[str], scores: np.ndarray, decided: np.ndarray, truth: np.ndarray) -> Figures:
    """All figures of one graph on one set of texts."""
    by_label = {label: _precision_recall(decided == i, truth == i) for i, label in enumerate(labels)}
    return Figures(
        accuracy=round(float((decided == truth).mean()), _DIGITS),
        precision={label: round(p, _DIGITS) for label, (p, _) in by_label.items()},
        recall={label: round(r, _DIGITS) for label, (_, r) in by_label.items()},
        f1={label: round(2 * p * r / max(p + r, 1e-12), _DIGITS) for label, (p, r) in by_label.items()},
        calibration_error=round(calibration_error(scores, truth), _DIGITS),
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


def fit_temperature(logits: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    """The temperature with the least weighted log loss, to two digits."""
    candidates = np.round(np.arange(0.3, 5.0, 0.01), 2)
    losses = [
        -(weights * np.log(np.clip(probabilities(logits, t)[np.arange(len(truth)), truth], 1e-12, None))).sum()
        for t in candidates
    ]
    return float(candidates[int(np.argmin(losses))])


def fit_threshold(scores: np.ndarray, truth: np.ndarray, channels: Sequence[str]) -> float:
    """The threshold of label 1, two digits, by the mean F1 over the channels.

    On a few hundred texts F1 jumps with single texts, so the best candidate is noise: this is the median of all
    candidates between 0.3 and 0.9 that come within 0.003 of it.
    """
    candidates = np.round(np.arange(0.3, 0.91, 0.01), 2)
    names = np.asarray(channels)
    means = [
        np.mean([_f1(scores[names == c, 1] >= t, truth[names == c] == 1) for c in sorted(set(channels))])
        for t in candidates
    ]
    return float(np.round(np.median(candidates[np.array(means) >= max(means) - 0.003]), 2))


def _precision_recall(decided: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    hits = float((decided & truth).sum())
    return hits / max(1.0, float(decided.sum())), hits / max(1.0, float(truth.sum()))


def _f1(decided: np.ndarray, truth: np.ndarray) -> float:
    precision, recall = _precision_recall(decided, truth)
    return 2 * precision * recall / max(precision + recall, 1e-12)
