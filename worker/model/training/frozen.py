"""Training a head alone: the layers below run once over the texts, and what they say of them is kept."""

from __future__ import annotations

import random
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from transformers import PretrainedConfig
from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput, TokenClassifierOutput

from worker.model.training.early_exit import LikeTheLast, layer_of
from worker.model.training.fine_tuning import Trainer, batches, outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from transformers import PreTrainedModel

    from worker.model.training.early_exit import EarlyHead
    from worker.model.training.fine_tuning import Collate, Settings


class _States(nn.Module):  # type: ignore[misc] # torch has no types where mypy runs
    """An encoder that gives its last hidden states as a classifier gives logits. For the arguments see `encoded`."""

    def __init__(self, encoder: nn.Module, whole: bool, told: Callable[[int], None], early_layer: int | None) -> None:
        super().__init__()
        self._encoder = encoder
        self._whole = whole
        self._told = told
        self._early_layer = early_layer

    def forward(self, **given: torch.Tensor) -> TokenClassifierOutput:
        said = self._encoder(**given, output_hidden_states=self._early_layer is not None)
        states = said.last_hidden_state
        self._told(len(states))
        if not self._whole:
            # A copy, so that the other tokens' states are not kept with it.
            states = states[:, :1].clone()
        if self._early_layer is not None:
            states = torch.cat([states, said.hidden_states[self._early_layer]], 1)
        return TokenClassifierOutput(logits=states)


class _Said(nn.Module):  # type: ignore[misc] # torch has no types where mypy runs
    """Stands in the encoder's place and repeats what it said; a pooler belongs to the head and is learnt with it.

    Of a model with an early head, whose states `collate` hides the first of, that is where the last layer's stands.
    """

    def __init__(self, pooler: nn.Module | None, early_layer: int | None) -> None:
        super().__init__()
        self.pooler = pooler
        self._early_layer = early_layer

    def forward(self, *_: Any, inputs_embeds: torch.Tensor, **__: Any) -> BaseModelOutputWithPooling:
        all_states = None if self._early_layer is None else (inputs_embeds,) * (self._early_layer + 1)
        pooled = None if self.pooler is None else self.pooler(inputs_embeds)
        return BaseModelOutputWithPooling(
            last_hidden_state=inputs_embeds, pooler_output=pooled, hidden_states=all_states
        )


def encoded(
    model: PreTrainedModel,
    rows: Sequence[Sequence[int]],
    collate: Collate,
    precision: str,
    whole: bool,
    told: Callable[[int], None] = lambda _: None,
) -> list[np.ndarray]:
    """The encoder's last hidden states of each row, FP32 [tokens, hidden]; of the first token alone if not `whole`.

    With an early head [1 + tokens, hidden]: the first token's last state, then all tokens' after the early layer, FP16.
    `told` is called after each batch with its number of rows.
    """
    layer = layer_of(model)
    states = _States(model.base_model, whole, told, layer)
    if layer is None:
        return outputs(states, rows, collate, precision)
    return outputs(states, rows, collate, precision, keep=lambda row, said: said[: 1 + len(row)].astype(np.float16))


def collate(rows: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
    """Kept states to the arguments of a model whose encoder is `replaced`.

    The mask is for an early head: it reads all states but the first. Other heads have no eye for padding.
    """
    longest = max(map(len, rows))
    out = np.zeros((len(rows), longest, rows[0].shape[1]), np.float32)
    mask = np.zeros((len(rows), longest), np.int64)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
        mask[i, 1 : len(row)] = 1
    return {"inputs_embeds": torch.from_numpy(out), "attention_mask": torch.from_numpy(mask)}


@contextmanager
def replaced(model: PreTrainedModel) -> Iterator[None]:
    """Within, the model is its head: it takes what `collate` gives, and its parameters are those of the head."""
    prefix = model.base_model_prefix
    encoder = getattr(model, prefix)
    setattr(model, prefix, _Said(getattr(encoder, "pooler", None), layer_of(model)))
    try:
        yield
    finally:
        setattr(model, prefix, encoder)


class _OverStates(nn.Module):  # type: ignore[misc] # torch has no types where mypy runs
    """An early head as `Trainer` takes a model; `logits` are those of all layers, then its own."""

    def __init__(self, head: EarlyHead) -> None:
        super().__init__()
        self.head = head
        self.config = PretrainedConfig(num_hidden_layers=0)

    def forward(self, states: torch.Tensor, mask: torch.Tensor, last: torch.Tensor) -> SequenceClassifierOutput:
        return SequenceClassifierOutput(logits=torch.cat([last, self.head(states, mask)], 1))


@dataclass(frozen=True, eq=False)
class Seen:
    """What an early head learns from of one text: `states` [tokens, hidden], and the logits of all layers [labels]."""

    states: np.ndarray
    last: np.ndarray

    def __len__(self) -> int:
        return len(self.states)


def _seen(rows: Sequence[Seen]) -> dict[str, torch.Tensor]:
    longest = max(map(len, rows))
    states = torch.zeros(len(rows), longest, rows[0].states.shape[1])
    mask = torch.zeros(len(rows), longest)
    for i, row in enumerate(rows):
        states[i, : len(row)] = torch.from_numpy(row.states)
        mask[i, : len(row)] = 1
    return {"states": states, "mask": mask, "last": torch.from_numpy(np.stack([row.last for row in rows]))}


def fit_early_head(
    head: EarlyHead, seen: Sequence[Seen], settings: Settings, report: Callable[[int, int, float], None]
) -> None:
    """Trains an early head alone to say what all layers say.

    `report` is called after each step with the step, the number of steps, and the loss of that step.
    """
    lengths = [len(row) for row in seen]
    steps = settings.epochs * -(-len(seen) // settings.batch)
    torch.manual_seed(settings.seed)
    trainer = Trainer(_OverStates(head), LikeTheLast(), settings, steps, _seen)
    for epoch in range(settings.epochs):
        for batch in batches(lengths, settings.batch, random.Random(f"{settings.seed}:{epoch}")):
            loss = trainer.learn([seen[i] for i in batch], batch)
            report(trainer.step, steps, loss)
    trainer.finish(trainer.average())
