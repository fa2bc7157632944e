"""The network of the comparison, as each peer reads it.

A base-size DistilBERT with random weights; the default bundle with the weights that it serves; or these in a network of
base size, so that one of that size has an early head that is not random. Winnow gets its bundle; the others what
`torch.onnx.export` makes of the same tensors, and that after `quantize_dynamic`: the way most people take. Needs the
extra `train`.
"""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from onnxruntime.quantization import QuantType, quantize_dynamic

from bench import kit
from bench.graphs import export
from bench.peers import widened
from bench.peers.peer import HOME, MAX_LENGTH
from bench.peers.weights import tensors
from worker.model import bundle as bundles
from worker.model import random_bundle
from worker.model.assemble import Encode, graphs, probes
from worker.model.graph.architectures.families import EARLY_EXIT, EARLY_EXIT_LAYER
from worker.model.spam.card import PROBES
from worker.model.spam.making import DEFAULT

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from bench.peers.weights import Tensors

MODELS = HOME / "models"
BUNDLES = (RANDOM, SERVED, WIDENED) = ("random-base", "default", "widened")
BUNDLE, FP32, INT8 = "bundle", "fp32", "int8"
"""Folders under `MODELS`."""
SPARK, BENTO = "spark", "bento"
MASKED = -1e9
CALIBRATION = 400
"""Texts that the widened network is quantized with."""


def obtain(bundle: str) -> Path:
    """The folder with all of them, of one of `BUNDLES`; made once."""
    weights = "" if bundle == RANDOM else _default_bundle().digest
    folder = MODELS / f"{bundle}.{weights}{kit.version(kit.GRAPH, Path(__file__).parent)}"
    if not (folder / BENTO / "model.onnx").exists():
        print("Making the models of the comparison, once.", flush=True)
        draft = MODELS / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        make = {RANDOM: _random, SERVED: _default, WIDENED: _widened}[bundle]
        _make(draft, *make(draft))
        draft.rename(folder)
    return folder


def read_whole(texts: list[str], bundle: str) -> list[str]:
    """The texts that Winnow reads to their end: the default bundle cuts them earlier than the peers do."""
    if bundle == RANDOM:
        return texts
    default = _default_bundle()
    rows = Encode(default.tokenizer_json.encode(), default.manifest.max_length + 1)(texts)
    whole = [text for text, row in zip(texts, rows, strict=True) if len(row) <= default.manifest.max_length]
    print(
        f"{len(texts) - len(whole)} of {len(texts)} texts are longer than the bundle reads, and left out.", flush=True
    )
    return whole


def _random(out: Path) -> tuple[dict[str, Any], Tensors]:
    random_bundle.write(out / BUNDLE, "base")
    config = random_bundle.random_config("base")
    return config, random_bundle.random_checkpoint(config)


def _default(out: Path) -> tuple[dict[str, Any], Tensors]:
    shutil.copytree(DEFAULT, out / BUNDLE)
    config = _default_config()
    config.pop(EARLY_EXIT_LAYER, None)
    return config, tensors(_default_bundle())


def _widened(out: Path) -> tuple[dict[str, Any], Tensors]:
    """With the default bundle's thresholds, and what was measured of these: the network says the same."""
    default = _default_bundle()
    config, held = widened.config(_default_config()), widened.tensors(tensors(default, early=True))
    encode = Encode(default.tokenizer_json.encode(), default.manifest.max_length)
    calibration = encode(kit.texts(CALIBRATION))
    made = graphs(config, held, calibration)
    fields = default.manifest.model_dump(exclude={"files", "format", "evaluation", "reference"}) | {
        "name": WIDENED,
        "quantization": made.quantization("the demo's messages", len(calibration)),
        "probes": probes(made.quantized, encode, PROBES[:4], made.stages),
    }
    files = {**made.files(), bundles.TOKENIZER: default.tokenizer_json.encode(), bundles.CONFIG: orjson.dumps(config)}
    bundles.write(out / BUNDLE, files, fields)
    config.pop(EARLY_EXIT_LAYER)
    return config, {name: each for name, each in held.items() if not name.startswith(EARLY_EXIT)}


def _default_config() -> dict[str, Any]:
    """The default bundle's, with what its network has between feed-forward products."""
    config: dict[str, Any] = orjson.loads((DEFAULT / bundles.CONFIG).read_bytes())
    if _default_bundle().manifest.quantization.gelu == "fitted silu":
        config["activation"] = "silu"
    return config


@cache
def _default_bundle() -> bundles.Bundle:
    return bundles.load(DEFAULT)


def _make(out: Path, config: dict[str, Any], checkpoint: Tensors) -> None:
    tokenizer = (DEFAULT / "tokenizer.json").read_bytes()
    for name in (FP32, INT8, BENTO):
        (out / name).mkdir()
        (out / name / "tokenizer.json").write_bytes(tokenizer)
        (out / name / "config.json").write_bytes(orjson.dumps(config))
    plain = out / FP32 / "model.onnx"
    model = _network(config, checkpoint)
    export(model, "sequence", plain)
    quantize_dynamic(plain, out / INT8 / "model.onnx", weight_type=QuantType.QInt8)
    _spark(out, tokenizer, list(config["id2label"].values()))
    _bento(out, model)


def _network(config: dict[str, Any], checkpoint: Tensors) -> PreTrainedModel:
    """`transformers`' own network with these tensors."""
    import torch
    import transformers

    model = transformers.DistilBertForSequenceClassification(
        transformers.DistilBertConfig(**config, attn_implementation="eager")
    )
    model.load_state_dict({name: torch.tensor(array) for name, array in checkpoint.items()})
    return model.eval()


def _spark(out: Path, tokenizer: bytes, labels: list[str]) -> None:
    """A folder as Spark NLP's `loadSavedModel` reads it; hard links, because it follows no symbolic ones."""
    assets = out / SPARK / "assets"
    assets.mkdir(parents=True)
    os.link(out / INT8 / "model.onnx", out / SPARK / "model.onnx")
    vocabulary: dict[str, int] = orjson.loads(tokenizer)["model"]["vocab"]
    (assets / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)) + "\n", "utf-8")
    (assets / "labels.txt").write_text("\n".join(labels) + "\n", "utf-8")


def _bento(out: Path, model: PreTrainedModel) -> None:
    """FP32, because INT8 is slower in its pure-Go backend, which also cannot run how `transformers` makes its mask."""
    import torch

    class PlainMask(torch.nn.Module):  # type: ignore[misc]
        """The same network, with a mask of four dimensions that is made by two operators."""

        def __init__(self) -> None:
            super().__init__()
            self.network = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            away = (1.0 - attention_mask.unsqueeze(1).unsqueeze(2).float()) * MASKED
            return self.network(input_ids, attention_mask=away).logits

    export(PlainMask().eval(), "sequence", out / BENTO / "model.onnx")
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    (out / BENTO / "special_tokens_map.json").write_bytes(orjson.dumps(special))
    settings = {"tokenizer_class": "DistilBertTokenizer", "model_max_length": MAX_LENGTH, "do_lower_case": True}
    (out / BENTO / "tokenizer_config.json").write_bytes(orjson.dumps(settings | special))
