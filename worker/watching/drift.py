"""How far the scores of a label have moved from those of the texts that the bundle was measured on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.watching.history import HORIZON
from worker.watching.snapshot import Between

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.watching.history import History

REFERENCE = "winnow_score_reference_ratio"
ENOUGH = 500
"""Results of a label, beyond which a distance says something."""


@dataclass(frozen=True)
class Drift:
    """The largest difference between two cumulative distributions, and where it is."""

    label: str
    results: float
    distance: float
    score: float
    """Where they differ most."""
    share: float
    """Of the results, with a score of at most that."""
    reference: float
    """Of the reference texts."""
    enough: bool
    """Whether there were results enough for the distance to say something."""


@dataclass(frozen=True)
class Drifts:
    """Of each label that has results and a reference; those with results enough first, of these the largest."""

    seconds: float | None
    """Over how long; None where that is not known."""
    has_reference: bool
    """Whether the bundle has any."""
    labels: list[Drift]


def latest(history: History) -> Drifts:
    """Over the time that somebody has looked, or since the start while that was too short for any label."""
    recent = drifts(history.over(HORIZON))
    if any(one.enough for one in recent.labels):
        return recent
    return drifts(Between(None, history.over(0).later))


def drifts(between: Between) -> Drifts:
    """Of what was said between two snapshots."""
    references: dict[str, dict[float, float]] = {}
    for (label, bound), share in between.later.by(REFERENCE, "label", "le").items():
        references.setdefault(label, {})[float(bound)] = share
    told = between.histograms("winnow_score", "label") if references else {}
    found = [
        _drift(label, told[label,].count, told[label,].shares(), reference)
        for label, reference in references.items()
        if (label,) in told and told[label,].shares().keys() & reference.keys()
    ]
    return Drifts(
        between.seconds, bool(references), sorted(found, key=lambda one: (not one.enough, -one.distance, one.label))
    )


def _drift(label: str, results: float, now: Mapping[float, float], reference: Mapping[float, float]) -> Drift:
    bounds = sorted(now.keys() & reference.keys())
    where = max(bounds, key=lambda bound: abs(now[bound] - reference[bound]))
    distance = abs(now[where] - reference[where])
    return Drift(label, results, distance, where, now[where], reference[where], results > ENOUGH)
