"""What every broker must do, and what only a real Kafka does."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.broker import Broker

PAYLOADS = [f"message {number}".encode() for number in range(20)]


@pytest.fixture(params=[pytest.param("kafka", marks=pytest.mark.kafka), "mock_cluster"])
def broker(request: pytest.FixtureRequest) -> Broker:
    return request.getfixturevalue(request.param)


def send(broker: Broker, topic: str, payloads: Iterable[bytes], partition: int = -1) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 0, "enable.idempotence": True})
    for payload in payloads:
        producer.produce(topic, payload, partition=partition)
    assert producer.flush(10) == 0


def read(broker: Broker, topic: str, count: int, seconds: float = 15, **settings: object) -> list[bytes]:
    """The first `count` payloads, or what came in the time; of partition 0 unless a group protocol is named."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": f"group-{uuid4().hex[:10]}",
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 10,
        }
        | {name.replace("_", "."): value for name, value in settings.items()}
    )
    if "group_protocol" in settings:
        consumer.subscribe([topic])
    else:  # no group to join: quicker
        consumer.assign([TopicPartition(topic, 0)])
    found: list[bytes] = []
    deadline = monotonic() + seconds
    while len(found) < count and monotonic() < deadline:
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            found.append(message.value() or b"")
    consumer.close()
    return found


def new_topic(broker: Broker, partitions: int) -> str:
    name = f"contract-{uuid4().hex[:10]}"
    broker.create_topics({name: partitions})
    return name


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_group_reads_what_was_produced(broker: Broker, protocol: str):
    """Both group protocols deliver every message once, in the order of its partition."""
    topic = new_topic(broker, partitions=4)
    send(broker, topic, PAYLOADS, partition=3)
    assert read(broker, topic, len(PAYLOADS), group_protocol=protocol) == PAYLOADS


def test_creating_a_topic_again_changes_nothing(broker: Broker):
    """`create_topics` names what must be there; what is there keeps its messages."""
    topic = new_topic(broker, partitions=1)
    send(broker, topic, PAYLOADS[:1], partition=0)
    broker.create_topics({topic: 1})
    assert read(broker, topic, 1) == PAYLOADS[:1]


def test_it_says_what_it_is(broker: Broker):
    """Commands print kind and limits; limits are whole sentences."""
    assert broker.alive
    assert broker.kind
    assert all(limit.endswith(".") for limit in broker.limits)


@pytest.mark.kafka
def test_topics_have_the_partitions_asked_for(kafka: Broker, topics):
    """A topic is usable in all its partitions as soon as it is created."""
    topic = topics("partitions", partitions=5)
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "none"})
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.close()
    assert sorted(partitions) == [0, 1, 2, 3, 4]
    assert all(partition.leader >= 0 for partition in partitions.values())


@pytest.mark.kafka
def test_read_committed_hides_aborted_records(kafka: Broker, topics):
    """Of an aborted and a committed transaction, a read_committed reader sees the second alone."""
    topic = topics("transactions")
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": topic})
    producer.init_transactions(20)
    for payload, end in [(b"aborted", producer.abort_transaction), (b"committed", producer.commit_transaction)]:
        producer.begin_transaction()
        producer.produce(topic, payload)
        producer.flush(10)
        end(20)
    assert read(kafka, topic, 1, isolation_level="read_committed") == [b"committed"]
    assert read(kafka, topic, 2, isolation_level="read_uncommitted") == [b"aborted", b"committed"]
