"""Writing ONNX nodes one after another, each named by its output."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MICROSOFT = "com.microsoft"
# The first whose `Attention` is told the lengths.
_OPSET = 24
_MICROSOFT_OPSET = 1
# The one that came with that opset.
_IR_VERSION = 12


class Emitter:
    """Collects nodes and constants; called, it adds a node and returns the name of its output."""

    def __init__(self) -> None:
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(MICROSOFT, _MICROSOFT_OPSET)]
        empty = helper.make_graph([], "winnow", [], [])
        # Filled in place: weights take hundreds of MB, and a message put together from others copies them.
        self._model = helper.make_model(empty, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="winnow")
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._count = 0

    def __call__(self, op: str, *inputs: str, domain: str = "", output: str | None = None, **attributes: Any) -> str:
        name = output or f"{op.lower()}.{self._count}"
        self._count += 1
        node = helper.make_node(op, list(inputs), [name], name=name, domain=domain, **attributes)
        self._model.graph.node.append(node)
        return name

    def branch(self, write: Callable[[], str]) -> GraphProto:
        """What `write` adds, as a graph of its own whose output is the name that it returns."""
        nodes = self._model.graph.node
        before = len(nodes)
        result = helper.make_tensor_value_info(write(), TensorProto.FLOAT, None)
        # Constants stay in the graph around it, where it sees them.
        branch = helper.make_graph(nodes[before:], f"branch.{self._count}", [], [result])
        del nodes[before:]
        return branch

    def constant(self, value: np.ndarray | np.generic) -> str:
        """The name of an initializer; equal ones are stored once."""
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        key = (array.dtype.str, array.shape, hashlib.blake2b(array.data).digest())
        if key not in self._constants:
            self._constants[key] = f"constant.{len(self._constants)}"
            self._model.graph.initializer.append(numpy_helper.from_array(array, self._constants[key]))
        return self._constants[key]

    def model(self, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]) -> ModelProto:
        """Everything written so far, as one model."""
        self._model.graph.input.extend(inputs)
        self._model.graph.output.extend(outputs)
        return self._model
