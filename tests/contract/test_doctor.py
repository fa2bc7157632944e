"""`winnow doctor` on a real Kafka: set-ups that are broken in one way each, and the one that is not."""

from __future__ import annotations

import json
import shutil
import time
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.e2e.process import winnow
from worker.config import Settings, load
from worker.doctor import Finding, Status, examine, machine
from worker.opening import DEFAULT_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from worker.broker import Broker

pytestmark = pytest.mark.kafka
SECONDS = 20.0


class Site:
    """A worker's settings and its topics, as they should be; a test breaks one thing."""

    def __init__(self, kafka: Broker, topics: Callable[..., str], folder: Path) -> None:
        self.kafka, self.topics, self.folder = kafka, topics, folder
        self.replicas = 1
        self.names = {
            "bootstrap_servers": kafka.bootstrap_servers,
            "input_topics": topics("in", 3),
            "output_topic": topics("out", 3),
            "dead_letter_topic": topics("dead"),
            "group_id": f"group-{uuid4().hex[:8]}",
            "connect_timeout_ms": "10000",
        }
        self.more: list[str] = ["serving.enabled=false"]

    @property
    def assignments(self) -> list[str]:
        return [*(f"kafka.{name}={value}" for name, value in self.names.items()), *self.more]

    @property
    def settings(self) -> Settings:
        return load(None, self.assignments)

    def topic(self, role: str, partitions: int = 1, **config: object) -> None:
        """Another topic in that role."""
        self.names[role] = self.topics("other", partitions, **config)

    def write(self, *, timestamp: int | None = None, partition: int = 0) -> None:
        producer = Producer({"bootstrap.servers": self.kafka.bootstrap_servers, "linger.ms": 0, "log_level": 0})
        when = int(time.time() * 1000) if timestamp is None else timestamp
        for _ in range(5):
            producer.produce(self.names["input_topics"], b'{"text": "hello"}', partition=partition, timestamp=when)
        assert producer.flush(SECONDS) == 0

    def commit(self, offset: int) -> None:
        consumer = Consumer({"bootstrap.servers": self.kafka.bootstrap_servers, "group.id": self.names["group_id"]})
        consumer.commit(offsets=[TopicPartition(self.names["input_topics"], 0, offset)], asynchronous=False)
        consumer.close()

    def delete_records(self, before: int) -> None:
        admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap_servers})
        for done in admin.delete_records([TopicPartition(self.names["input_topics"], 0, before)]).values():
            done.result(SECONDS)

    def bundle(self) -> Path:
        folder = shutil.copytree(DEFAULT_BUNDLE, self.folder / "bundle")
        self.more.append(f"model.bundle={folder}")
        return folder

    def examined(self) -> list[Finding]:
        return list(examine(self.settings, self.replicas, time.time() * 1000))


@pytest.fixture
def site(kafka: Broker, topics: Callable[..., str], tmp_path: Path) -> Site:
    return Site(kafka, topics, tmp_path)


class Broken(NamedTuple):
    """One thing that is wrong, and what must be said of it."""

    breaks: Callable[[Site], object]
    check: str
    """May hold the name of a role in braces."""
    status: Status
    found: str
    mend: str


def replicas(site: Site, number: int) -> None:
    site.replicas = number


def damaged_bundle(site: Site) -> None:
    with (site.bundle() / "rest.onnx").open("ab") as file:
        file.write(b"\0")


def other_machines_bundle(site: Site) -> None:
    manifest = site.bundle() / "bundle.json"
    document = json.loads(manifest.read_text("utf-8"))
    document["probes"][0]["logits"][0] += 5
    manifest.write_text(json.dumps(document), "utf-8")


def deleted_unread(site: Site) -> None:
    site.write()
    site.commit(1)
    site.delete_records(4)


PROBLEM, WARNING = Status.PROBLEM, Status.WARNING
BROKEN = {
    "no broker there": Broken(
        lambda site: site.names.update(bootstrap_servers="127.0.0.1:1", connect_timeout_ms="300"),
        "brokers", PROBLEM, "No broker answered at 127.0.0.1:1", "Check kafka.bootstrap_servers",
    ),
    "TLS where there is none": Broken(
        lambda site: (site.more.append("kafka.properties.security.protocol=SSL"),
                      site.names.update(connect_timeout_ms="1500")),
        "brokers", PROBLEM, "No broker answered", "security.protocol",
    ),
    "a file of the client's that is not there": Broken(
        lambda site: site.more.append("kafka.properties.ssl.ca.location=/not/there.crt"),
        "brokers", PROBLEM, "/not/there.crt, which cannot be read", "properties",
    ),
    "no input topic": Broken(
        lambda site: site.names.update(input_topics="not-there"),
        "topic not-there", PROBLEM, "The input is missing", "--create --topic not-there",
    ),
    "no dead-letter topic": Broken(
        lambda site: site.names.update(dead_letter_topic="not-there"),
        "topic not-there", PROBLEM, "The dead-letter topic is missing", "--create --topic not-there",
    ),
    "a pattern that matches nothing": Broken(
        lambda site: site.names.update(input_topics="^not-there.*"),
        "topic ^not-there.*", WARNING, "No topic matches", "kafka.input_topics",
    ),
    "more replicas than partitions": Broken(
        lambda site: replicas(site, 5), "partitions", WARNING, "2 of them will have nothing to do", "--partitions 5",
    ),
    "fewer partitions in the output than in the source": Broken(
        lambda site: (site.topic("output_topic", 2), site.names.update(output_partition="source")),
        "output partitions", PROBLEM, "only 2", "--partitions 3",
    ),
    "an output that takes less than the settings write": Broken(
        lambda site: site.topic("output_topic", 3, max_message_bytes=20_000),
        "size limit {output_topic}", WARNING, "max.message.bytes is 20,000", "Set output.max_bytes to 20000",
    ),
    "a dead-letter topic that takes no dead letter": Broken(
        lambda site: site.topic("dead_letter_topic", max_message_bytes=1_000),
        "size limit {dead_letter_topic}", PROBLEM, "may need 4,096", "max.message.bytes=1000000",
    ),
    "messages that no dead letter can hold": Broken(
        lambda site: site.topic("input_topics", max_message_bytes=9_000_000),
        "dead letters", WARNING, "9,000,000 bytes", "Raise output.max_bytes",
    ),
    "a compacted dead-letter topic": Broken(
        lambda site: site.topic("dead_letter_topic", cleanup_policy="compact"),
        "cleanup {dead_letter_topic}", PROBLEM, "only the last letter stays", "cleanup.policy=delete",
    ),
    "a compacted output": Broken(
        lambda site: site.topic("output_topic", 3, cleanup_policy="compact"),
        "cleanup {output_topic}", WARNING, "without a key are refused", "cleanup.policy=delete",
    ),
    "more replicas in sync than there are": Broken(
        lambda site: site.topic("output_topic", 3, min_insync_replicas=2),
        "replication {output_topic}", PROBLEM, "min.insync.replicas is 2", "min.insync.replicas=1",
    ),
    "messages that are gone in a minute": Broken(
        lambda site: site.topic("input_topics", retention_ms=60_000),
        "retention {input_topics}", WARNING, "kept 60 s", "retention.ms",
    ),
    "messages deleted before they were read": Broken(
        deleted_unread, "lag", PROBLEM, "3 offsets that the group had not read are deleted", "retention.ms",
    ),
    "offsets of a topic that was made anew": Broken(
        lambda site: (site.write(), site.commit(5), site.commit(50)),
        "lag", WARNING, "committed more than", "Set the group's offsets",
    ),
    "a clock behind the messages": Broken(
        lambda site: site.write(timestamp=int(time.time() * 1000) + 600_000),
        "clock", WARNING, "ahead of this machine's clock", "NTP",
    ),
    "one transactional id for three": Broken(
        lambda site: (replicas(site, 3), site.names.update(delivery="exactly-once", instance_id="one")),
        "transactional id", WARNING, "winnow-one for all of 3 replicas", "--set kafka.instance_id",
    ),
    "one static name for three": Broken(
        lambda site: (replicas(site, 3), site.names.update(group_instance_id="one")),
        "static membership", WARNING, "is meant for 3", "its own name",
    ),
    "more lanes than cores": Broken(
        lambda site: site.more.append("model.lanes=200"), "cores", WARNING, "200 lanes", "Set model.lanes",
    ),
    "no bundle": Broken(
        lambda site: site.more.append("model.bundle=/not/there"),
        "bundle", PROBLEM, "/not/there is not a folder", "bundle",
    ),
    "a damaged bundle": Broken(damaged_bundle, "bundle", PROBLEM, "does not match its digest", "bundle again"),
    "a bundle that this machine computes otherwise": Broken(
        other_machines_bundle, "probes", PROBLEM, "computes something else on this machine", "onnxruntime",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_set_up_is_named_with_its_mend(site: Site, name: str):
    """By its own line, and nothing else is made worse than it is: what is well says so, or depends on it."""
    broken = BROKEN[name]
    broken.breaks(site)
    found = site.examined()
    check = broken.check.format(**site.names)
    said = next(one for one in found if one.check == check and one.status is not Status.OK)
    assert said.status is broken.status
    assert broken.found in said.found
    # An error that is one sentence has its mend in it.
    assert broken.mend in f"{said.found} {said.mend}"
    assert said.mend
    others = [one for one in found if one.status is Status.PROBLEM and one is not said]
    assert others == []


def test_a_set_up_that_is_well(site: Site, monkeypatch: pytest.MonkeyPatch):
    """Every line is ok, whatever this machine's CPU; the group has come as far as is said."""
    monkeypatch.setattr(machine, "instruction_set", lambda cpu: Finding("instruction set", Status.OK, ""))
    monkeypatch.setattr(machine, "cores", lambda *_: Finding("cores", Status.OK, ""))
    site.write()
    site.commit(3)
    found = {one.check: one for one in site.examined()}
    assert {one.status for one in found.values()} == {Status.OK}
    assert found["lag"].found.startswith("2 messages wait; in 2 partitions it has committed nothing")
    assert found["requests"].found.endswith("with exactly once and groups of KIP-848.")


def there(site: Site) -> set[str]:
    """The topics and groups of the cluster."""
    admin = AdminClient({"bootstrap.servers": site.kafka.bootstrap_servers})
    groups = admin.list_consumer_groups().result(SECONDS).valid
    return {*admin.list_topics(timeout=SECONDS).topics, *(group.group_id for group in groups)}


def test_nothing_is_changed(site: Site):
    """Not even where the settings would have topics created; no group appears."""
    site.names["create_topics"] = "true"
    site.names["dead_letter_topic"] = f"not-there-{uuid4().hex[:6]}"
    before = there(site)
    assert site.examined()
    assert there(site) == before


def test_the_command(site: Site):
    """As a user runs it: exit code 0 or 9, JSON, and no traceback."""
    flags = [part for assignment in site.assignments for part in ("--set", assignment)]
    ran = winnow("doctor", "--json", *flags)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert json.loads(ran.stdout)["counts"]["problem"] == 0
    ran = winnow("doctor", *flags, "--set", "kafka.output_topic=not-there")
    assert ran.returncode == 9
    assert b"problem      topic not-there: The output is missing" in ran.stdout
    assert ran.stderr == b"winnow: There is 1 problem: topic not-there. Each is named above with its mend.\n"
