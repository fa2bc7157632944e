"""Readers of what workers write, as a careful consumer reads: `read_committed`."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from tests.faults.accounts import seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from confluent_kafka import Message

    from tests.faults.accounts import Place, Seen

QUIET_SECONDS = 90.0
"""Without a new record for so long, what is missing will not come."""
TICK = 0.02


def _consumer(bootstrap_servers: str, **more: object) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": f"reader-{uuid4().hex[:8]}",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 50,
            "reconnect.backoff.max.ms": 500,
            "topic.metadata.refresh.interval.ms": 10_000,
            "log_level": 0,
            **more,
        }
    )


class ConcurrentReader:
    """Reads topics while they are written, and remembers everything it saw."""

    def __init__(self, bootstrap_servers: str, topics: Mapping[str, int]) -> None:
        self.records: list[Seen] = []
        self.sources: set[Place] = set()
        self.failed: BaseException | None = None
        self._consumer = _consumer(bootstrap_servers)
        self._consumer.assign([TopicPartition(t, p, OFFSET_BEGINNING) for t, n in topics.items() for p in range(n)])
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read, name="reader", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while not self._closing.is_set():
                messages = self._consumer.consume(1000, 0.02)
                now = time.time()
                for message in messages:
                    if message.error() is None:
                        record = seen(message, now)
                        self.records.append(record)
                        self.sources.add(record.source)
        except BaseException as error:  # noqa: BLE001 - the test that waits for it is told
            self.failed = error

    def until(self, done: Callable[[], object], quiet: float = QUIET_SECONDS) -> None:
        """Wait for a condition, as long as something still comes."""
        last, since = -1, time.monotonic()
        while not done():
            if self.failed is not None:
                raise self.failed
            if len(self.records) != last:
                last, since = len(self.records), time.monotonic()
            assert time.monotonic() - since < quiet, f"nothing came for {quiet:g} s, after {last} records"
            time.sleep(TICK)

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._consumer.close()


def read_whole(bootstrap_servers: str, topics: Mapping[str, int]) -> list[Seen]:
    """Results and dead letters, by a reader that comes when all is done."""
    return [seen(message, time.time()) for message in messages(bootstrap_servers, topics)]


def messages(bootstrap_servers: str, topics: Mapping[str, int]) -> Iterator[Message]:
    """Every message that is stored now and committed."""
    consumer = _consumer(bootstrap_servers, **{"enable.partition.eof": True})
    places = [TopicPartition(t, p, OFFSET_BEGINNING) for t, n in topics.items() for p in range(n)]
    consumer.assign(places)
    ended: set[tuple[str, int]] = set()
    last = time.monotonic()
    try:
        while len(ended) < len(places):
            assert time.monotonic() - last < QUIET_SECONDS, f"the ends of {topics} cannot be read"
            for message in consumer.consume(1000, 0.2):
                last = time.monotonic()
                if message.error() is None:
                    yield message
                elif message.error().name() == "_PARTITION_EOF":
                    ended.add((message.topic(), message.partition()))
    finally:
        consumer.close()
