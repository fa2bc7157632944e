"""One pass of the FP32 graph over texts: the logits, and the range that each product's input takes in each text.

Calibration needs the ranges, the gate needs the logits, and the FP32 graph is the slow part of both.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from worker.cpu import usable_cores
from worker.model.graph.builder import build, product_inputs
from worker.model.graph.quantize import Range
from worker.model.session import feeds, open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnxruntime

    from worker.model.graph.network import Network


@dataclass(frozen=True, eq=False)
class Observed:
    """What the FP32 graph did.

    Attributes:
        logits: one array a text, [labels] or [tokens, labels].
        names: the parts of the network, as `product_inputs` calls them.
        low: smallest value by text and part, [texts, parts].
        high: the largest.
    """

    logits: list[np.ndarray]
    names: list[str]
    low: np.ndarray
    high: np.ndarray

    def ranges(self, texts: Sequence[int]) -> dict[str, Range]:
        """Plain minimum and maximum over some of the texts."""
        chosen = list(texts)
        low, high = self.low[chosen].min(axis=0), self.high[chosen].max(axis=0)
        return {name: Range(float(a), float(b)) for name, a, b in zip(self.names, low, high, strict=True)}


def observe(network: Network, rows: Sequence[Sequence[int]], progress: Callable[[], object] = lambda: None) -> Observed:
    """Runs each of `rows` (token ids of one text) alone, so that no padding is seen; `progress` is called after each.

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError("calibration needs at least one text")
    names = product_inputs(network)
    session = _observing(network, names)

    def look(row: Sequence[int]) -> list[np.ndarray]:
        found = session.run(None, feeds(session, [row]))
        progress()
        return [np.asarray(each) for each in found]

    with ThreadPoolExecutor(usable_cores()) as lanes:
        found = list(lanes.map(look, rows))
    extremes = np.array([each[1:] for each in found]).reshape(len(rows), len(names), 2)
    return Observed([each[0][0] for each in found], names, extremes[:, :, 0], extremes[:, :, 1])


def _observing(network: Network, names: Sequence[str]) -> onnxruntime.InferenceSession:
    """A session over the FP32 graph with two more outputs for every name, its minimum and maximum.

    It goes through a file, so that no second copy of the weights is held while the session is made.
    """
    model = build(network)
    for name in names:
        for op in ("ReduceMin", "ReduceMax"):
            output = f"{name}.{op}"
            model.graph.node.append(helper.make_node(op, [name], [output], keepdims=0))
            model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, []))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fp32.onnx"
        path.write_bytes(model.SerializeToString())
        del model
        return open_session(str(path))
