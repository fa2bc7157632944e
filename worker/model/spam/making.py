"""Trained weights to the default bundle: calibrated on training texts, tuned on validation, measured on test.

Needs no torch: `worker.model.spam.__main__` trains, this assembles.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from worker.errors import BundleError
from worker.model import bundle
from worker.model.assemble import (
    PROBE_TOLERANCE,
    Encode,
    Graphs,
    config_json,
    graphs,
    plain_tokenizer,
    probes,
    static_int8,
)
from worker.model.evaluation.answers import probabilities
from worker.model.evaluation.calibration import fit_temperature
from worker.model.evaluation.early_exit import Validation, calibrate, heads
from worker.model.graph.architectures.families import EARLY_EXIT_LAYER
from worker.model.session import Stages, open_session, run_sorted
from worker.model.spam import card as spam_card
from worker.model.spam.figures import agreement, evaluation, fit_threshold, with_exits
from worker.model.spam.texts import LABELS, augment
from worker.model.training.encoder import BASE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.model.manifest import EarlyExit, Evaluation
    from worker.model.spam.texts import Labelled, Splits
    from worker.model.training.encoder import Encoder

# Where the bundle lives that is used when none is named.
DEFAULT = Path(__file__).parent.parent / "default"
NAME = "winnow-spam"
MAX_LENGTH = 256
CALIBRATION_TEXTS = 400


# The layer after which a message may leave.
EXIT_LAYER = 2
# Of each validation text, for the threshold from which on messages leave.
_VARIANTS = 7


@dataclass(frozen=True)
class Decision:
    """How logits become labels, and when those of the early head do; None: it has no say, and the bundle one stage."""

    temperature: float
    threshold: float
    early_exit: EarlyExit | None

    @property
    def thresholds(self) -> dict[str, float]:
        return {"spam": self.threshold}


def network_config(encoder: Encoder, *, early: bool) -> dict[str, Any]:
    """config.json of the classifier, with an early head or without."""
    return config_json(encoder.config, LABELS) | ({EARLY_EXIT_LAYER: EXIT_LAYER} if early else {})


def fit_decision(encoder: Encoder, tensors: dict[str, np.ndarray], splits: Splits, *, early: bool) -> Decision:
    """Temperatures and thresholds by the validation texts, which `tensors` must not have seen.

    With `early` those of the early head, too.

    Raises:
        BundleError: no text may leave early.
    """
    tokenizer = plain_tokenizer(encoder.tokenizer)
    encode = Encode(tokenizer, MAX_LENGTH)
    config = network_config(encoder, early=early)
    both = _graphs(config, tensors, encode, splits)
    # The project's own texts are too few to have a say.
    rows = [row for row in splits.validation if row.channel != "modern"]
    validation = _Measured(both, encode, rows)
    temperature = fit_temperature("single-label", validation.quantized, validation.truth, validation.weights)
    scores = probabilities(validation.quantized, temperature)
    threshold = fit_threshold(scores, validation.truth, validation.channels)
    if not early:
        return Decision(temperature, threshold, None)
    tried = _Measured(both, encode, [*rows, *_variants(rows)])
    held = Validation(tried.early, tried.quantized, tried.truth, tried.weights, tried.channels)
    layers = (EXIT_LAYER, config["n_layers"])
    early_exit = calibrate(held, LABELS, temperature, {"spam": threshold}, layers, spam_card.AGREEMENT)
    if early_exit is None:
        raise BundleError("No validation text may leave early: train the early head longer.")
    return Decision(temperature, threshold, early_exit)


def make(
    encoder: Encoder, tensors: dict[str, np.ndarray], splits: Splits, decision: Decision, out: Path
) -> bundle.Bundle:
    """Builds, measures and writes the bundle; `out` is replaced only when all of it is there.

    Raises:
        BundleError: the tensors do not make a classifier with these labels.
    """
    config, tokenizer = (
        network_config(encoder, early=decision.early_exit is not None),
        plain_tokenizer(encoder.tokenizer),
    )
    encode = Encode(tokenizer, MAX_LENGTH)
    both = _graphs(config, tensors, encode, splits)
    test = _Measured(both, encode, splits.test)
    temperature, threshold = decision.temperature, decision.threshold
    fields: dict[str, Any] = {
        "name": NAME,
        "licence": "Apache-2.0",
        "task": "single-label",
        "activation": "softmax",
        "temperature": temperature,
        "thresholds": decision.thresholds,
        "max_length": MAX_LENGTH,
        "early_exit": decision.early_exit,
        "quantization": static_int8(
            "minimum and maximum of equalized channels over training texts, equally many a channel; the biases of the "
            "norms take back what that shifts",
            CALIBRATION_TEXTS,
        ).model_copy(update={"against_fp32": agreement(test.quantized, test.fp32, temperature, {1: threshold})}),
        "evaluation": _evaluations(test, splits, decision),
        "base_model": BASE,
        "data": spam_card.DATA,
        "probes": probes(both.quantized, encode, spam_card.PROBES, both.stages),
        "probe_tolerance": PROBE_TOLERANCE,
    }
    files = {
        **both.files(),
        bundle.TOKENIZER: tokenizer,
        bundle.CONFIG: orjson.dumps(config, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE),
        "NOTICE": spam_card.NOTICE.encode(),
    }
    made = bundle.replace(out, files, fields)
    (out / "README.md").write_text(spam_card.card(made), "utf-8")
    return made


def _graphs(config: dict[str, Any], tensors: dict[str, np.ndarray], encode: Encode, splits: Splits) -> Graphs:
    return graphs(config, tensors, encode(_calibration([*splits.train, *splits.styled])), correct=True)


def _variants(rows: Sequence[Labelled]) -> list[Labelled]:
    """What senders might have written as well: whether labels differ is to be known of more texts than there are."""
    rng = random.Random(0)
    return [replace(row, text=augment(row, rng)) for row in rows for _ in range(_VARIANTS)]


class _Measured:
    """The logits of both graphs on some texts, and those of the early head: the last one's again without one."""

    def __init__(self, both: Graphs, encode: Encode, rows: Sequence[Labelled]) -> None:
        ids = encode([row.text for row in rows])
        self.texts = [row.text for row in rows]
        self.truth = np.array([row.label for row in rows])
        self.channels = [row.channel for row in rows]
        if both.stages is None:
            self.early = self.quantized = run_sorted(open_session(both.quantized), ids)
        else:
            self.early, self.quantized = Stages(*both.stages)(ids)
        self.fp32 = run_sorted(open_session(both.fp32), ids)

    @property
    def weights(self) -> np.ndarray:
        """Every channel counts the same, however many texts it has."""
        names, counts = np.unique(self.channels, return_counts=True)
        share = dict(zip(names.tolist(), (1 / counts).tolist(), strict=True))
        return np.array([share[channel] for channel in self.channels])


def _evaluations(test: _Measured, splits: Splits, decision: Decision) -> tuple[Evaluation, ...]:
    """One entry per channel, and one for the SMS without near-duplicates in the training texts."""
    names = np.array(test.channels)
    fresh = np.array([text not in splits.sms_leaks for text in test.texts])
    note = (
        "without the texts of the collection's test file that have a near-duplicate in its training file "
        f"({len(splits.sms_leaks)} texts)"
    )
    sets = [(channel, names == channel, "") for channel in dict.fromkeys(test.channels)]
    sets.insert(1, ("sms, none like it in training", (names == "sms") & fresh, note))
    return tuple(_evaluation(channel, test, chosen, decision, note) for channel, chosen, note in sets)


def _evaluation(channel: str, test: _Measured, chosen: np.ndarray, decision: Decision, note: str) -> Evaluation:
    truth, logits = test.truth[chosen], (test.quantized[chosen], test.fp32[chosen])
    found = evaluation(channel, LABELS, logits, truth, decision.temperature, {1: decision.threshold}, note)
    early_exit = decision.early_exit
    if early_exit is None:
        return found
    both = heads(
        LABELS,
        decision.thresholds,
        (test.early[chosen], test.quantized[chosen]),
        (early_exit.temperature, decision.temperature),
    )
    exits = with_exits(both, early_exit.threshold, truth, {1: decision.threshold})
    return found.model_copy(update={"early_exit": exits})


def _calibration(train: Sequence[Labelled]) -> list[str]:
    channels = sorted({row.channel for row in train})
    rng = random.Random(0)
    each = CALIBRATION_TEXTS // len(channels)
    by_channel = ([row.text for row in train if row.channel == channel] for channel in channels)
    return [text for texts in by_channel for text in rng.sample(texts, min(each, len(texts)))]
