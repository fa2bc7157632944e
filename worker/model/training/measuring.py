"""What a trained bundle says of held-out texts: beside FP32, and with early exit beside all layers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from worker.model import bundle
from worker.model.evaluation import answers as judging
from worker.model.evaluation import measure, threshold
from worker.model.evaluation.predict import Predictor
from worker.model.evaluation.reference import has_reference, reference
from worker.model.evaluation.serving import Serving
from worker.model.importing import leaving
from worker.model.importing.gate import NEAR
from worker.model.manifest import Evaluation, WithExits
from worker.model.words import counted
from worker.sections import EntitySettings

if TYPE_CHECKING:
    from worker.model.bundle import Bundle
    from worker.model.evaluation.answers import Answers
    from worker.model.training.corpus import Corpus
    from worker.model.training.fitting import Fitting, Watcher
    from worker.pipeline.entities import Strategy

_AGGREGATIONS: tuple[Strategy, ...] = ("simple", "first", "average", "max")


class Trained(NamedTuple):
    """A bundle, what it says of held-out texts, and how it came to be."""

    bundle: Bundle
    answers: Answers
    measured_on: str
    fp32: Answers
    history: list[dict[str, Any]]
    whole: Answers
    """What it says where every text goes through all layers."""


def measured(made: Bundle, texts: Corpus, fitting: Fitting, watcher: Watcher) -> Trained:
    """The bundle with its figures on the test texts, or without any on those of validation."""
    held, name = (texts.test, "test") if texts.test else (texts.validation, "validation")
    watcher.phase(f"measuring on {name}", len(held))
    whole = found = Predictor(made, Serving().all_layers())(held, watcher.step)
    manifest = made.manifest
    if manifest.early_exit is not None:
        found = Predictor(made)(held)
    found = replace(found, notes=_notes(made, texts, fitting, watcher))
    fp32 = judging.answers(
        texts.task, texts.labels, held, fitting.logits(held),
        temperature=manifest.temperature, thresholds=manifest.thresholds,
    )  # fmt: skip
    changes: dict[str, Any] = {"evaluation": [*manifest.evaluation, _evaluation(name, whole, fp32, found)]}
    if has_reference(texts.task):
        watcher.phase("noting labels and scores on validation", len(texts.validation))
        changes["reference"] = reference(made, texts.validation, told=watcher.step).model_dump(mode="json")
    made = bundle.amend(made, changes)
    return Trained(made, found, name, fp32, fitting.history, whole)


def _notes(made: Bundle, texts: Corpus, fitting: Fitting, watcher: Watcher) -> tuple[str, ...]:
    """What the validation texts decided, or were too few to decide."""
    if fitting.early_layer is not None:
        return (leaving.said(made.manifest.early_exit),)
    if texts.task == "multi-label":
        return _unfitted(texts)
    if texts.task != "token":
        return ()
    watcher.phase("joining tokens in other ways on validation", len(_AGGREGATIONS) * len(texts.validation))
    return (best_aggregation({each: _joined(made, texts, each, watcher) for each in _AGGREGATIONS}),)


def _unfitted(texts: Corpus) -> tuple[str, ...]:
    counts = judging.truth_of(texts.task, texts.labels, texts.validation).sum(axis=0)
    few = int((counts < threshold.ENOUGH).sum())
    if not few:
        return ()
    return (
        f"{few} of {counted(len(texts.labels), 'label')} kept the threshold 0.5, because fewer than "
        f"{threshold.ENOUGH} validation texts have them",
    )


def _joined(made: Bundle, texts: Corpus, aggregation: Strategy, watcher: Watcher) -> float:
    """F1 of the entities of the validation texts as they are served with an aggregation."""
    serving = Serving(entities=EntitySettings(aggregation=aggregation))
    served = Predictor(made, serving)(texts.validation, watcher.step).served
    return served.scores().f1 if served else 0.0


def best_aggregation(f1: dict[Strategy, float]) -> str:
    usual = EntitySettings().aggregation
    best = max(f1, key=lambda each: (round(f1[each], 4), each == usual))
    said = f"entities as served have an F1 of {f1[usual]:.4f} on validation with entities.aggregation={usual}"
    if best == usual:
        return f"{said}, the default, and no other aggregation does better"
    return f"{said}, the default, and {f1[best]:.4f} with {best}, which does best"


def _evaluation(name: str, whole: Answers, fp32: Answers, served: Answers) -> dict[str, Any]:
    counts = measure.measure(whole).get("labels", {})
    return Evaluation(
        channel=name,
        texts=len(whole.ids),
        per_label={label: each["support"] for label, each in counts.items()},
        quantized=measure.figures(whole),
        fp32=measure.figures(fp32),
        same_label=round(agreement(whole, fp32), 4),
        early_exit=_with_exits(served, whole),
    ).model_dump(mode="json")


def _with_exits(served: Answers, whole: Answers) -> WithExits | None:
    if served.left is None:
        return None
    same, left = round(agreement(served, whole), 4), round(float(served.left.mean()), 4)
    return WithExits(figures=measure.figures(served), same_label=same, left=left)


def agreement(one: Answers, other: Answers) -> float:
    """The share of decisions that are the same, as the gate counts them: texts, words, or pairs of a text and a label.

    Values are, within a twentieth of what FP32's differ by.
    """
    if one.task == "regression":
        return float((np.abs(one.decided - other.decided) <= NEAR * other.decided.std()).mean())
    return float((one.decided == other.decided).mean())


def same_set(one: Answers, other: Answers) -> float:
    """For `multi-label` the share of texts whose labels are all the same."""
    return float((one.decided == other.decided).all(axis=1).mean())
