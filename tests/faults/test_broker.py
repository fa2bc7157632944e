"""Faults 12, 13, 19, 22: brokers that restart, crash, stay away, refuse, and have thrown away what was not read."""

from __future__ import annotations

import os
import signal
import time

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from tests.faults.size import pick
from tests.kafka_fixtures import QUICK_TO_NOTICE
from worker.errors import BrokerError, DeliveryError, TopicError

pytestmark = [pytest.mark.faults, pytest.mark.kafka]

RECOVERED_WITHIN = 60.0
AWAY = 5.0
"""Seconds after which a record that could not be delivered is given up, here."""
OPEN_TO_ALL = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}


@pytest.mark.parametrize("how", ["cleanly", "killed"])
def test_broker_restarted(row, stage, own_kafka, how):
    """The worker waits a broker out, and goes on soon after it answers.

    Where its client has forgotten the broker it ends with a sentence that says so, and is started again.
    """
    restarts = pick(reduced=1, full=10)
    figures = row(12, f"broker restarted, {how}")
    kafka = own_kafka(properties=QUICK_TO_NOTICE)
    play = stage(figures, kafka)
    play.worker("--slow", "5")

    def supervise() -> None:
        if not play.workers[-1].running:
            assert play.workers[-1].ended() == BrokerError.exit_code, play.workers[-1].said
            assert "has forgotten all brokers" in play.workers[-1].said
            play.worker("--slow", "5", wait=False)

    for _ in range(restarts):
        play.feeder.begin(rate=300)
        seen = len(play.reader.sources)
        play.reader.until(lambda seen=seen: len(play.reader.sources) > seen + 300)
        (kafka.halt if how == "cleanly" else kafka.kill)()
        kafka.restart()
        answers = time.time()
        assert play.recovered(answers, meanwhile=supervise) <= RECOVERED_WITHIN
        figures.runs += 1
        play.feeder.end()
    play.all_seen()
    if len(play.workers) > 1:
        figures.note = f"started again {len(play.workers) - 1} times: the client had forgotten the broker"
    assert play.workers[-1].terminate() == 0
    play.settle()


def test_broker_away_longer_than_records_wait(row, stage, own_kafka):
    """A result that the client gives up ends the worker; its offset has not been passed."""
    times = pick(reduced=1, full=5)
    figures = row(13, "broker away longer than message.timeout.ms")
    kafka = own_kafka(properties=QUICK_TO_NOTICE)
    short = {"kafka__producer_properties.message.timeout.ms": int(1000 * AWAY)}
    play = stage(figures, kafka, batching__max_messages=8, **short)
    for _ in range(times):
        # Slow enough that results come to be while the broker is away.
        worker = play.worker("--slow", "300")
        seen = len(play.reader.sources)
        play.feeder.feed(300)
        play.reader.until(lambda seen=seen: len(play.reader.sources) > seen)
        os.kill(kafka.pid, signal.SIGSTOP)
        try:
            code = worker.ended()
        finally:
            os.kill(kafka.pid, signal.SIGCONT)
        assert code == DeliveryError.exit_code, f"exit {code}\n{worker.said}"
        figures.runs += 1
    last = play.worker()
    play.all_seen()
    assert last.terminate() == 0
    play.settle()


@pytest.mark.parametrize("how", ["forbidden", "missing"])
def test_dead_letters_cannot_be_written(row, stage, own_kafka, how):
    """The worker ends with a code and a sentence that names the topic; no offset passes the message."""
    times = pick(reduced=1, full=5)
    figures = row(19, f"dead-letter topic {how}")
    kafka = own_kafka(properties=QUICK_TO_NOTICE | OPEN_TO_ALL)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for _ in range(times):
        quick = {"kafka__producer_properties.topic.metadata.propagation.max.ms": 2_000}
        play = stage(figures, kafka, partitions=1, **quick)
        worker = play.worker()
        play.feeder.feed(50)
        play.all_seen()
        deny(admin, play.dead) if how == "forbidden" else remove(admin, play.dead)
        play.feeder.send(b"not JSON")
        play.feeder.feed(50)
        code = worker.ended()
        assert code in (DeliveryError.exit_code, TopicError.exit_code), f"exit {code}\n{worker.said}"
        assert play.dead in worker.said
        assert play.committed().get(0, 0) <= 50, "the offset of a dead letter that nobody has was committed"
        figures.runs += 1
        allow(admin) if how == "forbidden" else kafka.create_topics({play.dead: 1})
        again = play.worker()
        play.all_seen()
        assert again.terminate() == 0
        play.settle()


def deny(admin: AdminClient, topic: str) -> None:
    binding = AclBinding(
        ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*", AclOperation.WRITE,
        AclPermissionType.DENY,
    )  # fmt: skip
    for done in admin.create_acls([binding]).values():
        done.result(30)


def allow(admin: AdminClient) -> None:
    from confluent_kafka.admin import AclBindingFilter  # type: ignore[attr-defined]

    every = AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
    )
    for done in admin.delete_acls([every]).values():
        done.result(30)


def remove(admin: AdminClient, topic: str) -> None:
    for done in admin.delete_topics([topic]).values():
        done.result(30)


@pytest.mark.parametrize("reset", ["earliest", "latest", "error"])
def test_committed_offset_no_longer_stored(row, stage, reset):
    """Where the log begins behind the committed offset, the worker does as `auto.offset.reset` says."""
    times = pick(reduced=1, full=5)
    figures = row(22, f"committed offset below the log start, auto.offset.reset={reset}")
    for _ in range(times):
        play = stage(figures, partitions=1, **{"kafka__consumer_properties.auto.offset.reset": reset})
        play.feeder.feed(200)
        commit(play, 10)
        truncate(play, 100)
        worker = play.worker(wait=False)
        figures.runs += 1
        if reset == "error":
            assert worker.ended() == TopicError.exit_code, worker.said
            assert play.input in worker.said
            assert play.committed() == {0: 10}
            continue
        worker.wait_assigned()
        if reset == "latest":
            # Where the end is, is asked for after the assignment: what comes before the answer is not read either.
            worker.until(lambda play=play: play.feeder.feed(1) or play.reader.sources)
        worker.until(lambda worker=worker: worker.metric("winnow_offset_resets_total") == 1)
        expected = 100 if reset == "earliest" else len(play.reader.sources)
        play.reader.until(lambda play=play: len(play.reader.sources) >= expected)  # noqa: B023
        assert worker.terminate() == 0
        offsets = sorted(offset for _, offset in play.reader.sources)
        assert offsets == list(range(offsets[0], play.feeder.written))
        assert offsets[0] == 100 if reset == "earliest" else offsets[0] >= 200
        figures.messages += len(offsets)


def commit(play, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": play.broker.bootstrap_servers, "group.id": play.group})
    consumer.commit(offsets=[TopicPartition(play.input, 0, offset)], asynchronous=False)
    consumer.close()


def truncate(play, offset: int) -> None:
    admin = AdminClient({"bootstrap.servers": play.broker.bootstrap_servers})
    for done in admin.delete_records([TopicPartition(play.input, 0, offset)]).values():
        done.result(30)
