"""What config.json says of a network, read and checked before any tensor is looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from worker.errors import BundleError
from worker.model.graph.activations import OPERATORS
from worker.model.graph.architectures.families import EARLY_EXIT_LAYER, FAMILIES, TASKS, Family

if TYPE_CHECKING:
    from worker.model.graph.layers import Task

# The only number of buckets that MPNet's own code ever uses.
BIAS_BUCKETS = 32
# onnxruntime adds longer products up in parts whose size depends on the number of columns, here the length to which a
# batch is padded.
_WIDEST_HEAD = 128
_PROBLEMS = (None, "regression", "single_label_classification", "multi_label_classification")


class Size(NamedTuple):
    """A number of config.json under its name there."""

    value: int
    key: str


@dataclass(frozen=True)
class Description:
    """A network that can be built, as far as config.json tells."""

    family: Family
    task: Task
    vocabulary: Size
    positions: Size
    embedding: Size
    hidden: Size
    inner: Size
    layers: Size
    heads: Size
    activation: str
    epsilon: float
    position_padding: int | None
    labels: tuple[str, ...]
    early_layer: int | None = None

    @property
    def title(self) -> str:
        """The class in transformers that computes the same."""
        return self.family.title + next(name for name, task in TASKS.items() if task == self.task)


def describe(config: dict[str, Any]) -> Description:
    """Read config.json's content.

    Raises:
        BundleError: what it describes cannot be built, or it contradicts itself.
    """
    family, task = _family_and_task(config)
    _refuse_what_changes_the_network(config)
    labels = labels_of(config)
    _check_problem(config, task, len(labels))
    keys = family.keys
    hidden, heads, layers = (_size(config, keys[name]) for name in ("hidden", "heads", "layers"))
    _check_heads(hidden, heads)
    return Description(
        family=family,
        task=task,
        vocabulary=_size(config, "vocab_size"),
        positions=_size(config, "max_position_embeddings"),
        embedding=_size(config, "embedding_size") if family.projection else hidden,
        hidden=hidden,
        inner=_size(config, keys["inner"]),
        layers=layers,
        heads=heads,
        activation=_activation(config, keys["activation"]),
        epsilon=_epsilon(config, keys.get("epsilon")),
        position_padding=_position_padding(config, family),
        labels=labels,
        early_layer=_early_layer(config, task, layers.value),
    )


def _check_heads(hidden: Size, heads: Size) -> None:
    width, rest = divmod(hidden.value, heads.value)
    if rest:
        raise BundleError(
            f"config.json asks for {heads.value} attention heads, which do not divide the hidden size {hidden.value}: "
            f"correct {heads.key}."
        )
    if width > _WIDEST_HEAD:
        raise BundleError(
            f"config.json asks for attention heads of {width} channels, and with more than {_WIDEST_HEAD} a score "
            f"would depend on what its text is batched with: take a network with more {heads.key}."
        )


def labels_of(config: dict[str, Any]) -> tuple[str, ...]:
    """The labels of config.json's `id2label`, in id order; without it the names that transformers gives.

    Raises:
        BundleError: the ids are not 0 … n - 1, or two have the same label.
    """
    given = config.get("id2label")
    if given is None:
        # transformers does not write the labels down when they are these.
        return tuple(f"LABEL_{i}" for i in range(_size({"num_labels": 2} | config, "num_labels").value))
    try:
        by_id = {int(i): str(label) for i, label in given.items()}
    except (AttributeError, ValueError):
        by_id = {}
    if not by_id or sorted(by_id) != list(range(len(by_id))):
        raise BundleError("config.json must have an id2label that numbers the labels from 0 without gaps: correct it.")
    labels = tuple(by_id[i] for i in range(len(by_id)))
    twice = next((label for i, label in enumerate(labels) if label in labels[:i]), None)
    if twice is not None:
        raise BundleError(f"config.json gives two classes the label {twice!r}: make the labels of id2label different.")
    return labels


def _family_and_task(config: dict[str, Any]) -> tuple[Family, Task]:
    known = {family.title + name: (kind, task) for kind, family in FAMILIES.items() for name, task in TASKS.items()}
    classes = config.get("architectures") or []
    kind = config.get("model_type") or next((known[name][0] for name in classes if name in known), None)
    if kind not in FAMILIES:
        raise BundleError(
            f"config.json names the architecture {kind or ', '.join(classes) or None!r}: only "
            f"{', '.join(sorted(FAMILIES))} can be built from weights. "
            "Export others to ONNX and import that folder; it is served as it is."
        )
    family = FAMILIES[kind]
    fitting = [known[name][1] for name in classes if name in known and known[name][0] == kind]
    if classes and not fitting:
        wanted = " or ".join(family.title + name for name in TASKS)
        raise BundleError(
            f"config.json names the class {', '.join(classes)!r}, but of {kind} only {wanted} can be built: "
            "use a checkpoint that was fine-tuned as one of them."
        )
    return family, cast("Task", fitting[0] if fitting else "sequence")


def _refuse_what_changes_the_network(config: dict[str, Any]) -> None:
    kind = config.get("position_embedding_type", "absolute")
    if kind != "absolute":
        raise BundleError(
            f"config.json has position_embedding_type {kind!r}: only 'absolute' can be built from weights; "
            "export the model to ONNX and import that."
        )
    for key in ("is_decoder", "add_cross_attention", "is_encoder_decoder"):
        if config.get(key):
            raise BundleError(f"config.json has {key}: only encoders can be built; use an encoder's checkpoint.")
    if config.get("pruned_heads"):
        raise BundleError("config.json has pruned_heads: only networks with all their heads can be built from weights.")
    if config.get("quantization_config"):
        raise BundleError(
            "config.json has a quantization_config, so the weights are quantized already: "
            "import the checkpoint that they were made from."
        )
    buckets = config.get("relative_attention_num_buckets", BIAS_BUCKETS)
    if buckets != BIAS_BUCKETS:
        raise BundleError(
            f"config.json has relative_attention_num_buckets {buckets}: MPNet itself uses {BIAS_BUCKETS} whatever it "
            "says; correct it."
        )


def _check_problem(config: dict[str, Any], task: Task, labels: int) -> None:
    problem = config.get("problem_type")
    if problem not in _PROBLEMS:
        wanted = ", ".join(str(name) for name in _PROBLEMS[1:])
        raise BundleError(f"config.json has the problem_type {problem!r}: it must be one of {wanted}, or absent.")
    if task == "token":
        contradiction = "that classifies tokens" if problem in ("regression", "multi_label_classification") else None
    elif problem == "single_label_classification" and labels == 1:
        contradiction = "with one label"
    elif problem == "regression" and labels > 1:
        contradiction = f"with {labels} labels"
    else:
        contradiction = None
    if contradiction:
        raise BundleError(
            f"config.json has the problem_type {problem!r} for a network {contradiction}, which contradict each "
            "other: correct problem_type or id2label."
        )


def _early_layer(config: dict[str, Any], task: Task, layers: int) -> int | None:
    layer = config.get(EARLY_EXIT_LAYER)
    if layer is None:
        return None
    if task != "sequence":
        raise BundleError(f"config.json has {EARLY_EXIT_LAYER} for a network that classifies tokens: remove it.")
    if not isinstance(layer, int) or isinstance(layer, bool) or not 1 <= layer < layers:
        raise BundleError(
            f"config.json has the {EARLY_EXIT_LAYER} {layer!r}: it must be a layer before the last of {layers}."
        )
    return layer


def _activation(config: dict[str, Any], key: str) -> str:
    name = config.get(key, "gelu")
    if name not in OPERATORS:
        raise BundleError(
            f"config.json names the activation {name!r} ({key}): only {', '.join(sorted(OPERATORS))} can be built."
        )
    return str(name)


def _epsilon(config: dict[str, Any], key: str | None) -> float:
    value = config.get(key, 1e-12) if key else 1e-12
    if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise BundleError(f"config.json has the {key} {value!r}: it must be a small positive number, such as 1e-12.")
    return float(value)


def _position_padding(config: dict[str, Any], family: Family) -> int | None:
    if not family.counts_positions:
        return None
    padding = config.get("pad_token_id", 1) if family.padding is None else family.padding
    if not isinstance(padding, int) or padding < 0:
        raise BundleError(
            f"config.json has the pad_token_id {padding!r}, from which {family.title} counts its positions: "
            "correct it to the padding token's id."
        )
    return padding


def _size(config: dict[str, Any], key: str) -> Size:
    value = config.get(key)
    if value is None:
        raise BundleError(f"config.json has no {key}: add it, or take the config.json that came with the weights.")
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BundleError(f"config.json has the {key} {value!r}: it must be a positive whole number.")
    return Size(value, key)
