"""Trained weights to the default bundle: calibrated on training texts, tuned on validation, measured on test.

Needs no torch: `worker.model.spam.__main__` trains, this assembles.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
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
)
from worker.model.data import Example
from worker.model.evaluation.answers import probabilities
from worker.model.evaluation.calibration import fit_temperature
from worker.model.evaluation.early_exit import heads
from worker.model.evaluation.reference import reference
from worker.model.graph.architectures.families import EARLY_EXIT_LAYER
from worker.model.manifest import EarlyExit
from worker.model.session import Stages, open_session, run_sorted
from worker.model.spam import card as spam_card
from worker.model.spam.figures import agreement, evaluation, fit_threshold, with_exits
from worker.model.spam.texts import LABELS, variants
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


# The layer after which a message may leave, of how many.
EXIT_LAYER, LAYERS = 2, 6
# Of each validation text of a channel, for the threshold from which on messages leave.
_VARIANTS = {"sms": 10, "comments": 40, "mails": 7}
# How far from another label all layers must be where a text is to count as having kept its own, in logits.
_MARGIN = 1.0


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
    encode = Encode(plain_tokenizer(encoder.tokenizer), MAX_LENGTH)
    both = built(encoder, tensors, splits, early=early)
    # The project's own texts are too few to have a say.
    rows = [row for row in splits.validation if row.channel != "modern"]
    validation = _Measured(both, encode, rows)
    temperature = fit_temperature("single-label", validation.quantized, validation.truth, validation.weights)
    scores = probabilities(validation.quantized, temperature)
    threshold = fit_threshold(scores, validation.truth, validation.channels)
    if not early:
        return Decision(temperature, threshold, None)
    tried = _Measured(both, encode, [*rows, *_variants(rows)])
    return Decision(temperature, threshold, _calibrated(tried, temperature, threshold))


def _calibrated(tried: _Measured, temperature: float, threshold: float) -> EarlyExit:
    """Temperature and threshold of the early head.

    A text counts as one that keeps its label where it also would if all layers said `_MARGIN` more, or less: hardly any
    text differs, and how many nearly do says more of others.

    Raises:
        BundleError: with some label no text may leave early.
    """
    shifts = [np.array([0.0, each], np.float32) for each in (0.0, _MARGIN, -_MARGIN)]
    shifted = np.concatenate([tried.quantized + shift for shift in shifts])
    thresholds, alike = {"spam": threshold}, (temperature, temperature)
    held = heads(LABELS, thresholds, (np.concatenate([tried.early] * len(shifts)), shifted), alike)
    surest = held.by_label(spam_card.AGREEMENT, tried.channels * len(shifts))
    for label, found in zip(LABELS, surest, strict=True):
        if found is None:
            raise BundleError(f"No validation text may leave early as {label!r}: train the early head longer.")
    both = heads(LABELS, thresholds, (tried.early, tried.quantized), alike)
    left = both.left(np.array(surest, float))
    own = _as_sure(tried.early[left], both.last[left], tried.weights[left])
    both = heads(LABELS, thresholds, (tried.early, tried.quantized), (own, temperature))
    likeliest = both.early.argmax(axis=1)
    least = np.array([both.early.max(axis=1)[left & (likeliest == label)].min() for label in range(len(LABELS))])
    return EarlyExit(
        layer=EXIT_LAYER,
        layers=LAYERS,
        temperature=own,
        threshold=float(least.max()),
        thresholds={label: float(each) for label, each in zip(LABELS, least, strict=True) if each < least.max()},
        agreement=round(float(both.same(least).mean()), 4),
        left=round(float(left.mean()), 4),
        texts=len(tried.truth),
    )


def _as_sure(early: np.ndarray, last: np.ndarray, weights: np.ndarray) -> float:
    """The temperature with which logits of the early head are on average as sure as the scores of all layers.

    So what is served is as well calibrated as without exits. Fitted to what is right instead, which the texts that stay
    say most of, it made the scores of comments worse.
    """
    wanted = np.average(last.max(axis=1), weights=weights)
    low, high = 0.25, 4.0
    for _ in range(40):
        middle = (low + high) / 2
        sure = np.average(probabilities(early, middle).max(axis=1), weights=weights)
        low, high = (middle, high) if sure > wanted else (low, middle)
    return round((low + high) / 2, 4)


def make(
    encoder: Encoder, tensors: dict[str, np.ndarray], splits: Splits, decision: Decision, out: Path
) -> bundle.Bundle:
    """Builds, measures and writes the bundle; `out` is replaced only when all of it is there.

    Raises:
        BundleError: the tensors do not make a classifier with these labels.
    """
    early = decision.early_exit is not None
    config, tokenizer = network_config(encoder, early=early), plain_tokenizer(encoder.tokenizer)
    encode = Encode(tokenizer, MAX_LENGTH)
    both = built(encoder, tensors, splits, early=early)
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
        "quantization": both.quantization(
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
    made = _with_reference(bundle.replace(out, files, fields), splits)
    (out / "README.md").write_text(spam_card.card(made), "utf-8")
    return made


def _with_reference(made: bundle.Bundle, splits: Splits) -> bundle.Bundle:
    """By the test texts: the weights know the others, and nothing is chosen by it."""
    examples = [Example(str(number), row.text) for number, row in enumerate(splits.test)]
    return bundle.amend(made, {"reference": reference(made, examples).model_dump(mode="json")})


def built(encoder: Encoder, tensors: dict[str, np.ndarray], splits: Splits, *, early: bool) -> Graphs:
    """The graphs of a classifier, calibrated on training texts; with `early` in two stages, too.

    Raises:
        BundleError: the tensors do not make a classifier with these labels.
    """
    rows = Encode(plain_tokenizer(encoder.tokenizer), MAX_LENGTH)(_calibration([*splits.train, *splits.styled]))
    return graphs(network_config(encoder, early=early), tensors, rows, correct=True)


def _variants(rows: Sequence[Labelled]) -> list[Labelled]:
    """What senders might have written as well: whether labels differ is to be known of more texts than there are."""
    rng = random.Random(0)
    return [each for channel, count in _VARIANTS.items() for each in variants(_of(rows, channel), count, rng)]


def _of(rows: Sequence[Labelled], channel: str) -> list[Labelled]:
    return [row for row in rows if row.channel == channel]


class _Measured:
    """The logits of both graphs on some texts, and those of the early head: the last one's again without one."""

    def __init__(self, both: Graphs, encode: Encode, rows: Sequence[Labelled]) -> None:
        self._ids = ids = encode([row.text for row in rows])
        self._fp32 = both.fp32
        self.texts = [row.text for row in rows]
        self.truth = np.array([row.label for row in rows])
        self.channels = [row.channel for row in rows]
        if both.stages is None:
            self.early = self.quantized = run_sorted(open_session(both.quantized), ids)
        else:
            self.early, self.quantized = Stages(*both.stages)(ids)

    @cached_property
    def fp32(self) -> np.ndarray:
        return run_sorted(open_session(self._fp32), self._ids)

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
    exits = with_exits(both, np.array(early_exit.least(LABELS)), truth, {1: decision.threshold})
    return found.model_copy(update={"early_exit": exits})


def _calibration(train: Sequence[Labelled]) -> list[str]:
    channels = sorted({row.channel for row in train})
    rng = random.Random(0)
    each = CALIBRATION_TEXTS // len(channels)
    by_channel = ([row.text for row in train if row.channel == channel] for channel in channels)
    return [text for texts in by_channel for text in rng.sample(texts, min(each, len(texts)))]
