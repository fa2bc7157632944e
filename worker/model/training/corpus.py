"""What a training is given: its task, its labels, and texts to learn from, to choose by, and to be measured on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from worker.errors import ConfigError
from worker.model.data import OUTSIDE, PARTED_BY, Example, Fields, label_names, read_labelled, split
from worker.model.evaluation import answers
from worker.model.evaluation.align import NOWHERE, word_of_each

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from worker.model.evaluation.align import Offsets

IGNORED = -100
"""The target of a piece that has no say: special tokens, and pieces of words whose first piece has the tag."""


class Corpus(NamedTuple):
    """Labelled texts of one task; `test` may be empty. A regression has one label, the name of the number."""

    task: str
    labels: tuple[str, ...]
    train: list[Example]
    validation: list[Example]
    test: list[Example]


def load(
    data: Path,
    validation: Path | None,
    test: Path | None,
    *,
    task: str = "auto",
    share: float = 0.1,
    seed: int = 1,
    fields: Fields = Fields(),  # noqa: B008 - a NamedTuple of words does not change
) -> Corpus:
    """Reads the files; without one for validation, sets `share` of `data` aside for it.

    Raises:
        ConfigError: a file cannot be used, they do not fit each other, or there is nothing to tell apart.
    """
    train = read_labelled(data, fields, task)
    found = _task(train, task, data)
    labels = _labels(train, found, fields, data)
    held = [[], []] if validation is None else [read_labelled(validation, fields, found)]
    if validation is None:
        train, held[0] = split(train, share, seed, by_label=found != "regression")
        if not held[0]:
            raise ConfigError(f"{data} has too few texts to set some aside: name a file with --validation.")
    out = Corpus(found, labels, train, held[0], read_labelled(test, fields, found) if test else [])
    for examples, path in ((out.validation, validation), (out.test, test)):
        if path and examples:
            answers.check(found, labels, examples, str(path), str(data), public=False)
    return out


def _task(examples: Sequence[Example], wanted: str, path: Path) -> str:
    """What the file's form says, unless one label a text is to be taken as a number."""
    form = examples[0].form
    if wanted == "auto" and form == "single-label":
        _check_whole(examples, path)
    if wanted in ("auto", form):
        return form
    if form == "single-label" and wanted == "regression":
        return wanted
    raise ConfigError(f"--task {wanted} does not fit {path}, whose lines are for {form}.")


def _check_whole(examples: Sequence[Example], path: Path) -> None:
    """Several labels in one word would be learnt as one; whether they are several, nobody but the user knows."""
    count = sum(PARTED_BY in example.labels[0] for example in examples)
    if count:
        raise ConfigError(
            f"{path} has `{PARTED_BY}` in the labels of {count} of {len(examples)} examples: say whether it parts "
            "several labels (--task multi-label) or belongs to a name (--task single-label)."
        )


def _labels(examples: Sequence[Example], task: str, fields: Fields, path: Path) -> tuple[str, ...]:
    """What the model will say; of a regression the field's own name, or `value`."""
    if task == "regression":
        answers.check_numbers(examples, str(path))
    labels = label_names(examples)
    if len(labels) < (1 if task == "multi-label" else 2):
        raise ConfigError(_alone(examples, len(labels), fields, path))
    if task == "regression":
        return (fields.label if fields.label != Fields().label else "value",)
    return labels


def _alone(examples: Sequence[Example], labels: int, fields: Fields, path: Path) -> str:
    """Why there is nothing to learn; a label is not named, because it is a text where the wrong field was given."""
    several = fields.label if fields.chosen else fields.labels
    field = {"multi-label": several, "token": "tags"}.get(examples[0].form, fields.label)
    found = "the same label in all" if labels else "no label in any"
    return (
        f'{path} has {found} of its {len(examples)} examples (in "{field}", from id {examples[0].id} on), so there is '
        "nothing to tell apart: add examples of other labels, or say with --label-field where they are."
    )


def scale(corpus: Corpus) -> tuple[float, float]:
    """Mean and standard deviation of the numbers that a regression learns; 0 and 1 for other tasks."""
    if corpus.task != "regression":
        return 0.0, 1.0
    numbers = answers.truth_of(corpus.task, corpus.labels, corpus.train)
    return float(numbers.mean()), float(numbers.std()) or 1.0


def label_weights(corpus: Corpus, kind: str) -> list[float] | None:
    """How much each label counts in training, 1 on average over the texts.

    `balanced`: as much as it is rare, so that all labels have the same say; `root`: the square root of that; `none`.
    For `multi-label`: how much more a label counts where it is present, up to 20.
    """
    if kind == "none":
        return None
    if corpus.task == "regression":
        raise ConfigError(f"--label-weights {kind} is for labels, and a regression has none: leave it out.")
    truth = answers.truth_of(corpus.task, corpus.labels, corpus.train)
    power = 1.0 if kind == "balanced" else 0.5
    if corpus.task == "multi-label":
        present = np.maximum(truth.sum(axis=0), 1)
        return [float(each) for each in np.clip(((len(truth) - present) / present) ** power, 0.05, 20)]
    counts = np.maximum(np.bincount(truth, minlength=len(corpus.labels)), 1)
    weights = (counts.sum() / counts) ** power
    return [float(each) for each in weights / (weights[truth].mean())]


def targets(
    task: str, labels: Sequence[str], examples: Sequence[Example], offsets: Sequence[Offsets]
) -> list[list[float]]:
    """What is to be learnt of each example: the probability of each label, a number, or for `token` a tag's id a piece.

    The first piece of a word has its tag. Where tags are of the kind B, I, O, the further pieces have what continues
    it, so that pieces read alone make the same entities; with other kinds they have no say.
    """
    if task != "token":
        truth = answers.truth_of(task, labels, examples)
        if task == "regression":
            return [[float(number)] for number in truth]
        return [list(map(float, row)) for row in (truth if task == "multi-label" else np.eye(len(labels))[truth])]
    number = {label: i for i, label in enumerate(labels)}
    simple = all(label == OUTSIDE or label[:2] in ("B-", "I-") for label in labels)
    return [_tag_ids(example, each, number, simple) for example, each in zip(examples, offsets, strict=True)]


def _tag_ids(example: Example, pieces: Offsets, number: dict[str, int], simple: bool) -> list[float]:
    out: list[float] = []
    last = NOWHERE
    for word in word_of_each(pieces, example.offsets):
        if word == NOWHERE:
            out.append(IGNORED)
        elif word != last:
            out.append(number[example.tags[word]])
            last = word
        else:
            out.append(number.get(_continued(example.tags[word]), IGNORED) if simple else IGNORED)
    return out


def _continued(tag: str) -> str:
    return f"I-{tag[2:]}" if tag.startswith("B-") else tag
