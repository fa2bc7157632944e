"""Which of the client's errors end the process, and with what words."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from worker.errors import BrokerError, TopicError
from worker.kafka import faults


@pytest.mark.parametrize("code", sorted(faults.AUTHENTICATION))
def test_a_refused_login_is_fatal_and_says_where_to_look(code: int):
    """Wrong credentials do not get better by waiting."""
    fatal = faults.fatal(KafkaError(code, "no"))
    assert isinstance(fatal, BrokerError)
    assert "kafka.properties" in str(fatal)


def test_a_forbidden_topic_is_named():
    """Who lacks a right is told on which topic."""
    fatal = faults.fatal(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "no"), "orders")
    assert isinstance(fatal, TopicError)
    assert "'orders'" in str(fatal)


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (KafkaError.GROUP_AUTHORIZATION_FAILED, "group_id"),
        (KafkaError.FENCED_INSTANCE_ID, "group_instance_id"),
        (KafkaError.UNRELEASED_INSTANCE_ID, "group_instance_id"),
        (KafkaError.UNSUPPORTED_VERSION, "group_protocol"),
    ],
)
def test_a_refused_membership_names_its_setting(code: int, word: str):
    """Each refusal of the group is fatal and names the setting that mends it."""
    fatal = faults.fatal(KafkaError(code, "no"))
    assert isinstance(fatal, BrokerError)
    assert f"kafka.{word}" in str(fatal)


def test_what_the_client_calls_fatal_is_fatal():
    """An error with the client's own fatal flag ends the process, whatever its code."""
    assert isinstance(faults.fatal(KafkaError(KafkaError._FAIL, "no", fatal=True)), BrokerError)


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (KafkaError.GROUP_AUTHORIZATION_FAILED, "kafka.group_id"),
        (KafkaError.UNRELEASED_INSTANCE_ID, "kafka.group_instance_id"),
        (KafkaError.UNSUPPORTED_ASSIGNOR, "kafka.group_protocol"),
        (KafkaError.UNKNOWN, "cannot go on"),
    ],
)
def test_what_a_group_of_kip_848_ends_with_is_read_from_the_text(code: int, word: str):
    """There the client's code is `_FATAL`, without its flag, and the cause is within the text."""
    text = f"Fatal error: {KafkaError(code).str()}: ConsumerGroupHeartbeat fatal error: {KafkaError(code).str()}"
    fatal = faults.fatal(KafkaError(KafkaError._FATAL, text))
    assert isinstance(fatal, BrokerError)
    assert word in str(fatal)


@pytest.mark.parametrize(
    "code", [KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, *sorted(faults.REDELIVERED)]
)
def test_what_the_client_recovers_from_is_not(code: int):
    """Lost connections, timeouts and refused commits of a rebalance pass by themselves."""
    assert faults.fatal(KafkaError(code, "no")) is None


def test_who_may_write_nothing_is_told_what_to_grant():
    """The brokers speak of the cluster, but a right to write to a topic is enough."""
    assert "Grant WRITE on the output" in str(faults.fatal(KafkaError(KafkaError.CLUSTER_AUTHORIZATION_FAILED, "no")))


VERIFY = "ssl://b1:9093/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker"
HOST = "127.0.0.1:8080/bootstrap"
ALERT = "ssl://b1:9093/1: Receive failed: error:0A00045C:SSL routines::tlsv13 alert certificate required: SSL alert 116"


def test_a_certificate_that_is_refused_is_told_with_host_and_mend():
    """OpenSSL does not tell a wrong CA from a wrong name, so both are named."""
    said = str(faults.handshake(KafkaError(KafkaError._SSL, VERIFY)))
    assert said.startswith("The certificate of b1:9093 is refused")
    assert "ssl.ca.location" in said
    assert "kafka.bootstrap_servers" in said


def test_a_handshake_that_the_broker_refuses_asks_for_a_certificate():
    """What the alert was is told."""
    said = str(faults.handshake(KafkaError(KafkaError._TRANSPORT, ALERT)))
    assert said.startswith("b1:9093 refused the TLS handshake (tlsv13 alert certificate required")
    assert "ssl.certificate.location" in said


def test_a_port_that_speaks_http_is_no_kafka():
    """The client reads `HTTP` as a number of bytes, and tells to allow more of them: that would be no mend."""
    size = (
        f"{HOST}: Receive failed: Invalid response size 1213486160 (0..100000000): increase receive.message.max.bytes"
    )
    said = str(faults.handshake(KafkaError(KafkaError._BAD_MSG, size)))
    assert said.startswith("127.0.0.1:8080 is no Kafka: it answers in HTTP.")
    assert "kafka.bootstrap_servers" in said
    other = size.replace("1213486160", "200000000")
    assert faults.handshake(KafkaError(KafkaError._BAD_MSG, other)) is None


@pytest.mark.parametrize("said", ["", "ssl://b1:9093/1: Disconnected", "Connection refused", "handshake timed out"])
def test_other_troubles_of_a_connection_may_pass(said: str):
    """Neither at the start nor later do they end the worker."""
    for code in (KafkaError._TRANSPORT, KafkaError._SSL):
        assert faults.handshake(KafkaError(code, said)) is None


@pytest.mark.parametrize(("code", "said"), [(KafkaError._SSL, VERIFY), (KafkaError._TRANSPORT, ALERT)])
def test_a_running_worker_waits_for_tls_to_come_back(code: int, said: str):
    """A certificate may be replaced while brokers restart: what was right before will be right again."""
    assert faults.fatal(KafkaError(code, said)) is None
