"""One pass of the FP32 graph over texts: the logits, and how the channels of activations are distributed.

Calibration needs these, the gate needs the logits, and the FP32 graph is the slow part of both.
"""

from __future__ import annotations

import tempfile
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper

from worker.cpu import usable_cores
from worker.model.graph.activations import GELUS
from worker.model.graph.builder import Writer
from worker.model.graph.names import pre_activations, product_inputs
from worker.model.graph.quantize import GROUPS, WEIGHT_LIMIT, Range, equalized
from worker.model.session import feeds, open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from concurrent.futures import Executor, Future

    import onnxruntime

    from worker.model.graph.network import Network


_EXTREMES = ("ReduceMin", "ReduceMax")
_MEAN, _SQUARE = "ReduceMean", "square"
_OVER_TEXTS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "ReduceMin": np.minimum,
    "ReduceMax": np.maximum,
    "ReduceMean": np.add,
}
"""By the operator that reduces the tokens of a text, what reduces the texts."""


class Spread(NamedTuple):
    """How the values of each channel are distributed, each [channels].

    Every text counts alike in mean and deviation, however long it is.
    """

    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray


@dataclass(frozen=True, eq=False)
class Observed:
    """What the FP32 graph did.

    Attributes:
        logits: of every text, [labels] or [tokens, labels].
        low: smallest value of each channel by part, [channels]; parts are called as in `names.product_inputs`.
        high: the largest.
        spreads: of what the activations read, by its name in `names.pre_activations`; only where those are Gelu.
    """

    logits: list[np.ndarray]
    low: dict[str, np.ndarray]
    high: dict[str, np.ndarray]
    spreads: dict[str, Spread]

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

    Extremes and spreads are those of the rows with an index in `calibration`, or of all.

    Raises:
        ValueError: there are no such rows.
    """
    chosen = set(range(len(rows)) if calibration is None else calibration)
    if not chosen:
        raise ValueError("calibration needs at least one text")
    names, read = product_inputs(network), pre_activations(network) if network.activation in GELUS else []
    session = _observing(network, [*names, *read], read)
    outputs = [output.name for output in session.get_outputs()]

    def look(i: int) -> list[np.ndarray]:
        return list(session.run(outputs if i in chosen else outputs[:1], feeds(session, [rows[i]])))

    logits: list[np.ndarray] = []
    found: dict[str, np.ndarray] = {}
    with ThreadPoolExecutor(usable_cores()) as lanes:
        # One after the other, since a sum depends on the order.
        for said, *reduced in _in_order(lanes, look, len(rows)):
            logits.append(np.asarray(said[0]))
            for output, each in zip(outputs[1:], reduced, strict=True) if reduced else ():
                both = _OVER_TEXTS[output.rpartition(".")[2]]
                found[output] = both(found[output], each) if output in found else each
    low, high = ({name: found[f"{name}.{op}"] for name in (*names, *read)} for op in _EXTREMES)
    spreads = {name: _spread(name, low[name], high[name], found, len(chosen)) for name in read}
    return Observed(logits, {name: low[name] for name in names}, {name: high[name] for name in names}, spreads)


def _in_order(lanes: Executor, look: Callable[[int], list[np.ndarray]], count: int) -> Iterator[list[np.ndarray]]:
    """What is seen of each text; of a few at a time, however long the first of them takes."""
    running: deque[Future[list[np.ndarray]]] = deque()
    for i in range(count):
        running.append(lanes.submit(look, i))
        if len(running) > 2 * usable_cores():
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


def _spread(name: str, low: np.ndarray, high: np.ndarray, sums: Mapping[str, np.ndarray], texts: int) -> Spread:
    mean, square = (sums[f"{of}.{_MEAN}"] / texts for of in (name, f"{name}.{_SQUARE}"))
    return Spread(low, high, mean, np.sqrt(np.maximum(square - mean**2, 0)))


def _observing(network: Network, names: Sequence[str], read: Sequence[str]) -> onnxruntime.InferenceSession:
    """A session over the FP32 graph with more outputs: extremes of all `names`, means and squares' means of `read`."""
    writer = Writer(network, {}, WEIGHT_LIMIT, int8_words=False)
    writer.write()
    if network.early is not None:
        writer.means(f"layer.{network.early.layer}.input", network.early.queries)
    model = writer.model()
    model.graph.initializer.append(helper.make_tensor("tokens", TensorProto.INT64, [2], [0, 1]))
    for name in read:
        model.graph.node.append(helper.make_node("Mul", [name, name], [f"{name}.{_SQUARE}"]))
    means = [(of, _MEAN) for name in read for of in (name, f"{name}.{_SQUARE}")]
    for name, op in [*((name, op) for name in names for op in _EXTREMES), *means]:
        output = f"{name}.{op}"
        model.graph.node.append(helper.make_node(op, [name, "tokens"], [output], keepdims=0))
        model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, [None]))
    return through_file(model)


def through_file(model: ModelProto) -> onnxruntime.InferenceSession:
    """A session made by way of a file, so that no second copy of the weights is held meanwhile; empties `model`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, str(path))
        model.Clear()
        return open_session(str(path))
