"""From a checkpoint's tensors to a bundle's files: both graphs, calibrated, and a tokenizer without its own limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from tokenizers import Tokenizer

from worker.model import bundle
from worker.model.graph.activations import GELUS
from worker.model.graph.builder import STAGES, build
from worker.model.graph.correct import corrected
from worker.model.graph.network import from_checkpoint
from worker.model.graph.observe import observe
from worker.model.graph.quantize import WEIGHT_LIMIT
from worker.model.graph.silu import with_silu
from worker.model.manifest import Probe, Quantization
from worker.model.session import Stages, open_session, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from worker.model.graph.network import Network
    from worker.model.graph.quantize import Range

PROBE_TOLERANCE = 0.1


class TwoStages(NamedTuple):
    """The INT8 graph of a network with an early head, serialized."""

    early: bytes
    rest: bytes


@dataclass(frozen=True)
class Graphs:
    """The same network twice, serialized; a third time, in two stages, where it has an early head.

    Attributes:
        fitted: whether a Silu that was fitted to Gelu stands in the INT8 graphs.
    """

    quantized: bytes
    fp32: bytes
    fitted: bool
    stages: TwoStages | None = None

    def files(self) -> dict[str, bytes]:
        """What a bundle holds of them, by name."""
        return graph_files(self.quantized, self.stages)

    def quantization(self, calibration: str, texts: int) -> Quantization:
        """What the manifest says of the INT8 graph, which was calibrated on so many texts."""
        return Quantization(
            weights="int8 by column",
            activations="static uint8",
            embeddings="int8 by row",
            gelu="fitted silu" if self.fitted else "as trained",
            calibration=calibration,
            calibration_texts=texts,
        )


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
    *,
    correct: bool = False,
) -> Graphs:
    """Builds the FP32 graph, calibrates on `calibration` (token ids, one text each), and builds the INT8 graph.

    That has Silu where the network has Gelu (`graph.silu`).

    With `correct`, what quantizing shifts on average is taken back, which takes a run over `calibration` for each norm.

    Raises:
        BundleError: the tensors do not make the network that `config` names.
    """
    network = from_checkpoint(config, tensors)
    fp32 = build(network).SerializeToString()
    fast, seen = with_silu(network, observe(network, calibration))
    ranges = seen.equalized()
    if correct:
        fast = corrected(fast, ranges, calibration, weight_limit, trained=network)
    quantized = build(fast, ranges, weight_limit=weight_limit).SerializeToString()
    staged = None if network.early is None else two_stages(fast, ranges, weight_limit=weight_limit)
    return Graphs(quantized, fp32, network.activation in GELUS, staged)


def two_stages(
    network: Network, ranges: Mapping[str, Range], *, weight_limit: int = WEIGHT_LIMIT, int8_words: bool = True
) -> TwoStages:
    """The INT8 graph of a network with an early head, as `builder.build` makes each stage."""
    early, rest = (
        build(network, ranges, weight_limit=weight_limit, int8_words=int8_words, stage=stage).SerializeToString()
        for stage in STAGES
    )
    return TwoStages(early, rest)


def graph_files(model: bytes, stages: TwoStages | None) -> dict[str, bytes]:
    """The graphs of a bundle by the names of their files: two stages where they are given, else one."""
    return {bundle.MODEL: model} if stages is None else {bundle.EARLY: stages.early, bundle.REST: stages.rest}


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


def probes(model: bytes, encode: Encode, texts: Sequence[str], stages: TwoStages | None = None) -> tuple[Probe, ...]:
    """What `model`, or both of its stages, answer on this machine."""
    rows = encode(texts)
    if stages is not None:
        early, last = Stages(*stages)(rows, batch=1)
        return tuple(map(probe, texts, last, early))
    session = open_session(model)
    return tuple(probe(text, run(session, [row])[0]) for text, row in zip(texts, rows, strict=True))


def probe(text: str, logits: np.ndarray, early_logits: np.ndarray | tuple[()] = ()) -> Probe:
    """A probe with five digits of each logit."""
    last, early = (tuple(round(float(x), 5) for x in each) for each in (logits, early_logits))
    return Probe(text=text, logits=last, early_logits=early)
