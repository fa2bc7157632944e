"""The model as the lanes see it: sessions, and what their logits mean."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, cast

import onnxruntime

from worker.pipeline.interpret import sure
from worker.pipeline.messages import Partial, Unsure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from worker.pipeline.batches import Item
    from worker.pipeline.infer import OnnxModel, StagedModel
    from worker.pipeline.interpret import Interpreter
    from worker.pipeline.messages import Classification


_WINDOW = attrgetter("window")


class OnnxClassifier:
    """One model shared by all lanes. See `worker.ports.Classifier`.

    Args:
        model: runs all layers.
        interpret: what logits mean for the task.
        canary: token ids of a text that is known to work.
    """

    def __init__(self, model: OnnxModel | StagedModel, interpret: Interpreter, canary: Sequence[int]) -> None:
        self.model = model
        self.interpret = interpret
        self.canary = canary

    def lane(self) -> _OnnxRun:
        return _OnnxRun(self)

    def interpreted(self, change: Callable[[Interpreter], Interpreter]) -> OnnxClassifier:
        """The same, with other interpretations, made of the present ones by `change`."""
        return OnnxClassifier(self.model, change(self.interpret), self.canary)


class EarlyHead(NamedTuple):
    """When and how the head after the first layers answers."""

    interpret: Interpreter
    """What its logits mean."""
    least: NDArray[np.float64]
    """The least score of its likeliest label with which a text goes no further, [labels]."""

    def sure(self, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which texts go no further, [texts], by their scores [texts, labels]."""
        return sure(scores, self.least)


class EarlyExitClassifier(OnnxClassifier):
    """A model in two stages: what the first is sure of is answered there, all else comes back `Unsure`.

    Items with states are of the second stage, which answers for good; the items of one run are all of one stage. A
    window of a long text always goes through all layers, because its scores are combined with those of others.

    Args:
        model: runs the stages.
        interpret: what the logits of all layers mean.
        canary: token ids of a text that is known to work.
        early: the head of the first stage.
    """

    def __init__(self, model: StagedModel, interpret: Interpreter, canary: Sequence[int], early: EarlyHead) -> None:
        super().__init__(model, interpret, canary)
        self.stages = model
        self.early = early

    def lane(self) -> _EarlyExitRun:
        return _EarlyExitRun(self)

    def interpreted(self, change: Callable[[Interpreter], Interpreter]) -> EarlyExitClassifier:
        early = self.early._replace(interpret=change(self.early.interpret))
        return EarlyExitClassifier(self.stages, change(self.interpret), self.canary, early)


class _OnnxRun:
    def __init__(self, classifier: OnnxClassifier) -> None:
        self._classifier = classifier
        self._options = onnxruntime.RunOptions()

    def __call__(self, items: Sequence[Item]) -> Sequence[Classification | Partial | Unsure]:
        self._options.terminate = False
        return self._said(self._classifier.model([item.ids for item in items], self._options), items)

    def terminate(self) -> None:
        self._options.terminate = True

    def check(self) -> None:
        self._options.terminate = False
        self._classifier.model([self._classifier.canary], self._options)

    def _said(self, logits: NDArray[np.float32], items: Sequence[Item]) -> Sequence[Classification | Partial]:
        """What the logits of all layers say; of windows nothing yet."""
        interpret = self._classifier.interpret
        scores = interpret.scores(logits)
        if not any(map(_WINDOW, items)):
            return interpret.each(scores, items)
        return [_said(interpret, scores[row : row + 1], item) for row, item in enumerate(items)]


class _EarlyExitRun(_OnnxRun):
    _classifier: EarlyExitClassifier

    def __call__(self, items: Sequence[Item]) -> Sequence[Classification | Partial | Unsure]:
        self._options.terminate = False
        return self._early(items) if items[0].hidden is None else self._rest(items)

    def _early(self, items: Sequence[Item]) -> list[Classification | Unsure]:
        early = self._classifier.early
        logits, hidden = self._classifier.stages.early([item.ids for item in items], self._options)
        scores = early.interpret.scores(logits)
        sure = [enough and item.window is None for enough, item in zip(early.sure(scores).tolist(), items, strict=True)]
        answers = iter(
            early.interpret.each(scores[sure], [item for item, leaves in zip(items, sure, strict=True) if leaves])
        )
        return [
            # A view would keep the states of the whole batch, padding included.
            next(answers) if leaves else Unsure(hidden[row, : len(item.ids)].copy())
            for row, (item, leaves) in enumerate(zip(items, sure, strict=True))
        ]

    def _rest(self, items: Sequence[Item]) -> Sequence[Classification | Partial]:
        states = [cast("NDArray[np.float32]", item.hidden) for item in items]
        return self._said(self._classifier.stages.rest(states, self._options), items)


def _said(interpret: Interpreter, scores: NDArray[np.float64], item: Item) -> Classification | Partial:
    """What the scores of one row say; of a window nothing yet."""
    if item.window is None:
        return interpret.each(scores, [item])[0]
    return Partial(scores[0] if scores.ndim == 2 else scores[0, : len(item.ids)])
