"""What training makes small: one loss per task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch.nn import functional

from worker.model.training.corpus import IGNORED

if TYPE_CHECKING:
    from collections.abc import Sequence


class Objective(Protocol):
    """A loss over a batch that is computed in parts: the sum over the parts, divided by the batch's weight."""

    def loss(self, scores: torch.Tensor, targets: Sequence[Sequence[float]]) -> torch.Tensor:
        """The summed loss of some rows; `scores` are FP32 logits, `targets` one entry a row."""

    def weight(self, targets: Sequence[Sequence[float]]) -> float:
        """What the sums over a batch with these targets are divided by."""


class Softmax:
    """One label of several; a target is the probability of each label.

    Args:
        smoothing: how much of the uniform distribution is mixed into the targets.
        label_weights: how much each label counts; all the same where none are given.
    """

    def __init__(self, smoothing: float, label_weights: Sequence[float] | None = None) -> None:
        self._smoothing = smoothing
        self._weights = None if label_weights is None else torch.tensor(label_weights)

    def loss(self, scores: torch.Tensor, targets: Sequence[Sequence[float]]) -> torch.Tensor:
        wanted = torch.tensor(targets)
        wanted = wanted * (1 - self._smoothing) + self._smoothing / wanted.shape[1]
        return functional.cross_entropy(scores, wanted, self._weights, reduction="sum")

    def weight(self, targets: Sequence[Sequence[float]]) -> float:
        return len(targets) if self._weights is None else float((torch.tensor(targets) @ self._weights).sum())


class Sigmoid:
    """Any number of labels; a target is 0 or 1 for each. `label_weights`: how much a present label counts."""

    def __init__(self, smoothing: float, label_weights: Sequence[float] | None = None) -> None:
        self._smoothing = smoothing
        self._weights = None if label_weights is None else torch.tensor(label_weights)

    def loss(self, scores: torch.Tensor, targets: Sequence[Sequence[float]]) -> torch.Tensor:
        wanted = torch.tensor(targets)
        wanted = wanted * (1 - self._smoothing) + self._smoothing / 2
        return functional.binary_cross_entropy_with_logits(scores, wanted, pos_weight=self._weights, reduction="sum")

    def weight(self, targets: Sequence[Sequence[float]]) -> float:
        # The mean over labels is a small number where there are many: as large a step as one label of several has.
        return float(len(targets))


class Squares:
    """A number; a target is the number, and what the model gives is in standard deviations from the mean."""

    def __init__(self, mean: float, deviation: float) -> None:
        self._mean = mean
        self._deviation = deviation

    def loss(self, scores: torch.Tensor, targets: Sequence[Sequence[float]]) -> torch.Tensor:
        wanted = (torch.tensor(targets, dtype=torch.float64) - self._mean) / self._deviation
        return functional.mse_loss(scores, wanted.float(), reduction="sum")

    def weight(self, targets: Sequence[Sequence[float]]) -> float:
        return float(len(targets))


class Tags:
    """One tag a token; a target is a tag's id or `IGNORED` for each token, rows shorter than the padding."""

    def __init__(self, smoothing: float, label_weights: Sequence[float] | None = None) -> None:
        self._smoothing = smoothing
        self._weights = None if label_weights is None else torch.tensor(label_weights)

    def loss(self, scores: torch.Tensor, targets: Sequence[Sequence[float]]) -> torch.Tensor:
        longest = scores.shape[1]
        wanted = torch.tensor([[int(t) for t in row] + [IGNORED] * (longest - len(row)) for row in targets])
        return functional.cross_entropy(
            scores.flatten(0, 1),
            wanted.flatten(),
            self._weights,
            ignore_index=IGNORED,
            label_smoothing=self._smoothing,
            reduction="sum",
        )

    def weight(self, targets: Sequence[Sequence[float]]) -> float:
        ids = [int(target) for row in targets for target in row if target != IGNORED]
        return max(1.0, float(len(ids)) if self._weights is None else float(self._weights[ids].sum()))
