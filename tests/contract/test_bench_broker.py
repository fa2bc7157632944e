"""The broker of the benchmarks is warm before anything is measured."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from bench import broker, kit
from worker.kafka.tools import Reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.broker import Broker

MESSAGES = 500


@pytest.mark.kafka
def test_as_many_messages_are_written_and_read(kafka: Broker, topics: Callable[..., str]):
    """Each once, over all partitions of both topics, and by a group that commits."""
    topic, results = topics("warm-up", partitions=6), topics("warm-up-results", partitions=6)
    broker.warm_up(kafka.bootstrap_servers, topic, results, MESSAGES, 50)
    for each in (topic, results):
        with closing(Reader(kafka.bootstrap_servers, [each])) as reader:
            records = kit.read_until(reader, MESSAGES)
        assert sorted(int(record.key or b"") for record in records) == list(range(MESSAGES))
        assert {record.partition for record in records} == set(range(6))
    with closing(Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": topic})) as client:
        committed = client.committed([TopicPartition(topic, number) for number in range(6)], timeout=15)
    assert sum(each.offset for each in committed) == MESSAGES


def test_nothing_is_measured_before(monkeypatch: pytest.MonkeyPatch):
    """It has both compilers, and is warm when it is handed out."""
    told: list[Any] = []

    class Started:
        bootstrap_servers = "broker:9092"

        def __init__(self, **options: Any) -> None:
            told.append(options)

        def __enter__(self) -> Started:
            return self

        def __exit__(self, *_: object) -> None:
            told.append("stopped")

    monkeypatch.setattr(broker, "ApacheKafka", Started)
    monkeypatch.setattr(broker, "warm_up", lambda *arguments: told.append(arguments))
    with broker.kafka({"node.id": "1"}):
        told.append("measured")
    topics = {broker.TOPIC: 6, broker.RESULTS: 6}
    options = {"properties": {"node.id": "1"}, "topics": topics, "long_running": True}
    rounds = [("broker:9092", *topics, messages, in_flight) for in_flight, messages in broker.WARM_UP.items()]
    assert rounds
    assert told == [options, *rounds, "measured", "stopped"]
