"""Where a source reads and a sink writes: in memory, and on a Kafka; each as seen from outside."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, Protocol
from uuid import uuid4

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from worker.config import KafkaSettings
from worker.kafka.sink import KafkaSink
from worker.kafka.source import KafkaSource
from worker.kafka.source import record as as_record
from worker.memory import MemoryLog, MemorySink, MemorySource
from worker.pipeline.messages import Destination

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from worker.broker import Broker
    from worker.pipeline.messages import Headers, Partition, Record
    from worker.ports import RebalanceListener, Sink, Source

SECONDS = 20.0
PARTITIONS = 2


class Written(NamedTuple):
    """What a sink wrote, as its reader sees it."""

    key: bytes | None
    value: bytes | None
    headers: Headers


class World(Protocol):
    """Where a source reads and a sink writes, from outside."""

    topic: str
    topics: dict[Destination, str]
    """Those that are written."""

    def append(self, value: bytes | None, partition: int = 0, key: bytes | None = None, headers: Headers = ..., timestamp: int = ...) -> None: ...  # fmt: skip  # noqa: E501

    def member(self, listener: RebalanceListener) -> Source:
        """A started member of the one group."""

    def second(self, first: Source, listener: RebalanceListener) -> Source:
        """Another member, which takes something away from the first."""

    def committed(self, partition: int) -> int | None: ...

    def sink(self) -> Sink: ...

    def written(self, destination: Destination, count: int) -> list[Written]: ...

    def end(self) -> None: ...


class MemoryWorld:
    def __init__(self) -> None:
        self.topic = "in"
        self.topics = {destination: destination.value for destination in Destination}
        self.log = MemoryLog()
        self.sinks: list[MemorySink] = []

    def append(self, value, partition=0, key=None, headers=(), timestamp=1_700_000_000_000) -> None:
        self.log.append(self.topic, partition, value, key=key, headers=list(headers), timestamp=timestamp)

    def member(self, listener: RebalanceListener) -> Source:
        source = MemorySource(self.log)
        source.start(listener)
        source.assign(*((self.topic, number) for number in range(PARTITIONS)))
        return source

    def second(self, first: Source, listener: RebalanceListener) -> Source:
        assert isinstance(first, MemorySource)
        first.revoke((self.topic, 1))
        first.poll(1, 0)
        source = MemorySource(self.log)
        source.start(listener)
        source.assign((self.topic, 1))
        return source

    def committed(self, partition: int) -> int | None:
        return self.log.committed.get((self.topic, partition))

    def sink(self) -> Sink:
        self.sinks.append(MemorySink())
        return self.sinks[-1]

    def written(self, destination: Destination, count: int) -> list[Written]:
        sent = [o for sink in self.sinks for o in sink.sent if o.topic == self.topics[destination]]
        return [Written(o.key, o.value, o.headers) for o in sent]

    def end(self) -> None:
        """There is nothing to end."""


class KafkaWorld:
    def __init__(self, kafka: Broker, topics: Callable[..., str], protocol: str) -> None:
        self.topic = topics("in", partitions=PARTITIONS)
        self.settings = KafkaSettings(
            bootstrap_servers=kafka.bootstrap_servers,
            group_id=f"group-{uuid4().hex[:10]}",
            group_protocol=protocol,
            input_topics=(self.topic,),
            output_topic=topics("out"),
            dead_letter_topic=topics("dead"),
            consumer_properties={"fetch.wait.max.ms": 10}
            | ({"session.timeout.ms": 6_000, "heartbeat.interval.ms": 200} if protocol == "classic" else {}),
        )
        settings = self.settings
        self.topics = {
            Destination.OUTPUT: settings.output_topic, Destination.DEAD_LETTER: settings.dead_letter_topic
        }  # fmt: skip
        self.producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 0, "acks": "all"})
        self.open: list[Source | Sink] = []

    def append(self, value, partition=0, key=None, headers=(), timestamp=1_700_000_000_000) -> None:
        self.producer.produce(self.topic, value, key, partition=partition, headers=list(headers), timestamp=timestamp)
        assert self.producer.flush(SECONDS) == 0

    def member(self, listener: RebalanceListener) -> KafkaSource:
        source = KafkaSource(self.settings)
        self.open.append(source)
        source.start(listener)
        return source

    def second(self, first: Source, listener: RebalanceListener) -> Source:
        return self.member(listener)

    def committed(self, partition: int) -> int | None:
        settings = {"bootstrap.servers": self.settings.bootstrap_servers, "group.id": self.settings.group_id}
        asking = Consumer(settings)
        (found,) = asking.committed([TopicPartition(self.topic, partition)], timeout=SECONDS)
        asking.close()
        return found.offset if found.offset >= 0 else None

    def sink(self) -> Sink:
        sink = KafkaSink(self.settings, 1_000_000, monotonic)
        self.open.append(sink)
        return sink

    def written(self, destination: Destination, count: int) -> list[Written]:
        settings = {"bootstrap.servers": self.settings.bootstrap_servers, "group.id": "none", "fetch.wait.max.ms": 10}
        reading = Consumer(settings)
        reading.assign([TopicPartition(self.topics[destination], 0, OFFSET_BEGINNING)])
        found: list[Record] = []
        deadline = monotonic() + SECONDS
        while len(found) < count and monotonic() < deadline:
            message = reading.poll(0.1)
            if message is not None and message.error() is None:
                found.append(as_record(message))
        reading.close()
        return [Written(r.key, r.value, r.headers) for r in found]

    def end(self) -> None:
        for one in self.open:
            one.close()


class Listener:
    """Hears what there is to hear; `fail` makes it raise, `on_revoked` is called while a revoke goes on."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, list[Partition]]] = []
        self.confirmed: dict[Partition, int] = {}
        self.confirmations = 0
        self.fail: set[str] = set()
        self.on_revoked: Callable[[], None] = lambda: None

    def assigned(self, partitions: Sequence[Partition]) -> None:
        self._hear("assigned", partitions)

    def revoked(self, partitions: Sequence[Partition]) -> None:
        self._hear("revoked", partitions)
        self.on_revoked()

    def lost(self, partitions: Sequence[Partition]) -> None:
        self._hear("lost", partitions)

    def refused(self) -> None:
        self._hear("refused", [])

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        self.confirmed.update(offsets)
        self.confirmations += 1

    def _hear(self, what: str, partitions: Sequence[Partition]) -> None:
        self.heard.append((what, list(partitions)))
        if what in self.fail:
            self.fail.remove(what)
            raise ValueError(f"the listener fails when {what}")

    def has(self) -> set[Partition]:
        """The partitions of its member now."""
        mine: set[Partition] = set()
        for what, partitions in self.heard:
            mine = mine | set(partitions) if what == "assigned" else mine - set(partitions)
        return mine


def read(source: Source, count: int, limit: int = 100) -> list[Record]:
    """The next `count` records; fewer where they do not come in time."""
    found: list[Record] = []
    deadline = monotonic() + SECONDS
    while len(found) < count and monotonic() < deadline:
        polled = source.poll(limit, 0.1)
        assert len(polled) <= limit
        found += polled
    return found


def settle(source: Source, done: Callable[[], bool]) -> None:
    """Poll, and expect no records, until `done`."""
    deadline = monotonic() + SECONDS
    while not done():
        assert monotonic() < deadline, "it did not come to that"
        assert not source.poll(10, 0.05)


def places(records: Sequence[Record]) -> list[tuple[int, int]]:
    return [(r.partition, r.offset) for r in records]
