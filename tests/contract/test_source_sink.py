"""The contracts of `worker.ports.Source` and `Sink`, held by the ones in memory and by Kafka's, in both protocols."""

from __future__ import annotations

import ctypes
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, Protocol
from uuid import uuid4

import confluent_kafka
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from worker.config import KafkaSettings
from worker.kafka.sink import KafkaSink
from worker.kafka.source import KafkaSource
from worker.kafka.source import record as as_record
from worker.memory import MemoryLog, MemorySink, MemorySource
from worker.pipeline.messages import Destination, Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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
        sent = [o for sink in self.sinks for o in sink.sent if o.destination is destination]
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
        self.producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 0, "acks": "all"})
        self.open: list[Source | Sink] = []

    def append(self, value, partition=0, key=None, headers=(), timestamp=1_700_000_000_000) -> None:
        self.producer.produce(self.topic, value, key, partition=partition, headers=list(headers), timestamp=timestamp)
        assert self.producer.flush(SECONDS) == 0

    def member(self, listener: RebalanceListener) -> Source:
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
        dead = destination is Destination.DEAD_LETTER
        topic = self.settings.dead_letter_topic if dead else self.settings.output_topic
        settings = {"bootstrap.servers": self.settings.bootstrap_servers, "group.id": "none", "fetch.wait.max.ms": 10}
        reading = Consumer(settings)
        reading.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
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


@pytest.fixture(
    params=["memory", *(pytest.param(f"kafka-{p}", marks=pytest.mark.kafka) for p in ("classic", "consumer"))]
)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    kind, _, protocol = request.param.partition("-")
    if kind == "memory":
        made: World = MemoryWorld()
    else:
        made = KafkaWorld(request.getfixturevalue("kafka"), request.getfixturevalue("topics"), protocol)
    yield made
    made.end()


class Listener:
    """Hears what there is to hear; `fail` makes it raise, `on_revoked` is called while a revoke goes on."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, list[Partition]]] = []
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


# Source


def test_records_come_in_offset_order_within_their_partition(world: World):
    """Every stored record comes once; within a partition in offset order; no poll exceeds its limit."""
    for number in range(30):
        world.append(b"%d" % number, number % PARTITIONS)
    source = world.member(Listener())
    records = read(source, 30, limit=7)
    for partition in range(PARTITIONS):
        mine = [(r.offset, r.value) for r in records if r.partition == partition]
        assert mine == [(i, b"%d" % (i * PARTITIONS + partition)) for i in range(15)]


def test_key_value_headers_tombstone_and_timestamp_come_as_they_are(world: World):
    """Nothing of a record is lost on the way in: repeated and valueless headers, empty and missing keys and values."""
    headers: Headers = [("a", b"1"), ("a", b"2"), ("none", None), ("empty", b""), ("bytes", b"\xff\x00")]
    world.append(b"value", 0, b"key", headers, 1_700_000_000_123)
    world.append(None, 0, b"tombstone")
    world.append(b"", 0, b"")
    source = world.member(Listener())
    full, tombstone, empty = read(source, 3)
    assert (full.topic, full.partition, full.offset) == (world.topic, 0, 0)
    assert (full.key, full.value, full.headers, full.timestamp) == (b"key", b"value", headers, 1_700_000_000_123)
    assert (tombstone.key, tombstone.value, tombstone.headers) == (b"tombstone", None, [])
    assert (empty.key, empty.value) == (b"", b"")


def test_an_empty_topic_gives_nothing(world: World):
    """A poll without records comes back empty, and the member is assigned all the same."""
    listener = Listener()
    source = world.member(listener)
    settle(source, lambda: len(listener.has()) == PARTITIONS)
    assert list(source.poll(10, 0.01)) == []


def test_the_listener_hears_of_partitions_before_their_records_come(world: World):
    """Partitions are announced from within `poll`, each once, and no record comes before its partition."""
    world.append(b"a", 0)
    world.append(b"b", 1)
    listener = Listener()
    source = world.member(listener)
    assert listener.heard == []
    found = 0
    deadline = monotonic() + SECONDS
    while found < 2 and monotonic() < deadline:
        for record in source.poll(10, 0.1):
            found += 1
            assert (record.topic, record.partition) in listener.has()
    announced = [partition for what, partitions in listener.heard for partition in partitions if what == "assigned"]
    assert sorted(announced) == [(world.topic, number) for number in range(PARTITIONS)]


@pytest.mark.parametrize("wait", [True, False])
def test_reading_goes_on_at_the_committed_offset(world: World, wait: bool):
    """A member that comes after gets what follows the last commit, and everything where there is none."""
    for number in range(6):
        world.append(b"%d" % number, number % PARTITIONS)
    first = world.member(Listener())
    assert len(read(first, 6)) == 6
    first.commit({(world.topic, 0): 2}, wait=wait)
    settle(first, lambda: world.committed(0) == 2)
    first.close()
    records = read(world.member(Listener()), 4)
    assert sorted(places(records)) == [(0, 2), (1, 0), (1, 1), (1, 2)]


def test_a_commit_may_go_back(world: World):
    """The last commit counts, be it the smaller one."""
    world.append(b"a")
    world.append(b"b")
    first = world.member(Listener())
    read(first, 2)
    first.commit({(world.topic, 0): 2}, wait=True)
    first.commit({(world.topic, 0): 1}, wait=True)
    assert world.committed(0) == 1


def test_a_pause_delivers_nothing_and_a_resume_loses_nothing(world: World):
    """While paused, polls come back empty whatever is stored; afterwards every record comes, in order."""
    for number in range(10):
        world.append(b"%d" % number)
    source = world.member(Listener())
    records = read(source, 3, limit=3)
    source.pause()
    for number in range(10, 15):
        world.append(b"%d" % number)
    for _ in range(5):
        assert list(source.poll(10, 0.05)) == []
    source.resume()
    records += read(source, 15 - len(records))
    assert places(records) == [(0, offset) for offset in range(15)]


def test_ends_are_what_is_stored(world: World):
    """`ends` tells the next offset to be written of each assigned partition."""
    for number in range(5):
        world.append(b"%d" % number, 1)
    world.append(b"x", 0)
    source = world.member(Listener())
    read(source, 6)
    wanted = {(world.topic, 0): 1, (world.topic, 1): 5}
    settle(source, lambda: dict(source.ends()) == wanted)


def test_closing_tells_the_listener_nothing(world: World):
    """Leaving is the caller's own doing: `close` calls no listener."""
    world.append(b"a")
    listener = Listener()
    source = world.member(listener)
    read(source, 1)
    before = list(listener.heard)
    source.close()
    assert listener.heard == before


def test_what_the_listener_raises_surfaces_from_poll_and_loses_no_record(world: World, request: pytest.FixtureRequest):
    """An exception of the listener is raised by the poll it happened in; every record still comes after it."""
    for number in range(20):
        world.append(b"%d" % number)
    listener = Listener()
    listener.fail = {"assigned"}
    source = world.member(listener)
    # One long wait, so that the first record arrives in the very call in which the listener fails.
    with pytest.raises(ValueError, match="fails when assigned"):
        source.poll(5, SECONDS)
    records = read(source, 1)
    while polled := source.poll(5, 0.5):
        records += polled
    assert places(records) == [(0, offset) for offset in range(20)]


def test_a_revoked_partition_can_still_be_committed_and_its_next_owner_goes_on_there(world: World):
    """Offsets committed while `revoked` runs are where the next owner begins; the first owner gets no more of it."""
    for number in range(20):
        world.append(b"%d" % number, number % PARTITIONS)
    listener, other = Listener(), Listener()
    first = world.member(listener)
    assert len(read(first, 20)) == 20
    topic = world.topic
    listener.on_revoked = lambda: first.commit({(topic, p): 10 for _, p in sorted(listener.heard[-1][1])}, wait=True)
    second = world.second(first, other)
    deadline = monotonic() + SECONDS
    records: list[Record] = []
    while not (other.has() and len(listener.has()) == 1) and monotonic() < deadline:
        assert list(first.poll(10, 0.05)) == []
        records += second.poll(10, 0.05)
    assert len(listener.has()) == len(other.has()) == 1
    assert listener.has() != other.has()
    ((_, moved),) = other.has()
    world.append(b"new", moved)
    records += read(second, 1)
    assert places(records) == [(moved, 10)]
    assert "lost" not in [what for what, _ in listener.heard]


def produce_raw(bootstrap_servers: str, topic: str, messages: Sequence[tuple[bytes, bytes | None]]) -> None:
    """Write values, each with the name of a header or None, as only a client in C can: names of any bytes."""
    found = list(Path(confluent_kafka.__file__).parents[1].glob("confluent_kafka.libs/librdkafka*"))
    if not found:
        pytest.skip("needs the librdkafka of confluent_kafka's wheel as a file of its own")
    lib = ctypes.CDLL(str(found[0]))
    for name in ("rd_kafka_conf_new", "rd_kafka_new"):
        getattr(lib, name).restype = ctypes.c_void_p
    why, pointer, text, size = ctypes.create_string_buffer(512), ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    conf = pointer(lib.rd_kafka_conf_new())
    assert lib.rd_kafka_conf_set(conf, b"bootstrap.servers", bootstrap_servers.encode(), why, size(512)) == 0, why.value
    client = pointer(lib.rd_kafka_new(0, conf, why, size(512)))
    assert client.value, why.value
    # Arguments of rd_kafka_producev come as a kind and what belongs to it: 1 topic, 3 partition, 4 value, 9 header.
    kind = ctypes.c_int
    for value, header in messages:
        arguments = [kind(1), text(topic.encode()), kind(3), ctypes.c_int32(0), kind(4), text(value), size(len(value))]
        if header is not None:
            arguments += [kind(9), text(header), text(b"v"), ctypes.c_ssize_t(1)]
        assert lib.rd_kafka_producev(client, *arguments, kind(0)) == 0
    assert lib.rd_kafka_flush(client, int(SECONDS * 1000)) == 0
    lib.rd_kafka_destroy(client)


@pytest.mark.kafka
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_header_name_that_is_not_utf8_harms_no_neighbour(kafka: Broker, topics: Callable[..., str], protocol: str):
    """Its record comes in its place, with its value and marked as unreadable; those around it come as they are."""
    world = KafkaWorld(kafka, topics, protocol)
    produce_raw(
        kafka.bootstrap_servers, world.topic, [(b"before", b"fine"), (b"marked", b"caf\xe9\xff"), (b"after", None)]
    )
    records = read(world.member(Listener()), 3)
    world.end()
    assert [(r.offset, r.value, r.headers, r.headers_unreadable) for r in records] == [
        (0, b"before", [("fine", b"v")], False),
        (1, b"marked", [], True),
        (2, b"after", [], False),
    ]


# Sink


def outgoing(value: bytes | None, destination: Destination = Destination.OUTPUT, key: bytes | None = b"k", headers=()):
    return Outgoing(destination, key, value, list(headers), ("in", 0))


def acknowledged(sink: Sink, count: Callable[[], int], wanted: int) -> None:
    deadline = monotonic() + SECONDS
    while count() < wanted and monotonic() < deadline:
        sink.poll()


def test_each_record_is_acknowledged_once_and_from_poll(world: World):
    """`delivered` is called once a record, never from `send`, and the record is there for readers then."""
    sink = world.sink()
    done: list[int] = []
    for number in range(50):
        sink.send(outgoing(b"%d" % number), lambda number=number: done.append(number))
    assert done == []
    acknowledged(sink, lambda: len(done), 50)
    for _ in range(5):
        sink.poll()
    assert sorted(done) == list(range(50))
    assert [w.value for w in world.written(Destination.OUTPUT, 50)] == [b"%d" % number for number in range(50)]


def test_what_is_written_is_what_was_sent(world: World):
    """Key, value, headers and tombstones arrive as they are, each at its destination."""
    headers: Headers = [("a", b"1"), ("a", b"2"), ("none", None), ("bytes", b"\xff\x00")]
    sent = [
        outgoing(b"result", Destination.OUTPUT, b"key", headers),
        outgoing(None, Destination.OUTPUT, b"tombstone"),
        outgoing(b"dead", Destination.DEAD_LETTER, None, headers),
        outgoing(None, Destination.DEAD_LETTER, None),
    ]
    sink = world.sink()
    done: list[Outgoing] = []
    for one in sent:
        sink.send(one, lambda one=one: done.append(one))
    acknowledged(sink, lambda: len(done), len(sent))
    results, dead_letters = (world.written(destination, 2) for destination in Destination)
    assert results == [Written(b"key", b"result", headers), Written(b"tombstone", None, [])]
    assert dead_letters == [Written(None, b"dead", headers), Written(None, None, [])]


def test_a_closed_sink_acknowledges_nothing_more(world: World):
    """`close` gives up what is not acknowledged: no late `delivered`, and no error."""
    sink = world.sink()
    done: list[int] = []
    sink.send(outgoing(b"a"), lambda: done.append(1))
    sink.close()
    before = len(done)
    assert before <= 1
    sink.close()
    assert len(done) == before
