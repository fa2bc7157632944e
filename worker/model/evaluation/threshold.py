"""Choosing from what score on a label is given: by precision, by recall, by what mistakes cost, or by F1."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from worker.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

_DIGITS = 6
_NEAR = 0.003
ENOUGH = 20
"""True texts of a label, from which on its threshold is fitted.

Drawn from two bells three deviations apart (3 % true, F1 0.71 at 0.5), thresholds fitted to five true texts were worse
than 0.5 on others in 46 of 100 draws and lost 0.06 in the worst tenth; to 20 in 28, and 0.03.
"""


class Point(NamedTuple):
    """What a label's threshold does on some texts."""

    threshold: float
    precision: float
    recall: float
    given: int
    """Texts that reach it."""
    false_positives: int
    false_negatives: int

    @property
    def f1(self) -> float:
        return 2 * self.precision * self.recall / max(self.precision + self.recall, 1e-12)


class Curve:
    """All thresholds that differ on some texts, from the lowest to the highest.

    A threshold lies midway between two scores that occur, so that neither is on the edge; the last is above all.

    Args:
        scores: of the label [texts].
        truth: whether it is true [texts].
    """

    def __init__(self, scores: np.ndarray, truth: np.ndarray) -> None:
        self._distinct = np.unique(scores)
        middles = (self._distinct[1:] + self._distinct[:-1]) / 2
        exact = np.concatenate([[self._distinct[0] / 2], middles, [(1 + self._distinct[-1]) / 2]])
        order = np.argsort(scores, kind="stable")
        begins = np.searchsorted(scores[order], exact)
        rounded = np.round(exact, _DIGITS)
        self.thresholds = np.where(np.searchsorted(scores[order], rounded) == begins, rounded, exact)
        below = np.concatenate([[0], np.cumsum(truth[order])])[begins]
        self._positives = int(truth.sum())
        self.hits = self._positives - below
        self.given = len(scores) - begins
        self.precision = self.hits / np.maximum(self.given, 1)
        self.recall = self.hits / max(self._positives, 1)

    @property
    def false_positives(self) -> np.ndarray:
        return np.asarray(self.given - self.hits)

    @property
    def false_negatives(self) -> np.ndarray:
        return np.asarray(self._positives - self.hits)

    @property
    def f1(self) -> np.ndarray:
        return np.asarray(2 * self.hits / np.maximum(self.given + self._positives, 1))

    def point(self, i: int) -> Point:
        return Point(
            float(self.thresholds[i]),
            float(self.precision[i]),
            float(self.recall[i]),
            int(self.given[i]),
            int(self.false_positives[i]),
            int(self.false_negatives[i]),
        )

    def at(self, threshold: float) -> Point:
        """What any threshold does."""
        return self.point(int(np.searchsorted(self._distinct, threshold)))._replace(threshold=threshold)


def for_precision(curve: Curve, least: float, label: str) -> Point:
    """The most recall with at least this precision.

    Raises:
        ConfigError: no threshold that lets a text through reaches it.
    """
    fits = (curve.precision >= least) & (curve.hits > 0)
    if not fits.any():
        usable = np.where(curve.hits > 0, curve.precision, -1)
        best = curve.point(int(usable.argmax()))
        raise ConfigError(
            f"No threshold of {label} reaches a precision of {least:g} on these texts; the best is "
            f"{max(best.precision, 0):.4f}, at {best.threshold:.4f}. Ask for less, give more texts, or name other "
            "labels with --label."
        )
    candidates = np.flatnonzero(fits)
    return curve.point(int(max(candidates, key=lambda i: (curve.recall[i], curve.precision[i], curve.thresholds[i]))))


def for_recall(curve: Curve, least: float) -> Point:
    """The most precision with at least this recall; with the lowest threshold, every text is given the label."""
    candidates = np.flatnonzero(curve.recall >= least)
    return curve.point(int(max(candidates, key=lambda i: (curve.precision[i], curve.thresholds[i]))))


def for_cost(curve: Curve, false_positive: float, false_negative: float) -> Point:
    """The least total cost; the middle of the candidates where several have it."""
    costs = false_positive * curve.false_positives + false_negative * curve.false_negatives
    candidates = np.flatnonzero(np.isclose(costs, costs.min()))
    return curve.point(int(candidates[(len(candidates) - 1) // 2]))


def best_f1(labels: Sequence[str], scores: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """For each label the threshold with the best F1; `scores` and `truth` are [texts, labels].

    F1 jumps with single texts, so this is the median of what comes near the best within 0.1 to 0.9. A label that is
    true of fewer than `ENOUGH` texts keeps 0.5: what comes out best of a few is chance.
    """
    out = {}
    grid = np.round(np.arange(0.1, 0.901, 0.01), 2)
    for i, label in enumerate(labels):
        if truth[:, i].sum() < ENOUGH:
            out[label] = 0.5
            continue
        curve = Curve(scores[:, i], truth[:, i])
        f1 = np.array([curve.at(t).f1 for t in grid])
        out[label] = float(np.round(np.median(grid[f1 >= f1.max() - _NEAR]), 2))
    return out
