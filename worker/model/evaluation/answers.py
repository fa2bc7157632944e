"""What a model says of labelled examples, beside what is true; the ground of every figure.

A row is what is decided once: a text, or for the task `token` a word. Arrays have one entry a row.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from worker.errors import ConfigError
from worker.pipeline.interpret import decide, sigmoid, softmax

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.model.data import Example
    from worker.model.evaluation.served import Served

ABSTAINED = -1
"""The id that is decided where the worker gives a text a fallback label that is none of the model's."""
_SHOWN = 5
_NUMBER = re.compile(r"[0-9]+")
_NUMBER_AS_WORD = re.compile(r"(?<![^\W_])[0-9]+(?![^\W_])")
_FORMS = {
    "single-label": ("single-label",),
    "multi-label": ("multi-label", "single-label"),
    "regression": ("single-label",),
    "token": ("token",),
}
_WANTED = {
    "single-label": '"label"',
    "multi-label": '"labels"',
    "regression": '"label" as a number',
    "token": '"tokens" and "tags"',
}


@dataclass(frozen=True)
class Answers:
    """Scores and decisions, and the truth.

    Attributes:
        task: as in a bundle's manifest.
        labels: in the order of their ids.
        ids: of the examples.
        owner: for each row the index of its example.
        truth: label ids [rows]; for `multi-label` 0 or 1 [rows, labels]; for `regression` numbers [rows].
        scores: [rows, labels], after temperature and activation.
        decided: like `truth`; for `single-label` also `ABSTAINED`.
        truncated: how many texts were longer than what is read.
        served: for the task `token` the entities that the worker would give, where they are known.
        fallback: what the worker says where it abstains, where it may and that is no label of the model.
        actions: what it says to do with each row, where the settings ask for it.
        left: whether each row was decided before the last layer, where it can be.
        notes: what is to be known of the truth.
    """

    task: str
    labels: tuple[str, ...]
    ids: tuple[str, ...]
    owner: np.ndarray
    truth: np.ndarray
    scores: np.ndarray
    decided: np.ndarray
    truncated: int = 0
    served: Served | None = None
    fallback: str | None = None
    actions: tuple[str, ...] = ()
    left: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def wrong(self) -> np.ndarray:
        """Whether each row is decided wrongly."""
        differ = self.decided != self.truth
        return np.asarray(differ.any(axis=1) if differ.ndim == 2 else differ)

    def wrong_examples(self) -> np.ndarray:
        """Whether anything in each example is decided wrongly."""
        return np.bincount(self.owner, self.wrong, minlength=len(self.ids)) > 0

    def named(self, ids: np.ndarray) -> str:
        """One decision in words: a label, or those of several that are 1."""
        if self.task == "multi-label":
            return ", ".join(label for label, is_on in zip(self.labels, ids, strict=True) if is_on) or "none"
        return str(self.fallback) if ids == ABSTAINED else self.labels[int(ids)]

    def sequences(self, ids: np.ndarray) -> list[list[str]]:
        """Decisions or truth of the task `token` as one list of tags an example."""
        ends = np.cumsum(np.bincount(self.owner, minlength=len(self.ids)))[:-1]
        return [[self.labels[i] for i in part] for part in np.split(ids, ends)]


def answers(
    task: str,
    labels: Sequence[str],
    examples: Sequence[Example],
    logits: np.ndarray,
    *,
    temperature: float = 1.0,
    thresholds: Mapping[str, float] | None = None,
    truncated: int = 0,
) -> Answers:
    """Scores and decisions as the worker comes to them.

    Args:
        task: as in a bundle's manifest.
        labels: in the order of their ids.
        examples: checked by `check`.
        logits: [rows, labels].
        temperature: divides the logits.
        thresholds: by label; labels without one need 0.5 for `multi-label`, and nothing else.
        truncated: how many of the texts were cut.
    """
    scores = activated(task, logits, temperature)
    return judged(task, labels, examples, scores, decide(task, labels, scores, thresholds or {}), truncated)


def judged(
    task: str,
    labels: Sequence[str],
    examples: Sequence[Example],
    scores: np.ndarray,
    decided: np.ndarray,
    truncated: int = 0,
) -> Answers:
    """Scores and decisions, as `Answers` has them, beside the truth of `examples`."""
    rows = [len(example.tags) if task == "token" else 1 for example in examples]
    return Answers(
        task,
        tuple(labels),
        tuple(example.id for example in examples),
        np.repeat(np.arange(len(examples)), rows),
        truth_of(task, labels, examples),
        scores,
        decided,
        truncated,
    )


def activated(task: str, logits: np.ndarray, temperature: float) -> np.ndarray:
    """Scores [rows, labels], float64: softmax, or a sigmoid each, or for `regression` the logits themselves."""
    if task == "regression":
        return logits.astype(np.float64)
    if task == "multi-label":
        return sigmoid(logits, temperature)
    return probabilities(logits, temperature)


def probabilities(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax of `logits` [rows, labels] over `temperature`, float64."""
    return softmax(logits, temperature)


def truth_of(task: str, labels: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """What is true of each row, see `Answers`."""
    number = {label: i for i, label in enumerate(labels)}
    if task == "regression":
        return np.array([float(example.labels[0]) for example in examples])
    if task == "multi-label":
        out = np.zeros((len(examples), len(labels)), int)
        for row, example in zip(out, examples, strict=True):
            row[[number[label] for label in example.labels]] = 1
        return out
    words = ((number[word] for word in (*example.labels, *example.tags)) for example in examples)
    return np.array([each for example in words for each in example], int)


def by_name(
    task: str, labels: Sequence[str], examples: Sequence[Example], name: str, model: str
) -> tuple[Sequence[Example], str | None]:
    """The examples with the names of labels where their file has ids, as data sets of Hugging Face do.

    They are taken for ids where all are whole numbers that a label of the model has as its id, unless all are names of
    labels themselves; then a sentence says so. Where neither is so, the examples are as they were. `name` and `model`
    are what messages call the two.

    Raises:
        ConfigError: the numbers may as well be those within the names of labels, which are others.
    """
    names = {str(i): label for i, label in enumerate(labels)}
    found = {label for example in examples for label in (*example.labels, *example.tags)}
    if task == "regression" or found.issubset(labels) or not found <= names.keys():
        return examples, None
    if examples[0].form not in _FORMS[task]:  # which `check` refuses
        return examples, None
    if _may_be_within(labels, found):
        raise ConfigError(
            f"{name} has numbers for labels, which may be ids or those within the names that {model} knows "
            f"({_some(labels)}): write the names instead."
        )
    said = _some([f"{number} is {names[number]}" for number in sorted(found, key=int)])
    return [
        example._replace(
            labels=tuple(names[label] for label in example.labels), tags=tuple(names[tag] for tag in example.tags)
        )
        for example in examples
    ], f"the texts' labels are numbers, which are taken for ids: {said}"


def _may_be_within(labels: Sequence[str], found: set[str]) -> bool:
    """Whether a number of `found` is a word of a name with another id (`1 star`), or all are at least in its letters.

    Names as `LABEL_1` are of no harm where they have that id.
    """
    words, digits = set(), set()
    for i, label in enumerate(labels):
        words |= _numbers(_NUMBER_AS_WORD, label) - {str(i)}
        digits |= _numbers(_NUMBER, label) - {str(i)}
    return not words.isdisjoint(found) or found <= digits


def _numbers(kind: re.Pattern[str], label: str) -> set[str]:
    """As ids are written, without zeros in front."""
    return {each.lstrip("0") or "0" for each in kind.findall(label)}


def check(
    task: str, labels: Sequence[str], examples: Sequence[Example], name: str, model: str, *, public: bool = True
) -> None:
    """Whether examples can be held against a model; `name` and `model` are what messages call the two.

    `public`: messages may name `labels`, as those of a model, but not those of somebody's texts.

    Raises:
        ConfigError: they are of another task, or have labels that the model does not know.
    """
    if examples[0].form not in _FORMS[task]:
        raise ConfigError(f"{name} does not fit {model}, which is for {task}: its lines need {_WANTED[task]}.")
    if task == "regression":
        return check_numbers(examples, name)
    return _check_known(labels, examples, name, f"{model} ({_some(labels)})" if public else model)


def _check_known(labels: Sequence[str], examples: Sequence[Example], name: str, model: str) -> None:
    """What is not known is counted, and not named: where the wrong field was given, it is somebody's text."""
    known = set(labels)
    strangers = [example for example in examples if not known.issuperset((*example.labels, *example.tags))]
    if not strangers:
        return
    count = len({label for example in strangers for label in (*example.labels, *example.tags)} - known)
    raise ConfigError(
        f"{name} has labels that {model} does not know: {count}, on {len(strangers)} of {len(examples)} examples, by "
        f"id {_some([each.id for each in strangers])}. Rename them, or leave those lines out."
    )


def check_numbers(examples: Sequence[Example], name: str) -> None:
    """Whether the labels are what a regression can learn or be measured by.

    Raises:
        ConfigError: one is not a finite number.
    """
    for example in examples:
        try:
            finite = math.isfinite(float(example.labels[0]))
        except ValueError:
            finite = False
        if not finite:
            raise ConfigError(f"{name}: the label of the text {example.id} is no number, as a regression needs it.")


def _some(words: Sequence[str]) -> str:
    more = len(words) - _SHOWN
    return ", ".join(words[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
