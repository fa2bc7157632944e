"""Does the INT8 graph still say what the FP32 graph says? Decisions, distances, and figures where truth is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from worker.errors import ConfigError
from worker.model.data import OUTSIDE
from worker.model.evaluation import answers
from worker.model.evaluation.align import NOWHERE
from worker.model.evaluation.by_label import by_label
from worker.model.evaluation.spans import span_f1
from worker.model.manifest import Agreement, Evaluation, Figures
from worker.pipeline.interpret import decide, sigmoid, softmax

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.model.data import Example

Truth: TypeAlias = "np.ndarray | WordTags | None"
_DIGITS = 4
_SHOWN = 5
_ALIKE = 1e-6
"""A deviation that is less, in parts of the values' size, is their rounding."""
_NARROW = 0.1
"""Values whose deviation is less than this share of the true ones', or of their size, hardly vary."""
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
        narrow: whether the values of a regression hardly vary.
    """

    agreement: Agreement
    decisions: int
    fp32: Figures | None = None
    int8: Figures | None = None
    metric: str = ""
    evaluation: Evaluation | None = None
    positives_f1: float | None = None
    narrow: bool = False

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
    narrow = meaning.task == "regression" and _is_narrow(decided[0], truth)
    if truth is None:
        return Comparison(agreement, len(decided[0]), positives_f1=positives, narrow=narrow)
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
    metric = METRIC[meaning.task]
    return Comparison(agreement, len(decided[0]), figures[0], figures[1], metric, evaluation, positives, narrow)


def truth_of(meaning: Meaning, examples: Sequence[Example], first: list[list[int]] | None = None) -> Truth:
    """What should be decided of `examples`, in the shape of `Meaning.decide`; None where they do not say it.

    `first` has for each example the token that each of its words begins with; words with tags need it.
    """
    if not examples or examples[0].form == "plain":
        return None
    try:
        answers.check(meaning.task, meaning.labels, examples, "the file", "the model")
    except ConfigError:
        return None
    if meaning.task == "token":
        return None if first is None else WordTags([example.tags for example in examples], first)
    truth = answers.truth_of(meaning.task, meaning.labels, examples)
    # Of values that are all the same nothing can be explained, so that there is no R².
    return None if meaning.task == "regression" and not np.ptp(truth) else truth.reshape(-1)


def without_truth(meaning: Meaning) -> str:
    """Why `truth_of` made nothing of labels, in words that name the model's alone."""
    if meaning.task == "regression":
        return "the texts' labels are no numbers, or all the same one, so there are no figures beside the agreement"
    shown, more = meaning.labels[:_SHOWN], len(meaning.labels) - _SHOWN
    known = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
    return (
        f"the texts' labels are not the model's ({meaning.task}: {known}), so there are no figures by label: name them "
        "alike, in the texts or with --labels"
    )


def headline(figures: Figures) -> float:
    """The one figure that the gate looks at."""
    return figures.accuracy if figures.accuracy is not None else next(iter(figures.metrics.values()))


METRIC = {"single-label": "accuracy", "multi-label": "micro F1", "regression": "R²", "token": "span F1"}


def _same(meaning: Meaning, one: np.ndarray, other: np.ndarray) -> float:
    if meaning.task == "regression":
        return float((np.abs(one - other) <= NEAR * _spread(one)).mean())
    return float((one == other).mean()) if len(one) else 1.0


def _spread(values: np.ndarray) -> float:
    """The deviation of values; of a single one, or of equal ones, their size, as nothing else says what is much."""
    size, deviation = float(np.abs(values).mean()), float(values.std())
    return deviation if deviation > _ALIKE * size else size


def _is_narrow(values: np.ndarray, truth: Truth) -> bool:
    """Whether they lie close together: beside the true ones, or where these are not known, beside their own size."""
    if isinstance(truth, np.ndarray):
        return bool(values.std() < _NARROW * truth.std())
    return bool(values.std() < _NARROW * np.abs(values).mean())


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
    found = by_label(_by_label(meaning, truth), _by_label(meaning, decided))
    named = found.named(meaning.labels)
    if meaning.task == "multi-label":
        micro, macro = (round(found.average(kind)[2], _DIGITS) for kind in ("micro", "macro"))
        return Figures.model_validate({**named, "metrics": {"micro_f1": micro, "macro_f1": macro}})
    accuracy = round(float((decided == truth).mean()), _DIGITS)
    metrics = {"macro_f1": round(float(found.f1[found.support > 0].mean()), _DIGITS)}
    return Figures.model_validate({**named, "accuracy": accuracy, "metrics": metrics})


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
