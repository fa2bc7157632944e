"""When a text may leave after the early head: from which probability on, and what that does to the labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from worker.model.evaluation.calibration import fit_temperature
from worker.model.manifest import EarlyExit
from worker.pipeline.interpret import decide, softmax, sure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

AGREEMENT = 0.999
"""The share of texts that are to get the same label as from all layers, where nothing else is asked for."""
_DIGITS = 4
_CONFIDENCE = 0.95

Threshold: TypeAlias = "float | np.ndarray"
"""The least score of the early head's likeliest label with which a text leaves: of all labels, or of each, [labels]."""


@dataclass(frozen=True)
class Heads:
    """What both heads of a `single-label` network say of some texts.

    Attributes:
        labels: in the order of their ids.
        thresholds: the least score of a label, by its name; they hold for both heads.
        early: scores [texts, labels] of the early head, by its own temperature.
        last: those of all layers.
    """

    labels: Sequence[str]
    thresholds: Mapping[str, float]
    early: np.ndarray
    last: np.ndarray

    def left(self, threshold: Threshold) -> np.ndarray:
        """Whether each text leaves early, [texts]."""
        return sure(self.early, np.broadcast_to(threshold, len(self.labels)))

    def scores(self, threshold: Threshold) -> np.ndarray:
        """What is served, [texts, labels]: of texts that leave the early head's."""
        return np.asarray(np.where(self.left(threshold)[:, None], self.early, self.last))

    def same(self, threshold: Threshold) -> np.ndarray:
        """Whether each text gets the label that it gets from all layers, [texts]."""
        return np.asarray(~(self.left(threshold) & self._differ()))

    def threshold(self, agreement: float, kinds: Sequence[str] | None = None) -> float | None:
        """The smallest with which that share of the texts gets the same label, or of each kind of texts.

        None: no text may leave.
        """
        of_kind = np.zeros(len(self.early)) if kinds is None else np.array(kinds)
        bound = max(self._of(of_kind == kind)._bound(agreement) for kind in np.unique(of_kind))
        sure = self.early.max(axis=1)
        leave = sure[sure > bound]
        return float(leave.min()) if leave.size else None

    def by_label(self, agreement: float, kinds: Sequence[str]) -> list[float | None]:
        """The smallest of each label with which that share of the texts of each kind keep it.

        That is of the texts that the early head gives the label to: there have to be many of every kind.
        None: with this label no text may leave.
        """
        return [self._by_label(label, agreement, np.array(kinds)) for label in range(len(self.labels))]

    def _by_label(self, label: int, agreement: float, kinds: np.ndarray) -> float | None:
        likeliest = self.early.argmax(axis=1) == label
        return self._of(likeliest).threshold(agreement, kinds[likeliest].tolist()) if likeliest.any() else None

    def _of(self, chosen: np.ndarray) -> Heads:
        return Heads(self.labels, self.thresholds, self.early[chosen], self.last[chosen])

    def _bound(self, agreement: float) -> float:
        """The probability up to which no text may leave: that of the surest mistake too many."""
        mistakes = np.sort(self.early.max(axis=1)[self._differ()])[::-1]
        allowed = math.floor((1 - agreement) * len(self.early) + 1e-9)
        return float(mistakes[allowed]) if len(mistakes) > allowed else 0.0

    def _differ(self) -> np.ndarray:
        early, last = (decide("single-label", self.labels, each, self.thresholds) for each in (self.early, self.last))
        return np.asarray(early != last)


@dataclass(frozen=True)
class Validation:
    """Texts that neither head has learnt, as both INT8 heads see them.

    Attributes:
        early: logits [texts, labels] of the early head.
        last: those of all layers.
        truth: label ids.
        weights: how much each counts for the temperature; all the same without them.
        kinds: of which kind each is, where the labels are to be kept in every kind by itself.
    """

    early: np.ndarray
    last: np.ndarray
    truth: np.ndarray
    weights: np.ndarray | None = None
    kinds: Sequence[str] | None = None


def heads(
    labels: Sequence[str],
    thresholds: Mapping[str, float],
    logits: tuple[np.ndarray, np.ndarray],
    temperatures: tuple[float, float],
) -> Heads:
    """`Heads` of the logits and temperatures of the early head and of all layers, in this order."""
    early, last = (softmax(each, temperature) for each, temperature in zip(logits, temperatures, strict=True))
    return Heads(labels, thresholds, early, last)


def calibrate(
    found: Validation,
    labels: Sequence[str],
    temperature: float,
    thresholds: Mapping[str, float],
    layers: tuple[int, int],
    agreement: float = AGREEMENT,
) -> EarlyExit | None:
    """Temperature and threshold of the early head, by validation texts alone.

    Args:
        found: what both heads say of these texts.
        labels: in the order of their ids.
        temperature: of all layers.
        thresholds: of labels.
        layers: after how many a text may leave, and of how many.
        agreement: least share of the texts, of each kind, that are to get the same label as from all layers.

    Returns:
        None where no text may leave.
    """
    own = fit_temperature("single-label", found.early, found.truth, found.weights)
    both = heads(labels, thresholds, (found.early, found.last), (own, temperature))
    threshold = both.threshold(agreement, found.kinds)
    if threshold is None:
        return None
    return EarlyExit(
        layer=layers[0],
        layers=layers[1],
        temperature=own,
        threshold=threshold,
        agreement=_share(both.same(threshold)),
        left=_share(both.left(threshold)),
        texts=len(found.truth),
    )


def least_agreement(same: int, texts: int) -> float:
    """What the share of other texts that keep their label is at least, with 95 % confidence (Clopper and Pearson)."""

    def chance(share: float) -> float:
        """Of seeing so many or more."""
        return sum(math.comb(texts, n) * (1 - share) ** n * share ** (texts - n) for n in range(texts - same + 1))

    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if chance(middle) < 1 - _CONFIDENCE else (low, middle)
    return low


def _share(each: np.ndarray) -> float:
    return round(float(each.mean()), _DIGITS)
