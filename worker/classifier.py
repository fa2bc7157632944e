"""The model as the lanes see it: a session, and what its logits mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from worker.pipeline.batches import Item
    from worker.pipeline.infer import OnnxModel
    from worker.pipeline.messages import Classification


class OnnxClassifier:
    """One session shared by all lanes. See `worker.ports.Classifier`.

    Args:
        model: runs the graph.
        interpret: logits of shape [rows, labels] to one classification a row.
        canary: token ids of a text that is known to work.
    """

    def __init__(
        self,
        model: OnnxModel,
        interpret: Callable[[NDArray[np.float32]], list[Classification]],
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

    def __call__(self, items: Sequence[Item]) -> list[Classification]:
        self._options.terminate = False
        return self._classifier.interpret(self._classifier.model([item.ids for item in items], self._options))

    def terminate(self) -> None:
        self._options.terminate = True

    def check(self) -> None:
        self._options.terminate = False
        self._classifier.model([self._classifier.canary], self._options)
