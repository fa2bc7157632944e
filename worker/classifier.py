"""The model as the lanes see it: a session, and what its logits mean."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

import onnxruntime

from worker.pipeline.messages import Partial

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from worker.pipeline.batches import Item
    from worker.pipeline.infer import OnnxModel
    from worker.pipeline.interpret import Interpreter
    from worker.pipeline.messages import Classification


_WINDOW = attrgetter("window")


class OnnxClassifier:
    """One session shared by all lanes. See `worker.ports.Classifier`.

    Args:
        model: runs the graph.
        interpret: what logits mean for the task.
        canary: token ids of a text that is known to work.
    """

    def __init__(
        self,
        model: OnnxModel,
        interpret: Interpreter,
        canary: Sequence[int],
    ) -> None:
        self.model = model
        self.interpret = interpret
        self.canary = canary

    def lane(self) -> _OnnxRun:
        return _OnnxRun(self)


class _OnnxRun:
    def __init__(self, classifier: OnnxClassifier) -> None:
        self._classifier = classifier
        self._options = onnxruntime.RunOptions()

    def __call__(self, items: Sequence[Item]) -> list[Classification | Partial]:
        self._options.terminate = False
        interpret = self._classifier.interpret
        scores = interpret.scores(self._classifier.model([item.ids for item in items], self._options))
        if not any(map(_WINDOW, items)):
            return [*interpret.each(scores, items)]
        return [_said(interpret, scores[row : row + 1], item) for row, item in enumerate(items)]

    def terminate(self) -> None:
        self._options.terminate = True

    def check(self) -> None:
        self._options.terminate = False
        self._classifier.model([self._classifier.canary], self._options)


def _said(interpret: Interpreter, scores: NDArray[np.float64], item: Item) -> Classification | Partial:
    """What the scores of one row say; of a window nothing yet."""
    if item.window is None:
        return interpret.each(scores, [item])[0]
    return Partial(scores[0] if scores.ndim == 2 else scores[0, : len(item.ids)])
