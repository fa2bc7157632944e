"""The producers' common part: when records are sent before their time."""

from __future__ import annotations

from time import monotonic

import pytest
from confluent_kafka import KafkaError, KafkaException

from worker.config import KafkaSettings
from worker.errors import DeliveryError
from worker.kafka import writer
from worker.kafka.writer import FLUSH_SECONDS, Writer


class FakeProducer:
    """A client that remembers its flushes."""

    def __init__(self, properties: object, **_: object) -> None:
        self.flushes: list[float] = []
        self.failing: KafkaException | None = None

    def flush(self, seconds: float) -> int:
        self.flushes.append(seconds)
        if self.failing is not None:
            raise self.failing
        return 0

    def poll(self, seconds: float) -> int:
        return 0


def made(monkeypatch: pytest.MonkeyPatch, **settings: object) -> tuple[Writer, FakeProducer]:
    monkeypatch.setattr(writer, "Producer", FakeProducer)
    made = Writer(KafkaSettings(**settings), 1_000_000, monotonic, fatal=lambda error: DeliveryError(error.name()))
    assert isinstance(made.producer, FakeProducer)
    return made, made.producer


def test_a_flush_takes_no_longer_than_it_must(monkeypatch: pytest.MonkeyPatch):
    writer, producer = made(monkeypatch)
    writer.flush()
    assert producer.flushes == [FLUSH_SECONDS]


@pytest.mark.parametrize("name", ["linger.ms", "queue.buffering.max.ms"])
def test_a_wait_that_the_user_asks_for_is_not_cut_short(monkeypatch: pytest.MonkeyPatch, name: str):
    writer, producer = made(monkeypatch, producer_properties={name: 20})
    writer.flush()
    assert producer.flushes == []


def test_what_fails_in_a_flush_is_told_by_the_next_poll(monkeypatch: pytest.MonkeyPatch):
    writer, producer = made(monkeypatch)
    producer.failing = KafkaException(KafkaError(KafkaError._FATAL))
    writer.flush()
    with pytest.raises(DeliveryError, match="_FATAL"):
        writer.poll()
