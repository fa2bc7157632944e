"""The tensors of a checkpoint out of the ONNX graph that torch exported of it.

Exporters keep the names of biases, norms and embeddings, but fold the transpose of most weights into nameless ones
(`onnx::MatMul_123`). Such a weight belongs to the module whose bias is added to its product.

Equal tensors (a bias of zeros, and another) are stored once. The older exporter gives the others' names to `Identity`;
the newer one drops them, but notes in each node of which module it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, numpy_helper

from worker.errors import BundleError
from worker.model.importing import foreign

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

_SCOPES = "pkg.torch.onnx.name_scopes"
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)


def tensors(proto: onnx.ModelProto, path: Path) -> dict[str, np.ndarray]:
    """FP32 tensors by the names that the checkpoint had.

    Raises:
        BundleError: the graph is quantized, or its weights have lost their names.
    """
    operator = foreign.quantized_by(proto)
    if operator is not None:
        raise BundleError(
            f"{path} is quantized already ({operator}): --rebuild needs the FP32 graph; name it with --onnx-file."
        )
    stored = {t.name: t for t in proto.graph.initializer if t.data_type in _FLOATS}
    found = {name: numpy_helper.to_array(t) for name, t in stored.items() if name.endswith((".weight", ".bias"))}
    _follow_copies(proto, stored, found)
    _follow_modules(proto, stored, found)
    reading = {name: node for node in proto.graph.node for name in node.input}
    for node in proto.graph.node:
        if node.op_type != "MatMul" or node.input[1] not in stored:
            continue
        module = _module(reading.get(node.output[0]), found)
        if module is not None and f"{module}.weight" not in found:
            found[f"{module}.weight"] = np.ascontiguousarray(numpy_helper.to_array(stored[node.input[1]]).T)
    if not any(name.endswith(".weight") and found[name].ndim == 2 for name in found):
        raise BundleError(
            f"{path} does not say which weight is which, as graphs that an optimizer changed do not: --rebuild needs "
            "the graph as torch exports it."
        )
    return found


def _follow_copies(proto: onnx.ModelProto, stored: dict[str, TensorProto], found: dict[str, np.ndarray]) -> None:
    """Equal tensors are stored once, the others' names given to `Identity`."""
    for node in proto.graph.node:
        if node.op_type == "Identity" and node.input[0] in stored and node.output[0].endswith((".weight", ".bias")):
            found[node.output[0]] = numpy_helper.to_array(stored[node.input[0]])


def _follow_modules(proto: onnx.ModelProto, stored: dict[str, TensorProto], found: dict[str, np.ndarray]) -> None:
    """What a node that says its module computes with is that module's, under whatever name it is stored."""
    for node in proto.graph.node:
        module = _said_module(node) if node.op_type in ("Add", "MatMul", "Gemm", "LayerNormalization") else None
        if module is None:
            continue
        held = [numpy_helper.to_array(stored[name]) if name in stored else None for name in node.input]
        for kind, value in zip(("weight", "bias"), _parameters(node, held), strict=True):
            if value is not None:
                found.setdefault(f"{module}.{kind}", value)


def _parameters(node: onnx.NodeProto, held: list[np.ndarray | None]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Weight and bias, as modules keep them, of the nodes that linear layers and norms become; `held`: its inputs."""
    if node.op_type == "Add":
        return None, next((each for each in held if each is not None and each.ndim == 1), None)
    weight, bias = held[1], held[2] if len(held) > 2 else None
    if node.op_type == "LayerNormalization" or weight is None:
        return weight, bias
    if not any(each.name == "transB" and each.i for each in node.attribute):
        weight = np.ascontiguousarray(weight.T)
    if node.op_type == "Gemm" and len(held) == 2:  # exporters leave out a bias of zeros
        bias = np.zeros(len(weight), weight.dtype)
    return weight, bias


def _said_module(node: onnx.NodeProto) -> str | None:
    """The innermost module in the node's own words, the last of which is the operation: `['', 'bert', …, 'linear']`."""
    said = next((each.value for each in node.metadata_props if each.key == _SCOPES), "")
    scopes = re.findall(r"'([^']*)'", said)
    return scopes[-2] if len(scopes) > 1 and scopes[-2] else None


def _module(following: onnx.NodeProto | None, found: dict[str, np.ndarray]) -> str | None:
    """The module whose bias the node adds."""
    if following is None or following.op_type != "Add":
        return None
    bias = next((name for name in following.input if name in found and name.endswith(".bias")), None)
    return bias.removesuffix(".bias") if bias is not None else None
