"""What goes through a lane: tokenized requests in batches."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from worker.pipeline.entities import TokenSpans
    from worker.pipeline.ledger import Slot
    from worker.pipeline.messages import Request
    from worker.pipeline.windows import Window


class Item(NamedTuple):
    """A tokenized request on its way through the batcher and a lane."""

    slot: Slot
    request: Request
    ids: list[int]
    """Token ids, special tokens included, no padding."""
    truncated: bool
    arrived: float
    """Seconds on the worker's monotonic clock at which the record was polled, the window was fed, or the text came back
    from the first stage: since then it waits for company."""
    spans: TokenSpans | None = None
    """Of whole texts, for token classification."""
    window: Window | None = None
    """The part of a long text that this is; None for a whole text."""
    hidden: NDArray[np.float32] | None = None
    """What the first stage made of it, shape [tokens, size]: the rest of the layers goes on from there."""

    @property
    def idle(self) -> bool:
        """Whether nothing more is to be done: its partition has gone, or its long text has its outcome already."""
        return self.slot.dropped or (self.window is not None and self.window.text.over)


class CloseReason(StrEnum):
    """Why a batch closed."""

    SIZE = "size"
    TOKENS = "tokens"
    DEADLINE = "deadline"
    IDLE = "idle"
    DRAIN = "drain"
    REBALANCE = "rebalance"

    @property
    def last(self) -> bool:
        """Whether nothing more is to come, so that only when the whole is done counts."""
        return self in (CloseReason.DRAIN, CloseReason.REBALANCE)


class Batch(NamedTuple):
    """Exactly one run of the model."""

    items: tuple[Item, ...]
    length: int
    """Tokens of the longest item: what each row is padded to."""
    reason: CloseReason

    @property
    def rest(self) -> bool:
        """Whether it goes through the rest of the layers, after an early exit that it did not take."""
        return self.items[0].hidden is not None

    @property
    def padded_tokens(self) -> int:
        return self.length * len(self.items)

    @property
    def tokens(self) -> int:
        return sum(len(item.ids) for item in self.items)
