"""What goes in: numbered messages, at once or at a rate."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING

import orjson
from confluent_kafka import Producer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FLUSH_SECONDS = 120.0


def plain(number: int) -> bytes:
    return orjson.dumps({"id": f"m-{number}", "text": f"message number {number} of a stream"})


class Feeder:
    """Writes messages to the partitions of a topic in turn. Each is written once: it waits brokers out."""

    def __init__(self, bootstrap_servers: str, topic: str, partitions: int) -> None:
        self._topic, self._partitions = topic, partitions
        self._numbers = itertools.count()
        self._refused = 0
        self.written = 0
        """Messages that the brokers acknowledged."""
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "enable.idempotence": True,
                "queue.buffering.max.messages": 1_000_000,
                "message.max.bytes": 2_000_000,
                "reconnect.backoff.max.ms": 500,
                "topic.metadata.refresh.interval.ms": 10_000,
                "linger.ms": 2,
                "log_level": 0,
            }
        )
        self._steady: threading.Thread | None = None
        self._enough = threading.Event()

    def send(self, value: bytes | None, key: bytes | None = None, headers: Iterable[tuple[str, bytes]] = ()) -> None:
        partition = next(self._numbers) % self._partitions
        self._producer.produce(
            self._topic, value, key, partition=partition, headers=list(headers), on_delivery=self._report
        )
        self._producer.poll(0)

    def feed(self, count: int, value: Callable[[int], bytes | None] = plain) -> None:
        """Write so many more, and wait until they are written."""
        start = self.written
        for number in range(start, start + count):
            self.send(value(number), b"k-%d" % (number % 50))
        self.flush()

    def flush(self) -> None:
        missing = self._producer.flush(FLUSH_SECONDS) + self._refused
        assert missing == 0, f"{missing} messages could not be written"

    def begin(self, rate: float, at_most: int = 10_000_000) -> None:
        """Write at a rate, until `end`."""
        self._enough.clear()
        self._steady = threading.Thread(target=self._feed, args=(rate, at_most), name="feeder", daemon=True)
        self._steady.start()

    def end(self) -> None:
        """Stop writing at a rate; wait until all is written."""
        self._enough.set()
        if self._steady is not None:
            self._steady.join()
        self.flush()

    def _feed(self, rate: float, at_most: int) -> None:
        began, sent, start = time.monotonic(), 0, self.written
        while sent < at_most and not self._enough.wait(0.01):
            due = min(at_most, int((time.monotonic() - began) * rate))
            for number in range(start + sent, start + due):
                self.send(plain(number), b"k-%d" % (number % 50))
            sent = max(sent, due)

    def _report(self, error: object, _: object) -> None:
        self._refused += error is not None
        self.written += error is None
