"""Reading stored partitions and writing letters back: what the client does that a broker in order never makes it do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError

from worker.config import KafkaSettings
from worker.errors import BrokerError, ConfigError, TopicError
from worker.kafka.reading import Extent, Reading
from worker.kafka.replay import Replaying
from worker.kafka.tools import Feeder
from worker.pipeline.messages import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.broker import MockCluster

PARTITION = ("audit-reading", 1)


class Message:
    """What the client hands out."""

    def __init__(self, offset: int | None, error: int | None = None, partition: tuple[str, int] = PARTITION) -> None:
        self._offset, self._error, self._partition = offset, error, partition

    def topic(self) -> str:
        return self._partition[0]

    def partition(self) -> int:
        return self._partition[1]

    def offset(self) -> int | None:
        return self._offset

    def error(self) -> KafkaError | None:
        return None if self._error is None else KafkaError(self._error)

    def timestamp(self) -> tuple[int, int]:
        return 1, 17

    def headers(self) -> None: ...
    def key(self) -> None: ...
    def value(self) -> None: ...


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reading]:
    made = Reading(KafkaSettings(bootstrap_servers="127.0.0.1:1", connect_timeout_ms=100))
    yield made
    made.close()


def reads(reading: Reading, monkeypatch: pytest.MonkeyPatch, *batches: list[Message], end: int = 5) -> list[int]:
    """The offsets that come of what the client hands out; then nothing more."""
    waiting: Any = iter(batches)
    monkeypatch.setattr(reading, "_fetched", lambda: next(waiting, []))
    return [record.offset for record in reading.read(PARTITION, 0, end)]


EOF = KafkaError._PARTITION_EOF


def test_it_ends_where_it_is_told_to(reading, monkeypatch):
    """With the last record, with one beyond it, or with the end of the partition behind markers of transactions."""
    assert reads(reading, monkeypatch, [Message(0), Message(4), Message(5)]) == [0, 4]
    assert reads(reading, monkeypatch, [Message(0), Message(7)]) == [0]
    assert reads(reading, monkeypatch, [Message(0)], [Message(5, EOF)]) == [0]
    assert reads(reading, monkeypatch, end=0) == []


def test_what_is_left_of_another_partition_is_passed_over(reading, monkeypatch):
    """The client may still hold some of the one before."""
    other = Message(9, None, ("audit-reading", 0))
    assert reads(reading, monkeypatch, [other, Message(4)]) == [4]


def test_an_end_that_comes_too_early_is_waited_for(reading, monkeypatch):
    """An open transaction: what follows its end is read, and what never comes is noted."""
    assert reads(reading, monkeypatch, [Message(0), Message(2, EOF)], [Message(3), Message(5, EOF)]) == [0, 3]
    assert reading.held_back == {}
    assert reads(reading, monkeypatch, [Message(0), Message(2, EOF)]) == [0]
    assert reading.held_back == {PARTITION: 3}


def test_silence_is_the_brokers(reading, monkeypatch):
    """Nothing comes, not even the end: that is no empty partition."""
    with pytest.raises(BrokerError, match=r"audit-reading cannot be read at 127\.0\.0\.1:1: nothing came for 0\.1 s"):
        reads(reading, monkeypatch, [Message(0)])


def test_errors_that_last_end_it_and_others_do_not(reading, monkeypatch):
    """Denied access is said; a broker that comes back is waited for."""
    transport = Message(None, KafkaError._TRANSPORT)
    assert reads(reading, monkeypatch, [transport], [Message(4)]) == [4]
    with pytest.raises(TopicError, match="Access to the topic 'audit-reading' is denied"):
        reads(reading, monkeypatch, [Message(None, KafkaError.TOPIC_AUTHORIZATION_FAILED)])


def test_properties_that_the_client_refuses_are_named():
    """By both clients."""
    wrong = KafkaSettings(properties={"no.such.property": "1"})
    for make in (lambda: Reading(wrong), lambda: Replaying(wrong, 1_000)):
        with pytest.raises(ConfigError, match="refuses its properties"):
            make()


def test_a_topic_is_read_up_to_where_it_reached(mock_cluster: MockCluster):
    """What is written afterwards is left out; a partition is read in its order."""
    mock_cluster.create_topics({"audit-reading": 2})
    feeder = Feeder(mock_cluster.bootstrap_servers, "audit-reading")
    for number in range(100):
        feeder.send(b"%d" % number, key=b"%d" % number)
    feeder.flush()
    reading = Reading(KafkaSettings(bootstrap_servers=mock_cluster.bootstrap_servers))
    partitions = reading.partitions(["audit-reading"])
    extents = reading.extents(partitions)
    feeder.send(b"late", key=b"0")
    feeder.flush()
    found = {one: list(reading.read(one, *extents[one])) for one in partitions}
    reading.close()
    assert sum(extent.end for extent in extents.values()) == 100
    for one, records in found.items():
        assert [record.offset for record in records] == list(range(extents[one].end))
    assert sorted(int(record.value) for records in found.values() for record in records) == list(range(100))
    assert all(isinstance(extent, Extent) for extent in extents.values())


def test_a_replay_without_brokers_names_what_is_not_acknowledged():
    """The client's own time limit ends it."""
    nobody = KafkaSettings(bootstrap_servers="127.0.0.1:1", producer_properties={"message.timeout.ms": 200})
    replaying = Replaying(nobody, 10_000)
    replaying.send("0/7", "topic", None, Record("", 0, 7, None, b"x", [], None), [])
    replaying.finish()
    assert list(replaying.unacknowledged) == ["0/7"]
    assert "timed out" in (replaying.failure or "")
    assert replaying.broken
