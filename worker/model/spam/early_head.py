"""The early head of the default bundle: what it learns from, and its training over layers that stay as they are.

Needs torch.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import torch

from worker.model.assemble import Encode, plain_tokenizer
from worker.model.graph.architectures.families import EARLY_EXIT
from worker.model.session import Stages
from worker.model.spam import making
from worker.model.spam.texts import LABELS, distorted, variants
from worker.model.training.early_exit import EarlyHead
from worker.model.training.fine_tuning import Settings
from worker.model.training.frozen import Seen, fit_early_head

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from worker.model.spam.texts import Labelled, Splits
    from worker.model.training.encoder import Encoder

# Of each text of a channel, so many variants and so many distorted ones beside it: comments are the fewest and the
# hardest, mails the longest.
_SHOWN = {"sms": (3, 3), "comments": (24, 40), "mails": (1, 1), "modern": (3, 6)}
_SETTINGS = Settings(epochs=3, batch=64, rate=1.5e-3, layer_decay=1.0, seed=41)
_DROPOUT = 0.1


def with_early_head(
    encoder: Encoder,
    weights: dict[str, np.ndarray],
    splits: Splits,
    rows: Sequence[Labelled],
    report: Callable[[int, int, float], None],
) -> dict[str, np.ndarray]:
    """The same weights with an early head that has learnt from `rows` what all layers say.

    It learns from the INT8 graphs, which are what it is served with. Four gigabytes of states are kept in memory.
    `report` is called after each step with the step, the number of steps, and the loss of that step.
    """
    torch.manual_seed(_SETTINGS.seed)
    head = EarlyHead(encoder.config["dim"], len(LABELS), _DROPOUT)
    tokenizer = plain_tokenizer(encoder.tokenizer)
    encode = Encode(tokenizer, making.MAX_LENGTH)
    both = making.built(encoder, weights | _tensors(head), splits, early=True)
    assert both.stages is not None
    states, last = Stages(*both.stages).states(encode(_texts(rows)))
    fit_early_head(head, [Seen(*each) for each in zip(states, last, strict=True)], _SETTINGS, report)
    return weights | _tensors(head)


def _tensors(head: EarlyHead) -> dict[str, np.ndarray]:
    return {f"{EARLY_EXIT}.{name}": each.detach().numpy() for name, each in head.state_dict().items()}


def _texts(rows: Sequence[Labelled]) -> list[str]:
    rng = random.Random(_SETTINGS.seed)
    shown = list(rows)
    for channel, (of_variants, of_distorted) in _SHOWN.items():
        own = [row for row in rows if row.channel == channel]
        shown += variants(own, of_variants, rng) + distorted(own, of_distorted, rng)
    return [row.text for row in shown]
