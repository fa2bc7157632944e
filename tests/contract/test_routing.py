"""Results to topics of their own, on a real Kafka: with the guarantees of either delivery."""

from __future__ import annotations

import json
from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from worker.app import Worker
from worker.audit import audit
from worker.config import load
from worker.errors import TopicError
from worker.kafka import topics as topics_at_start
from worker.kafka.reading import Reading
from worker.kafka.tools import Feeder

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.broker import Broker
    from worker.config import Settings

pytestmark = pytest.mark.kafka
SECONDS = 30.0
SPAM, HAM = "URGENT! You have won a 1000 cash prize. Call 09061701461 now to claim", "Lunch at noon?"
TEXTS = [SPAM, HAM, HAM, SPAM, SPAM, HAM] * 5


@pytest.fixture
def settings(kafka: Broker, topics: Callable[..., str]) -> Settings:
    """Of a worker whose results of spam go to a topic that is not there yet."""
    source = topics("in")
    feeder = Feeder(kafka.bootstrap_servers, source)
    for number, text in enumerate(TEXTS):
        feeder.send(json.dumps({"id": number, "text": text}).encode(), b"key")
    feeder.send(b"{", b"key")
    feeder.flush()
    name = uuid4().hex[:8]
    assignments = [
        f"kafka.bootstrap_servers={kafka.bootstrap_servers}", f"kafka.input_topics={source}",
        f"kafka.output_topic={topics('out')}", f"kafka.dead_letter_topic={topics('dead')}",
        f"kafka.group_id=group-{name}", f"kafka.instance_id={name}", f"routing.topics.spam=quarantine-{name}",
        "serving.enabled=false", "model.lanes=1", "kafka.create_partitions=1",
    ]  # fmt: skip
    return load(None, assignments)


def delivering(settings: Settings, **kafka: object) -> Settings:
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update=kafka)})


def worked(settings: Settings) -> None:
    worker = Worker(settings)
    deadline = monotonic() + SECONDS

    def stopping() -> bool:
        delivered = worker.registry.get_sample_value("winnow_delivered_total") or 0
        return delivered > len(TEXTS) or monotonic() > deadline

    worker.run(stopping)


def texts_by_topic(settings: Settings) -> dict[str, list[int]]:
    """The ids of the results in each topic, as a reader of committed records sees them."""
    reading = Reading(settings.kafka, isolation="read_committed")
    found = {}
    for topic in settings.result_topics:
        (partition,) = reading.partitions([topic])
        first, end = reading.extents([partition])[partition]
        found[topic] = [int(json.loads(one.value or b"")["id"]) for one in reading.read(partition, first, end)]
    reading.close()
    return found


def test_results_are_routed_with_the_guarantees_of_the_delivery(settings: Settings):
    """Either way each is in its label's topic, once, in order; in a transaction with the offsets where that is asked.

    A topic that is missing is named, or created, like any other.
    """
    output, quarantine = settings.result_topics
    with pytest.raises(TopicError, match=f"There is no topic '{quarantine}'"):
        topics_at_start.prepare(settings.kafka, settings.result_topics)
    worked(delivering(settings, create_topics=True))
    spam, ham = ([number for number, text in enumerate(TEXTS) if text == one] for one in (SPAM, HAM))
    assert texts_by_topic(settings) == {output: ham, quarantine: spam}
    report = audit(settings)
    assert (report.faults, report.total.results, report.total.checked) == ({}, len(TEXTS), len(TEXTS) + 1)

    exactly = delivering(settings, delivery="exactly-once", group_id=f"{settings.kafka.group_id}-2")
    worked(exactly)
    assert texts_by_topic(settings) == {output: ham * 2, quarantine: spam * 2}
    again = audit(settings)
    assert (again.faults, again.total.copies) == ({}, len(TEXTS) + 1)
    unrouted = audit(settings.model_copy(update={"routing": load().routing}))
    assert unrouted.faults == {"missing": len(spam)}


def test_topics_of_routes_are_looked_at_like_the_output(settings: Settings, topics: Callable[..., str]):
    """What they take counts, and so do their partitions where results keep those of their source."""
    output, small, wide = settings.kafka.output_topic, topics("small", max_message_bytes=10_000), topics("wide", 2)
    assert topics_at_start.prepare(settings.kafka, (output, small)) == 10_000
    by_source = delivering(settings, input_topics=(wide,), output_partition="source", output_topic=topics("out", 2))
    with pytest.raises(TopicError, match=f"'{wide}' has 2 partitions and '{small}' only 1"):
        topics_at_start.prepare(by_source.kafka, (by_source.kafka.output_topic, small))
