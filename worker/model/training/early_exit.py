"""A classifier with a second head on an early layer, and the loss that trains both.

Needs torch and transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import DistilBertForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import DistilBertConfig

    from worker.model.training.objectives import Objective

# What its tensors are called in a checkpoint, before `pre_classifier` and `classifier`.
PREFIX = "early_exit"


class ExitingDistilBert(DistilBertForSequenceClassification):  # type: ignore[misc]
    """A DistilBERT whose [CLS] is also read after `layer` layers, by a head of the same shape.

    `logits` are [rows, 2, labels]: those of the last layer, then those of the early one.
    """

    def __init__(self, config: DistilBertConfig, layer: int) -> None:
        super().__init__(config)
        self._layer = layer
        self.early_exit = torch.nn.ModuleDict(
            {
                "pre_classifier": torch.nn.Linear(config.dim, config.dim),
                "classifier": torch.nn.Linear(config.dim, config.num_labels),
            }
        )
        self.post_init()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> SequenceClassifierOutput:
        states = self.distilbert(input_ids, attention_mask, output_hidden_states=True).hidden_states
        heads = ((states[-1], self), (states[self._layer], self.early_exit))
        logits = [self._answer(state[:, 0], head) for state, head in heads]
        return SequenceClassifierOutput(logits=torch.stack(logits, 1))

    def _answer(self, first: torch.Tensor, head: Any) -> torch.Tensor:
        parts = head if isinstance(head, torch.nn.ModuleDict) else vars(head)["_modules"]
        inner = torch.relu(parts["pre_classifier"](first))
        answer: torch.Tensor = parts["classifier"](self.dropout(inner))
        return answer


class BothHeads:
    """The loss of the last layer's head, and a share of that of the early one."""

    def __init__(self, objective: Objective, share: float) -> None:
        self._objective = objective
        self._share = share

    def loss(self, scores: torch.Tensor, targets: Sequence[Sequence[float]]) -> torch.Tensor:
        last, early = (self._objective.loss(scores[:, i], targets) for i in range(2))
        return last + self._share * early

    def weight(self, targets: Sequence[Sequence[float]]) -> float:
        return self._objective.weight(targets)
