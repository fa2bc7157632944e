"""ONNX graphs that others exported: looked at without running them, and made one file.

What the worker can serve: inputs `input_ids` and `attention_mask`, perhaps `token_type_ids`, int32 or int64, with both
axes free; an output [batch, labels] or [batch, sequence, labels]; operators that ONNX Runtime knows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto

from worker.errors import BundleError
from worker.model.importing.checkpoint import unreadable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

NEEDED, OPTIONAL = ("input_ids", "attention_mask"), ("token_type_ids",)
_INTEGERS = {TensorProto.INT32: np.int32, TensorProto.INT64: np.int64}
# In the order in which they are looked for; `*_onnx` is what Spark NLP calls the file when it saves a model.
QUANTIZED = ("model_quantized.onnx", "onnx/model_quantized.onnx", "onnx/model_int8.onnx", "model_int8.onnx")
EXACT = ("model.onnx", "onnx/model.onnx")
_OTHERS = re.compile(r"(onnx/)?[^/]+\.onnx|[^/]+_onnx")
# By one of these a graph multiplies integers, or unpacks them.
_INTEGER_PRODUCTS = (
    "MatMulInteger", "QLinearMatMul", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulNBits", "MatMulBnb4",
    "QGemm", "QAttention", "DequantizeLinear",
)  # fmt: skip
_LARGEST = 2_000_000_000
"""Bytes; what protobuf can hold is a little more."""
_DIMENSIONS = {2: "sequence", 3: "token"}


class Graph(NamedTuple):
    """A graph in one file, and what it gives."""

    model: bytes
    kind: str
    """`sequence` for one row of logits a text, `token` for one a token."""
    path: Path
    proto: onnx.ModelProto


def find(folder: Path, wanted: str | None = None, *, fp32: bool = False) -> Path | None:
    """The graph to take: the one that is `wanted`, else as `choose` says.

    Raises:
        BundleError: the wanted file is not there, or several might be meant.
    """
    if wanted is not None:
        path = folder / wanted
        if not path.is_file():
            raise BundleError(f"{path} is missing: give --onnx-file the path of a graph inside of {folder}.")
        return path
    paths = (path for place in (folder, folder / "onnx") if place.is_dir() for path in place.iterdir())
    name = choose([path.relative_to(folder).as_posix() for path in paths if path.is_file()], str(folder), fp32=fp32)
    return None if name is None else folder / name


def choose(names: Collection[str], where: str, *, fp32: bool = False) -> str | None:
    """The quantized graph among the files of `where`, else the exact one (with `fp32` that first), else the only one.

    Raises:
        BundleError: several might be meant.
    """
    first = (*EXACT, *QUANTIZED) if fp32 else (*QUANTIZED, *EXACT)
    known = next((name for name in first if name in names), None)
    if known is not None:
        return known
    found = sorted(name for name in names if _OTHERS.fullmatch(name))
    if len(found) > 1:
        raise BundleError(f"{where} has several graphs ({', '.join(found)}): say which one with --onnx-file.")
    return found[0] if found else None


def exact(folder: Path, beside: Path) -> Path | None:
    """The file that may be the FP32 form of the graph `beside`."""
    found = (folder / name for name in EXACT)
    return next((path for path in found if path.is_file() and not path.samefile(beside)), None)


def quantized_by(proto: onnx.ModelProto) -> str | None:
    """An operator by which a graph computes with integers; None where it has none."""
    nodes = (node.op_type for graph in _graphs(proto) for node in graph.node)
    return next((name for name in nodes if name in _INTEGER_PRODUCTS), None)


def read(path: Path, folder: Path) -> Graph:
    """A graph that the worker can serve, its external data taken in.

    Args:
        path: of the graph.
        folder: outside of which nothing is read.

    Raises:
        BundleError: it cannot be served; the sentence names what is in the way.
    """
    proto = load(path, folder)
    _check_operators(proto, path)
    _check_inputs(proto, path)
    kind = _keep_logits(proto, path)
    return Graph(proto.SerializeToString(), kind, path, proto)


def load(path: Path, folder: Path) -> onnx.ModelProto:
    """The graph with all tensors inside.

    Raises:
        BundleError: it is no ONNX, or its external data is missing or outside of `folder`.
    """
    try:
        proto = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise unreadable(path, error) from None
    except Exception:  # noqa: BLE001 - protobuf's own exceptions have no common base
        raise BundleError(f"{path} is no ONNX graph, or an incomplete one: download it again.") from None
    if not proto.graph.node:
        raise BundleError(f"{path} is no ONNX graph, or an incomplete one: download it again.")
    total = proto.ByteSize()
    for tensor in _tensors(proto):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        content = _external(tensor, path, folder)
        total += len(content)
        if total > _LARGEST:
            raise BundleError(
                f"{path} has more than 2 GB of weights, more than one ONNX file holds: quantize it first."
            )
        tensor.raw_data = content
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]
    return proto


def _external(tensor: TensorProto, path: Path, folder: Path) -> bytes:
    said = {entry.key: entry.value for entry in tensor.external_data}
    file = path.parent / said.get("location", "")
    if not _is_inside(file, folder):
        raise BundleError(
            f"{path} keeps the tensor {tensor.name!r} in {said.get('location')!r}, outside of "
            "the folder: that is not read."
        )
    try:
        size, offset = file.stat().st_size, int(said.get("offset", 0))
        length = int(said.get("length", size - offset))
        # Checked before anything is read: a file can ask for any number of bytes.
        if offset < 0 or not 0 <= length <= size - offset:
            raise BundleError(f"{file} is shorter than {path.name} says: download it again.")
        with file.open("rb") as data:
            data.seek(offset)
            content: bytes = data.read(length)
            return content
    except (OSError, ValueError):
        raise BundleError(f"{file} is missing or damaged, where {path.name} keeps weights: download it, too.") from None


def _is_inside(file: Path, folder: Path) -> bool:
    """Links count by where they lead; in the cache of the hub they lead to its blobs."""
    root = folder.resolve()
    allowed = [root]
    if folder.absolute().parent.name == "snapshots":
        allowed.append(folder.absolute().parent.parent.resolve() / "blobs")
    lexical = (path := file.absolute()).is_relative_to(folder.absolute()) and ".." not in path.parts
    return lexical and any(file.resolve().is_relative_to(place) for place in allowed)


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """The graph, those inside of its nodes, and the model's own functions."""
    waiting: list[onnx.GraphProto | onnx.FunctionProto] = [proto.graph, *proto.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for attribute in (attribute for node in graph.node for attribute in node.attribute):
            waiting += [attribute.g] if attribute.HasField("g") else attribute.graphs


def _tensors(proto: onnx.ModelProto) -> Iterator[TensorProto]:
    for graph in _graphs(proto):
        if isinstance(graph, onnx.GraphProto):
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
        for attribute in (attribute for node in graph.node for attribute in node.attribute):
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _check_operators(proto: onnx.ModelProto, path: Path) -> None:
    known = _known_operators() | {(function.domain, function.name) for function in proto.functions}
    for graph in _graphs(proto):
        for node in graph.node:
            domain = "" if node.domain == "ai.onnx" else node.domain
            if (domain, node.op_type) not in known:
                raise BundleError(
                    f"{path} needs the operator {node.op_type!r} of the domain {domain or 'ai.onnx'!r}, which ONNX "
                    "Runtime does not have: custom operators are not loaded; export the model without it."
                )


def _known_operators() -> set[tuple[str, str]]:
    from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

    return {(schema.domain, schema.name) for schema in get_all_operator_schema()}


def _check_inputs(proto: onnx.ModelProto, path: Path) -> None:
    stored = {tensor.name for tensor in proto.graph.initializer}
    inputs = {value.name: value for value in proto.graph.input if value.name not in stored}
    for name in NEEDED:
        if name not in inputs:
            raise BundleError(
                f"{path} has no input {name!r} (it has {', '.join(inputs) or 'none'}): export it with one."
            )
    for name, value in inputs.items():
        if name not in (*NEEDED, *OPTIONAL):
            raise BundleError(f"{path} has the input {name!r}, which the worker does not know: export it without.")
        if value.type.tensor_type.elem_type not in _INTEGERS:
            raise BundleError(
                f"{path} takes {name!r} in a type other than int32 and int64: export it with one of them."
            )
        sizes = [axis.dim_value for axis in value.type.tensor_type.shape.dim if axis.HasField("dim_value")]
        if sizes or len(value.type.tensor_type.shape.dim) not in (0, 2):
            raise BundleError(
                f"{path} takes {name!r} in a fixed shape ({_shape(value)}): export it with dynamic axes, "
                "[batch, sequence]."
            )


def _keep_logits(proto: onnx.ModelProto, path: Path) -> str:
    """Leaves `logits`, or the only output, as the one output. Returns what kind it is."""
    outputs = {value.name: value for value in proto.graph.output}
    chosen = outputs.get("logits") or (next(iter(outputs.values())) if len(outputs) == 1 else None)
    if chosen is None:
        raise BundleError(f"{path} has no output 'logits' among {', '.join(outputs)}: export a classifier.")
    kind = _DIMENSIONS.get(len(chosen.type.tensor_type.shape.dim))
    if kind is None or chosen.type.tensor_type.elem_type != TensorProto.FLOAT:
        raise BundleError(
            f"{path} gives {chosen.name!r} of the shape ({_shape(chosen)}), neither float logits [batch, labels] nor "
            "[batch, sequence, labels]: export a classifier."
        )
    kept = onnx.ValueInfoProto()
    kept.CopyFrom(chosen)
    del proto.graph.output[:]
    proto.graph.output.append(kept)
    return kind


def _shape(value: onnx.ValueInfoProto) -> str:
    axes = value.type.tensor_type.shape.dim
    return ", ".join(str(axis.dim_value) if axis.HasField("dim_value") else axis.dim_param or "?" for axis in axes)
