"""Logits to labels and scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from worker.pipeline.messages import Classification

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

SCORE_DIGITS = 6


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities of each row, shape [rows, labels], in double precision."""
    scaled = logits.astype(np.float64) / temperature
    exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]


class SingleLabel:
    """Softmax over the labels; the best one wins.

    A label with a threshold is taken if, and only if, its score reaches it (the best, where several do);
    else the best of the labels without one. So `thresholds={"spam": 0.7}` says: spam from 0.7 on, else ham.

    Args:
        labels: names in the order of the label ids.
        temperature: divides the logits before the softmax.
        thresholds: the least score of a label, by its name.
    """

    def __init__(self, labels: Sequence[str], temperature: float, thresholds: Mapping[str, float]) -> None:
        self._labels = tuple(labels)
        self._temperature = temperature
        self._thresholds = {i: thresholds[label] for i, label in enumerate(labels) if label in thresholds}
        self._others = [i for i in range(len(labels)) if i not in self._thresholds] or list(range(len(labels)))

    def __call__(self, logits: NDArray[np.float32]) -> list[Classification]:
        """One classification a row of logits, shape [rows, labels].

        Raises:
            ValueError: a logit is no finite number, so there is nothing to say of its row.
        """
        if not np.isfinite(logits).all():
            raise ValueError("logits are not finite")
        return [self._classification(row) for row in softmax(logits, self._temperature).tolist()]

    def _classification(self, scores: list[float]) -> Classification:
        best = self._choose(scores)
        rounded = [round(score, SCORE_DIGITS) for score in scores]
        return Classification(self._labels[best], rounded[best], dict(zip(self._labels, rounded, strict=True)))

    def _choose(self, scores: list[float]) -> int:
        reached = [i for i, threshold in self._thresholds.items() if scores[i] >= threshold]
        return max(reached or self._others, key=scores.__getitem__)
