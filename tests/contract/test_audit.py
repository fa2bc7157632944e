"""Audits of a real Kafka: transactions, groups, retention, and a worker's own work."""

from __future__ import annotations

import sys
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.kit import MODEL, record
from worker import cli
from worker.app import Worker
from worker.audit import Options, Report, audit
from worker.config import Settings, load
from worker.errors import BrokerError, TopicError
from worker.kafka.reading import Reading
from worker.kafka.tools import Feeder
from worker.pipeline.encode import Encoder, Topics
from worker.pipeline.messages import Classification, Rejection, Request, Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.broker import Broker
    from worker.pipeline.messages import Outcome

pytestmark = pytest.mark.kafka
SECONDS = 30.0
NO_SCORES = Options(scores=False)
SAID = Result(Request("1", "text", False), Classification("ham", 0.9, {}), False, 3)
INVALID = Rejection("decode", "invalid-json", "The value is not JSON at character 3.", "InvalidMessage")


class Route(NamedTuple):
    """Topics of one test's own, of one partition each."""

    bootstrap_servers: str
    input: str
    output: str
    dead: str
    group: str

    def assignments(self, **more: object) -> list[str]:
        values = {
            "bootstrap_servers": self.bootstrap_servers,
            "input_topics": self.input,
            "output_topic": self.output,
            "dead_letter_topic": self.dead,
            "group_id": self.group,
            **more,
        }
        return [f"kafka.{name}={value}" for name, value in values.items()]

    def settings(self, **more: object) -> Settings:
        return load(None, self.assignments(**more))

    def audit(self, options: Options = NO_SCORES, **more: object) -> Report:
        return audit(self.settings(**more), options)

    def producer(self, *, transactional: bool = False) -> Producer:
        properties: dict[str, object] = {"bootstrap.servers": self.bootstrap_servers, "linger.ms": 0, "log_level": 0}
        if not transactional:
            return Producer(properties)
        made = Producer(properties | {"transactional.id": uuid4().hex, "transaction.timeout.ms": 60_000})
        made.init_transactions(SECONDS)
        return made

    def fill(self, *values: bytes | None) -> None:
        producer = self.producer()
        for value in values:
            producer.produce(self.input, value, b"key")
        assert producer.flush(SECONDS) == 0

    def answer(self, producer: Producer, *offsets: int, outcome: Outcome = SAID) -> None:
        encode = Encoder(MODEL, False, (), 100_000, topics=Topics(self.output, self.dead))
        for offset in offsets:
            outgoing, _ = encode(record(offset, b"text", topic=self.input), outcome)
            assert outgoing is not None
            producer.produce(outgoing.topic, outgoing.value, outgoing.key, headers=outgoing.headers)
        assert producer.flush(SECONDS) == 0

    def commit(self, offset: int) -> None:
        consumer = Consumer({"bootstrap.servers": self.bootstrap_servers, "group.id": self.group})
        consumer.commit(offsets=[TopicPartition(self.input, 0, offset)], asynchronous=False)
        consumer.close()


@pytest.fixture
def route(kafka: Broker, topics: Callable[..., str]) -> Route:
    return Route(kafka.bootstrap_servers, topics("in"), topics("out"), topics("dead"), f"group-{uuid4().hex[:8]}")


def test_what_was_aborted_is_neither_an_answer_nor_a_message(route: Route):
    """Both sides in transactions: aborted messages need no answer, aborted answers are none, markers are no gaps."""
    writing = route.producer(transactional=True)
    for value, ends in ((b"a", "commit"), (b"aborted", "abort"), (b"b", "commit"), (b"aborted", "abort")):
        writing.begin_transaction()
        writing.produce(route.input, value)
        assert writing.flush(SECONDS) == 0  # an abort would throw away what has not been sent
        (writing.commit_transaction if ends == "commit" else writing.abort_transaction)(SECONDS)
    answering = route.producer(transactional=True)
    for outcome, offset, ends in ((SAID, 0, "abort"), (SAID, 0, "commit"), (INVALID, 4, "commit"), (SAID, 4, "abort")):
        answering.begin_transaction()
        route.answer(answering, offset, outcome=outcome)
        (answering.commit_transaction if ends == "commit" else answering.abort_transaction)(SECONDS)
    report = route.audit()
    total = report.total
    assert (total.messages, total.results, total.dead_letters, total.copies) == (2, 1, 1, 0)
    assert report.faults == {}
    assert report.held_back == {}


def test_an_open_transaction_is_waited_for_and_then_named(route: Route):
    """Its answers do not count; who waits for them learns how much is hidden. Once it ends they count."""
    route.fill(b"a", b"b")
    answering = route.producer(transactional=True)
    answering.begin_transaction()
    route.answer(answering, 0)
    route.answer(route.producer(), 1)
    report = route.audit(connect_timeout_ms=1_000)
    assert report.total.missing == 2
    assert report.held_back == {f"{route.output}/0": 2}
    answering.commit_transaction(SECONDS)
    assert route.audit().faults == {}


def test_what_the_group_has_not_committed_waits(route: Route):
    """A group that has committed nothing is none; `all_processed` asks for all."""
    route.fill(b"a", b"b", None, b"c")
    route.answer(route.producer(), 0)
    assert route.audit().examples["missing"] == [f"{route.input}/0/1", f"{route.input}/0/3"]
    route.commit(2)
    total = route.audit().total
    assert (total.missing, total.waiting, total.skipped) == (1, 1, 1)
    assert route.audit(Options(scores=False, all_processed=True)).total.missing == 2
    assert route.audit(Options(scores=False, group=f"{route.group}-other")).total.missing == 2


def test_disorder_doubles_and_strangers(route: Route):
    """Each by its name."""
    route.fill(*[b"text"] * 5)
    producer = route.producer()
    route.answer(producer, 0, 2, 1, 2, 3, 4, 99)
    route.answer(producer, 4, outcome=INVALID)
    report = route.audit()
    assert report.faults == {"differing": 1, "out_of_order": 1, "unknown": 1}
    assert report.examples == {
        "differing": [f"{route.input}/0/4"], "out_of_order": [f"{route.input}/0/1"],
        "unknown": [f"{route.input}/0/99"], "doubled": [f"{route.input}/0/2", f"{route.input}/0/4"],
    }  # fmt: skip
    assert route.audit(delivery="exactly-once").faults["doubled"] == 2


def test_answers_to_what_retention_took_are_expired(route: Route):
    """The input begins later than what was answered of it."""
    route.fill(*[b"text"] * 4)
    route.answer(route.producer(), 0, 1, 2, 3)
    admin = AdminClient({"bootstrap.servers": route.bootstrap_servers})
    for deleted in admin.delete_records([TopicPartition(route.input, 0, 3)]).values():
        deleted.result(SECONDS)
    report = route.audit()
    assert (report.faults, report.total.messages, report.total.expired) == ({}, 1, 3)


def test_compaction_is_known(kafka: Broker, topics: Callable[..., str], route: Route):
    """From the topic's own setting."""
    reading = Reading(route.settings().kafka)
    assert reading.compacted(topics("compacted", cleanup_policy="compact,delete"))
    assert not reading.compacted(route.input)
    assert not reading.compacted("there-is-none")
    reading.close()


def test_the_least_size_limit_is_known(topics: Callable[..., str], route: Route):
    """What a worker may write follows it, and so what an audit expects."""
    reading = Reading(route.settings().kafka)
    small, large = (topics("limited", max_message_bytes=limit) for limit in (9_000, 90_000))
    assert reading.size_limit([large, small, "there-is-none"]) == 9_000
    assert reading.size_limit(["there-is-none"]) is None
    reading.close()


def test_inputs_may_be_patterns_and_missing_topics_are_named(kafka: Broker, topics: Callable[..., str], route: Route):
    """As in the settings; what does not exist is not taken for empty."""
    prefix = f"many-{uuid4().hex[:6]}"
    names = sorted((topics(f"{prefix}-a", 2), topics(f"{prefix}-b")))
    report = route.audit(Options(scores=False, inputs=(f"^{prefix}-.*",)))
    assert [(one.topic, one.partition) for one in report.partitions] == [(names[0], 0), (names[0], 1), (names[1], 0)]
    for options in (Options(scores=False, inputs=("not-there",)), Options(scores=False, output="not-there")):
        with pytest.raises(TopicError, match="There is no topic 'not-there'"):
            route.audit(options)


def test_brokers_that_are_not_there_are_named(route: Route):
    """Within the time that the settings give them."""
    with pytest.raises(BrokerError, match=r"No broker answered at 127\.0\.0\.1:1 within 0\.3 s"):
        route.audit(bootstrap_servers="127.0.0.1:1", connect_timeout_ms=300)


def worked(route: Route, messages: int) -> Settings:
    """What a worker with the default bundle makes of the input, until it has answered so many."""
    settings = load(None, [*route.assignments(), "serving.enabled=false", "input.tombstones=forward"])
    worker = Worker(settings)
    deadline = monotonic() + SECONDS

    def stopping() -> bool:
        delivered = worker.registry.get_sample_value("winnow_delivered_total") or 0
        return delivered >= messages or monotonic() > deadline

    worker.run(stopping)
    return settings


def test_a_workers_answers_are_those_of_today_and_a_forged_one_is_found(
    route: Route, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Bit by bit: results and dead letters of the default bundle; then one score is another in the last place."""
    feeder = Feeder(route.bootstrap_servers, route.input)
    for number in range(60):
        feeder.send(orjson.dumps({"id": number, "text": f"Message {number}: call now, it is free"}), b"key")
    feeder.send(b"{nope")
    feeder.send(None, b"key")
    feeder.flush()
    settings = worked(route, 62)
    report = audit(settings)
    assert report.faults == {}
    total = report.total
    assert (total.results, total.dead_letters, total.checked, total.wrong) == (60, 1, 61, 0)
    assert (report.forwarded_due, report.forwarded) == (1, 1)

    forged = route.producer()
    with_reading = Reading(settings.kafka)
    first = next(with_reading.read((route.output, 0), 0, 1))
    with_reading.close()
    document = orjson.loads(first.value or b"")
    document["source"]["offset"], document["score"] = 70, document["score"] + 1e-12
    route.fill(*[orjson.dumps({"id": 0, "text": "Message 0: call now, it is free"})] * 9)
    forged.produce(route.output, orjson.dumps(document), first.key)
    assert forged.flush(SECONDS) == 0
    flags = [part for assignment in route.assignments() for part in ("--set", assignment)]
    monkeypatch.setattr(sys, "argv", ["winnow", "audit", "--json", *flags, "--set", "input.tombstones=forward"])
    capsys.readouterr()  # what the worker logged
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert ended.value.code == 8
    assert orjson.loads(said.out)["faults"] == {"wrong": 1}
    assert "answered as settings and bundle do not answer today" in said.err
    assert "call now" not in said.out + said.err
