"""Bundles with random weights, for measuring speed: `python -m worker.model.random_bundle --size base --out DIR`.

They have the tokenizer of the default bundle (30,522 wordpieces). Their labels mean nothing, nor does the early head's
sureness; its threshold is such that of random texts so many leave as are asked for.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotation
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import orjson
import typer

from worker.model import bundle
from worker.model.assemble import PROBE_TOLERANCE, Encode, config_json, graphs, probes
from worker.model.evaluation.early_exit import heads
from worker.model.graph.architectures.families import EARLY_EXIT, EARLY_EXIT_LAYER, EARLY_QUERIES
from worker.model.manifest import EarlyExit
from worker.model.session import Stages
from worker.model.spam.card import PROBES
from worker.model.spam.making import DEFAULT
from worker.model.spam.texts import LABELS

if TYPE_CHECKING:
    from worker.model.assemble import TwoStages

Size = Literal["small", "base"]
_TEXTS = 200
_QUERIES = 8
SIZES: dict[str, dict[str, int]] = {
    "small": {"dim": 384, "hidden_dim": 1536, "n_layers": 6, "n_heads": 12},
    "base": {"dim": 768, "hidden_dim": 3072, "n_layers": 6, "n_heads": 12},
}


def random_config(size: str) -> dict[str, Any]:
    """config.json of a DistilBERT of this size with the default bundle's vocabulary and labels."""
    common = {"model_type": "distilbert", "vocab_size": 30522, "max_position_embeddings": 512, "activation": "gelu"}
    return config_json({**common, **SIZES[size], "pad_token_id": 0}, LABELS)


def random_checkpoint(config: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """The tensors of a DistilBERT classifier: weights with a spread of 0.04, biases of 0.01, norms near 1."""
    rng = np.random.default_rng(seed)
    hidden, inner = config["dim"], config["hidden_dim"]
    shapes = {"embeddings.word_embeddings": (config["vocab_size"], hidden)}
    shapes |= {"embeddings.position_embeddings": (config["max_position_embeddings"], hidden)}
    products = {"pre_classifier": (hidden, hidden), "classifier": (len(config["id2label"]), hidden)}
    norms = ["distilbert.embeddings.LayerNorm"]
    for i in range(config["n_layers"]):
        at = f"distilbert.transformer.layer.{i}"
        products |= {f"{at}.attention.{part}_lin": (hidden, hidden) for part in ("q", "k", "v", "out")}
        products |= {f"{at}.ffn.lin1": (inner, hidden), f"{at}.ffn.lin2": (hidden, inner)}
        norms += [f"{at}.sa_layer_norm", f"{at}.output_layer_norm"]
    out = {f"distilbert.{name}.weight": _normal(rng, shape, 0.04) for name, shape in shapes.items()}
    if EARLY_EXIT_LAYER in config:
        products |= {f"{EARLY_EXIT}.pre_classifier": (hidden, _QUERIES * hidden)}
        products |= {f"{EARLY_EXIT}.classifier": products["classifier"]}
    for name, shape in products.items():
        out |= {f"{name}.weight": _normal(rng, shape, 0.04), f"{name}.bias": _normal(rng, shape[:1], 0.01)}
    for name in norms:
        out |= {f"{name}.weight": 1 + _normal(rng, (hidden,), 0.02), f"{name}.bias": _normal(rng, (hidden,), 0.02)}
    if EARLY_EXIT_LAYER in config:
        out[EARLY_QUERIES] = _normal(rng, (_QUERIES, hidden), 0.04)
    return out


def write(out: Path, size: str, seed: int = 0, exit_layer: int | None = None, left: float = 0.9) -> bundle.Bundle:
    """Builds and writes a bundle with random weights into `out`.

    With `exit_layer` it has two stages, and about the share `left` of random texts leaves after so many layers.
    """
    config, tokenizer = random_config(size), (DEFAULT / bundle.TOKENIZER).read_bytes()
    if exit_layer is not None:
        config[EARLY_EXIT_LAYER] = exit_layer
    encode = Encode(tokenizer, 512)
    rng = np.random.default_rng(seed)
    texts = [rng.integers(1000, config["vocab_size"], n).tolist() for n in (8, 16, 32, 64, 128)]
    made = graphs(config, random_checkpoint(config, seed), texts)
    fields = {
        "name": f"random-{size}",
        "licence": "Apache-2.0",
        "task": "single-label",
        "activation": "softmax",
        "max_length": 512,
        "quantization": made.quantization("random token ids", len(texts)),
        "early_exit": None if made.stages is None else _early_exit(config, made.stages, rng, left),
        "probes": probes(made.quantized, encode, PROBES[:4], made.stages),
        "probe_tolerance": PROBE_TOLERANCE,
    }
    files = {**made.files(), bundle.TOKENIZER: tokenizer, bundle.CONFIG: orjson.dumps(config)}
    return bundle.write(out, files, fields)


def _early_exit(config: dict[str, Any], stages: TwoStages, rng: np.random.Generator, left: float) -> EarlyExit:
    rows = [rng.integers(1000, config["vocab_size"], int(n)).tolist() for n in rng.integers(4, 64, _TEXTS)]
    both = heads(LABELS, {}, Stages(*stages)(rows), (1.0, 1.0))
    threshold = float(np.quantile(both.early.max(axis=1), 1 - left))
    return EarlyExit(
        layer=config[EARLY_EXIT_LAYER],
        layers=config["n_layers"],
        temperature=1.0,
        threshold=threshold,
        agreement=float(both.same(threshold).mean()),
        left=float(both.left(threshold).mean()),
        texts=_TEXTS,
    )


def main(
    out: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    size: Annotated[Size, typer.Option(help="6 layers of 384 or of 768.")] = "base",
    seed: Annotated[int, typer.Option(help="Of the weights.")] = 0,
    exit_layer: Annotated[
        int | None, typer.Option(min=1, max=5, help="Two stages, the first of so many layers.")
    ] = None,
    left: Annotated[float, typer.Option(min=0, max=1, help="How many of random texts leave after the first.")] = 0.9,
) -> None:
    """Write a bundle with random weights."""
    made = write(out, size, seed, exit_layer, left)
    typer.echo(f"{made.path}: {made.manifest.name}, {made.digest}, {made.graph_bytes / 1e6:.1f} MB")


def _normal(rng: np.random.Generator, shape: tuple[int, ...], spread: float) -> np.ndarray:
    return rng.normal(0, spread, shape).astype(np.float32)


if __name__ == "__main__":
    typer.run(main)
