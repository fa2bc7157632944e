"""Dead letters as they are stored: what their headers say, which of them are meant, and what can be sent again.

Headers of Kafka Connect and of Spring Kafka are read alike, whoever wrote them. A name may occur several times, because
a message keeps its own headers: the last one is meant.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from worker.pipeline.messages import Headers, Record

CONNECT = "__connect.errors."
SPRING = "kafka_dlt-"
OWN = "winnow.errors."
REPLAYS = "winnow.replays"
"""Header that counts how often a message was sent again."""
REASON = OWN + "reason"
CUT = OWN + "original.bytes"
UNREADABLE = "invalid-headers"
"""The reason of messages whose headers the client cannot read: their letters are without them."""
_Named: TypeAlias = "tuple[str | None, str | None, str | None, Source | None]"
"""Stage, class of the error, message, and where from."""
NO_REASON = "(none)"
"""Stands for the reason of letters that name none."""
MOST_REPLAYS = 1_000_000
"""What a message claims beyond this counts as this."""


class Source(NamedTuple):
    """Where a message was read."""

    topic: str
    partition: int
    offset: int


class Letter(NamedTuple):
    """A dead letter."""

    record: Record
    reason: str | None
    """A fixed word; None where the headers have none."""
    stage: str | None
    error: str | None
    """The class of the error."""
    message: str | None
    """What is wrong, in a sentence."""
    source: Source | None
    """Where the message came from; None where the headers do not say it."""
    cut_from: int | None
    """Bytes of the whole value, where the letter does not hold all of its message."""
    replays: int
    size: int
    """Bytes of the letter's value."""

    @property
    def named_reason(self) -> str:
        """`reason`, or `NO_REASON`."""
        return self.reason or NO_REASON


class Selection(NamedTuple):
    """Which letters are meant; what is empty or None lets all pass."""

    reasons: frozenset[str] = frozenset()
    since: int | None = None
    """Milliseconds since the epoch, of the time when the letter was written."""
    until: int | None = None
    """Likewise, exclusive."""
    partition: int | None = None
    offsets: tuple[range, ...] = ()

    def __call__(self, letter: Letter) -> bool:
        record = letter.record
        return (
            (not self.reasons or letter.named_reason in self.reasons)
            and self._in_time(record.timestamp)
            and self.partition in (None, record.partition)
            and (not self.offsets or any(record.offset in some for some in self.offsets))
        )

    def _in_time(self, timestamp: int | None) -> bool:
        if timestamp is None:
            return self.since is None and self.until is None
        return (self.since or 0) <= timestamp and (self.until is None or timestamp < self.until)


class Refusal(NamedTuple):
    """Why a letter is not sent again."""

    word: str
    why: str


NO_HEADERS = Refusal("unreadable", "Their headers cannot be read: a name is not UTF-8.")
NO_SOURCE = Refusal("no-source", "Their headers do not name the topic they came from; name one with --to.")
INCOMPLETE = Refusal("cut", "They were too large and are cut: the rest of the message is in its input topic alone.")
BARE = Refusal("without-headers", "Their messages had headers that could not be read and are not in the letter.")
NO_TOPIC = Refusal("no-topic", "The topic they came from does not exist; name another one with --to.")
CIRCLE = Refusal("circle", "They come from the dead-letter topic itself; name another one with --to.")
ENOUGH = Refusal("replayed", "They have been sent again as often as --max-replays allows.")


def read(record: Record) -> Letter:
    """What the headers say; whatever they hold, nothing is raised."""
    said = dict(record.headers)
    where = {name: position for position, (name, _) in enumerate(record.headers)}
    by_spring = _last(where, SPRING) > _last(where, CONNECT)
    named = _spring(said) if by_spring else _connect(said)
    # A message may bring such a header of its own; what was cut says so after the reason.
    cut = where.get(CUT, -1) > where.get(REASON, -1)
    return Letter(
        record,
        _text(said.get(REASON)),
        *named,
        cut_from=max(0, _number(said.get(CUT)) or 0) if cut else None,
        replays=min(MOST_REPLAYS, max(0, _number(said.get(REPLAYS)) or 0)),
        size=len(record.value or b""),
    )


def without_value(letter: Letter) -> Letter:
    """For keeping many."""
    return letter._replace(record=letter.record._replace(value=None))


def refusal(letter: Letter, to: str | None, max_replays: int) -> Refusal | None:
    """Why a letter cannot be sent again; None where it can.

    Args:
        letter: which.
        to: topic to send it to; None for where it came from.
        max_replays: as often as this, and no more.
    """
    if letter.record.headers_unreadable:
        return NO_HEADERS
    if letter.source is None and to is None:
        return NO_SOURCE
    if letter.cut_from is not None:
        return INCOMPLETE
    if letter.reason == UNREADABLE:
        return BARE
    return ENOUGH if letter.replays >= max_replays else None


def restored(letter: Letter) -> Headers:
    """The message's own headers, and how often it was sent again, this time included."""
    strange = (CONNECT, SPRING, OWN)
    own = [(name, value) for name, value in letter.record.headers if not name.startswith(strange) and name != REPLAYS]
    return [*own, (REPLAYS, str(letter.replays + 1).encode())]


def _last(where: dict[str, int], prefix: str) -> int:
    return max((position for name, position in where.items() if name.startswith(prefix)), default=-1)


def _connect(said: dict[str, bytes | None]) -> _Named:
    stage, step = (_text(said.get(CONNECT + name)) for name in ("stage", "class.name"))
    if step is not None and step.startswith("worker.pipeline."):
        stage = step.rpartition(".")[2]
    error, message = (_text(said.get(f"{CONNECT}exception.{name}")) for name in ("class.name", "message"))
    partition, offset = (_number(said.get(CONNECT + name)) for name in ("partition", "offset"))
    return stage, error, message, _source(said.get(CONNECT + "topic"), partition, offset)


def _spring(said: dict[str, bytes | None]) -> _Named:
    error, message = (_text(said.get(f"{SPRING}exception-{name}")) for name in ("fqcn", "message"))
    partition = _packed(said.get(SPRING + "original-partition"), ">i")
    offset = _packed(said.get(SPRING + "original-offset"), ">q")
    return None, error, message, _source(said.get(SPRING + "original-topic"), partition, offset)


def _source(topic: bytes | None, partition: int | None, offset: int | None) -> Source | None:
    if not topic or partition is None or offset is None or min(partition, offset) < 0:
        return None
    return Source(topic.decode("utf-8", "replace"), partition, offset)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


def _number(value: bytes | None) -> int | None:
    """Of decimal digits, as many as a 64-bit number has."""
    text = _text(value) or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _packed(value: bytes | None, form: str) -> int | None:
    if value is None or len(value) != struct.calcsize(form):
        return None
    (number,) = struct.unpack(form, value)
    return int(number)
