"""What the clients are told: promises cannot be overridden, defaults can."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from confluent_kafka import KafkaException, Producer
from hypothesis import given

from worker.config import KafkaSettings
from worker.errors import ConfigError
from worker.kafka import clients
from worker.kafka.clients import MOST_BYTES, write_bounds


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


@pytest.mark.parametrize("table", ["properties", "producer_properties"])
@pytest.mark.parametrize("name", ["linger.ms", "queue.buffering.max.ms"])
def test_how_long_results_wait_is_the_users_where_it_is_said(table: str, name: str):
    """By either of the client's names for it, and in either table; else it is not said."""
    assert clients.lingers(KafkaSettings(**{table: {name: 20}}))
    assert not clients.lingers(KafkaSettings(**{table: {"compression.type": "zstd"}}))
    assert not clients.lingers(KafkaSettings(consumer_properties={name: 20}))


sizes = st.integers(4_096, MOST_BYTES)


@given(sizes, st.none() | sizes)
def test_nothing_larger_is_written_than_settings_and_topics_allow(max_bytes: int, limit: int | None):
    """Records keep to the setting, records and batches to the topics' limit, and the client lets each record pass."""
    record, batch = write_bounds(max_bytes, limit)
    assert record == min(max_bytes, limit or max_bytes)
    assert record <= batch <= (limit or MOST_BYTES)


@pytest.mark.parametrize(("max_bytes", "limit"), [(4_096, None), (MOST_BYTES, None), (1_000_000, 4_096)])
def test_the_client_accepts_the_bound(max_bytes: int, limit: int | None):
    """From the least to the most that the settings take, the client makes a producer of it."""
    batch = write_bounds(max_bytes, limit).batch
    properties = clients.producer(KafkaSettings(), batch, heard)
    assert properties["message.max.bytes"] == batch
    Producer(properties | {"log_level": 0})


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


def test_references_are_followed_when_a_client_is_made(monkeypatch):
    """In all three tables, and with what the environment holds then."""
    reference = {"sasl.password": "${env:WORKER_PASSWORD}"}
    everywhere = KafkaSettings(properties=reference)
    monkeypatch.setenv("WORKER_PASSWORD", "one")
    assert clients.common(everywhere, heard)["sasl.password"] == "one"
    monkeypatch.setenv("WORKER_PASSWORD", "two")
    assert clients.common(everywhere, heard)["sasl.password"] == "two"
    assert clients.common(KafkaSettings(), heard, reference)["sasl.password"] == "two"
    assert consumer(consumer_properties=reference)["sasl.password"] == "two"
    writing = KafkaSettings(producer_properties=reference)
    assert clients.producer(writing, 5_000, heard)["sasl.password"] == "two"
    assert everywhere.properties == reference


@pytest.mark.parametrize("name", ["ssl.ca.location", "ssl.key.location", "ssl.certificate.location"])
def test_a_file_that_cannot_be_read_is_named(name: str):
    """OpenSSL would say `BIO lib`."""
    with pytest.raises(ConfigError, match=rf"'{name}' is /no/such\.pem, which cannot be read: No such file"):
        consumer(properties={name: "/no/such.pem"})


def test_a_key_in_the_place_of_its_path_is_not_shown():
    """Who mixes up `ssl.key.location` and `ssl.key.pem` does not find the key in the log."""
    key = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n"
    with pytest.raises(ConfigError) as caught:
        consumer(properties={"ssl.key.location": key})
    assert str(caught.value) == "The property 'ssl.key.location' is no path but the text of a file: set 'ssl.key.pem'."


@pytest.mark.parametrize("place", ["", "probe", "/etc"])
def test_what_the_client_takes_for_a_place_of_certificates_passes(place: str):
    """The system's own, where the client looks for them, a folder of them."""
    assert consumer(properties={"ssl.ca.location": place})["ssl.ca.location"] == place


def test_tokens_must_come_from_somewhere():
    """Without a source of tokens the client would wait for ever, and say nothing."""
    bearer = {"sasl.mechanism": "OAUTHBEARER"}
    with pytest.raises(ConfigError, match=r"Set sasl\.oauthbearer\.method = 'oidc'"):
        consumer(properties=bearer)
    consumer(properties=bearer, consumer_properties={"sasl.oauthbearer.method": "oidc"})
    consumer(properties=bearer | {"enable.sasl.oauthbearer.unsecure.jwt": True})


def refusal(**properties: object) -> str:
    with pytest.raises((KafkaException, TypeError, ValueError)) as caught:
        Producer(clients.producer(KafkaSettings(properties=properties), 5_000, heard) | {"log_level": 0})
    return str(clients.refused(caught.value))


@pytest.mark.parametrize("mechanism", [{}, {"sasl.mechanism": "GSSAPI"}])
def test_a_missing_mechanism_is_named(mechanism: dict[str, str]):
    """It is Kerberos, by default or as it is set, and the client would tell to build it anew."""
    said = refusal(**{"security.protocol": "SASL_SSL", "sasl.username": "me", "sasl.password": "hunter2"}, **mechanism)
    assert said.startswith("GSSAPI (Kerberos) is not supported")
    assert "Set sasl.mechanism in kafka.properties" in said
    assert "recompile" not in said


@pytest.mark.parametrize(
    "properties",
    [
        {"sasl.pasword": "hunter2"},
        {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.password": "hunter2"},
        {"security.protocol": "SSL", "ssl.key.pem": "hunter2", "ssl.key.password": "hunter2"},
        {"security.protocol": "SSL", "ssl.keystore.location": "/etc/hostname", "ssl.keystore.password": "hunter2"},
        {
            "security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER", "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.client.secret": "hunter2",
        },
    ],
)  # fmt: skip
def test_what_the_client_refuses_is_told_without_secrets(properties: dict[str, str]):
    """The sentence is the client's own, which names properties and not their values."""
    assert "hunter2" not in refusal(**properties)
