"""A second head on an early layer of any classifier of transformers, and the loss that trains both.

Needs torch and transformers.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from worker.model.graph.architectures.families import EARLY_EXIT, EARLY_EXIT_LAYER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import PreTrainedModel

    from worker.model.training.objectives import Objective

_SPREAD = 0.02
"""Of the weights before training, as transformers has it for heads."""
_QUERIES = 8
_HIDDEN = -1e30
"""Added to the attention to what is padding."""


class EarlyHead(nn.Module):  # type: ignore[misc] # torch has no types where mypy runs
    """Reads the tokens' states and gives logits, [rows, labels].

    Each of a few learnt queries takes a mean of the states, weighted by how well they answer it. On an early layer that
    tells texts apart much better than the state of the first token, which has seen little by then, or the plain mean.
    """

    def __init__(self, hidden: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.queries = nn.Linear(hidden, _QUERIES, bias=False)
        self.pre_classifier = nn.Linear(_QUERIES * hidden, hidden)
        self.classifier = nn.Linear(hidden, labels)
        self.dropout = nn.Dropout(dropout)
        for each in (self.queries, self.pre_classifier, self.classifier):
            nn.init.normal_(each.weight, std=_SPREAD)
        for each in (self.pre_classifier, self.classifier):
            nn.init.zeros_(each.bias)

    def forward(self, states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """`states` are [rows, tokens, hidden]; `mask` [rows, tokens] hides those with a 0."""
        states = states.float()
        scores = self.queries(states).transpose(1, 2)
        if mask is not None:
            scores = scores + (1.0 - mask.unsqueeze(1).float()) * _HIDDEN
        means = (scores.softmax(2) @ states).flatten(1)
        answer: torch.Tensor = self.classifier(self.dropout(torch.relu(self.pre_classifier(means))))
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


@contextmanager
def answering(model: PreTrainedModel) -> Iterator[None]:
    """Within, `logits` are [rows, 2 · labels]: those of all layers, then those of the early head."""
    layer, head = layer_of(model), getattr(model, EARLY_EXIT)

    def ask(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return given, {**named, "output_hidden_states": True}

    def answer(_: nn.Module, __: tuple[Any, ...], named: dict[str, Any], said: Any) -> Any:
        said.logits = torch.cat([said.logits, head(said.hidden_states[layer], named.get("attention_mask"))], 1)
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


@contextmanager
def alone(model: PreTrainedModel) -> Iterator[None]:
    """Within, nothing of the model is learnt but its early head, and nothing else drops out."""
    head = getattr(model, EARLY_EXIT)
    own = set(head.modules())
    learnt = {each: each.requires_grad for each in model.parameters()}
    dropped = {each: each.p for each in model.modules() if isinstance(each, nn.Dropout) and each not in own}
    model.requires_grad_(False)
    head.requires_grad_(True)
    for each in dropped:
        each.p = 0.0
    try:
        yield
    finally:
        for parameter, was in learnt.items():
            parameter.requires_grad_(was)
        for each, share in dropped.items():
            each.p = share


class LikeTheLast:
    """The early head's loss in a model that is `answering`: it learns what the last head says, not what is right.

    A text that leaves early is to get the label that it would have got.
    """

    def loss(self, scores: torch.Tensor, _: Sequence[Any]) -> torch.Tensor:
        last, early = scores.chunk(2, dim=1)
        return functional.cross_entropy(early, last.detach().softmax(1), reduction="sum")

    def weight(self, targets: Sequence[Any]) -> float:
        return float(len(targets))


class BothHeads:
    """The loss of a model that is `answering`: that of the last head, and, times `early`, that of the early one."""

    def __init__(self, objective: Objective, early: float) -> None:
        self._objective = objective
        self._early = early

    def loss(self, scores: torch.Tensor, targets: Sequence[Sequence[float]]) -> torch.Tensor:
        last, _ = scores.chunk(2, dim=1)
        return self._objective.loss(last, targets) + self._early * LikeTheLast().loss(scores, targets)

    def weight(self, targets: Sequence[Sequence[float]]) -> float:
        return self._objective.weight(targets)
