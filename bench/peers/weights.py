"""The weights of a bundle, read back from its INT8 graphs: what is served, as a checkpoint that other tools can read.

Of a DistilBERT that classifies sequences, as `worker.model.graph.builder` writes it. An early head is told apart, since
no other tool has one; the bias of the last layer's keys is 0, as it changes nothing and is not in the graph. Where Gelu
became Silu, the weights are those of a network with Silu.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
import orjson
from onnx import numpy_helper

from worker.model.bundle import CONFIG
from worker.model.graph.architectures.families import EARLY_EXIT, EARLY_EXIT_LAYER, EARLY_QUERIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.model.bundle import Bundle

Tensors: TypeAlias = dict[str, np.ndarray]
_PRODUCTS = ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "ffn.lin1", "ffn.lin2")
_LAST = tuple(name for name in _PRODUCTS if name not in ("attention.k_lin", "attention.v_lin"))
"""Of the last layer; the two others are not quantized there."""
_NORMS = ("sa_layer_norm", "output_layer_norm")


class Graph:
    """One graph; its nodes come in the order in which they were written."""

    def __init__(self, path: str) -> None:
        graph = onnx.load(path).graph
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._maker = {output: node for node in graph.node for output in node.output}
        self._nodes = list(graph.node)

    def of(self, operator: str) -> list[list[np.ndarray]]:
        """The constants that each node of a kind reads; those that read none are left out."""
        found = [self._read(node) for node in self._nodes if node.op_type == operator]
        return [constants for constants in found if constants]

    def products(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Weight [in, out] and bias of each INT8 product; groups of channels that the next reads together are one."""
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        for node in self._nodes:
            if node.op_type != "MatMulIntegerToFloat":
                continue
            groups = self._groups(node)
            if len(groups) > 1:
                weights, biases = zip(*parts[-len(groups) :], strict=True)
                parts[-len(groups) :] = [(np.concatenate(weights, axis=1), np.concatenate(biases))]
            parts.append(self._product(node, groups))
        yield from parts

    def _product(self, node: Any, groups: list[Any]) -> tuple[np.ndarray, np.ndarray]:
        codes, scale, scales, bias = (self._constants[node.input[i]] for i in (1, 2, 3, 6))
        # Codes are value · factor / their own scale; the product takes them for codes of the one scale that it knows.
        factors = [self._factor(each) * scale / self._constants[each.input[1]] for each in groups]
        if len(groups) > 1:
            factors = [np.repeat(each, self._width(one)) for each, one in zip(factors, groups, strict=True)]
        return codes * scales * np.concatenate(factors)[:, None], bias

    def _groups(self, product: Any) -> list[Any]:
        """What makes the codes that it reads, one or several side by side."""
        made = self._maker[product.input[0]]
        return [self._maker[name] for name in made.input] if made.op_type == "Concat" else [made]

    def _width(self, quantize: Any) -> int:
        """Of a group: what an activation function made of what a product gave."""
        product = self._maker[self._maker[quantize.input[0]].input[0]]
        return int(self._constants[product.input[1]].shape[1])

    def _factor(self, quantize: Any) -> np.ndarray:
        """What values are multiplied with before they become codes."""
        before = self._maker.get(quantize.input[0])
        divided = before is not None and before.op_type == "Mul"
        return self._read(before)[0] if divided else np.ones(1, np.float32)

    def _read(self, node: Any) -> list[np.ndarray]:
        return [self._constants[name] for name in node.input if name in self._constants]


def tensors(bundle: Bundle, *, early: bool = False) -> Tensors:
    """By the names that transformers has for them, float32; with `early` those of an early head, too."""
    graphs = [Graph(str(path)) for path in bundle.graph_paths]
    norms = [norm for graph in graphs for norm in graph.of("LayerNormalization")]
    products = [product for graph in graphs for product in graph.products()]
    config = orjson.loads((bundle.path / CONFIG).read_bytes())
    layers = int(config["n_layers"])
    found = _embeddings(graphs[0]) | _named("distilbert.embeddings.LayerNorm", *norms.pop(0))
    if len(graphs) > 1:  # the early head reads its means with the last product of its graph
        head = _early_head(graphs[0], products.pop(len(_PRODUCTS) * int(config[EARLY_EXIT_LAYER])))
        found |= head if early else {}
    for i in range(layers):
        name = f"distilbert.transformer.layer.{i}"
        for norm in _NORMS:
            found |= _named(f"{name}.{norm}", *norms.pop(0))
        for product in _PRODUCTS if i < layers - 1 else _LAST:
            found |= _dense(f"{name}.{product}", *products.pop(0))
    found |= _asked(graphs[-1], f"distilbert.transformer.layer.{layers - 1}.attention")
    return found | _dense("pre_classifier", *products.pop(0)) | _classifier(graphs[-1])


def _embeddings(graph: Graph) -> Tensors:
    (codes,), (scales,) = graph.of("Gather")
    (positions,) = (table for constants in graph.of("Slice") for table in constants if table.ndim == 2)
    tables = {"word_embeddings": codes * scales, "position_embeddings": positions}
    return {f"distilbert.embeddings.{name}.weight": table.astype(np.float32) for name, table in tables.items()}


def _asked(graph: Graph, name: str) -> Tensors:
    """Keys and values of the last layer: what queries are taken back through, and what makes values of means."""
    (keys,), (values,) = graph.of("FusedMatMul")
    hidden = keys.shape[2]
    key, value = keys.transpose(2, 0, 1).reshape(hidden, hidden), values.transpose(1, 0, 2).reshape(hidden, hidden)
    (bias,), _ = graph.of("Add")
    return _dense(f"{name}.k_lin", key, np.zeros(hidden, np.float32)) | _dense(f"{name}.v_lin", value, bias)


def _early_head(graph: Graph, product: tuple[np.ndarray, np.ndarray]) -> Tensors:
    (queries,), (weight,) = graph.of("MatMul")
    ((bias,),) = graph.of("Add")
    found = {EARLY_QUERIES: np.ascontiguousarray(queries.T)} | _dense(f"{EARLY_EXIT}.pre_classifier", *product)
    return found | _named(f"{EARLY_EXIT}.classifier", weight, bias)


def _classifier(graph: Graph) -> Tensors:
    ((weight,),) = graph.of("MatMul")
    _, (bias,) = graph.of("Add")
    return _named("classifier", weight, bias)


def _dense(name: str, weight: np.ndarray, bias: np.ndarray) -> Tensors:
    return _named(name, np.ascontiguousarray(weight.T, np.float32), bias)


def _named(name: str, weight: np.ndarray, bias: np.ndarray) -> Tensors:
    return {f"{name}.weight": weight, f"{name}.bias": bias}
