"""What labels and scores a stream may be expected to get: those of texts that the bundle was not trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from worker.errors import ConfigError
from worker.model.evaluation.serving import ServedBundle, Serving
from worker.model.manifest import Reference
from worker.pipeline.scores import SCORES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.model.bundle import Bundle
    from worker.model.data import Example
    from worker.pipeline.messages import Classification

_DIGITS = 6


def has_reference(task: str) -> bool:
    """Whether results of a task have labels with scores, by which texts as a whole can be compared."""
    return task in ("single-label", "multi-label")


def reference(
    bundle: Bundle,
    examples: Sequence[Example],
    serving: Serving = Serving(),  # noqa: B008 - settings are frozen
    told: Callable[[int], None] = lambda _: None,
) -> Reference:
    """How the bundle labels texts and scores their labels, as a worker with its thresholds, temperature and early exit.

    Args:
        bundle: for texts with labels.
        examples: at least one; what is known of their labels does not matter.
        serving: of the worker; what it makes of scores is left out, the bundle alone decides.
        told: called from time to time with the number of examples done since.

    Raises:
        ConfigError: the bundle gives no labels, or the worker would make a dead letter of a text.
    """
    if not has_reference(bundle.manifest.task):
        raise ConfigError(
            f"The bundle {bundle.manifest.name} is for {bundle.manifest.task}: its results have no labels with scores "
            "that could be compared."
        )
    said = [each.said for each in ServedBundle(bundle, serving.reading())(examples, told)]
    return of_answers(bundle.labels, said)


def of_answers(labels: Sequence[str], said: Sequence[Classification]) -> Reference:
    """The same of what was said of texts; `labels` are all that there are."""
    found: dict[str, list[float]] = {label: [] for label in labels}
    for each in said:
        for label, score in _given(each):
            found[label].append(score)
    return Reference(
        texts=len(said),
        labels={label: round(len(scores) / len(said), _DIGITS) for label, scores in found.items()},
        scores={label: _shares(scores) for label, scores in found.items() if scores},
    )


def _given(said: Classification) -> list[tuple[str, float]]:
    """The labels that a text was given, each with its score, as metrics count them."""
    if said.labels is not None:
        return list(said.labels)
    return [] if said.label is None or said.score is None else [(said.label, said.score)]


def _shares(scores: Sequence[float]) -> tuple[float, ...]:
    up_to = np.searchsorted(np.sort(scores), SCORES, side="right")
    return tuple(round(float(count), _DIGITS) for count in up_to / len(scores))
