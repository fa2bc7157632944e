"""Are the topics there? Create them where the settings allow it, else say how."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from worker.errors import BrokerError, Fatal, TopicError
from worker.kafka import clients, faults

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.config import KafkaSettings

log = structlog.get_logger("kafka")


class _Heard:
    """What the client said about its connections."""

    def __init__(self) -> None:
        self.fatal: Fatal | None = None
        self.last = ""

    def __call__(self, error: KafkaError) -> None:
        self.fatal = self.fatal or faults.fatal(error)
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self.last = error.str()


def prepare(kafka: KafkaSettings) -> None:
    """See that the brokers answer and every topic exists; create what is missing if `create_topics`.

    Raises:
        BrokerError: the brokers cannot be reached or refuse the login.
        TopicError: a topic is missing, or may not be created.
    """
    heard = _Heard()
    try:
        # What it would log is in the error it ends with.
        admin = AdminClient(clients.common(kafka, heard) | {"log_level": 0})
    except (KafkaException, TypeError, ValueError) as error:
        raise clients.refused(error) from None
    existing = _existing(admin, kafka, heard)
    missing = [name for name in _named(kafka) if name not in existing]
    if missing and kafka.create_topics:
        _create(admin, kafka, missing)
        existing |= dict.fromkeys(missing, kafka.create_partitions)
    elif missing:
        raise TopicError(_how_to_create(kafka, missing))
    inputs = {name: count for name, count in existing.items() if _is_input(kafka, name)}
    for pattern in kafka.input_topics:
        if pattern.startswith("^") and not any(re.match(pattern, name) for name in inputs):
            log.warning("no topic matches yet", pattern=pattern)
    if kafka.output_partition == "source":
        _check_partitions(kafka, inputs, existing[kafka.output_topic])


def _existing(admin: AdminClient, kafka: KafkaSettings, heard: _Heard) -> dict[str, int]:
    """The topics there are, with their number of partitions."""
    seconds = kafka.connect_timeout_ms / 1000
    try:
        metadata = admin.list_topics(timeout=seconds)
    except KafkaException as error:
        admin.poll(0)
        fatal = heard.fatal or faults.fatal(error.args[0])
        if fatal is not None:
            raise fatal from None
        detail = f" ({heard.last})" if heard.last else ""
        raise BrokerError(
            f"No broker answered at {kafka.bootstrap_servers} within {seconds:g} s{detail}. "
            "Check kafka.bootstrap_servers, and security.protocol in kafka.properties."
        ) from None
    return {name: len(topic.partitions) for name, topic in metadata.topics.items() if topic.error is None}


def _named(kafka: KafkaSettings) -> list[str]:
    inputs = [topic for topic in kafka.input_topics if not topic.startswith("^")]
    return [*inputs, kafka.output_topic, kafka.dead_letter_topic]


def _create(admin: AdminClient, kafka: KafkaSettings, missing: Iterable[str]) -> None:
    topics = [NewTopic(name, kafka.create_partitions, kafka.create_replication) for name in missing]
    for name, future in admin.create_topics(topics).items():
        try:
            future.result()
            log.info("topic created", topic=name, partitions=kafka.create_partitions)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise TopicError(f"The topic {name!r} cannot be created: {error.args[0].str()}.") from None


def _how_to_create(kafka: KafkaSettings, missing: list[str]) -> str:
    verb = "is no topic" if len(missing) == 1 else "are no topics"
    commands = "; ".join(
        f"kafka-topics.sh --bootstrap-server {kafka.bootstrap_servers} --create --topic {name} "
        f"--partitions {kafka.create_partitions}"
        for name in missing
    )
    names = ", ".join(repr(name) for name in missing)
    return (
        f"There {verb} {names}, or this user may not describe it. "
        f"Create with: {commands} -- or set kafka.create_topics = true."
    )


def _is_input(kafka: KafkaSettings, name: str) -> bool:
    return any(re.match(t, name) if t.startswith("^") else t == name for t in kafka.input_topics)


def _check_partitions(kafka: KafkaSettings, inputs: dict[str, int], written: int) -> None:
    for name, count in inputs.items():
        if count > written:
            raise TopicError(
                f"{name!r} has {count} partitions and {kafka.output_topic!r} only {written}, but "
                "kafka.output_partition = 'source' keeps their numbers. Add partitions, or set it to 'key'."
            )
