"""From a checkpoint's tensors to a bundle's files: both graphs, calibrated, and a tokenizer without its own limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from tokenizers import Tokenizer

from worker.model.graph.builder import build
from worker.model.graph.network import from_checkpoint
from worker.model.graph.observe import observe
from worker.model.graph.quantize import WEIGHT_LIMIT
from worker.model.manifest import Probe, Quantization
from worker.model.session import open_session, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

PROBE_TOLERANCE = 0.1


@dataclass(frozen=True)
class Graphs:
    """The same network twice, serialized."""

    quantized: bytes
    fp32: bytes


class Encode:
    """Texts to token ids, special tokens included, cut at `max_length`."""

    def __init__(self, tokenizer_json: bytes, max_length: int) -> None:
        self._tokenizer = Tokenizer.from_str(tokenizer_json.decode())
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.encodings(texts)]

    def encodings(self, texts: Sequence[str]) -> list[Any]:
        """All that the tokenizer says of each text: ids, and offsets in characters."""
        return list(self._tokenizer.encode_batch(list(texts)))


def graphs(
    config: dict[str, Any],
    tensors: Mapping[str, np.ndarray],
    calibration: Sequence[Sequence[int]],
    weight_limit: int = WEIGHT_LIMIT,
) -> Graphs:
    """Builds the FP32 graph, calibrates on `calibration` (token ids, one text each), and builds the INT8 graph.

    Raises:
        BundleError: the tensors do not make the network that `config` names.
    """
    network = from_checkpoint(config, tensors)
    ranges = observe(network, calibration).equalized()
    quantized = build(network, ranges, weight_limit=weight_limit)
    return Graphs(quantized.SerializeToString(), build(network).SerializeToString())


def static_int8(calibration: str, texts: int) -> Quantization:
    """What the manifest says of a graph made by `graphs`."""
    return Quantization(
        weights="int8 by column",
        activations="static uint8",
        embeddings="int8 by row",
        calibration=calibration,
        calibration_texts=texts,
    )


def plain_tokenizer(tokenizer_json: bytes) -> bytes:
    """The same tokenizer without padding and truncation: the worker sets its own."""
    return orjson.dumps(orjson.loads(tokenizer_json) | {"truncation": None, "padding": None})


def config_json(config: dict[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """`config` as Hugging Face writes it for a single-label classifier."""
    return {
        "architectures": ["DistilBertForSequenceClassification"],
        **config,
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
        "problem_type": "single_label_classification",
    }


def probes(model: bytes, encode: Encode, texts: Sequence[str]) -> tuple[Probe, ...]:
    """What `model` answers on this machine."""
    session = open_session(model)
    return tuple(
        Probe(text=text, logits=tuple(round(float(x), 5) for x in run(session, [row])[0]))
        for text, row in zip(texts, encode(texts), strict=True)
    )
