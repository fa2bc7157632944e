"""What quantizing shifts on average, taken back by the biases of the norms.

After Nagel and others, "Data-Free Quantization Through Weight Equalization and Bias Correction" (2019), but over texts.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from worker.cpu import usable_cores
from worker.model.graph.builder import build
from worker.model.graph.names import HEAD_INPUT
from worker.model.graph.observe import through_file
from worker.model.graph.quantize import WEIGHT_LIMIT
from worker.model.session import feeds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx

    from worker.model.graph.layers import Network, Norm
    from worker.model.graph.quantize import Range


def corrected(
    network: Network,
    ranges: Mapping[str, Range],
    rows: Sequence[Sequence[int]],
    weight_limit: int = WEIGHT_LIMIT,
    *,
    trained: Network | None = None,
) -> Network:
    """The same network for an INT8 graph: what its norms give there has the means that it has in FP32.

    Norm by norm, since a shift that is taken back does not reach those behind it.

    Args:
        network: what becomes INT8.
        ranges: of each product's input.
        rows: token ids of the texts over which means are taken.
        weight_limit: the largest INT8 weight code of that graph.
        trained: whose means they shall be, where `network` is only near to it.
    """
    names = _norms(network)
    wanted = _means(build(network if trained is None else trained), names, rows)
    for name in names:
        (found,) = _means(build(network, ranges, weight_limit=weight_limit), [name], rows)
        network = _shifted(network, name, (wanted[names.index(name)] - found).astype(np.float32))
    return network


def _norms(network: Network) -> list[str]:
    """What the norms give, by the names that the builder has for it, in the order of the layers."""
    last = len(network.layers) - 1
    names = [] if network.projection is not None else ["layer.0.input"]
    for i in range(len(network.layers)):
        names += [f"layer.{i}.intermediate", f"layer.{i + 1}.input" if i < last else HEAD_INPUT]
    return names


def _means(model: onnx.ModelProto, names: Sequence[str], rows: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Of each tensor the mean over all tokens, [hidden]. Empties `model`."""
    for name in names:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = through_file(model)

    def sums(row: Sequence[int]) -> list[np.ndarray]:
        found = session.run(list(names), feeds(session, [row]))
        tokens = (each.reshape(-1, each.shape[-1]) for each in found)
        return [np.append(each.sum(0, dtype=np.float64), len(each)) for each in tokens]

    with ThreadPoolExecutor(usable_cores()) as lanes:
        totals = [np.sum(each, axis=0) for each in zip(*lanes.map(sums, rows), strict=True)]
    return [total[:-1] / total[-1] for total in totals]


def _shifted(network: Network, name: str, by: np.ndarray) -> Network:
    def shift(norm: Norm) -> Norm:
        return replace(norm, bias=norm.bias + by)

    if name == "layer.0.input":
        return replace(network, embedding_norm=shift(network.embedding_norm))
    layers = list(network.layers)
    if name.endswith(".intermediate"):
        at = int(name.split(".")[1])
        layers[at] = replace(layers[at], attention_norm=shift(layers[at].attention_norm))
    else:
        at = len(layers) - 1 if name == HEAD_INPUT else int(name.split(".")[1]) - 1
        layers[at] = replace(layers[at], output_norm=shift(layers[at].output_norm))
    return replace(network, layers=tuple(layers))
