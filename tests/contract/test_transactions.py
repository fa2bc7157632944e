"""The transactional producer against a real Kafka: what a `read_committed` reader and the group see of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from tests.contract.members import SECONDS, Member, until
from worker.config import KafkaSettings
from worker.errors import BrokerError
from worker.kafka.source import KafkaSource
from worker.kafka.transactions import KafkaTransactions, transactional_id
from worker.pipeline.lag import Lag, lags
from worker.pipeline.ledger import Progress
from worker.pipeline.messages import Destination, Outgoing
from worker.ports import AbortNeeded, NotYet, RenewalNeeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Place:
    """Topics of one test's own, and what is seen in them."""

    def __init__(self, servers: str, name: str, output: str, dead: str, source: str) -> None:
        self.settings = KafkaSettings(
            bootstrap_servers=servers, group_id=f"group-{name}", input_topics=(source,), output_topic=output,
            dead_letter_topic=dead, delivery="exactly-once", transactional_id_prefix=f"id-{name}", instance_id="one",
            consumer_properties={"session.timeout.ms": 6000},
        )  # fmt: skip
        self.input = source

    def transactions(self, **changes: object) -> KafkaTransactions:
        return KafkaTransactions(self.settings.model_copy(update=changes), 1_000_000, time.monotonic)

    def result(self, value: bytes) -> Outgoing:
        return Outgoing(Destination.OUTPUT, self.settings.output_topic, b"key", value, [], ("in", 0))

    def dead_letter(self, value: bytes) -> Outgoing:
        return Outgoing(Destination.DEAD_LETTER, self.settings.dead_letter_topic, b"key", value, [], ("in", 0))

    def seen(self) -> list[bytes]:
        """All values that are visible, of results and dead letters."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.settings.bootstrap_servers,
                "group.id": "reader",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "log_level": 0,
            }
        )
        topics = (self.settings.output_topic, self.settings.dead_letter_topic)
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING) for topic in topics])
        values, ends = [], 0
        while ends < len(topics):
            message = consumer.poll(SECONDS)
            assert message is not None
            if message.error() is None:
                values.append(message.value())
            else:
                ends += 1
        consumer.close()
        return values

    def stable(self) -> int:
        """Records of the output, marks of transactions included, that no open transaction holds back."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.settings.bootstrap_servers,
                "group.id": "reader",
                "isolation.level": "read_committed",
                "log_level": 0,
            }
        )
        _, end = consumer.get_watermark_offsets(TopicPartition(self.settings.output_topic, 0), timeout=SECONDS)
        consumer.close()
        return int(end)

    def committed(self) -> int:
        consumer = Consumer(
            {
                "bootstrap.servers": self.settings.bootstrap_servers,
                "group.id": self.settings.group_id,
                "log_level": 0,
            }
        )
        found = consumer.committed([TopicPartition(self.input, 0)], timeout=SECONDS)[0].offset
        consumer.close()
        return int(found)


@pytest.fixture
def place(kafka, topics) -> Place:
    return Place(kafka.bootstrap_servers, uuid4().hex[:8], topics("out"), topics("dead"), topics("in"))


@pytest.fixture
def member(place) -> Iterator[Member]:
    member = Member(place.settings)
    until(lambda: member.owned, member)
    yield member
    member.source.close()


def again(call: Callable[..., None], *arguments: object) -> None:
    """Make a call until it has ended."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            call(*arguments)
        except NotYet:
            assert time.monotonic() < deadline
        else:
            return


def test_results_dead_letters_and_offsets_count_together(place, member):
    transactions = place.transactions()
    transactions.send(place.result(b"a result"))
    transactions.send(place.dead_letter(b"a dead letter"))
    again(transactions.send_offsets, {(place.input, 0): 2}, member.source.membership())
    assert place.seen() == []
    again(transactions.commit)
    assert sorted(place.seen()) == [b"a dead letter", b"a result"]
    assert place.committed() == 2


def test_what_is_aborted_is_never_seen(place, member):
    transactions = place.transactions()
    transactions.send(place.result(b"aborted"))
    again(transactions.send_offsets, {(place.input, 0): 7}, member.source.membership())
    again(transactions.abort)
    transactions.send(place.result(b"committed"))
    again(transactions.send_offsets, {(place.input, 0): 1}, member.source.membership())
    again(transactions.commit)
    assert place.seen() == [b"committed"]
    assert place.committed() == 1


def test_a_successor_ends_the_transaction_of_the_one_before(place):
    first = place.transactions()
    first.send(place.result(b"of the first"))
    second = place.transactions()
    with pytest.raises(BrokerError, match=r"Another worker uses the transactional\.id"):
        again(first.commit)
    second.send(place.result(b"of the second"))
    again(second.commit)
    assert place.seen() == [b"of the second"]


def test_a_transaction_older_than_its_timeout_takes_a_new_producer(place):
    """The coordinator looks for those once a second here, and writes that it has aborted them."""
    transactions = place.transactions(producer_properties={"transaction.timeout.ms": 1000})
    transactions.send(place.result(b"too slow"))
    until(lambda: place.stable() == 2)
    with pytest.raises((RenewalNeeded, AbortNeeded)):
        again(transactions.commit)
    again(transactions.renew)
    transactions.send(place.result(b"again"))
    again(transactions.commit)
    assert place.seen() == [b"again"]


def test_offsets_of_an_earlier_generation_are_refused(place, member):
    """A zombie's transaction is fenced by its group, whatever its transactional id."""
    stale = member.source.membership()
    other = Member(place.settings)
    until(lambda: other.source.membership(), member, other)
    member.source.close()
    until(lambda: other.owned, other)
    transactions = place.transactions()
    transactions.send(place.result(b"of a zombie"))
    with pytest.raises((AbortNeeded, RenewalNeeded)):
        again(transactions.send_offsets, {(place.input, 0): 5}, stale)
    again(transactions.abort)
    transactions.close()
    assert place.seen() == []
    other.source.close()
    assert place.committed() < 0


def test_who_is_no_member_has_no_membership(place, member):
    assert member.source.membership() is not None
    apart = KafkaSource(place.settings)
    apart.start(member)
    assert apart.membership() is None
    apart.close()


def test_close_leaves_nothing_open(place):
    transactions = place.transactions()
    transactions.send(place.result(b"given up"))
    transactions.close()
    assert place.seen() == []


def test_brokers_that_cannot_do_it_say_so():
    settings = KafkaSettings(bootstrap_servers="127.0.0.1:1", delivery="exactly-once", connect_timeout_ms=500)
    with pytest.raises(BrokerError, match=r"transaction coordinator did not answer within 0\.5 s"):
        KafkaTransactions(settings, 1_000_000, time.monotonic)


def test_the_id_is_the_prefix_and_a_name_of_the_worker():
    named = KafkaSettings(transactional_id_prefix="spam", instance_id="pod-3")
    assert transactional_id(named) == "spam-pod-3"
    static = KafkaSettings(transactional_id_prefix="spam", group_instance_id="member-2")
    assert transactional_id(static) == "spam-member-2"
    assert transactional_id(KafkaSettings()).startswith("winnow-")


def test_an_input_that_transactions_write_leaves_no_lag_when_all_is_done(place: Place):
    """Each ends with an offset that holds no message; the position of the source passes it."""
    writer = place.transactions(instance_id="another")
    for number in range(3):
        writer.send(place.result(b"%d" % number)._replace(topic=place.input))
    again(writer.commit)
    writer.close()
    member = Member(place.settings)
    partition = (place.input, 0)
    until(lambda: len(member.read) == 3 and member.source.positions().get(partition) == 4, member)
    ends, positions = member.source.ends(), member.source.positions()
    member.source.close()
    assert ends == {partition: 4}
    all_done = Progress(3, 3, None, None)
    assert lags({partition: all_done}, ends, positions, 0.0) == {partition: Lag(0, 0, None)}
