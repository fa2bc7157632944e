"""What came out, set against what went in: lost, doubled, out of order."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import orjson

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from confluent_kafka import Message

Place: TypeAlias = "tuple[int, int]"
"""A partition of the input and an offset in it."""
_CONNECT = "__connect.errors."


class Seen(NamedTuple):
    """A result or a dead letter as a reader saw it."""

    topic: str
    partition: int
    offset: int
    source: Place
    digest: bytes
    """Of key, value and headers: two of them are the same record or they are not."""
    written: float
    """When its producer made it, in seconds since the epoch."""
    at: float
    """When the reader got it, on the same clock."""
    id: str | None
    """Of a result."""


class Account(NamedTuple):
    """The figures of a fault."""

    lost: int
    doubled: int
    """Records beyond the first of their message."""
    differing: int
    """Messages whose records are not byte-identical."""
    out_of_order: int
    """First records of their message, that come after one of a later message of the same partition."""
    strange: int
    """Records of messages that were never written, or with the id of another one."""


def seen(message: Message, at: float) -> Seen:
    """What a reader keeps of a record of the output or of the dead letters."""
    value, headers = message.value(), message.headers() or []
    named = dict(headers)
    if f"{_CONNECT}offset" in named:
        source, id_ = (int(named[f"{_CONNECT}partition"]), int(named[f"{_CONNECT}offset"])), None
    else:
        document = orjson.loads(value)
        source, id_ = (document["source"]["partition"], document["source"]["offset"]), document["id"]
    digest = hashlib.blake2b(repr((message.key(), value, headers)).encode(), digest_size=8).digest()
    written = message.timestamp()[1] / 1000
    return Seen(message.topic(), message.partition(), message.offset(), source, digest, written, at, id_)


def account(inputs: Mapping[Place, str | None], records: Collection[Seen], skipped: Collection[Place] = ()) -> Account:
    """Compare.

    Args:
        inputs: the id of every message, where it has one.
        records: of output and dead letters, in the order of each partition.
        skipped: messages that leave nothing behind.
    """
    copies: dict[Place, set[bytes]] = {}
    doubled = strange = 0
    for record in records:
        doubled += record.source in copies
        copies.setdefault(record.source, set()).add(record.digest)
        strange += record.source not in inputs or record.id not in (None, inputs[record.source])
    return Account(
        len(inputs.keys() - copies.keys() - set(skipped)),
        doubled,
        sum(len(digests) > 1 for digests in copies.values()),
        out_of_order(records),
        strange,
    )


def out_of_order(records: Iterable[Seen]) -> int:
    """Redelivered runs excepted: only the first record of a message counts."""
    last: dict[tuple[str, int, int], int] = {}
    known: set[tuple[str, Place]] = set()
    wrong = 0
    for record in records:
        if (record.topic, record.source) in known:
            continue
        known.add((record.topic, record.source))
        # Of each partition of the input, in each partition it was written to.
        run = (record.topic, record.partition, record.source[0])
        wrong += record.source[1] < last.get(run, -1)
        last[run] = max(record.source[1], last.get(run, -1))
    return wrong


def recovery(records: Iterable[Seen], partitions: Collection[int], since: float) -> float | None:
    """Seconds from a moment until of each partition something came that was written after it.

    None where of one of them nothing was written any more.
    """
    first: dict[int, float] = {}
    for record in records:
        if record.written > since and record.source[0] in partitions:
            first[record.source[0]] = min(record.at, first.get(record.source[0], record.at))
    return max(first.values()) - since if first.keys() >= set(partitions) else None
