"""What a worker would write of messages that are there: read, decoded, classified and encoded, and not written."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, closing
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from worker.app import open_model, tombstone
from worker.forms import Forms
from worker.kafka.clients import write_bounds
from worker.kafka.reading import Extent, Reading
from worker.kafka.tools import fair_shares
from worker.offline import Offline
from worker.pipeline.decode import decoded
from worker.pipeline.messages import Classification, Destination, Request, Result

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from worker.config import Settings
    from worker.pipeline.messages import Outcome, Outgoing, Partition, Record, Rejection

FROM_THE_END = ("latest", "largest", "end")
"""Values of `auto.offset.reset`."""
Start: TypeAlias = "str | Offset | Moment"


class Offset(NamedTuple):
    """Begin at this offset of each partition."""

    offset: int


class Moment(NamedTuple):
    """Begin with the first message of each partition from then on."""

    milliseconds: int
    """Since the epoch."""


class Rehearsed(NamedTuple):
    """A message, and what a worker would make of it."""

    record: Record
    outgoing: Outgoing | None
    """None where nothing would be written."""
    partition: int | None
    """The number of the one it would go to; None: by the key."""
    said: Classification | None
    """Of results."""
    rejection: Rejection | None
    """Why it would be a dead letter."""
    text: str = ""
    """What was classified."""


def rehearse(settings: Settings, messages: int, start: Start) -> Iterator[Rehearsed]:
    """Up to `messages` of the input topics, about equally many of each partition, in order within each.

    Joins no group, commits nothing and writes nothing.

    Args:
        settings: of the worker.
        messages: read so many at most; those that are not there yet are not waited for.
        start: `committed`, `beginning`, `end` (the newest), an offset or a moment.

    Raises:
        BrokerError: the brokers do not answer.
        TopicError: a topic is missing or may not be read.
        BundleError: the bundle cannot be opened.
        ConfigError: settings do not fit together.
    """
    kafka = settings.kafka
    with ExitStack() as stack:
        reading = stack.enter_context(closing(Reading(kafka)))
        partitions = reading.partitions(kafka.input_topics)
        limit = reading.size_limit(settings.written_topics)
        records = list(_records(reading, partitions, _begins(settings, reading, partitions, start), messages, start))
        actors = stack.enter_context(closing(_Actors(settings, limit)))
        yield from actors(records)


def _begins(
    settings: Settings, reading: Reading, partitions: Sequence[Partition], start: Start
) -> Mapping[Partition, Extent]:
    """What of each partition is meant."""
    extents = reading.extents(partitions)
    firsts: Mapping[Partition, int] = {}
    if isinstance(start, Moment):
        found = reading.since(partitions, start.milliseconds)
        firsts = {partition: found.get(partition, extents[partition].end) for partition in partitions}
    elif isinstance(start, Offset):
        firsts = dict.fromkeys(partitions, start.offset)
    elif start == "committed":
        reset = (settings.kafka.properties | settings.kafka.consumer_properties).get("auto.offset.reset", "earliest")
        otherwise = {p: extents[p].end for p in partitions} if reset in FROM_THE_END else {}
        firsts = otherwise | dict(reading.committed(partitions))
    return {p: Extent(max(first, firsts.get(p, first)), end) for p, (first, end) in extents.items()}


def _records(
    reading: Reading, partitions: Collection[Partition], extents: Mapping[Partition, Extent], count: int, start: Start
) -> Iterator[Record]:
    by_number = dict(enumerate(partitions))
    stored = {number: end - first for number, (first, end) in ((n, extents[p]) for n, p in by_number.items())}
    shares = fair_shares({number: there for number, there in stored.items() if there > 0}, count)
    left = count
    for number, share in sorted(shares.items()):
        first, end = extents[by_number[number]]
        begin = max(first, end - share) if start == "end" else first
        found = list(islice(reading.read(by_number[number], begin, end), min(share, left)))
        left -= len(found)
        yield from found


class _Actors:
    """The worker's own parts."""

    def __init__(self, settings: Settings, limit: int | None) -> None:
        model = open_model(settings.model, settings.entities, settings.decision)
        self._forms = forms = Forms(settings)
        self._decode, self._tombstone = forms.decoder(), tombstone(settings.input)
        self._encode = forms.encoder(model, write_bounds(settings.output.max_bytes, limit).record)
        self._offline = Offline(model, settings.batching)
        self._by_source = settings.kafka.output_partition == "source"

    def __call__(self, records: Sequence[Record]) -> Iterator[Rehearsed]:
        found = [decoded(record, self._decode, self._tombstone) for record in records]
        results = self._offline([outcome for outcome in found if isinstance(outcome, Request)])
        for record, outcome in zip(records, found, strict=True):
            yield self._rehearsed(record, next(results) if isinstance(outcome, Request) else outcome)

    def close(self) -> None:
        self._offline.close()
        self._forms.close()

    def _rehearsed(self, record: Record, outcome: Outcome) -> Rehearsed:
        outgoing, rejection = self._encode(record, outcome)
        result = outcome if isinstance(outcome, Result) and rejection is None else None
        said, text = (None, "") if result is None else (result.classification, result.request.text)
        by_source = self._by_source and outgoing is not None and outgoing.destination is Destination.OUTPUT
        return Rehearsed(record, outgoing, record.partition if by_source else None, said, rejection, text)


def counted(found: Sequence[Rehearsed]) -> Counter[str]:
    """How many would become what: labels by name, reasons of dead letters, tombstones."""
    return Counter(_kind(one) for one in found)


def _kind(one: Rehearsed) -> str:
    if one.rejection is not None:
        return one.rejection.reason
    if one.said is None:
        return "nothing" if one.outgoing is None else "tombstone"
    return "entities" if one.said.entities is not None else str(one.said.label)
