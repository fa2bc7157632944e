"""A second head on an early layer of any classifier of transformers, and the loss that trains both.

Needs torch and transformers.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from worker.model.graph.architectures.families import EARLY_EXIT, EARLY_EXIT_LAYER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import PreTrainedModel

    from worker.model.training.objectives import Objective

_SPREAD = 0.02
"""Of the weights before training, as transformers has it for heads."""


class EarlyHead(nn.Module):  # type: ignore[misc] # torch has no types where mypy runs
    """Reads the mean over the tokens' states, [rows, hidden], and gives logits, [rows, labels].

    On an early layer that tells texts apart much better than the state of the first token, which has seen little by
    then.
    """

    def __init__(self, hidden: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.pre_classifier = nn.Linear(hidden, hidden)
        self.classifier = nn.Linear(hidden, labels)
        self.dropout = nn.Dropout(dropout)
        for each in (self.pre_classifier, self.classifier):
            nn.init.normal_(each.weight, std=_SPREAD)
            nn.init.zeros_(each.bias)

    def forward(self, mean: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.classifier(self.dropout(torch.relu(self.pre_classifier(mean))))
        return answer


def add(model: PreTrainedModel, layer: int, dropout: float = 0.1) -> None:
    """Gives a classifier an early head, a part of the model from then on; what it computes stays as it was.

    Its tensors are in the model's checkpoint, and config.json says after which layer it reads.
    """
    config = model.config
    setattr(model, EARLY_EXIT, EarlyHead(config.hidden_size, config.num_labels, dropout))
    setattr(config, EARLY_EXIT_LAYER, layer)


def layer_of(model: PreTrainedModel) -> int | None:
    """After how many layers the model's early head reads; None: it has none."""
    return getattr(model.config, EARLY_EXIT_LAYER, None) if hasattr(model, EARLY_EXIT) else None


def mean(states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """[rows, tokens, hidden] to the mean over the tokens that `mask` [rows, tokens] does not hide, [rows, hidden]."""
    states = states.float()
    if mask is None:
        return states.mean(1)
    ones = mask.unsqueeze(2).float()
    return (states * ones).sum(1) / ones.sum(1)


@contextmanager
def answering(model: PreTrainedModel) -> Iterator[None]:
    """Within, `logits` are [rows, 2 · labels]: those of all layers, then those of the early head."""
    layer, head = layer_of(model), getattr(model, EARLY_EXIT)

    def ask(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return given, {**named, "output_hidden_states": True}

    def answer(_: nn.Module, __: tuple[Any, ...], named: dict[str, Any], said: Any) -> Any:
        said.logits = torch.cat([said.logits, head(mean(said.hidden_states[layer], named.get("attention_mask")))], 1)
        return said

    hooks = (
        model.register_forward_pre_hook(ask, with_kwargs=True),
        model.register_forward_hook(answer, with_kwargs=True),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class BothHeads:
    """The loss of a model that is `answering`.

    Args:
        objective: of one head.
        early: how much the early head's loss counts.
        last: how much that of all layers does.
    """

    def __init__(self, objective: Objective, early: float, last: float = 1.0) -> None:
        self._objective = objective
        self._shares = (last, early)

    def loss(self, scores: torch.Tensor, targets: Sequence[Sequence[float]]) -> torch.Tensor:
        parts = zip(self._shares, scores.chunk(2, dim=1), strict=True)
        total: torch.Tensor = sum(share * self._objective.loss(each, targets) for share, each in parts)
        return total

    def weight(self, targets: Sequence[Sequence[float]]) -> float:
        return self._objective.weight(targets)
