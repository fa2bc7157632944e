"""Access rights on a real Apache Kafka: which a worker needs, and what it says without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from tests.contract.security.secure_kafka import Right, SecureKafka, unique
from tests.contract.security.users import (
    DESCRIBE,
    GOOD,
    GROUP,
    POISON,
    READ,
    TOPIC,
    WRITE,
    User,
)
from worker.kafka import topics

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.timeout(300)]


def test_who_has_only_the_rights_that_are_needed_gets_on(kafka: SecureKafka, user: User, tmp_path: Path):
    """READ on input and group, WRITE on output and dead letters: no right on the cluster, none to read settings."""
    user.allow()
    kafka.write(user.input, GOOD, POISON, GOOD)
    with user.ready(tmp_path, user.properties()) as worker:
        worker.until(lambda: worker.metric("winnow_end_to_end_seconds_count") >= 3)
        assert worker.terminate() == 0
    assert kafka.committed(user.group, user.input) == 3


def test_without_any_right_topics_look_as_if_they_were_missing(user: User, tmp_path: Path):
    """The sentence says both. Exit code 5."""
    code, said = user.fails(tmp_path)
    assert code == 5
    assert f"'{user.input}', '{user.output}', '{user.dead}', or this user may not describe them" in said


def test_without_the_right_to_create_topics(user: User, tmp_path: Path):
    """`create_topics` needs CREATE: the topic and the right are named. Exit code 5."""
    code, said = user.fails(tmp_path, kafka__create_topics="true")
    assert code == 5
    assert f"The topic '{user.input}' cannot be created" in said
    assert "Grant CREATE" in said


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_without_the_right_to_read(kafka: SecureKafka, user: User, tmp_path: Path, protocol: str):
    """The topic and the right are named. Exit code 5."""
    kafka.write(user.input, GOOD)
    code, said = user.allow(without=user.input).fails(tmp_path, kafka__group_protocol=protocol)
    assert code == 5
    assert f"Access to the topic '{user.input}' is denied. Grant READ on inputs" in said


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_without_the_right_to_the_group(user: User, tmp_path: Path, protocol: str):
    """The right and the setting that names the group. Exit code 4."""
    code, said = user.allow(without=user.group).fails(tmp_path, kafka__group_protocol=protocol)
    assert code == 4
    assert "Grant READ on the group in kafka.group_id" in said


@pytest.mark.parametrize("message", [GOOD, POISON])
def test_without_the_right_to_write(kafka: SecureKafka, user: User, tmp_path: Path, message: bytes):
    """A result or a dead letter that may not be written stops the worker; its offset is held. Exit code 6."""
    denied, other = (user.output, POISON) if message is GOOD else (user.dead, GOOD)
    user.allow(without=denied)
    kafka.write(user.input, other, other, message, other)
    code, said = user.fails(tmp_path)
    assert code == 6
    assert f"could not be written to '{denied}'" in said
    assert "uthorization failed" in said
    assert "offset was not committed" in said
    assert kafka.committed(user.group, user.input) <= 2


def test_without_the_right_to_write_anything(kafka: SecureKafka, user: User, tmp_path: Path):
    """The brokers refuse an idempotent producer to who may write nowhere: the right is named, and no offset passes."""
    kafka.allow(f"User:{user.name}", Right(TOPIC, user.input, READ), Right(GROUP, user.group, READ))
    kafka.allow(f"User:{user.name}", *(Right(TOPIC, topic, DESCRIBE) for topic in (user.output, user.dead)))
    kafka.write(user.input, GOOD)
    code, said = user.fails(tmp_path)
    assert code in (4, 6)
    assert "WRITE on the output and the dead-letter topic" in said
    assert kafka.committed(user.group, user.input) < 0


EXACTLY_ONCE = {"kafka__delivery": "exactly-once", "kafka__transactional_id_prefix": "secured"}


def test_without_the_right_to_its_transactional_id(user: User, tmp_path: Path):
    """Exactly once needs one more right, which is named. Exit code 4."""
    code, said = user.allow().fails(tmp_path, **EXACTLY_ONCE, kafka__instance_id=user.name)
    assert code == 4
    assert f"Access to the transactional.id 'secured-{user.name}' is denied. Grant WRITE" in said


@pytest.mark.parametrize("message", [GOOD, POISON])
def test_without_the_right_to_write_exactly_once(kafka: SecureKafka, user: User, tmp_path: Path, message: bytes):
    """As at least once: the worker stops, nothing of the transaction counts, its offset is held."""
    denied = user.output if message is GOOD else user.dead
    user.allow(without=denied)
    kafka.allow(f"User:{user.name}", Right(ResourceType.TRANSACTIONAL_ID, f"secured-{user.name}", WRITE))
    kafka.write(user.input, message)
    code, said = user.fails(tmp_path, **EXACTLY_ONCE, kafka__instance_id=user.name)
    # The coordinator is asked first, and does not say of which topic it speaks.
    assert code in (5, 6)
    assert "Grant WRITE on both" in said or f"could not be written to '{denied}'" in said
    assert kafka.committed(user.group, user.input) < 0


def test_who_has_only_the_rights_that_are_needed_gets_on_exactly_once(kafka: SecureKafka, user: User, tmp_path: Path):
    """One transactional id more than at least once, and still no right on the cluster."""
    user.allow()
    kafka.allow(f"User:{user.name}", Right(ResourceType.TRANSACTIONAL_ID, f"secured-{user.name}", WRITE))
    kafka.write(user.input, GOOD, POISON, GOOD)
    with user.ready(tmp_path, user.properties(), **EXACTLY_ONCE, kafka__instance_id=user.name) as worker:
        worker.until(lambda: worker.metric("winnow_end_to_end_seconds_count") >= 3)
        assert worker.terminate() == 0
    assert kafka.committed(user.group, user.input) >= 3  # the transaction's own marker may count


def test_the_size_limit_of_topics_needs_a_right_of_its_own(kafka: SecureKafka, user: User):
    """Without DESCRIBE_CONFIGS it is not known, which is no failure; with it, the least counts."""
    user.allow()
    assert topics.prepare(user.settings(**user.properties())) is None
    small = kafka.create_topic(unique("small"), max_message_bytes="20000")
    may = [Right(TOPIC, name, AclOperation.DESCRIBE_CONFIGS) for name in (user.output, small)]
    kafka.allow(f"User:{user.name}", *may, Right(TOPIC, small, WRITE))
    settings = user.settings(**user.properties()).model_copy(update={"dead_letter_topic": small})
    assert topics.prepare(settings) == 20_000
