"""What a bundle says of labelled examples, by the worker's own parts; no torch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from worker.model.data import OUTSIDE
from worker.model.evaluation import answers as judging
from worker.model.evaluation.align import NOWHERE, Offsets, first_pieces
from worker.model.evaluation.served import Place, Served, places
from worker.model.evaluation.serving import ServedBundle, Serving, Told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tokenizers import Tokenizer

    from worker.model.bundle import Bundle
    from worker.model.data import Example
    from worker.model.evaluation.answers import Answers
    from worker.pipeline.messages import Classification


class Encoded(NamedTuple):
    """Token ids, and the characters that each stands for."""

    ids: list[int]
    offsets: Offsets
    truncated: bool


class Predictor:
    """A bundle whose graph is loaded.

    Args:
        bundle: of any task.
        serving: the worker's settings.

    Raises:
        BundleError: the bundle cannot be served on this machine.
        ConfigError: the settings do not fit the bundle.
    """

    def __init__(self, bundle: Bundle, serving: Serving = Serving()) -> None:  # noqa: B008 - settings are frozen
        self.bundle = bundle
        self._serving = serving
        self._served = ServedBundle(bundle, serving)

    def __call__(self, examples: Sequence[Example], told: Callable[[int], None] = lambda _: None) -> Answers:
        """What the worker says of examples that `worker.model.evaluation.answers.check` let through.

        `told` is called from time to time with the number of examples done since.

        Raises:
            ConfigError: it would make a dead letter of one.
        """
        task, labels = self.bundle.manifest.task, self.bundle.labels
        found = self._served(examples, told)
        truncated = sum(each.truncated for each in found)
        if task == "token":
            scores = _word_scores(labels, examples, found)
            said = judging.judged(task, labels, examples, scores, scores.argmax(axis=1), truncated)
            return replace(said, served=self._entities(examples, found))
        scores = np.stack([each.scores for each in found])
        decided = np.array([_decided(task, labels, each.said, each.scores) for each in found])
        said = judging.judged(task, labels, examples, scores, decided, truncated)
        actions = tuple(each.said.action for each in found if each.said.action is not None)
        return replace(said, fallback=self._fallback(), actions=actions, left=self._left(found))

    def _left(self, found: Sequence[Told]) -> np.ndarray | None:
        early_exit = self.bundle.manifest.early_exit
        if early_exit is None or self._serving.model.early_exit == "off":
            return None
        return np.array([each.said.layer != early_exit.layers for each in found])

    def _fallback(self) -> str | None:
        """What a text is said to be that is given none of the model's labels, where that can be."""
        named = self._serving.decision.fallback_label
        return named if self.bundle.manifest.task == "single-label" and named not in self.bundle.labels else None

    def _entities(self, examples: Sequence[Example], found: Sequence[Told]) -> Served | None:
        """Entities of the types that are given; None where tokens are given instead."""
        settings = self._serving.entities
        if settings.aggregation == "none":
            return None
        wanted = frozenset(settings.types)
        true = (places(each, self.bundle.labels) for each in examples)
        return Served(
            settings.aggregation,
            tuple(frozenset(place for place in each if not wanted or place.type in wanted) for each in true),
            tuple(
                frozenset(Place(entity.entity_group, entity.start, entity.end) for entity in each.said.entities or ())
                for each in found
            ),
        )


def _decided(task: str, labels: Sequence[str], said: Classification, scores: np.ndarray) -> int | float | list[int]:
    """What `Answers` holds of one text."""
    if task == "regression":
        return float(scores[0])
    if task == "multi-label":
        given = {label for label, _ in said.labels or ()}
        return [int(label in given) for label in labels]
    return labels.index(said.label) if said.label in labels else judging.ABSTAINED


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Encoded]:
    """Token ids with offsets, cut as the tokenizer is set."""
    return [Encoded(e.ids, e.offsets, bool(e.overflowing)) for e in tokenizer.encode_batch(list(texts))]


def word_logits(
    labels: Sequence[str], examples: Sequence[Example], encoded: Sequence[Encoded], logits: Sequence[np.ndarray]
) -> np.ndarray:
    """Logits [words, labels] of all examples, one after the other: a word has those of its first piece.

    A word of which the tokenizer left nothing, or that was cut off, counts as found to be no entity.
    """
    rows = _by_word(_nothing(labels), examples, [each.offsets for each in encoded], logits)
    return np.stack(list(rows)).astype(np.float32)


def _word_scores(labels: Sequence[str], examples: Sequence[Example], found: Sequence[Told]) -> np.ndarray:
    """The same of scores."""
    offsets = [each.spans.offsets if each.spans else () for each in found]
    nothing = judging.probabilities(_nothing(labels), 1.0)
    return np.stack(list(_by_word(nothing, examples, offsets, [each.scores for each in found])))


def _nothing(labels: Sequence[str]) -> np.ndarray:
    """Logits that say that a word is no entity; where the labels cannot say so, nothing at all."""
    return np.where(np.array(labels) == OUTSIDE, 10.0, -10.0) if OUTSIDE in labels else np.zeros(len(labels))


def _by_word(
    nothing: np.ndarray, examples: Sequence[Example], offsets: Sequence[Offsets], rows: Sequence[np.ndarray]
) -> Iterator[np.ndarray]:
    for example, pieces, each in zip(examples, offsets, rows, strict=True):
        for piece in first_pieces(pieces, example.offsets):
            yield each[piece] if piece != NOWHERE else nothing
