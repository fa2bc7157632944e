"""What a bundle's logits mean: one interpretation a task, by what the manifest says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from worker.classifier import EarlyHead
from worker.errors import BundleError
from worker.pipeline.interpret import Entities, MultiLabel, OfTexts, Regression, SingleLabel

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.model.bundle import Bundle
    from worker.model.manifest import EarlyExit
    from worker.pipeline.decision import Decision
    from worker.pipeline.tokenization import TextTokenizer
    from worker.sections import EntitySettings


class Parts(NamedTuple):
    """What an interpretation is made of."""

    bundle: Bundle
    tokenizer: TextTokenizer
    entities: EntitySettings
    decision: Decision
    early: EarlyExit | None = None
    """Where texts may leave before the last layer."""


def interpretation(bundle: Bundle) -> Callable[[Parts], OfTexts | Entities]:
    """What makes the interpretation of all layers' logits.

    Raises:
        BundleError: the bundle is for something that cannot be served.
    """
    asked = (bundle.manifest.task, bundle.manifest.activation)
    if asked not in _TASKS:
        known = ", ".join(" with ".join(names) for names in _TASKS)
        raise BundleError(
            f"{bundle.path} is a bundle for {' with '.join(asked)}, which this version of Winnow cannot serve; it "
            f"serves {known}."
        )
    return _TASKS[asked]


def early_head(parts: Parts) -> EarlyHead | None:
    """When and how texts are answered before the last layer; None where none is."""
    if parts.early is None:
        return None
    least = np.array(parts.early.least(parts.bundle.labels))
    return EarlyHead(_labels(parts, parts.early.temperature, parts.early.layer), least)


def _single_label(parts: Parts) -> SingleLabel:
    return _labels(parts, parts.bundle.manifest.temperature, None if parts.early is None else parts.early.layers)


def _labels(parts: Parts, temperature: float, layer: int | None) -> SingleLabel:
    return SingleLabel(parts.bundle.labels, temperature, parts.bundle.manifest.thresholds, parts.decision, layer)


def _multi_label(parts: Parts) -> MultiLabel:
    manifest = parts.bundle.manifest
    return MultiLabel(parts.bundle.labels, manifest.temperature, manifest.thresholds, parts.decision)


def _regression(parts: Parts) -> Regression:
    labels = parts.bundle.labels
    if len(labels) != 1:
        raise BundleError(
            f"{parts.bundle.path} is a regression with {len(labels)} values; Winnow serves those with one."
        )
    return Regression(labels[0], parts.decision)


def _entities(parts: Parts) -> Entities:
    settings = parts.entities
    types = frozenset(settings.types) or None
    group = parts.tokenizer.grouper(
        parts.bundle.labels,
        settings.aggregation,
        types,
        settings.min_score,
        whole_characters=settings.whole_characters,
    )
    return Entities(group, parts.bundle.manifest.temperature)


_TASKS: dict[tuple[str, str], Callable[[Parts], OfTexts | Entities]] = {
    ("single-label", "softmax"): _single_label,
    ("multi-label", "sigmoid"): _multi_label,
    ("regression", "none"): _regression,
    ("token", "softmax"): _entities,
}
"""By what the manifest says of task and activation."""
