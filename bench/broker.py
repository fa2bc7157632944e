"""A real Apache Kafka on this machine's own cores, as one that has been running for a while.

Java compiles a second time what is run often. Until it has, which takes half a minute of traffic, the compiler is at
work on the cores that are measured, and a message costs the broker several times what it does afterwards.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, Producer

from worker.broker import ApacheKafka

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WARM_UP = 150_000
"""Messages, from which on the CPU for each stays as it is: 243 µs of the first 15,000, 49 before 120,000, 20 then."""
AT_ONCE = 50
"""Messages on their way meanwhile: few, so that requests are small and many."""
TOPIC = "warm-up"


@contextmanager
def kafka(properties: Mapping[str, str] | None = None) -> Iterator[ApacheKafka]:
    """Start one with these server properties over the defaults, and warm it up."""
    with ApacheKafka(properties=properties, topics={TOPIC: 6}, long_running=True) as broker:
        print("warming the broker up", flush=True)
        warm_up(broker.bootstrap_servers)
        yield broker


def warm_up(bootstrap_servers: str, messages: int = WARM_UP) -> None:
    """Write messages, and read them in a group that commits."""
    client = {"bootstrap.servers": bootstrap_servers, "log_level": 0}  # a new broker's coordinator is still loading
    producer = Producer(client | {"enable.idempotence": True, "linger.ms": 0})
    consumer = Consumer(client | {"group.id": TOPIC, "auto.offset.reset": "earliest", "auto.commit.interval.ms": 500})
    consumer.subscribe([TOPIC])
    sent = received = 0
    while received < messages:
        while sent < min(messages, received + AT_ONCE):
            producer.produce(TOPIC, bytes(120), str(sent))
            sent += 1
        producer.poll(0)
        received += sum(message.error() is None for message in consumer.consume(AT_ONCE, 0.0005))
    producer.flush()
    consumer.close()
