"""The tensors of a checkpoint out of the ONNX graph that torch exported of it.

Exporters keep the names of biases, norms and embeddings, but fold the transpose of most weights into nameless ones
(`onnx::MatMul_123`). Such a weight belongs to the module whose bias is added to its product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, numpy_helper

from worker.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_INTEGER_PRODUCTS = ("MatMulInteger", "QLinearMatMul", "MatMulIntegerToFloat", "MatMulNBits", "DequantizeLinear")


def tensors(proto: onnx.ModelProto, path: Path) -> dict[str, np.ndarray]:
    """FP32 tensors by the names that the checkpoint had.

    Raises:
        BundleError: the graph is quantized, or its weights have lost their names.
    """
    for node in proto.graph.node:
        if node.op_type in _INTEGER_PRODUCTS:
            raise BundleError(
                f"{path} is quantized already ({node.op_type}): --rebuild needs the FP32 graph; name it with "
                "--onnx-file."
            )
    stored = {t.name: t for t in proto.graph.initializer if t.data_type in _FLOATS}
    found = {name: numpy_helper.to_array(t) for name, t in stored.items() if name.endswith((".weight", ".bias"))}
    _follow_copies(proto, stored, found)
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


def _module(following: onnx.NodeProto | None, found: dict[str, np.ndarray]) -> str | None:
    """The module whose bias the node adds."""
    if following is None or following.op_type != "Add":
        return None
    bias = next((name for name in following.input if name in found and name.endswith(".bias")), None)
    return bias.removesuffix(".bias") if bias is not None else None
