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
    "code", [KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, *sorted(faults.REDELIVERED)]
)
def test_what_the_client_recovers_from_is_not(code: int):
    """Lost connections, timeouts and refused commits of a rebalance pass by themselves."""
    assert faults.fatal(KafkaError(code, "no")) is None
