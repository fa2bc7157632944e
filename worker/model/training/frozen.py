"""Training a head alone: the encoder runs once over the texts, and what it says of them is kept."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling, TokenClassifierOutput

from worker.model.graph.architectures.families import EARLY_EXIT, FAMILIES
from worker.model.training.early_exit import layer_of, mean
from worker.model.training.fine_tuning import Trainer, batches, outputs, padded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from transformers import PreTrainedModel

    from worker.model.training.fine_tuning import Collate, Settings
    from worker.model.training.objectives import Objective


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
        if self._early_layer is not None:
            early = mean(said.hidden_states[self._early_layer], given["attention_mask"])
            states = torch.cat([states[:, :1], early.unsqueeze(1)], 2)
        elif not self._whole:
            # A copy, so that the other tokens' states are not kept with it.
            states = states[:, :1].clone()
        return TokenClassifierOutput(logits=states)


class _Said(nn.Module):  # type: ignore[misc] # torch has no types where mypy runs
    """Stands in the encoder's place and repeats what it said; a pooler belongs to the head and is learnt with it.

    Of a model with an early head a state is followed by the mean after the early layer, as `encoded` gives them.
    """

    def __init__(self, pooler: nn.Module | None, early_layer: int | None) -> None:
        super().__init__()
        self.pooler = pooler
        self._early_layer = early_layer

    def forward(self, *_: Any, inputs_embeds: torch.Tensor, **__: Any) -> BaseModelOutputWithPooling:
        last, all_states = inputs_embeds, None
        if self._early_layer is not None:
            last, early = inputs_embeds.chunk(2, dim=2)
            all_states = (early,) * (self._early_layer + 1)
        pooled = None if self.pooler is None else self.pooler(last)
        return BaseModelOutputWithPooling(last_hidden_state=last, pooler_output=pooled, hidden_states=all_states)


def encoded(
    model: PreTrainedModel,
    rows: Sequence[Sequence[int]],
    collate: Collate,
    precision: str,
    whole: bool,
    told: Callable[[int], None] = lambda _: None,
) -> list[np.ndarray]:
    """The encoder's last hidden states of each row, FP32 [tokens, hidden]; of the first token alone if not `whole`.

    With an early head [1, 2 · hidden]: the first token's last state, then the mean after the early layer. `told` is
    called after each batch with its number of rows.
    """
    return outputs(_States(model.base_model, whole, told, layer_of(model)), rows, collate, precision)


def collate(rows: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
    """Kept states to the arguments of a model whose encoder is `replaced`; padding has no say in a head."""
    longest = max(map(len, rows))
    out = np.zeros((len(rows), longest, rows[0].shape[1]), np.float32)
    for row, states in zip(out, rows, strict=True):
        row[: len(states)] = states
    return {"inputs_embeds": torch.from_numpy(out)}


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


class _Means(nn.Module):  # type: ignore[misc] # torch has no types where mypy runs
    """An encoder that gives what an early head after it reads, as a classifier gives logits."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self._encoder = encoder

    def forward(self, **given: torch.Tensor) -> TokenClassifierOutput:
        states = self._encoder(**given).last_hidden_state
        return TokenClassifierOutput(logits=mean(states, given["attention_mask"]).unsqueeze(1))


class _EarlyHeadAlone(nn.Module):  # type: ignore[misc] # torch has no types where mypy runs
    """A model's early head as a classifier of what `_Means` gives."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.config = model.config
        self.head = getattr(model, EARLY_EXIT)

    def forward(self, inputs_embeds: torch.Tensor) -> TokenClassifierOutput:
        return TokenClassifierOutput(logits=self.head(inputs_embeds[:, 0]))


@contextmanager
def _first_layers(model: PreTrainedModel, count: int | None) -> Iterator[None]:
    """Within, the encoder has no more layers than these."""
    parent, _, name = FAMILIES[model.config.model_type].layers.rpartition(".")
    holder = model.base_model.get_submodule(parent)
    layers = getattr(holder, name)
    setattr(holder, name, layers[:count])
    try:
        yield
    finally:
        setattr(holder, name, layers)


def fit_early_head(
    model: PreTrainedModel,
    rows: Sequence[Sequence[int]],
    targets: Sequence[Sequence[float]],
    objective: Objective,
    settings: Settings,
    report: Callable[[int, int, float], None],
) -> None:
    """Trains the early head of a model alone, on token ids that the layers before it run over once.

    `report` is called after each step with the step, the number of steps, and the loss of that step.
    """
    with _first_layers(model, layer_of(model)):
        means = outputs(_Means(model.base_model), rows, padded, settings.precision)
    torch.manual_seed(settings.seed)
    steps = settings.epochs * -(-len(rows) // settings.batch)
    trainer = Trainer(_EarlyHeadAlone(model), objective, settings, steps, collate)
    for epoch in range(settings.epochs):
        for batch in batches([1] * len(rows), settings.batch, random.Random(f"{settings.seed}:{epoch}")):
            loss = trainer.learn([means[i] for i in batch], [targets[i] for i in batch])
            report(trainer.step, steps, loss)
    trainer.finish(trainer.average())
