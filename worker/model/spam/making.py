"""Trained weights to the default bundle: calibrated on training texts, tuned on validation, measured on test.

Needs no torch: `worker.model.spam.__main__` trains, this assembles.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

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
from worker.model.session import open_session, run_sorted
from worker.model.spam import card as spam_card
from worker.model.spam.figures import agreement, evaluation, fit_threshold
from worker.model.spam.texts import LABELS
from worker.model.training.encoder import BASE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.model.manifest import Evaluation
    from worker.model.spam.texts import Labelled, Splits
    from worker.model.training.encoder import Encoder

# Where the bundle lives that is used when none is named.
DEFAULT = Path(__file__).parent.parent / "default"
NAME = "winnow-spam"
MAX_LENGTH = 256
CALIBRATION_TEXTS = 400


@dataclass(frozen=True)
class Decision:
    """How logits become labels."""

    temperature: float
    threshold: float


def fit_decision(encoder: Encoder, tensors: dict[str, np.ndarray], splits: Splits) -> Decision:
    """Temperature and threshold by the validation texts, which `tensors` must not have seen."""
    tokenizer = plain_tokenizer(encoder.tokenizer)
    encode = Encode(tokenizer, MAX_LENGTH)
    both = graphs(config_json(encoder.config, LABELS), tensors, encode(_calibration([*splits.train, *splits.styled])))
    # The project's own texts are too few to have a say.
    validation = _Measured(both, encode, [row for row in splits.validation if row.channel != "modern"])
    temperature = fit_temperature("single-label", validation.quantized, validation.truth, validation.weights)
    scores = probabilities(validation.quantized, temperature)
    return Decision(temperature, fit_threshold(scores, validation.truth, validation.channels))


def make(
    encoder: Encoder, tensors: dict[str, np.ndarray], splits: Splits, decision: Decision, out: Path
) -> bundle.Bundle:
    """Builds, measures and writes the bundle; `out` is replaced only when all of it is there.

    Raises:
        BundleError: the tensors do not make a classifier with these labels.
    """
    config, tokenizer = config_json(encoder.config, LABELS), plain_tokenizer(encoder.tokenizer)
    encode = Encode(tokenizer, MAX_LENGTH)
    both = graphs(config, tensors, encode(_calibration([*splits.train, *splits.styled])))
    test = _Measured(both, encode, splits.test)
    temperature, threshold = decision.temperature, decision.threshold
    fields: dict[str, Any] = {
        "name": NAME,
        "licence": "Apache-2.0",
        "task": "single-label",
        "activation": "softmax",
        "temperature": temperature,
        "thresholds": {"spam": threshold},
        "max_length": MAX_LENGTH,
        "quantization": static_int8(
            "minimum and maximum of equalized channels over training texts, equally many a channel", CALIBRATION_TEXTS
        ).model_copy(update={"against_fp32": agreement(test.quantized, test.fp32, temperature, {1: threshold})}),
        "evaluation": _evaluations(test, splits, temperature, threshold),
        "base_model": BASE,
        "data": spam_card.DATA,
        "probes": probes(both.quantized, encode, spam_card.PROBES),
        "probe_tolerance": PROBE_TOLERANCE,
    }
    files = {
        bundle.MODEL: both.quantized,
        bundle.TOKENIZER: tokenizer,
        bundle.CONFIG: orjson.dumps(config, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE),
        "NOTICE": spam_card.NOTICE.encode(),
    }
    made = bundle.replace(out, files, fields)
    (out / "README.md").write_text(spam_card.card(made), "utf-8")
    return made


class _Measured:
    """The logits of both graphs on some texts."""

    def __init__(self, both: Graphs, encode: Encode, rows: Sequence[Labelled]) -> None:
        ids = encode([row.text for row in rows])
        self.texts = [row.text for row in rows]
        self.truth = np.array([row.label for row in rows])
        self.channels = [row.channel for row in rows]
        self.quantized = run_sorted(open_session(both.quantized), ids)
        self.fp32 = run_sorted(open_session(both.fp32), ids)

    @property
    def weights(self) -> np.ndarray:
        """Every channel counts the same, however many texts it has."""
        names, counts = np.unique(self.channels, return_counts=True)
        share = dict(zip(names.tolist(), (1 / counts).tolist(), strict=True))
        return np.array([share[channel] for channel in self.channels])


def _evaluations(test: _Measured, splits: Splits, temperature: float, threshold: float) -> tuple[Evaluation, ...]:
    """One entry per channel, and one for the SMS without near-duplicates in the training texts."""
    names = np.array(test.channels)
    fresh = np.array([text not in splits.sms_leaks for text in test.texts])
    note = (
        "without the texts of the collection's test file that have a near-duplicate in its training file "
        f"({len(splits.sms_leaks)} texts)"
    )
    sets = [(channel, names == channel, "") for channel in dict.fromkeys(test.channels)]
    sets.insert(1, ("sms, none like it in training", (names == "sms") & fresh, note))
    return tuple(
        evaluation(
            channel,
            LABELS,
            (test.quantized[chosen], test.fp32[chosen]),
            test.truth[chosen],
            temperature,
            {1: threshold},
            note,
        )
        for channel, chosen, note in sets
    )


def _calibration(train: Sequence[Labelled]) -> list[str]:
    channels = sorted({row.channel for row in train})
    rng = random.Random(0)
    each = CALIBRATION_TEXTS // len(channels)
    by_channel = ([row.text for row in train if row.channel == channel] for channel in channels)
    return [text for texts in by_channel for text in rng.sample(texts, min(each, len(texts)))]
