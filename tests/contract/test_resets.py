"""Messages that retention deletes before a group reads them, and those that it must leave alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.contract.members import SECONDS, Member, until
from tests.kafka_fixtures import apache_or_skip
from worker.config import KafkaSettings

if TYPE_CHECKING:
    from worker.broker import Broker

pytestmark = pytest.mark.kafka
YEARS_AGO = 1_000_000_000_000
RETENTION_AT_ONCE = {"log.initial.task.delay.ms": "0", "log.retention.check.interval.ms": "50"}


def feed(broker: Broker, topic: str, messages: int) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 0})
    for number in range(messages):
        producer.produce(topic, str(number), partition=0, timestamp=YEARS_AGO)
    assert producer.flush(SECONDS) == 0


@pytest.mark.parametrize(("committed", "resets"), [(2, 1), (None, 0)])
def test_a_deleted_position_is_counted(kafka: Broker, topics, committed: int | None, resets: int):
    """A member whose committed offset is deleted goes on at the log's start and counts it; a new group lost nothing."""
    topic = topics("in")
    feed(kafka, topic, 6)
    settings = KafkaSettings(
        bootstrap_servers=kafka.bootstrap_servers, group_id=f"group-{uuid4().hex[:10]}", input_topics=(topic,),
        output_topic=topics("out"), dead_letter_topic=topics("dead"),
    )  # fmt: skip
    if committed is not None:
        consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": settings.group_id})
        consumer.commit(offsets=[TopicPartition(topic, 0, committed)], asynchronous=False)
        consumer.close()
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for deleted in admin.delete_records([TopicPartition(topic, 0, 4)]).values():
        deleted.result(SECONDS)
    member = Member(settings)
    until(lambda: len(member.read) == 2, member)
    assert member.source.resets == resets
    member.source.close()


def stored(broker: Broker, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "none"})
    first, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=SECONDS)
    consumer.close()
    return end - first


def test_the_embedded_broker_keeps_what_is_old():
    """Messages of years ago stay where a topic does not say otherwise: people replay them."""
    with apache_or_skip(properties=RETENTION_AT_ONCE) as broker:
        broker.create_topics({"kept": 1})
        feed(broker, "kept", 3)
        broker.create_topics({"deleted": 1}, {"retention.ms": "1"})
        feed(broker, "deleted", 3)
        deadline = time.monotonic() + SECONDS
        while stored(broker, "deleted"):
            assert time.monotonic() < deadline, "the brokers do not look at retention"
        assert stored(broker, "kept") == 3
