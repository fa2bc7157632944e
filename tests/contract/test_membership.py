"""Members of a group on a real Kafka: what is paused when it leaves, and who stands by."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.contract.members import Member, until
from worker.config import KafkaSettings
from worker.kafka.tools import Feeder

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.faults
QUICK = {"classic": {"heartbeat.interval.ms": 300, "session.timeout.ms": 6000}, "consumer": {}}


@pytest.fixture(params=["classic", "consumer"])
def settings(kafka, topics, request) -> Callable[[int], KafkaSettings]:
    """Of the members of one group, by the number of their topic's partitions."""

    def made(partitions: int) -> KafkaSettings:
        return KafkaSettings(
            bootstrap_servers=kafka.bootstrap_servers,
            group_id=uuid4().hex,
            group_protocol=request.param,
            input_topics=(topics("in", partitions=partitions),),
            consumer_properties=QUICK[request.param],
        )

    return made


@pytest.mark.parametrize("resumed", [False, True])
def test_a_partition_that_left_while_paused_is_read_when_it_comes_back(settings, resumed):
    """The client keeps a partition's pause beyond its assignment, whether the worker was resumed meanwhile or not."""
    group = settings(2)
    first = Member(group)
    until(lambda: len(first.owned) == 2, first)
    first.source.pause()
    second = Member(group)
    until(lambda: len(first.owned) == len(second.owned) == 1, first, second)
    if resumed:
        first.source.pause()
        first.source.resume()
    second.source.close()
    until(lambda: len(first.owned) == 2, first)
    feeder = Feeder(group.bootstrap_servers, group.input_topics[0])
    for number in range(40):
        feeder.send(b"{}", str(number).encode())
    feeder.flush()
    until(lambda: len(first.read) == 40, first)
    assert set(first.read) == {0, 1}
    first.source.close()


def test_a_member_without_partitions_is_told_that_it_stands_by(settings):
    group = settings(1)
    first = Member(group)
    until(lambda: first.owned, first)
    second = Member(group)
    until(lambda: second.told, first, second)
    assert len(first.owned) + len(second.owned) == 1
    first.source.close()
    second.source.close()
