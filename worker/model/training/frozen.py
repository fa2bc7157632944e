"""Training a head alone: the encoder runs once over the texts, and what it says of them is kept."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling, TokenClassifierOutput

from worker.model.training.fine_tuning import outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from transformers import PreTrainedModel

    from worker.model.training.fine_tuning import Collate


class _States(nn.Module):  # type: ignore[misc] # torch has no types where mypy runs
    """An encoder that gives its last hidden states as a classifier gives logits. For the arguments see `encoded`."""

    def __init__(self, encoder: nn.Module, whole: bool, told: Callable[[int], None]) -> None:
        super().__init__()
        self._encoder = encoder
        self._whole = whole
        self._told = told

    def forward(self, **given: torch.Tensor) -> TokenClassifierOutput:
        states = self._encoder(**given).last_hidden_state
        self._told(len(states))
        # A copy, so that the other tokens' states are not kept with it.
        return TokenClassifierOutput(logits=states if self._whole else states[:, :1].clone())


class _Said(nn.Module):  # type: ignore[misc] # torch has no types where mypy runs
    """Stands in the encoder's place and repeats what it said; a pooler belongs to the head and is learnt with it."""

    def __init__(self, pooler: nn.Module | None) -> None:
        super().__init__()
        self.pooler = pooler

    def forward(self, *_: Any, inputs_embeds: torch.Tensor, **__: Any) -> BaseModelOutputWithPooling:
        pooled = None if self.pooler is None else self.pooler(inputs_embeds)
        return BaseModelOutputWithPooling(last_hidden_state=inputs_embeds, pooler_output=pooled)


def encoded(
    model: PreTrainedModel,
    rows: Sequence[Sequence[int]],
    collate: Collate,
    precision: str,
    whole: bool,
    told: Callable[[int], None] = lambda _: None,
) -> list[np.ndarray]:
    """The encoder's last hidden states of each row, FP32 [tokens, hidden]; of the first token alone if not `whole`.

    `told` is called after each batch with its number of rows.
    """
    return outputs(_States(model.base_model, whole, told), rows, collate, precision)


def collate(rows: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
    """Kept states to the arguments of a model whose encoder is `replaced`; padding has no say in a head."""
    longest = max(map(len, rows))
    out = np.zeros((len(rows), longest, rows[0].shape[1]), np.float32)
    for padded, states in zip(out, rows, strict=True):
        padded[: len(states)] = states
    return {"inputs_embeds": torch.from_numpy(out)}


@contextmanager
def replaced(model: PreTrainedModel) -> Iterator[None]:
    """Within, the model is its head: it takes what `collate` gives, and its parameters are those of the head."""
    prefix = model.base_model_prefix
    encoder = getattr(model, prefix)
    setattr(model, prefix, _Said(getattr(encoder, "pooler", None)))
    try:
        yield
    finally:
        setattr(model, prefix, encoder)
