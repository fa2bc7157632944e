"""Members of a group on a real Kafka: what is paused when it leaves, and who stands by."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from worker.config import KafkaSettings
from worker.kafka.source import KafkaSource
from worker.kafka.tools import Feeder

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.faults
SECONDS = 30.0
QUICK = {"classic": {"heartbeat.interval.ms": 300, "session.timeout.ms": 6000}, "consumer": {}}


class Member:
    """Is told of everything, and does nothing."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.owned: set[tuple[str, int]] = set()
        self.told = 0
        self.read: list[int] = []
        self.source = KafkaSource(settings)
        self.source.start(self)

    def turn(self) -> None:
        self.read += [record.partition for record in self.source.poll(100, 0.02)]

    def assigned(self, partitions) -> None:
        self.told += 1
        self.owned |= set(partitions)

    def revoked(self, partitions) -> None:
        self.owned -= set(partitions)

    lost = revoked

    def refused(self) -> None:
        """Nothing is committed."""


def until(done: Callable[[], object], *members: Member) -> None:
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline
        for member in members:
            member.turn()


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
@pytest.mark.parametrize("resumed", [False, True])
def test_a_partition_that_left_while_paused_is_read_when_it_comes_back(kafka, topics, protocol, resumed):
    """The client keeps a partition's pause beyond its assignment, whether the worker was resumed meanwhile or not."""
    topic = topics("in", partitions=2)
    settings = KafkaSettings(
        bootstrap_servers=kafka.bootstrap_servers,
        group_id=uuid4().hex,
        group_protocol=protocol,
        input_topics=(topic,),
        consumer_properties=QUICK[protocol],
    )
    first = Member(settings)
    until(lambda: len(first.owned) == 2, first)
    first.source.pause()
    second = Member(settings)
    until(lambda: len(first.owned) == len(second.owned) == 1, first, second)
    if resumed:
        first.source.pause()
        first.source.resume()
    second.source.close()
    until(lambda: len(first.owned) == 2, first)
    feeder = Feeder(kafka.bootstrap_servers, topic)
    for number in range(40):
        feeder.send(b"{}", str(number).encode())
    feeder.flush()
    until(lambda: len(first.read) == 40, first)
    assert set(first.read) == {0, 1}
    first.source.close()


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_member_without_partitions_is_told_that_it_stands_by(kafka, topics, protocol):
    topic = topics("in", partitions=1)
    settings = KafkaSettings(
        bootstrap_servers=kafka.bootstrap_servers,
        group_id=uuid4().hex,
        group_protocol=protocol,
        input_topics=(topic,),
        consumer_properties=QUICK[protocol],
    )
    first = Member(settings)
    until(lambda: first.owned, first)
    second = Member(settings)
    until(lambda: second.told, first, second)
    assert len(first.owned) + len(second.owned) == 1
    first.source.close()
    second.source.close()
