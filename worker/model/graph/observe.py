"""One pass of the FP32 graph over texts: the logits, and how far the channels of each product's input reach.

Calibration needs the ranges, the gate needs the logits, and the FP32 graph is the slow part of both.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper

from worker.cpu import usable_cores
from worker.model.graph.builder import Writer, product_inputs
from worker.model.graph.quantize import GROUPS, WEIGHT_LIMIT, Range, equalized
from worker.model.session import feeds, open_session

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import onnxruntime

    from worker.model.graph.network import Network


@dataclass(frozen=True, eq=False)
class Observed:
    """What the FP32 graph did.

    Attributes:
        logits: of every text, [labels] or [tokens, labels].
        low: smallest value of each channel by part, [channels]; parts are called as in `product_inputs`.
        high: the largest.
    """

    logits: list[np.ndarray]
    low: dict[str, np.ndarray]
    high: dict[str, np.ndarray]

    def ranges(self) -> dict[str, Range]:
        """Plain minimum and maximum."""
        return {name: Range(float(self.low[name].min()), float(self.high[name].max())) for name in self.low}

    def equalized(self) -> dict[str, Range]:
        """With channels brought nearer to one size; those between two feed-forward products by groups."""
        return {
            name: equalized(self.low[name], self.high[name], GROUPS if name.endswith(".activation") else ())
            for name in self.low
        }


def observe(
    network: Network,
    rows: Sequence[Sequence[int]],
    calibration: Collection[int] | None = None,
) -> Observed:
    """Runs each of `rows` (token ids of one text) alone, so that no padding is seen.

    Extremes are those of the rows with an index in `calibration`, or of all.

    Raises:
        ValueError: there are no such rows.
    """
    chosen = set(range(len(rows)) if calibration is None else calibration)
    if not chosen:
        raise ValueError("calibration needs at least one text")
    names = product_inputs(network)
    session = _observing(network, names)
    outputs = [output.name for output in session.get_outputs()]
    low: dict[str, np.ndarray] = {}
    high: dict[str, np.ndarray] = {}
    adding = Lock()

    def look(i: int) -> np.ndarray:
        wanted = outputs if i in chosen else outputs[:1]
        logits, *extremes = session.run(wanted, feeds(session, [rows[i]]))
        with adding:
            for name, smallest, largest in zip(names, extremes[::2], extremes[1::2], strict=False):
                low[name] = np.minimum(low.get(name, smallest), smallest)
                high[name] = np.maximum(high.get(name, largest), largest)
        return np.asarray(logits[0])

    with ThreadPoolExecutor(usable_cores()) as lanes:
        logits = list(lanes.map(look, range(len(rows))))
    return Observed(logits, {name: low[name] for name in names}, {name: high[name] for name in names})


def _observing(network: Network, names: Sequence[str]) -> onnxruntime.InferenceSession:
    """A session over the FP32 graph with two more outputs for every name, the extremes of its channels."""
    writer = Writer(network, {}, WEIGHT_LIMIT, int8_words=False)
    writer.write()
    if network.early is not None:
        writer.means(f"layer.{network.early.layer}.input", network.early.queries)
    model = writer.model()
    for name in names:
        for op in ("ReduceMin", "ReduceMax"):
            output = f"{name}.{op}"
            model.graph.node.append(helper.make_node(op, [name], [output], axes=[0, 1], keepdims=0))
            model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, [None]))
    return through_file(model)


def through_file(model: ModelProto) -> onnxruntime.InferenceSession:
    """A session made by way of a file, so that no second copy of the weights is held meanwhile; empties `model`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, str(path))
        model.Clear()
        return open_session(str(path))
