"""Texts that are longer than the model, as overlapping windows.

A long text is cut into windows that are each as long as the model reads. They go through the batcher like texts, a
few at a time and in the order of the texts, each with the moment it was fed as its arrival: whatever arrived before
goes first, so a long text never holds up short ones. What the model says of them is kept until the last one is back,
joined, and classified as one text. Only the texts whose windows are out hold scores; those that wait hold token ids,
which are counted, so that the loop can bound them.
"""

from __future__ import annotations

import sys
from array import array
from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias, cast

import numpy as np

from worker.pipeline.batches import Item
from worker.pipeline.messages import Partial, Rejection, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from worker.pipeline.interpret import Entities
    from worker.pipeline.ledger import Slot
    from worker.pipeline.messages import Classification, Request, Said
    from worker.pipeline.tokenization import TextTokenizer

Scores: TypeAlias = "NDArray[np.float64]"
Combine = Literal["max", "mean"]
_SLOT = attrgetter("slot")


class Cutter(NamedTuple):
    """Where windows lie. Lengths in tokens; special tokens go around every window."""

    longest: int
    """Of a window, special tokens included; longer texts are cut."""
    overlap: int
    """At least so many tokens are in both of two neighbours (what Hugging Face calls stride); less than a window
    holds."""
    before: int
    """Special tokens before a text."""
    after: int
    """Special tokens behind it."""

    def starts(self, tokens: int) -> list[int]:
        """Where the windows of a text of so many tokens, special ones included, begin, without the special ones.

        The last window ends with the text and is as long as the others: a remnant of a few tokens would have no
        context.
        """
        content, room = tokens - self.before - self.after, self.room
        return [*range(0, max(0, content - room), room - self.overlap), max(0, content - room)]

    @property
    def room(self) -> int:
        """Tokens of the text in a window."""
        return self.longest - self.before - self.after

    def cut(self, ids: Sequence[int], start: int) -> list[int]:
        """Token ids of the window that begins at `start`."""
        end = len(ids) - self.after
        window = ids[self.before + start : min(end, self.before + start + self.room)]
        return [*ids[: self.before], *window, *ids[end:]]


class LongText:
    """A text on its way through, window by window."""

    __slots__ = ("fed", "ids", "missing", "over", "parts", "request", "slot", "starts", "tokens", "truncated")

    def __init__(self, slot: Slot, request: Request, ids: Sequence[int], truncated: bool, starts: list[int]) -> None:
        self.slot = slot
        self.request = request
        self.ids = array("i", ids)
        """Until all windows are cut."""
        self.tokens = len(ids)
        self.truncated = truncated
        self.starts = starts
        self.fed = 0
        self.missing = len(starts)
        self.parts: list[Scores | None] = [None] * len(starts)
        self.over = False
        """It has its outcome: nothing more is to be done for it."""

    @property
    def idle(self) -> bool:
        """Whether there is no window to feed: all are fed, or it has its outcome, or its partition has gone."""
        return self.over or self.slot.dropped or self.fed == len(self.starts)


class Window(NamedTuple):
    """One window of a text."""

    text: LongText
    number: int


class Join(Protocol):
    """How the windows of a text become one."""

    def keep(self, scores: Scores, window: Window) -> Scores:
        """What is needed of a window's scores; shares no memory with them."""

    def whole(self, parts: list[Scores], request: Request) -> Classification:
        """What all windows of a text say together, from what was kept of them, in order."""


class JoinTexts:
    """Sequence classification: each label's scores are combined.

    Args:
        combine: `max` of the windows' scores, or their `mean`.
        classify: scores of all labels to what they say.
    """

    def __init__(self, combine: Combine, classify: Callable[[Sequence[float]], Classification]) -> None:
        self._combine: Callable[..., Scores] = np.max if combine == "max" else np.mean
        self._classify = classify

    def keep(self, scores: Scores, window: Window) -> Scores:  # noqa: ARG002 - of every window the same
        return scores.copy()

    def whole(self, parts: list[Scores], request: Request) -> Classification:  # noqa: ARG002
        return self._classify(self._combine(np.stack(parts), axis=0).tolist())


class JoinTokens:
    """Token classification: each token's scores are those of the window in which it is farthest from an edge.

    Args:
        cutter: where windows lie.
        tokenizer: asked once more for the places of the tokens, which nobody has to hold until then.
        interpret: scores of all tokens to entities.
    """

    def __init__(self, cutter: Cutter, tokenizer: TextTokenizer, interpret: Entities) -> None:
        self._cutter = cutter
        self._tokenizer = tokenizer
        self._interpret = interpret

    def keep(self, scores: Scores, window: Window) -> Scores:
        starts, number = window.text.starts, window.number
        # Row r of a window is row start + r of the text, special tokens at the ends included.
        first = 0 if number == 0 else self._border(*starts[number - 1 : number + 1]) - starts[number]
        last = None if number + 1 == len(starts) else self._border(*starts[number : number + 2]) - starts[number]
        return scores[first:last].copy()

    def whole(self, parts: list[Scores], request: Request) -> Classification:
        return self._interpret.classify(np.concatenate(parts), self._tokenizer.spans(request.text), request.text)

    def _border(self, start: int, following: int) -> int:
        """The row of the text at which the second of two windows takes over: in the middle of what both have."""
        return self._cutter.before + (start + self._cutter.room - 1 + following) // 2 + 1


class Windows:
    """Long texts on their way through.

    Args:
        cutter: where windows lie; None where no text is longer than the model, because all are truncated.
        join: how they become one.
        limit: windows that are out at the same time, of all texts together.
    """

    def __init__(self, cutter: Cutter | None = None, join: Join | None = None, limit: int = 1) -> None:
        self._cutter = cutter
        self._join = join
        self._limit = limit
        self._waiting: deque[LongText] = deque()
        self.out = 0
        """Windows fed and neither back nor taken back."""
        self.bytes = 0
        """Of the token ids of the texts of which windows are still to be fed."""
        self.longest = sys.maxsize if cutter is None else cutter.longest
        """Tokens; texts that are longer are to be added here."""

    def add(self, slot: Slot, request: Request, ids: Sequence[int], truncated: bool) -> None:
        """Take in a text that is longer than `longest` tokens."""
        if self._cutter is None:
            raise AssertionError("a text is too long although all are truncated")
        text = LongText(slot, request, ids, truncated, self._cutter.starts(len(ids)))
        self._waiting.append(text)
        self.bytes += _size(text)

    def feed(self, now: float) -> list[Item]:
        """The windows that may go out now, as items for the batcher that arrive `now`."""
        items: list[Item] = []
        while self._waiting and self.out < self._limit:
            text = self._waiting[0]
            if text.idle:
                self._waiting.popleft()
                self._let_go(text)
            else:
                items.append(self._next(text, now))
                self.out += 1
        return items

    def discard(self) -> None:
        """Forget the texts whose partitions have gone, wherever they wait."""
        waiting = self._waiting
        self._waiting = deque()
        for text in waiting:
            if text.idle:
                self._let_go(text)
            else:
                self._waiting.append(text)

    def outcomes(self, items: Sequence[Item], said: Sequence[Said]) -> Iterable[tuple[Slot, Result | Rejection]]:
        """The outcomes that a batch brings, by slot: of whole texts what the lane says, of long ones see `back`."""
        if not self.out:
            # No window can be among them, as nearly always: no work for each of them.
            return zip(map(_SLOT, items), cast("Sequence[Result | Rejection]", said), strict=True)
        told = ((item.slot, self._outcome(item, one)) for item, one in zip(items, said, strict=True))
        return [(slot, outcome) for slot, outcome in told if outcome is not None]

    def back(self, window: Window, said: Said) -> Result | Rejection | None:
        """Take what a lane says of a window.

        Returns:
            The outcome of the whole text, once: with its last window, or with the first one that failed.
        """
        self.out -= 1
        text = window.text
        if text.over or text.slot.dropped:
            return None
        if not isinstance(said, Partial):
            return self._end(text, said)
        if self._join is None:
            raise AssertionError("a window came back although all texts are truncated")
        try:
            text.parts[window.number] = self._join.keep(said.scores, window)
            text.missing -= 1
            return None if text.missing else self._end(text, self._result(text, self._join))
        except Exception as error:  # noqa: BLE001 - whatever fails here is this text's alone
            kind = type(error).__name__
            return self._end(
                text, Rejection("infer", "model-error", f"The windows of this message do not fit ({kind}).", kind)
            )

    def taken_back(self, items: Sequence[Item]) -> None:
        """Forget windows that the batcher gave back."""
        self.out -= sum(item.window is not None for item in items)

    def _outcome(self, item: Item, said: Said) -> Result | Rejection | None:
        if item.window is not None:
            return self.back(item.window, said)
        if isinstance(said, Partial):
            raise AssertionError("a lane gave a part of a whole text")
        return said

    def _next(self, text: LongText, now: float) -> Item:
        assert self._cutter is not None
        window = Window(text, text.fed)
        ids = self._cutter.cut(text.ids, text.starts[text.fed])
        text.fed += 1
        return Item(text.slot, text.request, ids, text.truncated, now, window=window)

    def _result(self, text: LongText, join: Join) -> Result:
        said = join.whole([part for part in text.parts if part is not None], text.request)
        return Result(text.request, said, text.truncated, text.tokens, len(text.starts))

    def _let_go(self, text: LongText) -> None:
        """Free the ids of a text that no longer waits: its windows that are out have their own."""
        self.bytes -= _size(text)
        del text.ids[:]

    def _end(self, text: LongText, outcome: Result | Rejection) -> Result | Rejection:
        text.over = True
        text.parts.clear()
        return outcome


def _size(text: LongText) -> int:
    return len(text.ids) * text.ids.itemsize
