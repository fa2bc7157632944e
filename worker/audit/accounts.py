"""What became of the messages of one input partition: a few bytes of state an offset, no Kafka, no clock.

First what was written is told, output partition by output partition (`written`), then what the input holds (`stored`)
and what it would give today (`compare`). `close` counts.
"""

from __future__ import annotations

import itertools
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

PAGE = 1 << 14
"""Offsets whose state is allocated at once: a compacted topic has few messages on many offsets."""
MOST_EXAMPLES = 5
MOST_NAMES = 255

# State of an offset, in one byte.
STORED = 1
"""The input holds a message there."""
DUE = 2
"""The message must be answered: it is no tombstone that is skipped or forwarded."""
RESULT = 4
LETTER = 8
DOUBLED = 16
DIFFERING = 32
BACK = 64
"""Its first copy in an output partition stands behind one of a later message."""
ELSEWHERE = 128
"""It has copies in two partitions."""
ANSWERED = RESULT | LETTER

SHOWN = ("missing", "differing", "out_of_order", "unknown", "wrong", "doubled")
"""Figures of which there are examples."""
_COUNTED = ("copies", "redeliveries", "expired", "unknown", "checked", "wrong", "curable", "other_bundle")
_MARKED = (
    "messages", "results", "dead_letters", "skipped", "waiting", "missing", "doubled", "differing", "out_of_order",
    "expired", "unknown",
)  # fmt: skip


class Answer(NamedTuple):
    """A result or a dead letter as it was written."""

    is_letter: bool
    digest: int
    """Of all that a copy must have the same: 64 bits."""
    name: str
    """Of a result the digest of its bundle, of a dead letter its reason."""


class Today(NamedTuple):
    """What a message gives today: a result, a dead letter, or nothing."""

    digest: int | None
    """Of the result, as in `Answer`."""
    reason: str | None
    """Of the dead letter."""


class Bounds(NamedTuple):
    """Offsets of one input partition."""

    stored: int
    """The first one that the partition still holds."""
    first: int
    """The first one that is audited."""
    processed: int
    """Messages from here on need no answer yet."""
    end: int
    """The next one to be written, when the audit began."""


@dataclass(frozen=True)
class Figures:
    """Messages of one partition, or of several."""

    messages: int = 0
    """That the input holds, tombstones included."""
    results: int = 0
    """With a result."""
    dead_letters: int = 0
    """With a dead letter."""
    skipped: int = 0
    """Tombstones that leave nothing behind, or are forwarded."""
    waiting: int = 0
    """Without an answer, beyond what the group has committed."""
    missing: int = 0
    """Without an answer, though the group has committed them."""
    doubled: int = 0
    """With more than one answer."""
    copies: int = 0
    """Answers beyond the first of their message."""
    differing: int = 0
    """Whose answers are not equal, though no other bundle explains it."""
    out_of_order: int = 0
    """Written behind a later message of their partition in the same output partition, but for redeliveries."""
    redeliveries: int = 0
    """Times that an output partition goes back to a message it has already, and on from there."""
    expired: int = 0
    """Answers whose message the input no longer holds."""
    unknown: int = 0
    """Answers to messages that never were."""
    checked: int = 0
    """Answers that were compared with what settings and bundle give today."""
    wrong: int = 0
    """Answers of those that are not what settings and bundle give today."""
    curable: int = 0
    """Dead letters that would be results today: what the model or the tokenizer could not do then, it can now."""
    other_bundle: int = 0
    """Results of another bundle, which were not compared."""

    def __add__(self, other: Figures) -> Figures:
        return Figures(**{name: value + getattr(other, name) for name, value in vars(self).items()})


@dataclass(frozen=True)
class Partition:
    """The figures of an input partition."""

    topic: str
    partition: int
    bounds: Bounds
    figures: Figures
    examples: dict[str, list[int]] = field(default_factory=dict)
    """By the name of a figure, the first few offsets."""


class _Page:
    """The state of `PAGE` offsets."""

    __slots__ = ("digests", "names", "places", "states")

    def __init__(self) -> None:
        self.states = bytearray(PAGE)
        self.names = bytearray(PAGE)
        self.places = array("H", bytes(2 * PAGE))
        self.digests = array("Q", bytes(8 * PAGE))


class Names:
    """Bundles and reasons by small numbers; those beyond `MOST_NAMES` share the last."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        """From 1 on."""
        number = self._numbers.get(name)
        if number is None:
            number = min(len(self._numbers) + 1, MOST_NAMES)
            if number < MOST_NAMES:
                self._numbers[name] = number
        return number


class Account:
    """The account of one input partition."""

    def __init__(self, topic: str, partition: int, bounds: Bounds, names: Names, *, compacted: bool = False) -> None:
        """Open it.

        Args:
            topic: of the input.
            partition: its number.
            bounds: which offsets it is about.
            names: shared by all accounts of an audit.
            compacted: whether the input loses messages in between, so that an answer without one proves nothing.
        """
        self.topic, self.partition, self.bounds = topic, partition, bounds
        self._names = names
        self._compacted = compacted
        self._pages: dict[int, _Page] = {}
        self._tops: dict[int, int] = {}
        self._lasts: dict[int, int] = {}
        self._counts = dict.fromkeys(_COUNTED, 0)
        self._examples: dict[str, list[int]] = {}

    # What was written

    def written(self, place: int, offset: int, answer: Answer) -> None:
        """An answer to the message at `offset` stands next in the output partition `place`.

        Args:
            place: a number of the output partition; the answers of one must be told one after the other.
            offset: of the message.
            answer: what was written.
        """
        if offset < self.bounds.first:
            # An answer to a message that is stored and not audited is none of its business.
            self._counts["expired"] += offset < self.bounds.stored
            return
        if offset >= self.bounds.end:
            self._count("unknown", offset)
            return
        page, at = self._pages.setdefault(offset // PAGE, _Page()), offset % PAGE
        state = page.states[at]
        known = bool(state & ANSWERED) and page.places[at] == place
        page.states[at] = self._copied(page, at, answer) if state & ANSWERED else self._first(page, at, answer)
        page.states[at] |= self._moved(place, offset, known) | self._elsewhere(page, at, place, state)
        page.places[at] = place

    def _first(self, page: _Page, at: int, answer: Answer) -> int:
        page.digests[at] = answer.digest
        page.names[at] = self._names.number(answer.name)
        return page.states[at] | (LETTER if answer.is_letter else RESULT)

    def _copied(self, page: _Page, at: int, answer: Answer) -> int:
        self._counts["copies"] += 1
        kind = LETTER if answer.is_letter else RESULT
        same_kind = bool(page.states[at] & kind)
        other_bundle = same_kind and not answer.is_letter and page.names[at] != self._names.number(answer.name)
        differs = not same_kind or (page.digests[at] != answer.digest and not other_bundle)
        return page.states[at] | kind | DOUBLED | (DIFFERING if differs else 0)

    def _moved(self, place: int, offset: int, known: bool) -> int:
        """Follow the order within an output partition. Returns `BACK` for a message that comes too late."""
        top, last = self._tops.get(place, -1), self._lasts.get(place, -1)
        self._lasts[place] = offset
        if offset > top:
            self._tops[place] = offset
            return 0
        if not known:
            return BACK
        self._counts["redeliveries"] += offset <= last
        return 0

    @staticmethod
    def _elsewhere(page: _Page, at: int, place: int, state: int) -> int:
        return ELSEWHERE if state & ANSWERED and page.places[at] != place else 0

    # What the input holds

    def stored(self, offset: int, *, due: bool) -> None:
        """The input holds a message at `offset`, within the audited ones; `due` where it must be answered."""
        page = self._pages.setdefault(offset // PAGE, _Page())
        page.states[offset % PAGE] |= STORED | (DUE if due else 0)

    def begins(self, offset: int) -> None:
        """The input has lost what is before `offset` while it was read."""
        self.bounds = self.bounds._replace(stored=max(self.bounds.stored, offset))

    # What it would give today

    def comparable(self, offset: int, bundle: str) -> bool:
        """Whether the message has an answer that settings and this bundle can be held to."""
        page, at = self._pages.get(offset // PAGE), offset % PAGE
        if page is None or page.states[at] & ANSWERED in (0, ANSWERED):  # both is a difference already
            return False
        if page.states[at] & LETTER or page.names[at] == self._names.number(bundle):
            return True
        self._counts["other_bundle"] += 1
        return False

    def compare(self, offset: int, today: Today, passing: frozenset[str]) -> None:
        """Compare the first answer to the message at `offset`, which must be `comparable`.

        Args:
            offset: of the message.
            today: what settings and bundle make of it.
            passing: reasons of dead letters that need not come again.
        """
        self._counts["checked"] += 1
        page, at = self._pages[offset // PAGE], offset % PAGE
        if page.names[at] in {self._names.number(reason) for reason in passing} and today.reason is None:
            self._counts["curable"] += 1
        elif not self._equal(page, at, today, passing):
            self._count("wrong", offset)

    def _equal(self, page: _Page, at: int, today: Today, passing: frozenset[str]) -> bool:
        if today.reason is not None:
            # What fails today for a passing reason says nothing of what was written then.
            return today.reason in passing or page.names[at] == self._names.number(today.reason)
        return today.digest is not None and page.digests[at] == today.digest

    # The end

    def close(self) -> Partition:
        """Count everything; the account is not used afterwards."""
        totals = dict.fromkeys(_MARKED, 0)
        for number in sorted(self._pages):
            start = number * PAGE
            states = np.frombuffer(self._pages[number].states, np.uint8)
            for name, marked in self._marked(states, np.arange(start, start + PAGE)).items():
                found = np.flatnonzero(marked)
                totals[name] += len(found)
                self._show(name, (start + int(at) for at in found[:MOST_EXAMPLES]))
        for name in ("unknown", "expired"):
            totals[name] += self._counts.pop(name)
        examples = {name: sorted(self._examples[name]) for name in SHOWN if self._examples.get(name)}
        return Partition(self.topic, self.partition, self.bounds, Figures(**totals, **self._counts), examples)

    def _marked(self, states: NDArray[np.uint8], offsets: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
        """Which of some offsets count for a figure."""

        def has(bits: int) -> NDArray[np.bool_]:
            found: NDArray[np.bool_] = states & np.uint8(bits) != 0
            return found

        stored, answered = has(STORED), has(ANSWERED)
        unanswered = has(DUE) & ~answered
        waiting = offsets >= self.bounds.processed
        gone = answered & ~stored
        expired = gone & ((offsets < self.bounds.stored) | self._compacted)
        return {
            "messages": stored,
            "results": stored & has(RESULT),
            "dead_letters": stored & has(LETTER),
            "skipped": stored & ~has(DUE) & ~answered,
            "waiting": unanswered & waiting,
            "missing": unanswered & ~waiting,
            "doubled": has(DOUBLED),
            "differing": has(DIFFERING),
            "out_of_order": has(BACK) & ~has(ELSEWHERE),
            "expired": expired,
            "unknown": gone & ~expired,
        }

    def _count(self, name: str, offset: int) -> None:
        self._counts[name] += 1
        self._show(name, [offset])

    def _show(self, name: str, offsets: Iterable[int]) -> None:
        shown = self._examples.setdefault(name, [])
        shown += itertools.islice(offsets, MOST_EXAMPLES - len(shown))
