"""Training a head alone: the encoder runs once over the texts, and what it says of them is kept."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from worker.model.training.fine_tuning import autocast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from transformers import PreTrainedModel

    from worker.model.training.fine_tuning import Collate

_BATCH = 64


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
    model.eval()
    out: list[np.ndarray] = [np.empty(0)] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for start in range(0, len(order), _BATCH):
        chunk = order[start : start + _BATCH]
        with torch.inference_mode(), autocast(precision):
            hidden = model.base_model(**collate([rows[i] for i in chunk])).last_hidden_state.float().numpy()
        for i, states in zip(chunk, hidden, strict=True):
            out[i] = states[: len(rows[i]) if whole else 1].copy()
        told(len(chunk))
    return out


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
