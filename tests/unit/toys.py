"""Bundles whose graphs are a table: what they say of a token depends on that token alone. And one in two stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from worker.model import bundle, random_bundle
from worker.model.assemble import Encode, config_json, graphs, probes
from worker.model.manifest import Probe, Quantization
from worker.pipeline.infer import OnnxModel
from worker.pipeline.tokenization import TextTokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from worker.model.bundle import Bundle

onnx = pytest.importorskip("onnx", reason="building a graph needs the extra [import]")
MAX_LENGTH = 12
WORDS = ("good", "bad", "dull", "ann", "lee", "paris", "rome", "went", "to", "and")
ACTIVATIONS = {"single-label": "softmax", "multi-label": "sigmoid", "regression": "none", "token": "softmax"}
PROBES = ("good bad dull", "ann lee went to paris")


def tokenizer_json() -> str:
    vocabulary = {word: i for i, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer.to_str()


def table(labels: int, logits: Mapping[str, Sequence[float]]) -> np.ndarray:
    """Rows of the vocabulary; words that are not named are all zero."""
    rows = np.zeros((4 + len(WORDS), labels), np.float32)
    for word, row in logits.items():
        rows[4 + WORDS.index(word)] = row
    return rows


def graph(rows: np.ndarray, *, per_token: bool, kind: int | None = None, token_types: bool = False) -> bytes:
    """Logits of each token, or the sum over a text's tokens; `noise` is a first output that nobody wants."""
    from onnx import TensorProto, helper, numpy_helper

    kind = kind or TensorProto.INT64
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if token_types else [])]
    inputs = [helper.make_tensor_value_info(name, kind, ["rows", "length"]) for name in names]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["each"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["each", "column"], ["masked"]),
        helper.make_node("Cast", [names[-1]], ["noise"], to=TensorProto.FLOAT),
        helper.make_node("Identity", ["masked"], ["logits"])
        if per_token
        else helper.make_node("ReduceSum", ["masked", "middle"], ["logits"], keepdims=0),
    ]
    constants = [
        numpy_helper.from_array(rows, "table"),
        numpy_helper.from_array(np.array([-1]), "last"),
        numpy_helper.from_array(np.array([1]), "middle"),
    ]
    shape = ["rows", "length", rows.shape[1]] if per_token else ["rows", rows.shape[1]]
    outputs = [
        helper.make_tensor_value_info("noise", TensorProto.FLOAT, ["rows", "length"]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape),
    ]
    made = helper.make_model(
        helper.make_graph(nodes, "table", inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    return made.SerializeToString()


def write(path: Path, task: str, logits: Mapping[str, Sequence[float]], labels: Sequence[str], **fields: Any) -> Bundle:
    """A bundle for a task whose logits are those of its words, added up where the task is of texts."""
    model = graph(table(len(labels), logits), per_token=task == "token", **fields.pop("graph", {}))
    path.mkdir(parents=True, exist_ok=True)
    (path / bundle.MODEL).write_bytes(model)
    tokens, run = TextTokenizer(tokenizer_json(), MAX_LENGTH), OnnxModel(str(path / bundle.MODEL), 0)
    probes = [Probe(text=text, logits=run([tokens([text])[0].ids])[0].ravel().tolist()) for text in PROBES]
    config = {"id2label": {str(i): label for i, label in enumerate(labels)}}
    files = {bundle.MODEL: model, bundle.TOKENIZER: tokenizer_json().encode(), bundle.CONFIG: orjson.dumps(config)}
    stored = Quantization(weights="as imported", activations="as imported", embeddings="as imported")
    return bundle.write(
        path,
        files,
        {
            "name": "toy", "licence": "Apache-2.0", "task": task, "activation": ACTIVATIONS[task],
            "max_length": MAX_LENGTH, "quantization": stored, "probes": probes, "probe_tolerance": 1e-4, **fields,
        },
    )  # fmt: skip


LAYER, LAYERS, LONGEST = 1, 3, 40
"""Of the bundle in two stages."""


def write_staged(path: Path, threshold: float, **fields: Any) -> Bundle:
    """A bundle with an early exit: a small DistilBERT of random weights, in INT8."""
    sizes = {"dim": 32, "hidden_dim": 64, "n_layers": LAYERS, "n_heads": 2, "vocab_size": 4 + len(WORDS)}
    more = {"model_type": "distilbert", "activation": "gelu", "pad_token_id": 0, "early_exit_layer": LAYER}
    config = config_json({**sizes, **more, "max_position_embeddings": LONGEST}, ("pro", "con"))
    tensors = random_bundle.random_checkpoint(config)
    # Enough for texts to differ: the weights are meant for real sizes.
    tensors = {n: tensor if tensor.ndim == 1 else 8 * tensor for n, tensor in tensors.items()}
    for name in ("classifier.weight", "classifier.bias", "pre_classifier.bias"):
        tensors[f"early_exit.{name}"] = np.roll(tensors[name], 1, -1)
    encode = Encode(tokenizer_json().encode(), LONGEST)
    made = graphs(config, tensors, encode([" ".join(WORDS[i:] + WORDS[:i]) for i in range(len(WORDS))]))
    early = {"layer": LAYER, "layers": LAYERS, "temperature": 0.2, "threshold": threshold, "agreement": 1, "left": 0.5}
    return bundle.write(
        path,
        {**made.files(), bundle.TOKENIZER: tokenizer_json().encode(), bundle.CONFIG: orjson.dumps(config)},
        {
            "name": "staged", "licence": "Apache-2.0", "task": "single-label", "activation": "softmax",
            "temperature": 0.2, "max_length": LONGEST, "quantization": made.quantization("its words", len(WORDS)),
            "early_exit": early, "probes": probes(made.quantized, encode, PROBES, made.stages), "probe_tolerance": 0.1,
            **fields,
        },
    )  # fmt: skip
