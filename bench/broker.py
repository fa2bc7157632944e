"""A real Apache Kafka on this machine's own cores, as one that has been running for a while.

Java compiles a second time what is run often. Until it has, the compiler is at work on the cores that are measured, and
a message costs the broker several times what it does afterwards.
"""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, Producer

from worker.broker import ApacheKafka

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WARM_UP = 150_000
"""Messages. A broker's CPU for each, in small requests: 243 µs of the first 15,000, 50 about the 120,000th, 25 from the
130,000th on; with the first compiler alone 48 from the 15,000th on."""
IN_FLIGHT = 50
"""Messages on their way meanwhile: few, so that requests are small and many."""
PATIENCE = 60.0
"""Seconds without a message after which the warm-up has failed."""
TOPIC = "warm-up"


@contextmanager
def kafka(properties: Mapping[str, str] | None = None) -> Iterator[ApacheKafka]:
    """Start one with these server properties over the defaults, and warm it up."""
    with ApacheKafka(properties=properties, topics={TOPIC: 6}, long_running=True) as broker:
        print("warming the broker up", flush=True)
        warm_up(broker.bootstrap_servers, TOPIC)
        yield broker


def warm_up(bootstrap_servers: str, topic: str, messages: int = WARM_UP) -> None:
    """Write messages to a topic, and read them in a group of the same name, which commits.

    Raises:
        RuntimeError: none came for `PATIENCE` seconds.
    """
    client = {"bootstrap.servers": bootstrap_servers, "log_level": 0}  # a new broker's coordinator is still loading
    producer = Producer(client | {"enable.idempotence": True, "linger.ms": 0})
    consumer = Consumer(client | {"group.id": topic, "auto.offset.reset": "earliest", "auto.commit.interval.ms": 500})
    with closing(consumer):
        consumer.subscribe([topic])
        sent = received = 0
        last = time.monotonic()
        while received < messages:
            while sent < min(messages, received + IN_FLIGHT):
                producer.produce(topic, bytes(120), str(sent))
                sent += 1
            producer.poll(0)
            found = sum(message.error() is None for message in consumer.consume(IN_FLIGHT, 0.001))
            received += found
            last = time.monotonic() if found else last
            if time.monotonic() - last > PATIENCE:
                raise RuntimeError(f"only {received} of {messages} messages came back from the broker")
