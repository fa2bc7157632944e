"""The hand-written loop of docs/from-a-loop.md, as it stands there, on a real Kafka."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, Producer

from tests import documents
from tests.docs_session import HAM, SPAM
from worker import Classifier
from worker.kafka.tools import Feeder, Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from worker.broker import Broker

MESSAGES = 40


class EndedError(Exception):
    """Everything has been committed; the loop itself never ends."""


class UntilDone:
    """A consumer that ends the loop once so many messages are committed."""

    def __init__(self, consumer: Consumer, messages: int) -> None:
        self._consumer, self._left, self._read = consumer, messages, 0

    def consume(self, count: int, timeout: float) -> list[Any]:
        messages = self._consumer.consume(count, timeout)
        self._read = len(messages)
        return messages

    def commit(self, *, asynchronous: bool) -> None:
        self._consumer.commit(asynchronous=asynchronous)
        self._left -= self._read
        if not self._left:
            raise EndedError


@pytest.fixture
def run(kafka: Broker, topics: Callable[..., str]) -> Iterator[Callable[[Sequence[bytes]], list[dict[str, Any]]]]:
    """Runs the block over these messages until it ends; what it has written."""
    source, output = topics("in"), topics("out")
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "group.id": source,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([source])
    (block,) = documents.run_by(__file__)

    def call(values: Sequence[bytes]) -> list[dict[str, Any]]:
        feeder = Feeder(kafka.bootstrap_servers, source)
        for number, value in enumerate(values):
            feeder.send(value, b"%d" % number)
        feeder.flush()
        with Classifier() as classifier:
            names = {
                "json": json,
                "consumer": UntilDone(consumer, len(values)),
                "producer": Producer({"bootstrap.servers": kafka.bootstrap_servers}),
                "classify": lambda texts: [
                    {"label": said.label, "score": said.score} for said in classifier.many(texts)
                ],
            }
            with pytest.raises(EndedError):
                exec(compile(block.text.replace("messages.labelled", output), block.name, "exec"), names)
        reader = Reader(kafka.bootstrap_servers, [output])
        written: list[dict[str, Any]] = []
        for _ in range(30):
            written += [json.loads(record.value or b"") for record in reader.poll(timeout=1.0)]
            if len(written) >= len(values):
                break
        reader.close()
        return written

    yield call
    consumer.close()


@pytest.mark.docs
@pytest.mark.kafka
def test_the_loop_answers_every_message(run: Callable[..., list[dict[str, Any]]]):
    """It is a program that works, as far as it goes: one answer a message, in order."""
    texts = [SPAM if number % 2 else HAM for number in range(MESSAGES)]
    written = run([json.dumps({"id": number, "text": text}).encode() for number, text in enumerate(texts)])
    assert [said["id"] for said in written] == list(range(MESSAGES))
    assert [said["label"] for said in written] == ["spam" if number % 2 else "ham" for number in range(MESSAGES)]


@pytest.mark.docs
@pytest.mark.kafka
def test_the_loop_ends_by_what_is_no_json(run: Callable[..., list[dict[str, Any]]]):
    """As the table below it says: an exception."""
    with pytest.raises(json.JSONDecodeError):
        run([b'{"id": 1, "text": "Lunch at noon?"}', b"{nope"])
