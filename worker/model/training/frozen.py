"""Training a head alone: the encoder runs once over the texts, and what it says of them is kept."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling, TokenClassifierOutput

from worker.model.training.early_exit import LikeTheLast, alone, answering, layer_of
from worker.model.training.fine_tuning import Trainer, batches, outputs, padded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from transformers import PreTrainedModel

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


def fit_early_head(
    model: PreTrainedModel,
    rows: Sequence[Sequence[int]],
    settings: Settings,
    report: Callable[[int, int, float], None],
) -> None:
    """Trains the early head of a model alone, on token ids that the model runs over once.

    `report` is called after each step with the step, the number of steps, and the loss of that step.
    """
    kept = encoded(model, rows, padded, settings.precision, whole=False)
    steps = settings.epochs * -(-len(rows) // settings.batch)
    torch.manual_seed(settings.seed)
    with alone(model), replaced(model), answering(model):
        trainer = Trainer(model, LikeTheLast(), settings, steps, collate)
        for epoch in range(settings.epochs):
            for batch in batches([len(row) for row in rows], settings.batch, random.Random(f"{settings.seed}:{epoch}")):
                loss = trainer.learn([kept[i] for i in batch], batch)
                report(trainer.step, steps, loss)
        trainer.finish(trainer.average())
