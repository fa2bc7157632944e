"""What the clients are told: promises cannot be overridden, defaults can."""

from __future__ import annotations

import pytest

from worker.config import KafkaSettings
from worker.kafka import clients


def heard(*_: object) -> None:
    """A callback."""


def consumer(**settings: object) -> clients.Properties:
    return clients.consumer(KafkaSettings(**settings), heard, heard)


def test_the_consumer_commits_nothing_by_itself():
    """Offsets are stored and committed by the worker alone; a group without offsets begins at the beginning."""
    properties = consumer()
    assert properties["enable.auto.commit"] is False
    assert properties["enable.auto.offset.store"] is False
    assert properties["auto.offset.reset"] == "earliest"


def test_the_producer_is_idempotent_and_waits_for_all_replicas():
    """Order and no doubles by retries rest on these, and keys meet as the Java clients' do."""
    properties = clients.producer(KafkaSettings(), 1_000_000, heard)
    assert (properties["enable.idempotence"], properties["acks"]) == (True, "all")
    assert properties["partitioner"] == "murmur2_random"


def test_the_client_takes_whatever_the_encoder_lets_pass():
    """The bound on what is written is the encoder's; the client's own never comes first."""
    assert clients.producer(KafkaSettings(), 5_000_000, heard)["message.max.bytes"] > 5_000_000


def test_prefetching_is_bounded():
    """A backlog does not fill the memory: what librdkafka fetches ahead is far below its defaults."""
    properties = consumer()
    assert properties["queued.max.messages.kbytes"] <= 16 * 1024
    assert properties["queued.min.messages"] <= 1_000


@pytest.mark.parametrize(("protocol", "assigns"), [("classic", True), ("consumer", False)])
def test_each_protocol_gets_its_own_properties(protocol: str, assigns: bool):
    """The classic protocol rebalances cooperatively; with KIP-848 the broker assigns, and naming a strategy fails."""
    properties = consumer(group_protocol=protocol)
    assert properties["group.protocol"] == protocol
    assert ("partition.assignment.strategy" in properties) == assigns
    if assigns:
        assert properties["partition.assignment.strategy"] == "cooperative-sticky"


def test_static_membership_is_by_setting():
    """Without an instance id none is sent."""
    assert "group.instance.id" not in consumer()
    assert consumer(group_instance_id="a")["group.instance.id"] == "a"


def test_the_users_properties_win_over_defaults_and_the_nearer_ones_over_the_common():
    """Any property passes through; those of one client beat those of all."""
    settings = KafkaSettings(
        properties={"security.protocol": "SSL", "linger.ms": 7, "client.rack": "all"},
        consumer_properties={"client.rack": "consumer"},
        producer_properties={"linger.ms": 9},
    )
    reading = clients.consumer(settings, heard, heard)
    writing = clients.producer(settings, 1_000_000, heard)
    assert (reading["security.protocol"], reading["client.rack"]) == ("SSL", "consumer")
    assert (writing["security.protocol"], writing["client.rack"], writing["linger.ms"]) == ("SSL", "all", 9)
