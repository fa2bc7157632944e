"""Fine-tuning a sequence classifier with torch: the generic core that recipes call.

Only this module, and what serves or imports it, needs torch and transformers.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional
from transformers import DistilBertConfig, DistilBertForSequenceClassification

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tokenizers import Tokenizer

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# A text and its probability per label.
Pair = tuple[str, "Sequence[float]"]


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


def new_model(config: dict[str, Any], tensors: dict[str, np.ndarray], seed: int) -> DistilBertForSequenceClassification:
    """The encoder's tensors under a freshly initialized head; `config` is config.json's content, labels included."""
    torch.manual_seed(seed)
    model = DistilBertForSequenceClassification(DistilBertConfig(**config))
    _, unexpected = model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in tensors.items()}, strict=False)
    if unexpected:
        raise ValueError(f"the checkpoint has tensors that a DistilBERT has not: {', '.join(sorted(unexpected)[:3])}")
    return model


def fine_tune(
    model: DistilBertForSequenceClassification,
    tokenizer: Tokenizer,
    epochs: Callable[[int, random.Random], list[Pair]],
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
    model.distilbert.embeddings.requires_grad_(not settings.freeze_embeddings)
    optimizer = torch.optim.AdamW(_parameter_groups(model, settings), fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate_factor(step, steps, settings.warmup))
    scaler = torch.amp.GradScaler("cpu", enabled=settings.precision == "float16")
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings.ema)
    )
    model.train()
    for step, batch in enumerate(_batches(epochs, rng, settings), 1):
        loss = _backward(model, tokenizer, batch, rng, settings, scaler)
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        optimizer.zero_grad()
        average.update_parameters(model)
        report(step, steps, loss)
    return {k: v.detach().float().numpy() for k, v in average.module.state_dict().items()}


def logits(
    model: DistilBertForSequenceClassification, tokenizer: Tokenizer, texts: Sequence[str], max_length: int
) -> np.ndarray:
    """FP32 logits, shape [texts, labels], in the order of `texts`."""
    model.eval()
    rows = _encode(tokenizer, texts, max_length)
    out = np.zeros((len(rows), model.config.num_labels), np.float32)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    with torch.inference_mode():
        for start in range(0, len(order), 32):
            chunk = order[start : start + 32]
            out[chunk] = model(**_padded([rows[i] for i in chunk])).logits.numpy()
    return out


def _batches(
    epochs: Callable[[int, random.Random], list[Pair]], rng: random.Random, settings: Settings
) -> Iterator[list[Pair]]:
    for epoch in range(settings.epochs):
        pairs = epochs(epoch, rng)
        rng.shuffle(pairs)
        for start in range(0, len(pairs), settings.batch):
            yield pairs[start : start + settings.batch]


def _backward(
    model: DistilBertForSequenceClassification,
    tokenizer: Tokenizer,
    batch: list[Pair],
    rng: random.Random,
    settings: Settings,
    scaler: torch.amp.GradScaler,
) -> float:
    """Accumulates the gradient of the batch's mean loss over parts of similar length, which need little padding."""
    limits, chances = zip(*settings.lengths, strict=True)
    rows = _encode(tokenizer, [text for text, _ in batch], rng.choices(limits, chances)[0])
    targets = torch.tensor([target for _, target in batch])
    targets = targets * (1 - settings.smoothing) + settings.smoothing / targets.shape[1]
    total = 0.0
    for part in _by_length(rows):
        with torch.autocast("cpu", PRECISIONS[settings.precision], enabled=settings.precision != "float32"):
            scores = model(**_padded([rows[i] for i in part])).logits
        loss = functional.cross_entropy(scores.float(), targets[part], reduction="sum") / len(batch)
        scaler.scale(loss).backward()
        total += loss.item()
    return total


def _by_length(rows: list[list[int]]) -> Iterator[list[int]]:
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


def _encode(tokenizer: Tokenizer, texts: Sequence[str], limit: int) -> list[list[int]]:
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit)
    return [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]


def _padded(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    longest = max(map(len, rows))
    return {
        "input_ids": torch.tensor([row + [0] * (longest - len(row)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows]),
    }


def _parameter_groups(model: DistilBertForSequenceClassification, settings: Settings) -> list[dict[str, Any]]:
    layers = model.config.n_layers
    return [
        {
            "params": [parameter],
            "lr": settings.rate * settings.layer_decay ** (layers + 1 - _depth(name, layers)),
            "weight_decay": settings.weight_decay if parameter.dim() > 1 else 0.0,
        }
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]


def _depth(name: str, layers: int) -> int:
    """0 for the embeddings, 1 … `layers` for the layers, `layers` + 1 for the head."""
    parts = name.split(".")
    if "embeddings" in parts:
        return 0
    return int(parts[parts.index("layer") + 1]) + 1 if "layer" in parts else layers + 1


def _rate_factor(step: int, steps: int, warmup: float) -> float:
    """Linear up over the share `warmup` of the steps, then linear down to zero."""
    rising = max(1, int(steps * warmup))
    return (step + 1) / rising if step < rising else max(0.0, (steps - step) / (steps - rising))
