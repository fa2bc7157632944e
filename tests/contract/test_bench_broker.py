"""The broker of the benchmarks is warm before anything is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, TopicPartition

from bench import broker, kit
from worker.kafka.tools import Reader

if TYPE_CHECKING:
    from worker.broker import Broker

pytestmark = pytest.mark.kafka
MESSAGES = 500


def test_as_many_messages_are_written_and_read(kafka: Broker):
    """Each once, over all partitions of a topic of its own, and by a group that commits."""
    kafka.create_topics({broker.TOPIC: 6})
    broker.warm_up(kafka.bootstrap_servers, MESSAGES)
    reader = Reader(kafka.bootstrap_servers, [broker.TOPIC])
    records = kit.read_until(reader, MESSAGES)
    reader.close()
    assert (len(records), {record.partition for record in records}) == (MESSAGES, set(range(6)))
    client = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": broker.TOPIC})
    committed = client.committed([TopicPartition(broker.TOPIC, number) for number in range(6)], timeout=15)
    client.close()
    assert sum(each.offset for each in committed) == MESSAGES
