"""What a model's own files say of its use: task, labels, length, padding, licence."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from worker.errors import BundleError, ConfigError
from worker.model.graph.network import labels_of
from worker.model.importing import padding, vocabulary
from worker.model.importing.checkpoint import optional_json
from worker.model.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ACTIVATIONS = {"single-label": "softmax", "multi-label": "sigmoid", "regression": "none", "token": "softmax"}
_PROBLEMS = {
    "single-label": "single_label_classification",
    "multi-label": "multi_label_classification",
    "regression": "regression",
}
_UNBOUNDED = 1_000_000
"""`transformers` writes a huge number where a tokenizer knows no limit."""
# In the YAML at the head of a model card: a word, or a list of which the first counts.
_LICENCE = re.compile(r"\A---\n(?:(?!---).*\n)*?license:\s*(?:-\s+)?['\"]?(\w[\w.+-]*)")
LENGTH = 512
"""Tokens, where nothing says how many."""


class Described(NamedTuple):
    """How a model is to be used."""

    config: dict[str, Any]
    """The content of the bundle's config.json."""
    tokenizer: bytes
    labels: tuple[str, ...]
    task: str
    max_length: int
    pad_id: int


def describe(
    folder: Path,
    kind: str,
    *,
    labels: Sequence[str] = (),
    task: str | None = None,
    max_length: int | None = None,
    lowercase: bool | None = None,
    positions: int | None = None,
) -> Described:
    """Reads config.json and the tokenizer of `folder`; the arguments are stronger than what the files say.

    Args:
        folder: of the model.
        kind: `sequence` or `token`, as the network or the graph is.
        labels: names in the order of their ids.
        task: of the manifest.
        max_length: tokens, special ones included.
        lowercase: whether texts are lower-cased.
        positions: how many tokens the network has positions for, where that is known.

    Raises:
        BundleError: a file is missing or cannot be used.
        ConfigError: an argument contradicts the model.
    """
    config = padding.settled(optional_json(folder / "config.json"), folder)
    names = tuple(labels) or _labels(folder, config)
    found = _task(kind, config, names, task)
    tokenizer = vocabulary.tokenizer_json(folder, lowercase)
    longest = _longest(config, optional_json(folder / "tokenizer_config.json"), positions)
    if max_length is not None and longest is not None and max_length > longest:
        raise ConfigError(f"--max-length {max_length} is more than the {longest} tokens the model reads: lower it.")
    return Described(
        _config(config, names, found),
        tokenizer,
        names,
        found,
        max_length or longest or LENGTH,
        padding.pad_id(config, tokenizer, folder),
    )


def check_names(labels: Sequence[str]) -> None:
    """See that names given for the labels can be theirs.

    Raises:
        ConfigError: one is empty, or two are the same.
    """
    if not all(labels) or len(set(labels)) != len(labels):
        raise ConfigError("--labels must give each label a name of its own, in the order of their ids: correct it.")


def check_count(labels: Sequence[str], count: int) -> None:
    """See that the names given for the labels, if any are, are as many as the labels.

    Raises:
        ConfigError: they are not.
    """
    if labels and len(labels) != count:
        raise ConfigError(
            f"--labels gives {counted(len(labels), 'name')}, but the model classifies into {counted(count, 'label')}: "
            "give each its name, in the order of their ids."
        )


def licence(folder: Path) -> str:
    """What the model card says, else `unknown`."""
    card = folder / "README.md"
    head = card.read_text("utf-8", "replace")[:5_000] if card.is_file() else ""
    found = _LICENCE.search(head)
    return found[1] if found else "unknown"


def _labels(folder: Path, config: dict[str, Any]) -> tuple[str, ...]:
    if config.get("id2label") is not None or config.get("num_labels") is not None:
        return labels_of(config)
    for path in (folder / "assets" / "labels.txt", folder / "labels.txt"):
        if path.is_file():
            names = tuple(line.strip() for line in path.read_text("utf-8", "replace").splitlines() if line.strip())
            if len(set(names)) != len(names) or not names:
                raise BundleError(f"{path} must name each label once, in the order of their ids: correct it.")
            return names
    # Without any word `transformers` means two labels.
    return labels_of(config)


def _task(kind: str, config: dict[str, Any], labels: tuple[str, ...], wanted: str | None) -> str:
    """A single logit is a value only where `problem_type` says so; else it is the score of its one label."""
    if kind == "token" or wanted == "token":
        if kind != "token" or wanted not in (None, "token"):
            raise ConfigError(f"--task {wanted} does not fit a model that gives logits for each {_UNIT[kind]}.")
        return "token"
    problem = config.get("problem_type")
    said = next((name for name, called in _PROBLEMS.items() if called == problem), None)
    found = wanted or said or ("multi-label" if len(labels) == 1 else "single-label")
    if found == "single-label" and len(labels) == 1:
        raise BundleError("A model with one label cannot be single-label: give --task multi-label or regression.")
    if found == "regression" and len(labels) != 1:
        raise BundleError(f"A regression has one value, but there are {len(labels)} labels: give another --task.")
    return found


_FEWEST = 8
"""Tokens, as the least that --max-length takes."""
_UNIT = {"token": "token", "sequence": "text"}
_ROWS = "max_position_embeddings"


def _longest(config: dict[str, Any], tokenizer_config: dict[str, Any], positions: int | None) -> int | None:
    said = [] if positions is None else [positions]
    rows = config.get(_ROWS)
    if positions is None and isinstance(rows, int):
        said.append(_enough(padding.positions(config, rows), f"config.json says {_ROWS} {rows}"))
    tokens = tokenizer_config.get("model_max_length")
    if isinstance(tokens, int | float) and tokens < _UNBOUNDED:
        said.append(_enough(int(tokens), f"tokenizer_config.json says model_max_length {tokens}"))
    return min(said, default=None)


def _enough(tokens: int, said: str) -> int:
    if tokens < _FEWEST:
        raise BundleError(f"{said}, too few tokens to read a text: correct or remove it.")
    return tokens


def _config(config: dict[str, Any], labels: tuple[str, ...], task: str) -> dict[str, Any]:
    """config.json without the place it came from, and with everything said that it left to be understood."""
    kept = {key: value for key, value in config.items() if not key.startswith("_")}
    if task in _PROBLEMS:
        kept["problem_type"] = _PROBLEMS[task]
    return kept | {
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }
