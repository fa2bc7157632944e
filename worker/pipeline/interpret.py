"""Logits to scores, and scores to labels and entities: one class a task.

The two steps are apart because the windows of a long text are combined between them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from worker.pipeline.decision import Decision
from worker.pipeline.messages import Classification

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from worker.pipeline.batches import Item
    from worker.pipeline.entities import EntityGrouper, TokenSpans

SCORE_DIGITS = 6
DEFAULT_THRESHOLD = 0.5
"""Of a label of a multi-label model that the bundle sets none for."""

_Label = TypeVar("_Label", str, int)


class Interpreter(Protocol):
    """What the lanes need to know of a task."""

    def scores(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Scores of the same shape: [rows, labels], or [rows, tokens, labels] for token classification.

        Raises:
            ValueError: a logit is no finite number, so there is nothing to say of its row.
        """

    def each(self, scores: NDArray[np.float64], items: Sequence[Item]) -> list[Classification]:
        """One classification a row; the items are whole texts."""


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities along the last axis, in double precision."""
    scaled = logits.astype(np.float64) / temperature
    exponents = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)  # type: ignore[no-any-return]


def sigmoid(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities of each label by itself, in double precision."""
    scaled = logits.astype(np.float64) / temperature
    # The exponent is never positive, so nothing overflows.
    small = np.exp(-np.abs(scaled))
    return np.where(scaled >= 0, 1.0, small) / (1.0 + small)


def sure(scores: NDArray[np.floating[Any]], least: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the likeliest label of each row of [rows, labels] reaches what is asked of it, [labels]; [rows]."""
    return np.asarray(scores.max(axis=1) >= least[scores.argmax(axis=1)])


def decide(
    task: str, labels: Sequence[_Label], scores: NDArray[np.float64], thresholds: Mapping[_Label, float]
) -> NDArray[np.float64] | NDArray[np.int_]:
    """What `classify` says of each row, for many rows at once; a fallback label and abstaining are left out.

    Args:
        task: as in a bundle's manifest.
        labels: in the order of their ids.
        scores: [rows, labels].
        thresholds: the least score of a label.

    Returns:
        Label ids [rows]; for `multi-label` 0 or 1 [rows, labels]; for `regression` the values [rows].
    """
    if task == "regression":
        return scores[:, 0]
    if task == "multi-label":
        return np.asarray(scores >= _least(labels, thresholds, DEFAULT_THRESHOLD)).astype(int)
    if task == "token" or not thresholds:
        return np.asarray(scores.argmax(axis=1))
    least = _least(labels, thresholds, np.inf)
    reached = scores >= least
    free = np.isinf(least)
    others = free if free.any() else ~free
    candidates = np.where(reached.any(axis=1, keepdims=True), reached, others)
    return np.asarray(np.where(candidates, scores, -np.inf).argmax(axis=1))


def _least(labels: Sequence[_Label], thresholds: Mapping[_Label, float], default: float) -> NDArray[np.float64]:
    return np.array([thresholds.get(label, default) for label in labels])


def _finite(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    if not np.isfinite(logits).all():
        raise ValueError("logits are not finite")
    return logits


class OfTexts(ABC):
    """What tasks have in common that say something of a text as a whole: logits of shape [rows, labels]."""

    def __call__(self, logits: NDArray[np.floating]) -> list[Classification]:
        """One classification a row of logits."""
        return [self.classify(row) for row in self.scores(logits).tolist()]

    def each(self, scores: NDArray[np.float64], items: Sequence[Item]) -> list[Classification]:  # noqa: ARG002
        return [self.classify(row) for row in scores.tolist()]

    @abstractmethod
    def scores(self, logits: NDArray[np.floating]) -> NDArray[np.float64]: ...

    @abstractmethod
    def classify(self, scores: Sequence[float]) -> Classification:
        """What the scores of all labels say of one text."""


class SingleLabel(OfTexts):
    """Softmax over the labels; the best one wins.

    A label with a threshold is taken if, and only if, its score reaches it (the best, where several do);
    else the best of the labels without one. So `thresholds={"spam": 0.7}` says: spam from 0.7 on, else ham.

    Args:
        labels: names in the order of the label ids.
        temperature: divides the logits before the softmax.
        thresholds: the least score of a label, by its name.
        decision: when to abstain, and what to do.
        layer: after how many layers this is said, where the model has more than one answer.
    """

    def __init__(
        self,
        labels: Sequence[str],
        temperature: float,
        thresholds: Mapping[str, float],
        decision: Decision | None = None,
        layer: int | None = None,
    ) -> None:
        self._labels = tuple(labels)
        self._temperature = temperature
        self._layer = layer
        self._thresholds = {i: thresholds[label] for i, label in enumerate(labels) if label in thresholds}
        self._others = [i for i in range(len(labels)) if i not in self._thresholds] or list(range(len(labels)))
        self._decision = decision if decision != Decision() else None

    def scores(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        return softmax(_finite(logits), self._temperature)

    def classify(self, scores: Sequence[float]) -> Classification:
        best = self._choose(scores)
        rounded = [round(score, SCORE_DIGITS) for score in scores]
        by_label = dict(zip(self._labels, rounded, strict=True))
        said = Classification(self._labels[best], rounded[best], by_label, layer=self._layer)
        return said if self._decision is None else self._decide(said, scores, scores[best], self._decision)

    def _choose(self, scores: Sequence[float]) -> int:
        candidates = [i for i, threshold in self._thresholds.items() if scores[i] >= threshold] or self._others
        return candidates[0] if len(candidates) == 1 else max(candidates, key=scores.__getitem__)

    def _decide(
        self, said: Classification, scores: Sequence[float], score: float, decision: Decision
    ) -> Classification:
        if score < decision.min_score:
            said = said._replace(label=decision.fallback, abstained=True)
        return said._replace(action=decision.action(scores, score))


class MultiLabel(OfTexts):
    """A sigmoid for each label; all that reach their thresholds are given, best first, and the best is the label.

    Where none does, the label is the decision's fallback, and the score still the best one's.

    Args:
        labels: names in the order of the label ids.
        temperature: divides the logits before the sigmoid.
        thresholds: the least score of a label, by its name; of the others it is `DEFAULT_THRESHOLD`.
        decision: the label where none is reached, and what to do.
    """

    def __init__(
        self,
        labels: Sequence[str],
        temperature: float,
        thresholds: Mapping[str, float],
        decision: Decision | None = None,
    ) -> None:
        self._labels = tuple(labels)
        self._temperature = temperature
        self._thresholds = [thresholds.get(label, DEFAULT_THRESHOLD) for label in labels]
        self._decision = decision or Decision()

    def scores(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        return sigmoid(_finite(logits), self._temperature)

    def classify(self, scores: Sequence[float]) -> Classification:
        rounded = [round(score, SCORE_DIGITS) for score in scores]
        reached = [i for i, score in enumerate(scores) if score >= self._thresholds[i]]
        reached.sort(key=scores.__getitem__, reverse=True)
        best = reached[0] if reached else max(range(len(scores)), key=scores.__getitem__)
        return Classification(
            self._labels[best] if reached else self._decision.fallback,
            rounded[best],
            dict(zip(self._labels, rounded, strict=True)),
            labels=tuple((self._labels[i], rounded[i]) for i in reached),
            action=self._decision.action(scores, scores[best]),
            abstained=not reached,
        )


class Regression(OfTexts):
    """One value, as it comes out of the graph.

    Args:
        label: its name.
        decision: what to do; its bounds are values.
    """

    def __init__(self, label: str, decision: Decision | None = None) -> None:
        self._label = label
        self._decision = decision or Decision()

    def scores(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        return _finite(logits).astype(np.float64)

    def classify(self, scores: Sequence[float]) -> Classification:
        (value,) = scores
        rounded = round(value, SCORE_DIGITS)
        action = self._decision.action(scores, value)
        return Classification(self._label, rounded, {self._label: rounded}, action=action)


class Entities:
    """Softmax over the tags of each token, and neighbours joined.

    Args:
        group: makes entities of scores, shape [tokens, tags].
        temperature: divides the logits before the softmax.
    """

    def __init__(self, group: EntityGrouper, temperature: float) -> None:
        self._group = group
        self._temperature = temperature

    def scores(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        return softmax(_finite(logits), self._temperature)

    def each(self, scores: NDArray[np.float64], items: Sequence[Item]) -> list[Classification]:
        """Rows are padded, items are not."""
        return [
            self.classify(row[: len(item.ids)], item.spans, item.request.text)
            for row, item in zip(scores, items, strict=True)
        ]

    def classify(self, scores: NDArray[np.float64], spans: TokenSpans | None, text: str) -> Classification:
        """What the scores of all tokens of a text say, shape [tokens, tags]."""
        if spans is None:
            raise TypeError("token classification needs the places of the tokens")
        found = self._group(scores, spans, text)
        rounded = tuple(entity._replace(score=round(entity.score, SCORE_DIGITS)) for entity in found)
        return Classification(None, None, {}, entities=rounded)
