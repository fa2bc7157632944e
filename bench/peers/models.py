"""The one network of the comparison, as each peer reads it: a base-size DistilBERT with random weights.

Winnow gets its bundle; the others what `torch.onnx.export` makes of the same tensors, and that after
`quantize_dynamic`: the way most people take. Needs the extra `train`.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import orjson
from onnxruntime.quantization import QuantType, quantize_dynamic

from bench.graphs import export
from bench.peers.peer import HOME, MAX_LENGTH
from worker.model import random_bundle
from worker.model.spam.making import DEFAULT

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

MODELS = HOME / "models"
BUNDLE, FP32, INT8 = "bundle", "fp32", "int8"
"""Folders under `MODELS`."""
SPARK, BENTO = "spark", "bento"
MASKED = -1e9


def obtain() -> Path:
    """The folder with all of them; made once."""
    if not (MODELS / BENTO / "model.onnx").exists():
        draft = MODELS.with_name("models.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        _make(draft)
        draft.rename(MODELS)
    return MODELS


def _make(out: Path) -> None:
    print("Making the models of the comparison, once.", flush=True)
    config = random_bundle.random_config("base")
    random_bundle.write(out / BUNDLE, "base")
    tokenizer = (DEFAULT / "tokenizer.json").read_bytes()
    for name in (FP32, INT8, BENTO):
        (out / name).mkdir()
        (out / name / "tokenizer.json").write_bytes(tokenizer)
        (out / name / "config.json").write_bytes(orjson.dumps(config))
    plain = out / FP32 / "model.onnx"
    model = _network(config)
    export(model, "sequence", plain)
    quantize_dynamic(plain, out / INT8 / "model.onnx", weight_type=QuantType.QInt8)
    _spark(out, tokenizer, list(config["id2label"].values()))
    _bento(out, model)


def _network(config: dict[str, Any]) -> PreTrainedModel:
    """`transformers`' own network with the tensors of the bundle."""
    import torch
    import transformers

    model = transformers.DistilBertForSequenceClassification(
        transformers.DistilBertConfig(**config, attn_implementation="eager")
    )
    tensors = {name: torch.from_numpy(array) for name, array in random_bundle.random_checkpoint(config).items()}
    model.load_state_dict(tensors)
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
