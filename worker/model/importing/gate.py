"""Does the INT8 graph still say what the FP32 graph says? Decisions, distances, and figures where truth is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from worker.model.data import OUTSIDE
from worker.model.evaluation.align import NOWHERE
from worker.model.evaluation.spans import span_f1
from worker.model.manifest import Agreement, Evaluation, Figures
from worker.pipeline.interpret import decide, sigmoid, softmax

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.model.data import Example

Truth: TypeAlias = "np.ndarray | WordTags | None"
_DIGITS = 4
NEAR = 0.05
"""Two values of a regression count as the same answer within this share of the spread of all values."""


@dataclass(frozen=True)
class Meaning:
    """How logits become decisions, as the manifest says it.

    Attributes:
        task: of the manifest.
        labels: in the order of their ids.
        temperature: divides the logits.
        thresholds: by label.
    """

    task: str
    labels: tuple[str, ...]
    temperature: float = 1.0
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def decide(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        """What is decided, shape [decisions]: a label id a text or a token, 0 or 1 a text and label, or a value.

        Tokens are those between the special ones at both ends.
        """
        if self.task == "token":
            return np.concatenate([each[1:-1].argmax(axis=1) for each in logits])
        rows = np.stack(logits).astype(np.float64)
        if self.task != "regression":
            rows = (sigmoid if self.task == "multi-label" else softmax)(rows, self.temperature)
        return decide(self.task, self.labels, rows, self.thresholds).reshape(-1)

    def positives(self, decided: np.ndarray) -> np.ndarray | None:
        """What was found among `decided`: 0 is nothing; None for tasks that always find one thing."""
        if self.task == "multi-label":
            return decided
        if self.task == "token":
            return np.where(decided == self.labels.index(OUTSIDE), 0, decided + 1) if OUTSIDE in self.labels else None
        return None


class WordTags(NamedTuple):
    """What is true of texts whose words have tags: the tags of each text, and the token that each word begins with."""

    tags: list[tuple[str, ...]]
    first: list[list[int]]


@dataclass(frozen=True)
class Comparison:
    """Two graphs of the same weights on the same texts.

    Attributes:
        agreement: how often they agree, and how far their logits are apart.
        decisions: how many there were: texts, tokens, or texts times labels.
        positives_f1: of the labels (`multi-label`) or of the tags other than `O` (`token`) that INT8 gives, those of
            FP32 being the truth. Most decisions of these tasks are "no", on which a graph that gives nothing agrees.
        fp32: the figures of the FP32 graph where truth is known.
        int8: those of the other.
        metric: which of the figures the gate looks at.
        evaluation: all of it, as the manifest keeps it.
    """

    agreement: Agreement
    decisions: int
    fp32: Figures | None = None
    int8: Figures | None = None
    metric: str = ""
    evaluation: Evaluation | None = None
    positives_f1: float | None = None

    @property
    def closeness(self) -> float:
        """The lesser of both agreements, by which graphs are ranked."""
        same = self.agreement.same_label
        return same if self.positives_f1 is None else min(same, self.positives_f1)

    @property
    def drop(self) -> float:
        """By how much the metric is worse in INT8; 0 where truth is not known."""
        if self.fp32 is None or self.int8 is None:
            return 0.0
        return round(headline(self.fp32) - headline(self.int8), _DIGITS)


def compare(
    meaning: Meaning,
    fp32: Sequence[np.ndarray],
    int8: Sequence[np.ndarray],
    truth: Truth = None,
    note: str = "",
) -> Comparison:
    """Holds the logits of both graphs, one array a text, against each other and against `truth` (see `truth_of`)."""
    decided = meaning.decide(fp32), meaning.decide(int8)
    agreement = Agreement(
        texts=len(fp32),
        same_label=round(_same(meaning, *decided), _DIGITS),
        **_distances(fp32, int8),
    )
    positives = _positives_f1(*(meaning.positives(each) for each in decided))
    if truth is None:
        return Comparison(agreement, len(decided[0]), positives_f1=positives)
    if isinstance(truth, WordTags):
        figures = [_span_figures(meaning, each, truth) for each in (fp32, int8)]
    else:
        figures = [_figures(meaning, each, truth) for each in decided]
    evaluation = Evaluation(
        channel="import",
        texts=len(fp32),
        per_label=_per_label(meaning, truth),
        quantized=figures[1],
        fp32=figures[0],
        same_label=agreement.same_label,
        note=note,
    )
    return Comparison(agreement, len(decided[0]), figures[0], figures[1], METRIC[meaning.task], evaluation, positives)


def truth_of(meaning: Meaning, examples: Sequence[Example], first: list[list[int]] | None = None) -> Truth:
    """What should be decided of `examples`, in the shape of `Meaning.decide`; None where they do not say it.

    `first` has for each example the token that each of its words begins with; words with tags need it.
    """
    form = examples[0].form if examples else "plain"
    if form == "plain" or (form == "token") != (meaning.task == "token"):
        return None
    if meaning.task == "regression":
        return _numbers(examples)
    known = {str(i): i for i in range(len(meaning.labels))} | {label: i for i, label in enumerate(meaning.labels)}
    if any(label not in known for example in examples for label in (*example.labels, *example.tags)):
        return None
    if meaning.task == "token":
        return None if first is None else WordTags([example.tags for example in examples], first)
    if meaning.task == "single-label":
        if any(len(example.labels) != 1 for example in examples):
            return None
        return np.array([known[example.labels[0]] for example in examples])
    held = [{known[label] for label in example.labels} for example in examples]
    return np.array([[i in each for i in range(len(meaning.labels))] for each in held]).astype(int).reshape(-1)


def headline(figures: Figures) -> float:
    """The one figure that the gate looks at."""
    return figures.accuracy if figures.accuracy is not None else next(iter(figures.metrics.values()))


METRIC = {"single-label": "accuracy", "multi-label": "micro F1", "regression": "R²", "token": "span F1"}


def _numbers(examples: Sequence[Example]) -> np.ndarray | None:
    try:
        values = np.array([float(example.labels[0]) for example in examples])
    except (ValueError, IndexError):
        return None
    return values if np.isfinite(values).all() else None


def _same(meaning: Meaning, one: np.ndarray, other: np.ndarray) -> float:
    if meaning.task == "regression":
        return float((np.abs(one - other) <= NEAR * float(one.std())).mean())
    return float((one == other).mean()) if len(one) else 1.0


def _positives_f1(fp32: np.ndarray | None, int8: np.ndarray | None) -> float | None:
    """1 where neither finds anything."""
    if fp32 is None or int8 is None:
        return None
    given = int((fp32 != 0).sum() + (int8 != 0).sum())
    return round(2 * int(((fp32 == int8) & (fp32 != 0)).sum()) / given, _DIGITS) if given else 1.0


def _distances(fp32: Sequence[np.ndarray], int8: Sequence[np.ndarray]) -> dict[str, float]:
    apart = np.abs(np.concatenate([(a - b).reshape(-1) for a, b in zip(fp32, int8, strict=True)]))
    return {
        "mean_logit_difference": round(float(apart.mean()), _DIGITS),
        "largest_logit_difference": round(float(apart.max()), _DIGITS),
    }


def _figures(meaning: Meaning, decided: np.ndarray, truth: np.ndarray) -> Figures:
    if meaning.task == "regression":
        return Figures(
            metrics={"r2": _r2(decided, truth), "mae": round(float(np.abs(decided - truth).mean()), _DIGITS)}
        )
    chosen, right = _by_label(meaning, decided), _by_label(meaning, truth)
    hits, said, there = (x.sum(axis=0).astype(float) for x in (chosen & right, chosen, right))
    precision, recall = hits / np.maximum(said, 1), hits / np.maximum(there, 1)
    f1 = 2 * hits / np.maximum(said + there, 1)
    by_label = {
        name: {label: round(float(x), _DIGITS) for label, x in zip(meaning.labels, values, strict=True)}
        for name, values in (("precision", precision), ("recall", recall), ("f1", f1))
    }
    micro = round(float(2 * hits.sum() / max(said.sum() + there.sum(), 1)), _DIGITS)
    if meaning.task == "multi-label":
        metrics = {"micro_f1": micro, "macro_f1": round(float(f1.mean()), _DIGITS)}
        return Figures.model_validate({**by_label, "metrics": metrics})
    accuracy = round(float((decided == truth).mean()), _DIGITS)
    metrics = {"macro_f1": round(float(f1[there > 0].mean()), _DIGITS)}
    return Figures.model_validate({**by_label, "accuracy": accuracy, "metrics": metrics})


def _span_figures(meaning: Meaning, logits: Sequence[np.ndarray], truth: WordTags) -> Figures:
    """By entity type; a word has the tag of its first token, or none where that was cut off."""
    outside = next((label for label in meaning.labels if label == "O"), meaning.labels[0])
    said = [
        [meaning.labels[int(row[i].argmax())] if NOWHERE != i < len(row) else outside for i in first]
        for row, first in zip(logits, truth.first, strict=True)
    ]
    found = span_f1(truth.tags, said, meaning.labels)
    return Figures(
        precision={name: round(score.precision, _DIGITS) for name, score in found.types.items()},
        recall={name: round(score.recall, _DIGITS) for name, score in found.types.items()},
        f1={name: round(score.f1, _DIGITS) for name, score in found.types.items()},
        metrics={"span_f1": round(found.f1, _DIGITS)},
    )


def _r2(found: np.ndarray, truth: np.ndarray) -> float:
    spread = float(((truth - truth.mean()) ** 2).sum())
    return round(1 - float(((found - truth) ** 2).sum()) / max(spread, 1e-12), _DIGITS)


def _by_label(meaning: Meaning, decided: np.ndarray) -> np.ndarray:
    """Decisions as truth values, shape [texts, labels]."""
    if meaning.task == "multi-label":
        return decided.reshape(-1, len(meaning.labels)).astype(bool)
    return np.asarray(decided[:, None] == np.arange(len(meaning.labels)))


def _per_label(meaning: Meaning, truth: np.ndarray | WordTags) -> dict[str, int]:
    if isinstance(truth, WordTags):
        return {name: score.support for name, score in span_f1(truth.tags, truth.tags, meaning.labels).types.items()}
    if meaning.task == "regression":
        return {}
    counts = _by_label(meaning, truth).sum(axis=0)
    return {label: int(count) for label, count in zip(meaning.labels, counts, strict=True)}
