"""Small clients for the demo, the benchmarks and the tools: feed a topic, read topics whole."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, TypeAlias

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition

from worker.errors import BrokerError, TopicError
from worker.kafka import clients
from worker.kafka.source import record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.config import KafkaSettings
    from worker.pipeline.messages import Record

FLUSH_SECONDS = 30.0
QUIET = 0
"""What goes wrong is told by exceptions; a broker that ends before its clients is no news here."""
Header: TypeAlias = "tuple[str, str | bytes | None]"


def recent(kafka: KafkaSettings, topic: str, count: int) -> list[Record]:
    """The newest records of a topic, up to `count`, about equally many of each partition; in no group, commits nothing.

    Raises:
        BrokerError: the brokers do not answer, or stop answering.
        TopicError: there is no such topic.
    """
    heard: list[Any] = []
    try:
        consumer = Consumer(
            clients.common(kafka, heard.append, kafka.consumer_properties)
            | {
                "group.id": kafka.group_id,
                "enable.auto.commit": False,
                "log_level": QUIET,
                "enable.partition.eof": False,
            }
        )
    except (KafkaException, TypeError, ValueError) as error:
        raise clients.refused(error) from None
    try:
        return _newest(consumer, topic, count, kafka.connect_timeout_ms / 1000)
    except KafkaException as error:
        raise BrokerError(f"{topic} cannot be read at {kafka.bootstrap_servers}: {error.args[0].str()}.") from None
    finally:
        consumer.close()


def _newest(consumer: Consumer, topic: str, count: int, patience: float) -> list[Record]:
    found = consumer.list_topics(topic, timeout=patience).topics[topic]
    if found.error is not None or not found.partitions:
        raise TopicError(f"There is no topic {topic!r}: name one that exists.")
    stored: dict[int, tuple[int, int]] = {}
    for partition in found.partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=patience)
        if high > low:
            stored[partition] = (low, high)
    shares = fair_shares({p: high - low for p, (low, high) in stored.items()}, count)
    consumer.assign([TopicPartition(topic, p, stored[p][1] - share) for p, share in shares.items()])
    return _until(consumer, {p: stored[p][1] for p in shares}, patience)[:count]


def fair_shares(stored: Mapping[int, int], count: int) -> dict[int, int]:
    """How many of each partition's messages make up `count`, as equally many as there are."""
    shares: dict[int, int] = {}
    missing = count
    for place, (partition, there) in enumerate(sorted(stored.items(), key=lambda item: item[1])):
        shares[partition] = min(there, -(-missing // (len(stored) - place)))
        missing -= shares[partition]
    return {partition: share for partition, share in shares.items() if share > 0}


def _until(consumer: Consumer, ends: dict[int, int], patience: float) -> list[Record]:
    """Records up to the offset `ends` of each partition; gives up when nothing came for `patience` seconds.

    The last offsets of a partition may hold no records at all (compaction, transactions), so the position tells.
    """
    records: list[Record] = []
    quiet_since = time.monotonic()
    while ends and time.monotonic() - quiet_since < patience:
        for message in consumer.consume(500, 0.2):
            if message.error() is None:
                quiet_since = time.monotonic()
                read = record(message)
                if read.offset < ends.get(read.partition, 0):
                    records.append(read)
        for reached in consumer.position(consumer.assignment()):
            if reached.offset >= ends.get(reached.partition, math.inf):
                del ends[reached.partition]
    return records


class Feeder:
    """Writes messages to one topic, as a user's own producer would."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._topic = topic
        self._failed = 0
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "log_level": QUIET,
                "linger.ms": 5,  # the Java producer's default since Kafka 4.0
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "queue.buffering.max.messages": 1_000_000,
                "message.max.bytes": 2_000_000,
            }
        )

    def send(self, value: bytes | None, key: bytes | None = None, headers: Sequence[Header] = ()) -> None:
        while True:
            try:
                self._producer.produce(self._topic, value, key, headers=list(headers), on_delivery=self._report)
                break
            except BufferError:
                self._producer.poll(0.05)
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until everything is written. Raises TopicError where a message was not."""
        missing = self._producer.flush(FLUSH_SECONDS) + self._failed
        if missing:
            raise TopicError(f"{missing} messages could not be written to {self._topic!r}.")

    def _report(self, error: object, _: object) -> None:
        self._failed += error is not None


class Reader:
    """Reads every partition of some topics from the beginning, in no group."""

    def __init__(self, bootstrap_servers: str, topics: Sequence[str]) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "log_level": QUIET,
                "group.id": "winnow-reader",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 50,
            }
        )
        try:
            metadata = self._consumer.list_topics(timeout=15)
        except KafkaException as error:
            raise BrokerError(f"No broker answered at {bootstrap_servers}: {error.args[0].str()}.") from None
        self._consumer.assign(
            [TopicPartition(t, p, OFFSET_BEGINNING) for t in topics for p in metadata.topics[t].partitions]
        )

    def poll(self, limit: int = 500, timeout: float = 0.05) -> list[Record]:
        """Up to `limit` records; waits `timeout` seconds for them."""
        messages = self._consumer.consume(limit, timeout)
        return [record(message) for message in messages if message.error() is None]

    def close(self) -> None:
        self._consumer.close()
