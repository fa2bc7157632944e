"""Precision, recall and F1 of each label, and their averages; numpy alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


class ByLabel(NamedTuple):
    """One entry a label, 0 where there is nothing to divide by.

    Attributes:
        support: rows of which the label is true.
        decided: rows that are given it.
        hits: rows of which both is so.
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray
    decided: np.ndarray
    hits: np.ndarray

    def named(self, labels: Sequence[str], digits: int = 4) -> dict[str, dict[str, float]]:
        """Precision, recall and F1, each by the label's name, rounded."""
        return {
            name: {label: round(float(value), digits) for label, value in zip(labels, values, strict=True)}
            for name, values in (("precision", self.precision), ("recall", self.recall), ("f1", self.f1))
        }

    def average(self, kind: str) -> tuple[float, float, float]:
        """Precision, recall and F1 over all labels.

        `micro` counts rows and labels alike, `macro` is the mean of the labels', `weighted` the mean by their support.
        """
        if kind == "micro":
            sums = (np.array([each.sum()]) for each in (self.hits, self.support, self.decided))
            precision, recall, f1 = (float(each[0]) for each in _scores(*sums))
            return precision, recall, f1
        weights = self.support if kind == "weighted" else np.ones(len(self.support))
        total = max(float(weights.sum()), 1e-12)
        precision, recall, f1 = (float(each @ weights) / total for each in (self.precision, self.recall, self.f1))
        return precision, recall, f1


def by_label(truth: np.ndarray, decided: np.ndarray) -> ByLabel:
    """Figures of decisions; both are 0 or 1, or truth values, [rows, labels]."""
    hits, support, given = (each.sum(axis=0, dtype=int) for each in (truth * decided, truth, decided))
    return ByLabel(*_scores(hits, support, given), support, given, hits)


def _scores(hits: np.ndarray, support: np.ndarray, decided: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return hits / np.maximum(decided, 1), hits / np.maximum(support, 1), 2 * hits / np.maximum(support + decided, 1)
