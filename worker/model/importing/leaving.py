"""A checkpoint with an early head: when a text may leave, by the texts that the gate looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from worker.errors import BundleError
from worker.model.evaluation.early_exit import Validation, calibrate, least_agreement
from worker.model.importing import gate
from worker.model.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.model.graph.network import Network
    from worker.model.importing.describing import Described
    from worker.model.importing.options import ImportOptions
    from worker.model.importing.texts import Texts
    from worker.model.manifest import EarlyExit

    Rule: TypeAlias = "Callable[[np.ndarray, np.ndarray], EarlyExit | None]"
    """Logits [texts, labels] of the early head and of all layers, on the gate's texts, to when a text may leave."""

LEFT_OUT = (
    "the checkpoint has a head for early exit, which is left out: `winnow train --early-exit --freeze-model` makes one "
    "of labelled texts, with the checkpoint as --base"
)
NOBODY = "no text is sure enough to leave early, so the bundle has one stage"


def rule(network: Network, described: Described, texts: Texts, options: ImportOptions) -> Rule | None:
    """How the exit is calibrated; None where the checkpoint has no early head or nobody asks for it.

    Raises:
        BundleError: the texts have no labels, or the task cannot leave early.
    """
    early, agreement = network.early, options.exit_agreement
    if early is None or agreement is None:
        return None
    if described.task != "single-label":
        raise BundleError(f"An early exit is for texts with one label, and the model is for {described.task}.")
    meaning = gate.Meaning(described.task, described.labels, options.temperature, options.thresholds)
    truth = gate.truth_of(meaning, texts.examples, texts.first)
    if not isinstance(truth, np.ndarray):
        raise BundleError("An early exit is calibrated on texts with labels of the model: give such texts.")
    layers = early.layer, len(network.layers)

    def found(first: np.ndarray, last: np.ndarray) -> EarlyExit | None:
        held = Validation(first, last, truth)
        return calibrate(held, described.labels, options.temperature, options.thresholds, layers, agreement)

    return found


def said(found: EarlyExit | None) -> str:
    """What is to be known of the exit that came of it."""
    if found is None:
        return NOBODY
    same = round((found.agreement or 0.0) * found.texts)
    return (
        f"{found.left or 0.0:.1%} of {counted(found.texts, 'text')} leave after layer {found.layer} of {found.layers}, "
        f"and {same} get the same label as from all layers: of other texts like them, with 95 % confidence, at least "
        f"{least_agreement(same, found.texts):.2%}"
    )
