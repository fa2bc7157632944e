"""Small checkpoints as folders, with random weights that decide clearly, and graphs as others would export them."""

from __future__ import annotations

import numpy as np
import onnx
import orjson
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from worker.model.graph.builder import Writer
from worker.model.graph.network import from_checkpoint
from worker.model.graph.quantize import WEIGHT_LIMIT

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz0123456789.,!?'"]
VOCABULARY = [*WORDS, *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789"), "the", "train", "is", "late", "good"]
CONFIG = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "vocab_size": len(VOCABULARY),
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "_name_or_path": "somewhere/on/a/disk",
    "id2label": {"0": "ham", "1": "spam", "2": "eggs"},
}
TOKEN_CONFIG = CONFIG | {
    "architectures": ["BertForTokenClassification"],
    "id2label": {"0": "O", "1": "B-PER", "2": "I-PER"},
}
TOKENIZER_CONFIG = {"do_lower_case": True, "tokenizer_class": "BertTokenizer", "model_max_length": 64}


def tensors(config=CONFIG, seed=0, spread=0.2):
    """The tensors of a BERT classifier; the last product is spread wide, so that few texts are close calls."""
    rng = np.random.default_rng(seed)
    hidden, inner, labels = config["hidden_size"], config["intermediate_size"], len(config["id2label"])
    out = {}

    def product(name, outputs, inputs, scale=spread):
        out[f"{name}.weight"] = rng.normal(0, scale, (outputs, inputs)).astype(np.float32)
        out[f"{name}.bias"] = rng.normal(0, 0.1, outputs).astype(np.float32)

    def norm(name):
        out[f"{name}.weight"] = (1 + rng.normal(0, 0.05, hidden)).astype(np.float32)
        out[f"{name}.bias"] = rng.normal(0, 0.05, hidden).astype(np.float32)

    at = "bert.embeddings"
    rows = {"word": config["vocab_size"], "position": config["max_position_embeddings"], "token_type": 2}
    for table, count in rows.items():
        out[f"{at}.{table}_embeddings.weight"] = rng.normal(0, 0.3, (count, hidden)).astype(np.float32)
    norm(f"{at}.LayerNorm")
    for i in range(config["num_hidden_layers"]):
        at = f"bert.encoder.layer.{i}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            product(f"{at}.attention.{part}", hidden, hidden)
        norm(f"{at}.attention.output.LayerNorm")
        product(f"{at}.intermediate.dense", inner, hidden)
        product(f"{at}.output.dense", hidden, inner)
        norm(f"{at}.output.LayerNorm")
    if "Sequence" in config["architectures"][0]:
        product("bert.pooler.dense", hidden, hidden)
    product("classifier", labels, hidden, 1.0)
    return out


def write(folder, config=CONFIG, held=None, tokenizer=TOKENIZER_CONFIG, vocabulary=VOCABULARY):
    """A checkpoint whose tokenizer is a vocab.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_bytes(orjson.dumps(config))
    save_file(tensors(config) if held is None else held, folder / "model.safetensors")
    write_vocabulary(folder, tokenizer, vocabulary)
    return folder


def write_vocabulary(folder, tokenizer=TOKENIZER_CONFIG, vocabulary=VOCABULARY):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in vocabulary), "utf-8")
    if tokenizer is not None:
        (folder / "tokenizer_config.json").write_bytes(orjson.dumps(tokenizer))


class AllTokens(Writer):
    """Attention by plain operators, and the last layer for every token as any other: what exporters write."""

    def _layer(self, x, layer, name, *, first_only):
        everything = super()._layer(x, layer, name, first_only=False)
        return self._cut(everything, 1, axis=1) if first_only else everything

    def _attention(self, query, key, value, name):
        emit, network = self.emitter, self.network
        split, join = ([0, 0, *end] for end in ((network.heads, network.head_size), (network.hidden,)))
        heads = [emit("Reshape", each, emit.constant(np.array(split))) for each in (query, key, value)]
        query, key, value = (
            emit("Transpose", each, perm=perm)
            for each, perm in zip(heads, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True)
        )
        scores = emit("Div", emit("MatMul", query, key), emit.constant(np.sqrt(np.float32(network.head_size))))
        if self._bias:
            scores = emit("Add", scores, self._bias)
        scores = emit("Add", scores, emit("Unsqueeze", self._mask(), emit.constant(np.array([1]))))
        context = emit("Transpose", emit("MatMul", emit("Softmax", scores, axis=-1), value), perm=[0, 2, 1, 3])
        return emit("Reshape", context, emit.constant(np.array(join)), output=name)


def plain_graph(network):
    """In FP32."""
    writer = AllTokens(network, {}, WEIGHT_LIMIT, int8_words=False)
    writer.write()
    return writer.model()


def foreign_graph(config=CONFIG, held=None, *, integer=TensorProto.INT64, token_types=True):
    """What the checkpoint computes, under the inputs that exporters give it."""
    model = plain_graph(from_checkpoint(config, tensors(config) if held is None else held))
    names = [value.name for value in model.graph.input]
    del model.graph.input[:]
    for name in [*names, *(["token_type_ids"] if token_types else [])]:
        model.graph.input.append(helper.make_tensor_value_info(name, integer, ["batch", "sequence"]))
    # Our own graph reads int32 under other names from here on.
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name in names:
                node.input[i] = f"{name}.int32"
    for name in names:
        cast = helper.make_node("Cast", [name], [f"{name}.int32"], to=TensorProto.INT32)
        model.graph.node.insert(0, cast)
    return model


def save_graph(path, model):
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, str(path))
    return path


def texts(count=80, seed=0):
    """Lines of a few known words and letters."""
    rng = np.random.default_rng(seed)
    pool = [word for word in VOCABULARY[5:] if not word.startswith("##")]
    return [" ".join(rng.choice(pool, rng.integers(2, 25))) for _ in range(count)]
