"""Runs a bundle over labelled examples through ONNX Runtime, on all cores; no torch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from worker.cpu import usable_cores
from worker.errors import BundleError
from worker.model.data import OUTSIDE
from worker.model.evaluation import answers as judging
from worker.model.evaluation.align import NOWHERE, Offsets, first_pieces
from worker.model.evaluation.served import Served, grouped, places
from worker.pipeline.infer import OnnxModel
from worker.pipeline.tokenization import TextTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tokenizers import Tokenizer

    from worker.model.bundle import Bundle
    from worker.model.data import Example
    from worker.model.evaluation.answers import Answers
    from worker.pipeline.entities import Strategy, TokenSpans

_ROWS, _TOKENS = 32, 2048


class Encoded(NamedTuple):
    """Token ids, and the characters that each stands for."""

    ids: list[int]
    offsets: Offsets
    truncated: bool
    spans: TokenSpans | None = None
    """What entities are made of; of the worker's own tokenizer alone."""


class Predictor:
    """A bundle whose graph is loaded.

    Args:
        bundle: of any task.
        aggregation: how the worker is to make entities of tokens.

    Raises:
        BundleError: the tokenizer or the graph cannot be loaded.
    """

    def __init__(self, bundle: Bundle, aggregation: Strategy = "simple") -> None:
        self._aggregation: Strategy = aggregation
        self.bundle = bundle
        manifest = bundle.manifest
        try:
            self._tokenizer = TextTokenizer(bundle.tokenizer_json, manifest.max_length, spans=True)
            self._model = OnnxModel(str(bundle.model_path), manifest.pad_id)
        except Exception as error:  # noqa: BLE001 - both libraries raise bare exceptions of their own kinds
            raise BundleError(f"The tokenizer or the graph of {bundle.path} cannot be loaded: {error}.") from None

    def __call__(self, examples: Sequence[Example], told: Callable[[int], None] = lambda _: None) -> Answers:
        """What the bundle says of examples that `worker.model.evaluation.answers.check` let through.

        `told` is called from time to time with the number of examples done since.
        """
        manifest, labels = self.bundle.manifest, self.bundle.labels
        encoded = self.encode([example.text for example in examples])
        found = self._logits([each.ids for each in encoded], told)
        said = judging.answers(
            manifest.task,
            labels,
            examples,
            word_logits(labels, examples, encoded, found) if manifest.task == "token" else np.stack(found),
            temperature=manifest.temperature,
            thresholds=manifest.thresholds,
            truncated=sum(each.truncated for each in encoded),
        )
        return replace(said, served=self._served(examples, encoded, found)) if manifest.task == "token" else said

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """As the worker encodes them, cut at the bundle's length."""
        return [
            Encoded(each.ids, each.spans.offsets if each.spans else (), each.truncated, each.spans)
            for each in self._tokenizer(texts)
        ]

    def _served(self, examples: Sequence[Example], encoded: Sequence[Encoded], logits: Sequence[np.ndarray]) -> Served:
        labels, temperature = self.bundle.labels, self.bundle.manifest.temperature
        group = self._tokenizer.grouper(labels, self._aggregation, None, 0.0)
        found = (
            grouped(group, rows, each.spans, example.text, temperature) if each.spans else frozenset()
            for example, each, rows in zip(examples, encoded, logits, strict=True)
        )
        return Served(self._aggregation, tuple(places(each, labels) for each in examples), tuple(found))

    def _logits(self, rows: Sequence[Sequence[int]], told: Callable[[int], None]) -> list[np.ndarray]:
        """Logits of each row: [labels], or [tokens, labels]."""
        out: list[np.ndarray] = [np.empty(0)] * len(rows)
        parts = list(batches([len(row) for row in rows]))
        with ThreadPoolExecutor(usable_cores()) as pool:
            for part, found in zip(
                parts, pool.map(lambda part: self._model([rows[i] for i in part]), parts), strict=True
            ):
                for i, logits in zip(part, found, strict=True):
                    out[i] = logits[: len(rows[i])] if logits.ndim == 2 else logits
                told(len(part))
        return out


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Encoded]:
    """Token ids with offsets, cut as the tokenizer is set."""
    return [Encoded(e.ids, e.offsets, bool(e.overflowing)) for e in tokenizer.encode_batch(list(texts))]


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices in batches of similar length, bounded in rows and in padded tokens; the longest first."""
    part: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if part and (len(part) == _ROWS or lengths[part[0]] * (len(part) + 1) > _TOKENS):
            yield part
            part = []
        part.append(i)
    if part:
        yield part


def word_logits(
    labels: Sequence[str], examples: Sequence[Example], encoded: Sequence[Encoded], logits: Sequence[np.ndarray]
) -> np.ndarray:
    """Logits [words, labels] of all examples, one after the other: a word has those of its first piece.

    A word of which the tokenizer left nothing, or that was cut off, counts as found to be no entity.
    """
    nothing = np.where(np.array(labels) == OUTSIDE, 10.0, -10.0) if OUTSIDE in labels else np.zeros(len(labels))
    rows = [
        found[piece] if piece != NOWHERE else nothing
        for example, each, found in zip(examples, encoded, logits, strict=True)
        for piece in first_pieces(each.offsets, example.offsets)
    ]
    return np.stack(rows).astype(np.float32)
