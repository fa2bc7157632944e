"""One graph that holds every part of a network twice, in INT8 and in FP32, and is told with each run which to take.

Which parts can be INT8 is found by trying many combinations; a graph and a session for each take most of that time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from worker.model.graph.builder import Writer
from worker.model.graph.observe import through_file
from worker.model.graph.quantize import WEIGHT_LIMIT
from worker.model.session import run_each

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from worker.model.graph.layers import Dense, Network
    from worker.model.graph.quantize import Range

WORDS = "words"
"""The embedding table as a part."""


class Switched:
    """A session over such a graph.

    Args:
        network: what is quantized.
        ranges: of every part.
        weight_limit: the largest weight code.
    """

    def __init__(self, network: Network, ranges: Mapping[str, Range], weight_limit: int = WEIGHT_LIMIT) -> None:
        self.parts = (*ranges, WORDS)
        writer = _Switching(network, ranges, weight_limit, int8_words=True)
        writer.write()
        model = writer.model()
        model.graph.input.extend(helper.make_tensor_value_info(_switch(p), TensorProto.BOOL, []) for p in self.parts)
        self._session = through_file(model)

    def __call__(self, rows: Sequence[Sequence[int]], int8: Collection[str], batch: int = 1) -> list[np.ndarray]:
        """Logits of each row with the parts `int8` in INT8 and all others in FP32, as `session.run_each` gives them."""
        return run_each(self._session, rows, batch, more={_switch(p): np.array(p in int8) for p in self.parts})


class _Switching(Writer):
    # Parts of a group would each need a switch; one scale a channel and one a group are equally near to FP32.
    grouped = False

    def _dense(self, x: str, observed: str, dense: Dense, output: str | None = None) -> str:
        return self._either(
            observed, lambda: super(_Switching, self)._dense(x, observed, dense), lambda: self._plain(x, dense), output
        )

    def _words(self) -> str:
        def table(int8: bool) -> str:
            self.int8_words = int8
            return super(_Switching, self)._words()

        return self._either(WORDS, lambda: table(True), lambda: table(False))

    def _either(self, part: str, int8: Callable[[], str], fp32: Callable[[], str], output: str | None = None) -> str:
        # Codes made within a branch are seen nowhere else.
        self._quantized.clear()
        branches = {"then_branch": self.emitter.branch(int8), "else_branch": self.emitter.branch(fp32)}
        self._quantized.clear()
        return self.emitter("If", _switch(part), output=output, **branches)


def _switch(part: str) -> str:
    return f"{part}.int8"
