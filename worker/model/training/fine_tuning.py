"""Fine-tuning with torch: the steps of a run. What a loss is, is an `Objective`.

Only this module, and what serves or imports it, needs torch and transformers.
"""

from __future__ import annotations

import random
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

    from worker.model.training.objectives import Objective

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# A text and its probability per label.
Pair = tuple[str, "Sequence[float]"]
# Rows (of token ids, or of what a frozen encoder said) to the arguments of a model's call.
Collate: TypeAlias = "Callable[[Sequence[Any]], dict[str, torch.Tensor]]"
# Batches of similar length are cut from stretches of so many batches, so that they stay a random choice.
_STRETCH = 32


@dataclass(frozen=True)
class Settings:
    """Everything a run depends on besides its data.

    `layer_decay` multiplies the learning rate once per layer below the head; `smoothing` mixes the uniform distribution
    into the targets; `ema` is the decay per step of the average of the weights that a run returns; `lengths` are the
    limits in tokens that a batch's texts are cut at, with their chances. Word and position embeddings stay as they are
    with `freeze_embeddings`: words that the training texts lack then keep their place beside those that they have.
    """

    epochs: int = 3
    batch: int = 32
    rate: float = 1e-4
    layer_decay: float = 0.9
    warmup: float = 0.1
    weight_decay: float = 0.01
    smoothing: float = 0.05
    ema: float = 0.99
    lengths: tuple[tuple[int, float], ...] = ((128, 1.0),)
    freeze_embeddings: bool = True
    seed: int = 1
    precision: str = "float32"


class Trainer:
    """A model, its optimizer and the average of its weights, between two steps.

    Args:
        model: any classifier of transformers; its parameters that need no gradient stay as they are.
        objective: what is to become small.
        settings: of the run.
        steps: how many there will be; the learning rate falls to zero by then.
        collate: rows to the arguments of `model`.
    """

    def __init__(
        self, model: PreTrainedModel, objective: Objective, settings: Settings, steps: int, collate: Collate
    ) -> None:
        self.model = model
        self._objective = objective
        self._settings = settings
        self._steps = steps
        self._collate = collate
        self._optimizer = torch.optim.AdamW(_parameter_groups(model, settings), fused=True)
        self._rates = [group["lr"] for group in self._optimizer.param_groups]
        self._learnt = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._average = {name: p.detach().clone() for name, p in self._learnt.items()}
        self.step = 0

    def learn(self, rows: Sequence[Any], targets: Sequence[Any]) -> float:
        """One step on one batch; its mean loss."""
        self.model.train()
        self._set_rate()
        weight = self._objective.weight(targets)
        total = 0.0
        for part in _by_length(rows):
            with autocast(self._settings.precision):
                scores = self.model(**self._collate([rows[i] for i in part])).logits
            loss = self._objective.loss(scores.float(), [targets[i] for i in part]) / weight
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self._learnt.values(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.step += 1
        self._update_average()
        return total

    @contextmanager
    def averaged(self) -> Iterator[PreTrainedModel]:
        """The model with the average of its weights, ready to predict."""
        held = {name: p.detach().clone() for name, p in self._learnt.items()}
        self._load(self._average)
        self.model.eval()
        try:
            yield self.model
        finally:
            self._load(held)

    def average(self) -> dict[str, torch.Tensor]:
        """A copy of the averaged weights, of what is learnt alone."""
        return {name: each.clone() for name, each in self._average.items()}

    def finish(self, weights: dict[str, torch.Tensor]) -> None:
        """Gives the model these weights for good."""
        self._load(weights)
        self.model.eval()

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, as tensors, numbers and words."""
        return {
            "step": self.step,
            "weights": {name: p.detach().clone() for name, p in self._learnt.items()},
            "average": self.average(),
            "optimizer": self._optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back to where `state` was taken."""
        self.step = state["step"]
        self._load(state["weights"])
        self._average = {name: each.clone() for name, each in state["average"].items()}
        self._optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])

    def _set_rate(self) -> None:
        factor = _rate_factor(self.step, self._steps, self._settings.warmup)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

    def _update_average(self) -> None:
        # The first steps are no part of what the weights become: the average is short while the run is.
        keep = min(self._settings.ema, self.step / (self.step + 9)) if self.step > 1 else 0.0
        with torch.no_grad():
            torch._foreach_lerp_(list(self._average.values()), list(self._learnt.values()), 1 - keep)

    def _load(self, weights: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._learnt.items():
                parameter.copy_(weights[name])


def load_tensors(model: PreTrainedModel, tensors: dict[str, np.ndarray]) -> None:
    """Puts an encoder's tensors into `model`; its head stays as it is.

    Raises:
        ValueError: the checkpoint has tensors that the model has not.
    """
    _, unexpected = model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in tensors.items()}, strict=False)
    if unexpected:
        raise ValueError(f"the checkpoint has tensors that a DistilBERT has not: {', '.join(sorted(unexpected)[:3])}")


def fine_tune(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    epochs: Callable[[int, random.Random], list[Pair]],
    objective: Objective,
    settings: Settings,
    report: Callable[[int, int, float], None],
) -> dict[str, np.ndarray]:
    """Trains `model` and returns the average of its weights over the last steps, as FP32 arrays by tensor name.

    `epochs` gives the pairs of an epoch, counted from 0, with a generator to draw from; each time equally many.
    `report` is called after each step with the step, the number of steps, and the loss of that step.
    """
    rng = random.Random(settings.seed)
    torch.manual_seed(settings.seed)
    steps = settings.epochs * -(-len(epochs(0, random.Random(0))) // settings.batch)
    model.base_model.embeddings.requires_grad_(not settings.freeze_embeddings)
    trainer = Trainer(model, objective, settings, steps, partial(padded, pad_id=0))
    limits, chances = zip(*settings.lengths, strict=True)
    for batch in _drawn(epochs, rng, settings):
        rows = encode(tokenizer, [text for text, _ in batch], rng.choices(limits, chances)[0])
        loss = trainer.learn(rows, [target for _, target in batch])
        report(trainer.step, steps, loss)
    trainer.finish(trainer.average())
    return {k: v.detach().float().numpy() for k, v in model.state_dict().items()}


def _own(row: Sequence[Any], logits: np.ndarray) -> np.ndarray:
    """Without what belongs to padding."""
    return logits[: len(row)] if logits.ndim == 2 else logits


def outputs(
    model: PreTrainedModel,
    rows: Sequence[Any],
    collate: Collate,
    precision: str = "float32",
    batch: int = 64,
    keep: Callable[[Sequence[Any], np.ndarray], np.ndarray] = _own,
) -> list[np.ndarray]:
    """FP32 logits of each row, in order: [labels], or [tokens, labels] of a token classifier.

    `keep` makes of a row's logits, padding included, what is kept of them.
    """
    model.eval()
    out: list[np.ndarray] = [np.empty(0)] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for start in range(0, len(order), batch):
        chunk = order[start : start + batch]
        with torch.inference_mode(), autocast(precision):
            found = model(**collate([rows[i] for i in chunk])).logits.float().numpy()
        for i, logits in zip(chunk, found, strict=True):
            out[i] = keep(rows[i], logits)
    return out


def batches(lengths: Sequence[int], size: int, rng: random.Random) -> list[list[int]]:
    """Every index once, in batches of texts of similar length, in a random order."""
    shuffled = list(range(len(lengths)))
    rng.shuffle(shuffled)
    out = []
    for start in range(0, len(shuffled), size * _STRETCH):
        stretch = sorted(shuffled[start : start + size * _STRETCH], key=lengths.__getitem__)
        out += [stretch[at : at + size] for at in range(0, len(stretch), size)]
    rng.shuffle(out)
    return out


def encode(tokenizer: Tokenizer, texts: Sequence[str], limit: int) -> list[list[int]]:
    """Token ids, special tokens included, cut at `limit`."""
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit)
    return [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]


def autocast(precision: str) -> torch.autocast:
    return torch.autocast("cpu", PRECISIONS[precision], enabled=precision != "float32")


def _drawn(
    epochs: Callable[[int, random.Random], list[Pair]], rng: random.Random, settings: Settings
) -> Iterator[list[Pair]]:
    for epoch in range(settings.epochs):
        pairs = epochs(epoch, rng)
        rng.shuffle(pairs)
        for start in range(0, len(pairs), settings.batch):
            yield pairs[start : start + settings.batch]


def _by_length(rows: Sequence[Any]) -> Iterator[list[int]]:
    """Indices of `rows`, shortest first, cut where padding would exceed a quarter of the part."""
    part: list[int] = []
    tokens = 0
    for i in sorted(range(len(rows)), key=lambda i: len(rows[i])):
        if part and len(rows[i]) * (len(part) + 1) > 1.25 * (tokens + len(rows[i])):
            yield part
            part, tokens = [], 0
        part.append(i)
        tokens += len(rows[i])
    yield part


def padded(rows: Sequence[Sequence[int]], pad_id: int = 0) -> dict[str, torch.Tensor]:
    """Token ids as the arguments of a model's call."""
    longest = max(map(len, rows))
    return {
        "input_ids": torch.tensor([[*row] + [pad_id] * (longest - len(row)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows]),
    }


def _parameter_groups(model: PreTrainedModel, settings: Settings) -> list[dict[str, Any]]:
    """What is learnt, by depth and by whether it decays, each group with its learning rate."""
    layers = model.config.num_hidden_layers
    groups: dict[tuple[int, float], list[Any]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = settings.weight_decay if parameter.dim() > 1 else 0.0
            groups[_depth(name, layers), decay].append(parameter)
    return [
        {"params": each, "lr": settings.rate * settings.layer_decay ** (layers + 1 - depth), "weight_decay": decay}
        for (depth, decay), each in groups.items()
    ]


def _depth(name: str, layers: int) -> int:
    """0 for the embeddings, 1 … `layers` for the layers, `layers` + 1 for the head."""
    parts = name.split(".")
    if "layer" in parts:
        return int(parts[parts.index("layer") + 1]) + 1
    return 0 if any(part.startswith(("embeddings", "relative_attention")) for part in parts) else layers + 1


def _rate_factor(step: int, steps: int, warmup: float) -> float:
    """Linear up over the share `warmup` of the steps, then linear down to zero."""
    rising = max(1, int(steps * warmup))
    return (step + 1) / rising if step < rising else max(0.0, (steps - step) / (steps - rising))
