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

WARM_UP = {2: 30_000, 50: 100_000}
"""Messages, by how many of them are on their way at a time. Two at a time make the most requests of them: the compilers
take 0.4 ms for each of the first 5,000, 0.1 about the 30,000th. Larger ones compile what runs for each record."""
PATIENCE = 60.0
"""Seconds without a message after which the warm-up has failed."""
PARTITIONS = 6
VALUE = bytes(120)
TOPIC, RESULTS = "warm-up", "warm-up-results"


@contextmanager
def kafka(properties: Mapping[str, str] | None = None) -> Iterator[ApacheKafka]:
    """Start one with these server properties over the defaults, and warm it up."""
    topics = {TOPIC: PARTITIONS, RESULTS: PARTITIONS}
    with ApacheKafka(properties=properties, topics=topics, long_running=True) as broker:
        print("warming the broker up", flush=True)
        for in_flight, messages in WARM_UP.items():
            warm_up(broker.bootstrap_servers, TOPIC, RESULTS, messages, in_flight)
        yield broker


def warm_up(bootstrap_servers: str, topic: str, results: str, messages: int, in_flight: int) -> None:
    """Write messages to a topic, read them in a group of the same name, which commits, and write each to `results`.

    As a worker's results are, these are compressed, which the broker checks in other ways than what is not.

    Raises:
        RuntimeError: none came for `PATIENCE` seconds.
    """
    client = {"bootstrap.servers": bootstrap_servers, "log_level": 0}  # a new broker's coordinator is still loading
    write = client | {"enable.idempotence": True, "linger.ms": 0}
    sender, producer = Producer(write), Producer(write | {"compression.type": "lz4"})
    consumer = Consumer(client | {"group.id": topic, "auto.offset.reset": "earliest", "auto.commit.interval.ms": 500})
    with closing(consumer):
        consumer.subscribe([topic])
        sent = received = 0
        last = time.monotonic()
        while received < messages:
            while sent < min(messages, received + in_flight):
                sender.produce(topic, VALUE, str(sent))
                sent += 1
            sender.poll(0)
            found = [message for message in consumer.consume(in_flight, 0.001) if message.error() is None]
            for message in found:
                producer.produce(results, VALUE, message.key())
            producer.poll(0)
            received += len(found)
            last = time.monotonic() if found else last
            if time.monotonic() - last > PATIENCE:
                raise RuntimeError(f"only {received} of {messages} messages came back from the broker")
    producer.flush()
