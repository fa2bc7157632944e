"""Whether scores are as often right as they say, and the temperature that makes them so; numpy alone."""

from __future__ import annotations

import numpy as np

from worker.model.evaluation.answers import activated

BINS = 10
_LOWEST, _HIGHEST = 0.25, 6.0
_COARSE = 60


def bin_of(scores: np.ndarray) -> np.ndarray:
    """For each score the number of its bin, of `BINS` equal ones."""
    return np.asarray(np.minimum((scores * BINS).astype(int), BINS - 1))


def calibration_error(scores: np.ndarray, true: np.ndarray) -> float:
    """Expected calibration error in ten equal bins of the score; `true`: whether what has the score is true."""
    bins = bin_of(scores)
    gaps = np.abs(np.bincount(bins, scores, BINS) - np.bincount(bins, true, BINS))
    return float(gaps.sum() / len(scores))


def fit_temperature(task: str, logits: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The temperature with the least log loss, to two digits.

    Args:
        task: as in a bundle's manifest.
        logits: [rows, labels].
        truth: as `Answers` has it.
        weights: how much each row counts; all the same without them.
    """
    wanted = truth.astype(bool) if task == "multi-label" else np.eye(logits.shape[1], dtype=bool)[truth]
    rows = np.ones(len(logits)) if weights is None else weights

    def best(candidates: np.ndarray) -> float:
        losses = [_loss(task, activated(task, logits, t), wanted, rows) for t in candidates]
        return float(candidates[int(np.argmin(losses))])

    # The loss has one valley, so the best hundredth is next to the best of a coarser grid.
    grid = np.geomspace(_LOWEST, _HIGHEST, _COARSE)
    near, step = best(grid), grid[1] / grid[0]
    low, high = max(near / step, _LOWEST), min(near * step, _HIGHEST)
    return best(np.arange(round(100 * low), round(100 * high) + 1) / 100)


def _loss(task: str, scores: np.ndarray, wanted: np.ndarray, weights: np.ndarray) -> float:
    """The weighted sum over rows of the negative log of what was given to the truth."""
    given = np.where(wanted, scores, 1 - scores) if task == "multi-label" else scores[wanted][:, None]
    return float(-(weights[:, None] * np.log(np.clip(given, 1e-12, None))).sum())
