"""What a member knows of partitions of which it has read nothing, on a real Kafka: their lag is not nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from confluent_kafka import Producer, TopicPartition

from tests.contract.worlds import PARTITIONS, SECONDS, KafkaWorld, Listener, places, read, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.kafka_fixtures import Broker
    from worker.kafka.source import KafkaSource
    from worker.pipeline.messages import Partition
    from worker.ports import Source

pytestmark = pytest.mark.kafka


@pytest.fixture(params=["classic", "consumer"])
def world(request: pytest.FixtureRequest, kafka: Broker, topics: Callable[..., str]) -> Iterator[KafkaWorld]:
    made = KafkaWorld(kafka, topics, request.param)
    yield made
    made.end()


class Pausing(Listener):
    """Pauses its member within the callback that assigns: nothing can be fetched before."""

    source: KafkaSource

    def assigned(self, partitions: Sequence[Partition]) -> None:
        super().assigned(partitions)
        self.source._client.incremental_assign([TopicPartition(*partition) for partition in partitions])
        self.source.pause()


def joined(world: KafkaWorld) -> Source:
    """A member that has its partitions, paused, and was given nothing."""
    listener = Pausing()
    listener.source = source = world.member(listener)
    settle(source, lambda: len(listener.has()) == PARTITIONS)
    return source


def test_all_that_is_stored_waits_where_nothing_was_ever_committed(world: KafkaWorld):
    """From the assignment on, of each partition; what is written later waits, too."""
    for number in range(6):
        world.append(b"%d" % number, number % PARTITIONS)
    source = joined(world)
    assert dict(source.positions()) == {(world.topic, number): 0 for number in range(PARTITIONS)}
    assert dict(source.ends()) == {(world.topic, number): 3 for number in range(PARTITIONS)}
    world.append(b"more", 0)
    settle(source, lambda: source.ends()[world.topic, 0] == 4)


def test_what_was_committed_does_not_wait(world: KafkaWorld):
    """The next member begins where the group has come to."""
    for number in range(5):
        world.append(b"%d" % number, 0)
    first = world.member(Listener())
    records = read(first, 5)
    first.commit({(world.topic, 0): 3}, wait=True)
    first.close()
    world.open.remove(first)
    source = joined(world)
    assert source.positions()[world.topic, 0] == 3
    source.resume()
    assert places(read(source, 2)) == places(records)[3:]
    assert source.positions()[world.topic, 0] == 5


def test_the_end_of_a_transaction_is_no_message_that_waits(world: KafkaWorld):
    """A group that has read all of a topic of transactions has no lag after a restart either."""
    name = uuid4().hex
    producer = Producer({"bootstrap.servers": world.settings.bootstrap_servers, "transactional.id": name})
    producer.init_transactions(SECONDS)
    producer.begin_transaction()
    producer.produce(world.topic, b"one", partition=0)
    producer.commit_transaction(SECONDS)
    first = world.member(Listener())
    read(first, 1)
    first.commit({(world.topic, 0): 1}, wait=True)
    first.close()
    world.open.remove(first)
    listener = Listener()
    source = world.member(listener)
    at = world.topic, 0
    settle(source, lambda: at in listener.has() and source.positions().get(at) == source.ends().get(at) == 2)
