"""The newest messages of a topic, read beside whoever else reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.config import KafkaSettings
from worker.errors import BrokerError, ConfigError, TopicError
from worker.kafka import tools
from worker.kafka.tools import Feeder, recent

if TYPE_CHECKING:
    from worker.broker import MockCluster


@pytest.fixture
def kafka(mock_cluster: MockCluster) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=mock_cluster.bootstrap_servers)


def fill(kafka: KafkaSettings, topic: str, count: int) -> None:
    feeder = Feeder(kafka.bootstrap_servers, topic)
    for number in range(count):
        feeder.send(str(number).encode(), key=str(number).encode())
    feeder.flush()


def test_the_newest_messages_of_every_partition_are_read(kafka, mock_cluster: MockCluster):
    """About equally many of each, and no more than asked for."""
    mock_cluster.create_topics({"recent-many": 3})
    fill(kafka, "recent-many", 600)
    found = recent(kafka, "recent-many", 30)
    assert len(found) == 30
    by_partition: dict[int, list[int]] = {}
    for each in found:
        by_partition.setdefault(each.partition, []).append(int(each.value or b""))
    assert len(by_partition) >= 3
    assert all(len(numbers) <= 10 and numbers == sorted(numbers) for numbers in by_partition.values())
    assert min(min(numbers) for numbers in by_partition.values()) > 500


def test_fewer_messages_than_asked_for_are_all_read(kafka, mock_cluster: MockCluster):
    """Empty partitions do not hold it up."""
    mock_cluster.create_topics({"recent-few": 4, "recent-none": 2})
    fill(kafka, "recent-few", 3)
    assert sorted(record.value or b"" for record in recent(kafka, "recent-few", 100)) == [b"0", b"1", b"2"]
    assert recent(kafka, "recent-none", 100) == []


def test_what_stands_in_the_way_is_a_sentence():
    """No broker, or properties that the client refuses."""
    nobody = KafkaSettings(bootstrap_servers="127.0.0.1:1", connect_timeout_ms=300)
    with pytest.raises(BrokerError, match=r"messages cannot be read at 127\.0\.0\.1:1"):
        recent(nobody, "messages", 10)
    with pytest.raises(ConfigError, match="refuses its properties"):
        recent(KafkaSettings(properties={"no.such.property": "1"}), "messages", 10)


def test_missing_topic_is_named(kafka, mock_cluster: MockCluster):
    """The in-process cluster creates what is asked for, so it is told not to."""
    with pytest.raises(TopicError, match="There is no topic 'recent-missing'"):
        recent(kafka.model_copy(update={"properties": {"allow.auto.create.topics": False}}), "recent-missing", 10)


@given(
    st.dictionaries(st.integers(0, 20), st.integers(1, 500), max_size=8),
    st.integers(1, 1_000),
)
def test_shares_are_as_many_as_asked_for_and_as_equal_as_there_are(stored, count):
    """What one partition lacks the others give; nothing is asked for that is not there."""
    shares = tools.fair_shares(stored, count)
    assert sum(shares.values()) == min(count, sum(stored.values()))
    assert all(0 < share <= stored[p] for p, share in shares.items())
    whole = [share for p, share in shares.items() if share < stored[p]]
    assert not whole or max(shares.values()) - min(whole) <= 1
