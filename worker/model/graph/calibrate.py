"""Which range every activation takes: the FP32 graph over example texts, with smallest and largest values out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import ModelProto, TensorProto, helper

from worker.model.graph.builder import build, product_inputs
from worker.model.graph.quantize import Range
from worker.model.session import open_session

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from worker.model.graph.network import Network


def calibrate(network: Network, rows: Iterable[Sequence[int]]) -> dict[str, Range]:
    """Plain minimum and maximum over `rows`, each the token ids of one text, run alone so that no padding is seen.

    Raises:
        ValueError: there are no rows.
    """
    names = product_inputs(network)
    session = open_session(_observing(build(network), names).SerializeToString())
    lows, highs = [], []
    for row in rows:
        ids = np.array([row], np.int32)
        found = np.array(session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})).reshape(-1, 2)
        lows.append(found[:, 0])
        highs.append(found[:, 1])
    if not lows:
        raise ValueError("calibration needs at least one text")
    low, high = np.min(lows, axis=0), np.max(highs, axis=0)
    return {name: Range(float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}


def _observing(model: ModelProto, names: Sequence[str]) -> ModelProto:
    """The model with two outputs for every named tensor, its minimum and maximum, in place of its own output."""
    del model.graph.output[:]
    for name in names:
        for op in ("ReduceMin", "ReduceMax"):
            output = f"{name}.{op}"
            model.graph.node.append(helper.make_node(op, [name], [output], keepdims=0))
            model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, []))
    return model
