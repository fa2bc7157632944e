"""Winnow's graph as a function, for frameworks that bring everything else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STUB = "stub"
"""Instead of a bundle: a classifier that costs nothing."""


def open_classifier(bundle: str) -> Callable[[Sequence[str]], list[dict[str, Any]]]:
    """A function from texts to their labels and scores; one thread runs it."""
    if bundle == STUB:
        return lambda texts: [{"label": "ham", "score": 0.9}] * len(texts)
    from worker.pipeline.infer import OnnxModel, StagedModel
    from worker.pipeline.interpret import SingleLabel
    from worker.pipeline.tokenization import TextTokenizer

    folder = Path(bundle)
    config = orjson.loads((folder / "config.json").read_bytes())
    tokenizer = TextTokenizer((folder / "tokenizer.json").read_text("utf-8"), config["max_position_embeddings"])
    whole, early, rest = (str(folder / name) for name in ("model.onnx", "early.onnx", "rest.onnx"))
    pad = config["pad_token_id"]
    # A bundle in two stages answers with all layers here.
    model = StagedModel(early, rest, pad) if Path(early).exists() else OnnxModel(whole, pad)
    says = SingleLabel(list(config["id2label"].values()), 1.0, {})

    def classify(texts: Sequence[str]) -> list[dict[str, Any]]:
        scores = says.scores(model([encoded.ids for encoded in tokenizer(texts)]))
        each = [says.classify(row) for row in scores.tolist()]
        return [{"label": one.label, "score": one.score} for one in each]

    return classify
