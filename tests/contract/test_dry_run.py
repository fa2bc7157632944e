"""`winnow dry-run` on a real Kafka: it says what a worker then does, and changes nothing."""

from __future__ import annotations

import base64
import json
from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.e2e.process import winnow
from worker.app import Worker
from worker.config import load
from worker.errors import BrokerError, TopicError
from worker.kafka.tools import Feeder, Reader
from worker.rehearsal import rehearse

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.broker import Broker

pytestmark = pytest.mark.kafka
SECONDS = 30.0


class Stage:
    """Topics of one test's own, with some messages of every kind."""

    def __init__(self, kafka: Broker, topics: Callable[..., str]) -> None:
        self.servers = kafka.bootstrap_servers
        self.input, self.output, self.dead = topics("in", 2), topics("out", 2), topics("dead")
        self.group = f"group-{uuid4().hex[:8]}"
        feeder = Feeder(self.servers, self.input)
        for number in range(12):
            feeder.send(b'{"id": %d, "text": "call now for your prize %d"}' % (number, number), b"k%d" % number)
        feeder.send(b"{nope", b"k1", [("traceparent", "00-1"), ("own", "2")])
        feeder.send(None, b"k2")
        feeder.send(b'{"id": 5}', b"k3")
        feeder.flush()

    @property
    def assignments(self) -> list[str]:
        return [
            f"kafka.bootstrap_servers={self.servers}", f"kafka.group_id={self.group}",
            f"kafka.input_topics={self.input}", f"kafka.output_topic={self.output}",
            f"kafka.dead_letter_topic={self.dead}", "serving.enabled=false", "input.tombstones=forward",
        ]  # fmt: skip

    @property
    def flags(self) -> list[str]:
        return [part for assignment in self.assignments for part in ("--set", assignment)]

    def work(self, messages: int) -> None:
        """Let a worker have them."""
        worker = Worker(load(None, self.assignments))
        deadline = monotonic() + SECONDS

        def stopping() -> bool:
            return (
                worker.registry.get_sample_value("winnow_delivered_total") or 0
            ) >= messages or monotonic() > deadline

        worker.run(stopping)

    def written(self) -> set[tuple[object, ...]]:
        """Topic, key, value and headers of all that is in the output and among the dead letters."""
        reader, found, deadline = Reader(self.servers, [self.output, self.dead]), [], monotonic() + SECONDS
        while len(found) < 15 and monotonic() < deadline:
            found += reader.poll()
        reader.close()
        return {(one.topic, one.key, one.value, tuple(one.headers)) for one in found}


@pytest.fixture
def stage(kafka: Broker, topics: Callable[..., str]) -> Stage:
    return Stage(kafka, topics)


def test_it_says_what_a_worker_then_writes(stage: Stage):
    """Results, dead letters and forwarded tombstones, to the byte and the header."""
    said = [json.loads(line) for line in winnow("dry-run", "--json", "-n", "100", *stage.flags).stdout.splitlines()]
    assert sorted(one["outcome"] for one in said) == ["dead-letter"] * 2 + ["result"] * 12 + ["tombstone"]

    def decoded(text: str | None) -> bytes | None:
        return None if text is None else base64.b64decode(text)

    foretold = {
        (
            one["topic"], decoded(one["record"]["key"]), decoded(one["record"]["value"]),
            tuple((name, value.encode()) for name, value in one["record"]["headers"].items()),
        )
        for one in said
    }  # fmt: skip
    stage.work(15)
    assert stage.written() == foretold


def test_it_changes_nothing(stage: Stage):
    """No group, no commit, not a record."""
    ran = winnow("dry-run", *stage.flags)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert b"Read 15 messages: 12 results and 2 dead letters would be written" in ran.stdout
    admin = AdminClient({"bootstrap.servers": stage.servers})
    assert stage.group not in {group.group_id for group in admin.list_consumer_groups().result(SECONDS).valid}
    consumer = Consumer({"bootstrap.servers": stage.servers, "group.id": stage.group})
    asked = [TopicPartition(stage.input, number) for number in range(2)]
    assert all(one.offset < 0 for one in consumer.committed(asked, timeout=SECONDS))
    for topic, number in ((stage.output, 0), (stage.output, 1), (stage.dead, 0)):
        assert consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=SECONDS) == (0, 0)
    consumer.close()


def test_it_goes_on_where_the_group_is(stage: Stage):
    """What a worker has done is not shown again; `end` and `beginning` show it."""
    stage.work(15)
    settings = load(None, stage.assignments)
    assert list(rehearse(settings, 10, "committed")) == []
    feeder = Feeder(stage.servers, stage.input)
    feeder.send(b'{"id": "new", "text": "Lunch at noon?"}')
    feeder.flush()
    (one,) = rehearse(settings, 10, "committed")
    assert one.text == "Lunch at noon?"
    assert len(list(rehearse(settings, 100, "beginning"))) == 16
    assert len(list(rehearse(settings, 4, "end"))) == 4


def test_what_cannot_be_read_is_named(stage: Stage):
    """As a worker names it."""
    with pytest.raises(TopicError, match="There is no topic 'not-there'"):
        list(rehearse(load(None, [*stage.assignments, "kafka.input_topics=not-there"]), 1, "end"))
    away = [*stage.assignments, "kafka.bootstrap_servers=127.0.0.1:1", "kafka.connect_timeout_ms=300"]
    with pytest.raises(BrokerError, match=r"No broker answered at 127\.0\.0\.1:1"):
        list(rehearse(load(None, away), 1, "end"))
