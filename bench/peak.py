"""How much of what the machine's INT8 units can do our graph makes use of.

Measured against bare products: graphs of one `MatMulIntegerToFloat` each, of the very shapes that ONNX Runtime's
profile of our graph shows, weights and bias included. `of_products` is the time that these products would take alone,
divided by the time of the graph. `of_peak` counts operations instead: those of the graph's products in its time,
against the fastest of the bare products.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from bench.graphs import feeds, profiled, runs_per_second
from worker.model.session import open_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PRODUCT = "MatMulIntegerToFloat"
MICROSOFT = "com.microsoft"


class Product(NamedTuple):
    """[rows, inner] · [inner, columns]."""

    rows: int
    inner: int
    columns: int

    @property
    def operations(self) -> int:
        """Multiplications and additions."""
        return 2 * self.rows * self.inner * self.columns


class Bare:
    """One product alone; the weights are constants, as in a model."""

    def __init__(self, product: Product) -> None:
        rng = np.random.default_rng(0)
        rows, inner, columns = product
        constants = {
            "b": rng.integers(-127, 128, (inner, columns), np.int8),
            "a_scale": np.array(0.02, np.float32),
            "b_scale": rng.uniform(0.001, 0.002, columns).astype(np.float32),
            "a_zero": np.array(128, np.uint8),
            "bias": np.zeros(columns, np.float32),
        }
        node = helper.make_node(
            PRODUCT, ["a", "b", "a_scale", "b_scale", "a_zero", "", "bias"], ["y"], domain=MICROSOFT
        )
        graph = helper.make_graph(
            [node],
            "product",
            [helper.make_tensor_value_info("a", TensorProto.UINT8, [rows, inner])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, columns])],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        )
        imports = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=9)
        self._session = open_session(model.SerializeToString())
        self._feed = {"a": rng.integers(0, 256, (rows, inner), np.uint8)}

    def __call__(self) -> object:
        return self._session.run(None, self._feed)


def products(model: bytes, messages: int, tokens: int) -> Counter[Product]:
    """What is multiplied in one run over a full batch, and how often, as the profile has it."""
    events = profiled(model, lambda session: feeds(session, messages, tokens))
    return Counter(_product(event["args"]) for event in events if event.get("args", {}).get("op_name") == PRODUCT)


def _product(args: Mapping[str, Any]) -> Product:
    # Weights that were packed beforehand are no inputs any more; what comes out shows how many columns they have.
    (left,), (out,) = args["input_type_shape"][0].values(), args["output_type_shape"][0].values()
    return Product(math.prod(left[:-1]), left[-1], out[-1])


class Peak:
    """Bare products of all batches, measured round by round beside the graphs."""

    def __init__(self, model: bytes, shapes: Sequence[tuple[int, int]], lanes: Sequence[int], seconds: float) -> None:
        self.by_shape = {shape: products(model, *shape) for shape in shapes}
        self._seconds = seconds
        self._bare = {product: Bare(product) for counts in self.by_shape.values() for product in counts}
        self.rates: dict[int, dict[Product, list[float]]] = {
            count: {product: [] for product in self._bare} for count in lanes
        }
        """By lanes and product, runs a second of all lanes together, round by round."""

    def round(self) -> None:
        for lanes, rates in self.rates.items():
            for product, run in self._bare.items():
                run()
                rates[product].append(runs_per_second(run, lanes, self._seconds))

    def row(self, shape: tuple[int, int], lanes: int, tokens_per_second: Sequence[float]) -> dict[str, float]:
        """Our shares at one batch, medians of the rounds."""
        rates, counts = self.rates[lanes], self.by_shape[shape]
        operations = sum(product.operations * count for product, count in counts.items())
        of_products, of_peak, peak = [], [], []
        for number, speed in enumerate(tokens_per_second):
            runs = speed / (shape[0] * shape[1])
            alone = sum(count / rates[product][number] for product, count in counts.items())
            best = max(product.operations * each[number] for product, each in rates.items())
            of_products.append(runs * alone)
            of_peak.append(runs * operations / best)
            peak.append(best / 1e12)
        return {
            "of_products": statistics.median(of_products),
            "of_peak": statistics.median(of_peak),
            "peak_tops": statistics.median(peak),
        }
