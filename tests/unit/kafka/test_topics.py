"""What is seen to before the worker starts: topics, and what they take."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaError, Producer

from worker.config import KafkaSettings
from worker.errors import BrokerError, TopicError
from worker.kafka import clients, topics
from worker.pipeline.encode import LEAST_BYTES, Encoder, ModelIdentity
from worker.pipeline.messages import Record, Rejection

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.broker import Broker, MockCluster

MIB = 1_048_588
"""Kafka's default of `max.message.bytes`."""
REJECTED = Rejection("decode", "invalid-json", "The value is not JSON.", "InvalidMessage")


def settings(broker: Broker, output: str, dead: str, source: str = "") -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=broker.bootstrap_servers,
        input_topics=(source or output + "-in",),
        output_topic=output,
        dead_letter_topic=dead,
    )


@pytest.mark.kafka
def test_the_least_limit_of_what_is_written_is_found(kafka: Broker, topics_on: Callable[..., KafkaSettings]):
    """The output's or the dead letters', whichever is less; the inputs' does not matter."""
    assert topics.prepare(topics_on()) == MIB
    assert topics.prepare(topics_on(output=30_000)) == 30_000
    assert topics.prepare(topics_on(dead=20_000, output=30_000)) == 20_000
    assert topics.prepare(topics_on(source=5_000)) == MIB


@pytest.mark.kafka
def test_topics_that_take_too_little_are_refused(topics_on: Callable[..., KafkaSettings]):
    """Where no dead letter would fit, the worker could only stop at the first one: it says so at once."""
    assert topics.prepare(topics_on(dead=LEAST_BYTES)) == LEAST_BYTES
    refused = topics_on(dead=LEAST_BYTES - 1)
    with pytest.raises(TopicError) as caught:
        topics.prepare(refused)
    assert str(caught.value) == (
        f"The topic {refused.dead_letter_topic!r} takes records of 4,095 bytes at most. A dead letter with its "
        "headers may need 4,096. Raise its max.message.bytes."
    )


@pytest.mark.kafka
def test_the_limit_of_topics_that_are_created_is_known(kafka: Broker):
    """Just made, they have the brokers' default."""
    name = f"made-{os.urandom(4).hex()}"
    fresh = settings(kafka, name, name + "-dead").model_copy(update={"create_topics": True, "create_partitions": 1})
    assert topics.prepare(fresh) in (MIB, None)  # another broker may have heard of them later


@pytest.fixture
def topics_on(kafka: Broker, topics: Callable[..., str]) -> Callable[..., KafkaSettings]:
    """Settings with topics of given limits."""

    def make(**limits: int) -> KafkaSettings:
        def topic(name: str) -> str:
            return topics(name, **({"max_message_bytes": limits[name]} if name in limits else {}))

        return settings(kafka, topic("output"), topic("dead"), topic("source"))

    return make


@pytest.mark.kafka
@pytest.mark.parametrize("limit", [LEAST_BYTES, 20_000])
def test_nothing_that_is_bounded_by_the_limit_is_refused(topics_on, limit: int):
    """Dead letters of every size, alone and in batches, incompressible, up to the bound to the byte: all arrive."""
    kafka = topics_on(dead=limit)
    bounds = clients.write_bounds(1_000_000, topics.prepare(kafka))
    encode = Encoder(ModelIdentity("stub", "0" * 12), False, (), bounds.record)
    kafka = kafka.model_copy(update={"producer_properties": {"compression.type": "none", "linger.ms": 50}})
    producer = Producer(clients.producer(kafka, bounds.batch, lambda _: None) | {"log_level": 0})
    fates: list[KafkaError | None] = []
    sizes = [*range(0, 2 * limit, limit // 37), *range(limit - 1_200, limit, 17)]
    for offset, size in enumerate(sizes):
        letter, _ = encode(Record("in", 0, offset, None, os.urandom(size), [("own", b"1")], 17), REJECTED)
        assert letter is not None
        while True:
            try:
                producer.produce(
                    kafka.dead_letter_topic, letter.value, letter.key, headers=letter.headers,
                    on_delivery=lambda error, _: fates.append(error),
                )  # fmt: skip
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(60) == 0
    assert fates == [None] * len(sizes)


def test_a_cluster_that_does_not_tell_limits_is_no_failure(mock_cluster: MockCluster):
    """librdkafka's own cluster knows no settings of topics: no bound but the setting's."""
    mock_cluster.create_topics({"limits-in": 4, "limits-out": 4, "limits-dead": 4})
    assert topics.prepare(settings(mock_cluster, "limits-out", "limits-dead", "limits-in")) is None


def test_missing_topics_are_named_in_good_english(mock_cluster: MockCluster):
    """One, or several."""
    mock_cluster.create_topics({"english-in": 4, "english-out": 4})
    with pytest.raises(TopicError, match=r"There is no topic 'gone', or this user may not describe it\."):
        topics.prepare(settings(mock_cluster, "english-out", "gone", "english-in"))
    with pytest.raises(
        TopicError, match=r"There are no topics 'lost', 'gone', or this user may not describe them\."
    ) as caught:
        topics.prepare(settings(mock_cluster, "lost", "gone", "english-in"))
    assert str(caught.value).endswith(
        "or set kafka.create_topics = true, or give `winnow broker` --topic lost:6 --topic gone:6."
    )


@pytest.mark.parametrize("milliseconds", [100, 1_200])
def test_nobody_who_answers_is_told_after_the_time_that_is_set(milliseconds: int):
    """Be it shorter than the first attempt or longer."""
    nobody = KafkaSettings(bootstrap_servers="127.0.0.1:1", connect_timeout_ms=milliseconds)
    with pytest.raises(BrokerError, match=rf"No broker answered at 127\.0\.0\.1:1 within {milliseconds / 1000:g} s"):
        topics.prepare(nobody)


def test_an_address_that_speaks_http_is_told():
    """From what the client really says of it."""
    with socket.create_server(("127.0.0.1", 0)) as web:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    caller, _ = web.accept()
                    with caller:
                        caller.recv(4096)
                        caller.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        wrong = KafkaSettings(bootstrap_servers=f"127.0.0.1:{web.getsockname()[1]}", connect_timeout_ms=10_000)
        with pytest.raises(BrokerError, match="is no Kafka: it answers in HTTP"):
            topics.prepare(wrong)
        web.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_each_topic_has_the_reason_of_its_own():
    """What is written is bounded by the least limit of all: so an output that takes too little is no output."""
    assert topics.why_too_small("dead", "dead") == "A dead letter with its headers may need 4,096."
    assert topics.why_too_small("out", "dead").startswith("The least limit of the topics that are written")
