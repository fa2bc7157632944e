"""What these tests import, and with which options."""

from __future__ import annotations

import numpy as np
import onnx
import orjson

from tests.unit.model import checkpoints
from worker.model.data import Example
from worker.model.graph.builder import build
from worker.model.graph.network import from_checkpoint
from worker.model.graph.observe import observe
from worker.model.importing.importer import Importer, ImportOptions

LENIENT = {"min_agreement": 0.5}


def given(count=80):
    return [Example(str(i), text) for i, text in enumerate(checkpoints.texts(count))]


def imported(folder, out, **options):
    return Importer(folder, ImportOptions(**{"calibration": given(), **LENIENT, **options})).run(out)


def optimum(folder, config=checkpoints.CONFIG, **options):
    """What Optimum writes: graph, config and tokenizer, no weights."""
    checkpoints.save_graph(folder / "model.onnx", checkpoints.foreign_graph(config, **options))
    (folder / "config.json").write_bytes(orjson.dumps(config))
    checkpoints.write_vocabulary(folder)
    return folder


def int8_graph():
    network = from_checkpoint(checkpoints.CONFIG, checkpoints.tensors())
    return build(network, observe(network, [[2, *range(5, 40), 3]]).ranges())


def as_torch_names_it(held):
    """The graph of the checkpoint as torch exports it: weights of products transposed and nameless."""
    model = checkpoints.foreign_graph(held=held)
    by_content = {
        (tensor.shape, tensor.tobytes()): name
        for name, each in held.items()
        for tensor in ([each] if each.ndim == 1 else [each, np.ascontiguousarray(each.T)])
    }
    names = {}
    for i, tensor in enumerate(model.graph.initializer):
        array = onnx.numpy_helper.to_array(tensor)
        name = by_content.get((array.shape, array.tobytes()), f"constant_{i}")
        transposed = name in held and array.ndim == 2 and not np.array_equal(array, held[name])
        names[tensor.name] = f"onnx::MatMul_{i}" if transposed else name
        tensor.name = names[tensor.name]
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)
    return model


def traced(folder):
    """A folder with a graph as torch traces it, and the graph.

    The position table of our own graph already holds the token types, so it is exact with these at zero.
    """
    held = checkpoints.tensors()
    held["bert.embeddings.token_type_embeddings.weight"][:] = 0
    optimum(folder)
    model = as_torch_names_it(held)
    for name in ("position", "token_type"):
        name = f"bert.embeddings.{name}_embeddings.weight"
        model.graph.initializer.append(onnx.numpy_helper.from_array(held[name], name))
    checkpoints.save_graph(folder / "model.onnx", model)
    return folder, model
