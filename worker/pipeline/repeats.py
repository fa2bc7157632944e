"""What was said of the latest texts, so that a repeat costs neither tokenizer nor model.

The scores of a text do not depend on the texts beside it, so what is kept is what the model would say again.
"""

from __future__ import annotations

from collections import OrderedDict
from sys import getsizeof
from typing import TYPE_CHECKING

from worker.pipeline.messages import Result

if TYPE_CHECKING:
    from worker.pipeline.messages import Classification, Request

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
        self.hits = 0
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
            self.misses += 1
            return None
        self.hits += 1
        self._kept.move_to_end(text)
        said, truncated, tokens, windows, _ = kept
        return Result(request, said, truncated, tokens, windows)

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
