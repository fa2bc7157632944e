"""What was said of the latest texts, so that a repeat costs neither tokenizer nor model.

The scores of a text do not depend on the texts beside it, so what is kept is what the model would say again. A text
that comes again while it is in work, as in a burst, waits for the answer to the one before it.
"""

from __future__ import annotations

from collections import OrderedDict
from sys import getsizeof
from typing import TYPE_CHECKING

from worker.pipeline.messages import Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.pipeline.ledger import Slot
    from worker.pipeline.messages import Classification, Rejection, Request

LARGEST_SHARE = 64
"""What takes more than this part of the room is not kept: a few long texts would push out everything else."""
ENTRY_BYTES, SCORE_BYTES, ENTITY_BYTES = 480, 80, 200
"""What an entry takes beside its text, and each score and entity of it beside its word: as measured, rounded up."""


class Repeats:
    """Results by text; the one that was longest not asked for is the first to go. Used by one thread.

    Args:
        max_bytes: of texts and results together, as Python holds them.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._largest = max_bytes // LARGEST_SHARE
        # What was said, whether the text was truncated, its tokens, its windows, and the size of all this.
        self._kept: OrderedDict[str, tuple[Classification, bool, int, int, int]] = OrderedDict()
        # Texts in work: those that wait for each, and the same by the slot whose message brought it.
        self._asked: dict[str, list[tuple[Slot, Request]]] = {}
        self._first: dict[Slot, tuple[str, list[tuple[Slot, Request]]]] = {}
        self._left: list[tuple[Slot, Request]] = []
        self.hits = 0
        """Requests that were answered without the model."""
        self.misses = 0
        self.bytes = 0
        """Of what is kept."""

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, request: Request) -> Result | None:
        """The result of a request whose text is known."""
        _, text, truncated, _ = request
        kept = self._kept.get(text)
        if kept is None or truncated:
            return None
        self.hits += 1
        self._kept.move_to_end(text)
        said, truncated, tokens, windows, _ = kept
        return Result(request, said, truncated, tokens, windows)

    def waits(self, slot: Slot, request: Request) -> bool:
        """Whether a request that is not known waits for another of the same text; where not, others may wait for it."""
        _, text, truncated, _ = request
        waiting = self._asked.get(text)
        if waiting is None or truncated:
            self.misses += 1
            if not truncated:
                self._asked[text] = waiting = []
                self._first[slot] = text, waiting
            return False
        waiting.append((slot, request))
        return True

    def answered(self, slot: Slot, outcome: Result | Rejection) -> Sequence[tuple[Slot, Result]]:
        """Take note of an outcome.

        Returns:
            Those that waited for it, with theirs. What the model failed on says nothing of them: see `left`.
        """
        waiting = self._over(slot)
        if isinstance(outcome, Result):
            self.keep(outcome)
            self.hits += len(waiting)
            return [(other, outcome._replace(request=request)) for other, request in waiting] if waiting else ()
        self._left += waiting
        return ()

    def dropped(self) -> None:
        """Partitions have gone: who waits for one of theirs waits in vain."""
        for slot in [slot for slot in self._first if slot.dropped]:
            self._left += self._over(slot)

    def left(self, limit: int) -> list[tuple[Slot, Request, Result | None]]:
        """Up to `limit` requests that wait for nobody any more, each once.

        With what has been said of their text meanwhile; where that is None, they are to be classified themselves.
        """
        some, self._left = self._left[:limit], self._left[limit:]
        found = [(slot, request, self.find(request)) for slot, request in some if not slot.dropped]
        self.misses += sum(result is None for _, _, result in found)
        return found

    @property
    def waiting(self) -> int:
        """Requests that wait, those that they wait for, and those that are left."""
        return sum(1 + len(waiting) for _, waiting in self._first.values()) + len(self._left)

    def _over(self, slot: Slot) -> list[tuple[Slot, Request]]:
        if slot not in self._first:
            return []
        text, waiting = self._first.pop(slot)
        del self._asked[text]
        return waiting

    def keep(self, result: Result) -> None:
        """Note what the model said of a text, unless there was more of it than the model was to see."""
        (_, text, cut, _), said, truncated, tokens, windows = result
        size = _size(text, said)
        if cut or size > self._largest or text in self._kept:
            return
        self._kept[text] = (said, truncated, tokens, windows, size)
        self.bytes += size
        while self.bytes > self._max_bytes:
            self.bytes -= self._kept.popitem(last=False)[1][-1]


def _size(text: str, said: Classification) -> int:
    """Bytes that an entry takes, rather too many than too few; what all entries share is not counted."""
    size = ENTRY_BYTES + getsizeof(text) + SCORE_BYTES * len(said.scores)
    if said.labels:
        size += SCORE_BYTES * len(said.labels)
    if said.entities:
        size += sum(ENTITY_BYTES + getsizeof(entity.word) for entity in said.entities)
    return size
