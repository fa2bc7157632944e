"""One open batch per length bucket; bounded by messages, by padded tokens and by the age of the oldest message.

A state machine without threads; time is an argument. A batch is exactly one run of the model, each of its
rows padded to its longest. It is full when one more message could break a bound, and then closes by itself.
An open batch is handed out when its oldest message reaches the latency bound, or at once when the caller is
in a hurry: a lane stands idle, or the worker drains. Whatever is handed out, the oldest message goes first,
so that nothing starves behind lengths that are more frequent.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from operator import itemgetter
from typing import TYPE_CHECKING

from worker.pipeline.batches import Batch, CloseReason, Item

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RUN_OVERHEAD_TOKENS = 16
"""What starting a run costs, in tokens' worth of work: joining two runs pays while it pads less than this."""


def bucket_edges(max_length: int, growth: float = 1.06) -> list[int]:
    """Upper bounds of the length buckets: 1, 2, 3 … then growing by `growth`, up to `max_length`.

    Two lengths in one bucket differ by less than `growth`, so padding within a bucket stays below it.
    """
    edges = [1]
    while edges[-1] < max_length:
        edges.append(min(max_length, max(edges[-1] + 1, int(edges[-1] * growth))))
    return edges


class _Open:
    """An open batch."""

    __slots__ = ("arrived", "items", "length")

    def __init__(self, item: Item) -> None:
        self.items = [item]
        self.length = len(item.ids)
        self.arrived = item.arrived

    def close(self, reason: CloseReason) -> Batch:
        return Batch(tuple(self.items), self.length, reason)


class Batcher:
    """Gathers items into batches.

    Args:
        max_messages: rows of a batch.
        max_tokens: rows times length of a batch; a longer single message is a batch of its own.
        max_delay: seconds the oldest message of a batch waits for company.
        edges: upper bounds of the length buckets, ascending.
    """

    def __init__(self, max_messages: int, max_tokens: int, max_delay: float, edges: Sequence[int]) -> None:
        self._max_messages = max_messages
        self._max_tokens = max_tokens
        self._max_delay = max_delay
        self._edges = list(edges)
        # In the order in which they were opened, so the first has the oldest message.
        self._open: dict[int, _Open] = {}
        # By arrival of the oldest message, which is not the order in which they filled up.
        self._full: list[tuple[float, Batch]] = []
        self.bytes = 0
        """Of the states of what waits to go on."""

    def __len__(self) -> int:
        """Messages waiting."""
        return sum(len(b.items) for b in self._open.values()) + sum(len(batch.items) for _, batch in self._full)

    def add(self, item: Item) -> None:
        """Take an item in. Items must come in the order in which they arrived."""
        bucket = bisect_left(self._edges, len(item.ids))
        batch = self._open.get(bucket)
        if batch is not None and not self._fits(batch, len(item.ids)):
            self._close_full(bucket, batch)
            batch = None
        if batch is None:
            batch = self._open[bucket] = _Open(item)
        else:
            batch.items.append(item)
            batch.length = max(batch.length, len(item.ids))
        if not self._fits(batch, 1):
            self._close_full(bucket, batch)

    def take(self, now: float, hurry: CloseReason | None = None) -> Batch | None:
        """The next batch to run, or None where none is due.

        Args:
            now: seconds on the clock of the items' arrival.
            hurry: close open batches now and give this as their reason.
        """
        oldest = next(iter(self._open), None)
        if oldest is not None:
            arrived = self._open[oldest].arrived
            due = now >= arrived + self._max_delay
            if (due or hurry) and not (self._full and self._full[0][0] <= arrived):
                return self._close_early(oldest, CloseReason.DEADLINE if due or hurry is None else hurry)
        return self._full.pop(0)[1] if self._full else None

    def deadline(self) -> float | None:
        """When the oldest open batch is due; None where none is open."""
        oldest = next(iter(self._open.values()), None)
        return None if oldest is None else oldest.arrived + self._max_delay

    def discard(self, gone: Callable[[Item], bool]) -> list[Item]:
        """Remove and return the items for which `gone` is true."""
        removed = []
        batches = [batch.items for _, batch in self._full] + [batch.items for batch in self._open.values()]
        self._open, self._full = {}, []
        for item in sorted((item for items in batches for item in items), key=lambda item: item.arrived):
            if gone(item):
                removed.append(item)
            else:
                self.add(item)
        return removed

    def _fits(self, batch: _Open, length: int) -> bool:
        rows = len(batch.items) + 1
        return rows <= self._max_messages and rows * max(batch.length, length) <= self._max_tokens

    def _close_full(self, bucket: int, batch: _Open) -> None:
        reason = CloseReason.SIZE if len(batch.items) >= self._max_messages else CloseReason.TOKENS
        insort(self._full, (batch.arrived, batch.close(reason)), key=itemgetter(0))
        del self._open[bucket]

    def _close_early(self, bucket: int, reason: CloseReason) -> Batch:
        batch = self._open.pop(bucket)
        for shorter in sorted((b for b in self._open if b < bucket), reverse=True):
            if not self._join(batch, shorter):
                break
        return batch.close(reason)

    def _join(self, batch: _Open, bucket: int) -> bool:
        """Move a shorter bucket's open batch into this one where one run is cheaper than two."""
        other = self._open[bucket]
        rows = len(batch.items) + len(other.items)
        padding = (batch.length - other.length) * len(other.items)
        if padding > RUN_OVERHEAD_TOKENS or rows > self._max_messages or rows * batch.length > self._max_tokens:
            return False
        batch.items.extend(self._open.pop(bucket).items)
        return True


class StagedBatcher(Batcher):
    """The same for a model in two stages: batches of texts, and of those that go on after the first stage.

    What goes on is the older work and holds memory, so whatever is due of it is handed out first, and while a lane
    stands idle all of it. It arrives a second time when it comes back: with its first arrival it would be overdue at
    once under load, and go on nearly alone. In a drain, where only the whole counts, it is gathered until nothing else
    is left.
    """

    def __init__(self, max_messages: int, max_tokens: int, max_delay: float, edges: Sequence[int]) -> None:
        super().__init__(max_messages, max_tokens, max_delay, edges)
        self._rest = Batcher(max_messages, max_tokens, max_delay, edges)

    def __len__(self) -> int:
        return super().__len__() + len(self._rest)

    def add(self, item: Item) -> None:
        if item.hidden is None:
            super().add(item)
        else:
            self.bytes += item.hidden.nbytes
            self._rest.add(item)

    def take(self, now: float, hurry: CloseReason | None = None) -> Batch | None:
        at_once = None if hurry is not None and hurry.last else hurry
        batch = self._rest.take(now, at_once) or super().take(now, hurry) or self._rest.take(now, hurry)
        if batch is not None and batch.rest:
            self.bytes -= _bytes(batch.items)
        return batch

    def deadline(self) -> float | None:
        return min((when for when in (super().deadline(), self._rest.deadline()) if when is not None), default=None)

    def discard(self, gone: Callable[[Item], bool]) -> list[Item]:
        removed = self._rest.discard(gone)
        self.bytes -= _bytes(removed)
        return super().discard(gone) + removed


def _bytes(items: Sequence[Item]) -> int:
    return sum(item.hidden.nbytes for item in items if item.hidden is not None)
