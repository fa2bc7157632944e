"""Are the topics there? Create them where the settings allow it, else say how."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import RESOURCE_TOPIC, AdminClient, ConfigResource, NewTopic  # type: ignore[attr-defined]

from worker.errors import BrokerError, Fatal, TopicError
from worker.kafka import clients, faults
from worker.pipeline.encode import LEAST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from confluent_kafka.admin import ClusterMetadata  # type: ignore[attr-defined]

    from worker.config import KafkaSettings

log = structlog.get_logger("kafka")
ATTEMPT_SECONDS = 1.0
"""The client tells of a refused login only when an attempt has ended: who is refused need not wait for all the rest."""
CONFIG_SECONDS = 5.0
SIZE_LIMIT = "max.message.bytes"


class Heard:
    """What the client said about its connections."""

    def __init__(self) -> None:
        self.fatal: Fatal | None = None
        self.last = ""

    def __call__(self, error: KafkaError) -> None:
        self.fatal = self.fatal or faults.fatal(error) or faults.handshake(error)
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self.last = error.str()


def prepare(kafka: KafkaSettings, results: Sequence[str] = ()) -> int | None:
    """See that the brokers answer and every topic exists; create what is missing if `create_topics`.

    Args:
        kafka: where, and which topics.
        results: those of results; none stands for `output_topic` alone.

    Returns:
        The least `max.message.bytes` of the topics that are written, where this user may know it.

    Raises:
        BrokerError: the brokers cannot be reached or refuse the login.
        TopicError: a topic is missing, may not be created, or takes too little.
    """
    heard, results = Heard(), results or (kafka.output_topic,)
    try:
        # What it would log is in the error it ends with.
        admin = AdminClient(clients.common(kafka, heard) | {"log_level": 0})
    except (KafkaException, TypeError, ValueError) as error:
        raise clients.refused(error) from None
    metadata = answer(admin, kafka, heard)
    existing = {name: len(topic.partitions) for name, topic in metadata.topics.items() if topic.error is None}
    missing = [name for name in _named(kafka, results) if name not in existing]
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
        for name in results:
            _check_partitions(inputs, name, existing[name])
    limits = size_limits(admin, min(metadata.brokers), (*results, kafka.dead_letter_topic))
    return _least(limits, kafka.dead_letter_topic)


def answer(admin: AdminClient, kafka: KafkaSettings, heard: Heard) -> ClusterMetadata:
    """The brokers and topics there are. Raises BrokerError."""
    seconds = kafka.connect_timeout_ms / 1000
    first = min(ATTEMPT_SECONDS, seconds)
    metadata = _metadata(admin, heard, first)
    if metadata is None and seconds > first:
        metadata = _metadata(admin, heard, seconds - first)
    if metadata is None:
        detail = f" ({heard.last})" if heard.last else ""
        raise BrokerError(
            f"No broker answered at {kafka.bootstrap_servers} within {seconds:g} s{detail}. "
            "Check kafka.bootstrap_servers, and security.protocol in kafka.properties."
        )
    return metadata


def _metadata(admin: AdminClient, heard: Heard, seconds: float) -> ClusterMetadata | None:
    """What the brokers say; None when they do not answer, in which time alone may be wrong."""
    try:
        found: ClusterMetadata = admin.list_topics(timeout=seconds)
        return found
    except KafkaException as error:
        admin.poll(0)
        fatal = heard.fatal or faults.fatal(error.args[0])
        if fatal is not None:
            raise fatal from None
        return None


def _named(kafka: KafkaSettings, results: Sequence[str]) -> list[str]:
    inputs = [topic for topic in kafka.input_topics if not topic.startswith("^")]
    return [*inputs, *results, kafka.dead_letter_topic]


def _create(admin: AdminClient, kafka: KafkaSettings, missing: Iterable[str]) -> None:
    topics = [NewTopic(name, kafka.create_partitions, kafka.create_replication) for name in missing]
    for name, future in admin.create_topics(topics).items():
        try:
            future.result()
            log.info("topic created", topic=name, partitions=kafka.create_partitions)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise TopicError(_why_not_created(name, error.args[0])) from None


def _why_not_created(name: str, error: KafkaError) -> str:
    if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return f"The topic {name!r} cannot be created: this user may not. Grant CREATE on it, or have it created."
    return f"The topic {name!r} cannot be created: {error.str()}."


def size_limits(admin: AdminClient, broker: int, names: Iterable[str]) -> dict[str, int]:
    """`max.message.bytes` of topics, without those of which this user may not know it."""
    asked = [ConfigResource(RESOURCE_TOPIC, name) for name in names]
    limits = {}
    # By default the client waits for a controller, which not every cluster shows; any broker can tell.
    for topic, future in admin.describe_configs(asked, request_timeout=CONFIG_SECONDS, broker=broker).items():
        try:
            limits[topic.name] = int(future.result()[SIZE_LIMIT].value)
        except KeyError:
            log.debug("size limit unknown", topic=topic.name)
        except KafkaException as error:
            log.debug("size limit unknown", topic=topic.name, error=error.args[0].name())
    return limits


def _least(limits: dict[str, int], letters: str) -> int | None:
    for name, limit in limits.items():
        if limit < LEAST_BYTES:
            raise TopicError(
                f"The topic {name!r} takes records of {limit:,} bytes at most. {why_too_small(name, letters)} "
                f"Raise its {SIZE_LIMIT}."
            )
    return min(limits.values(), default=None)


def why_too_small(topic: str, letters: str) -> str:
    """Why a written topic must take records of `LEAST_BYTES`; `letters` is the dead-letter topic."""
    if topic == letters:
        return f"A dead letter with its headers may need {LEAST_BYTES:,}."
    return (
        "The least limit of the topics that are written bounds dead letters, too, and one with its headers may need "
        f"{LEAST_BYTES:,}."
    )


def _how_to_create(kafka: KafkaSettings, missing: list[str]) -> str:
    verb, them = ("is no topic", "it") if len(missing) == 1 else ("are no topics", "them")
    commands = "; ".join(
        f"kafka-topics.sh --bootstrap-server {kafka.bootstrap_servers} --create --topic {name} "
        f"--partitions {kafka.create_partitions}"
        for name in missing
    )
    names = ", ".join(repr(name) for name in missing)
    return (
        f"There {verb} {names}, or this user may not describe {them}. "
        f"Create with: {commands} -- or set kafka.create_topics = true, or give `winnow broker` "
        f"{' '.join(of_own_broker(kafka, name) for name in missing)}."
    )


def of_own_broker(kafka: KafkaSettings, topic: str) -> str:
    """The option of `winnow broker` that makes a topic: whoever runs that has none of Kafka's scripts."""
    return f"--topic {topic}:{kafka.create_partitions}"


def _is_input(kafka: KafkaSettings, name: str) -> bool:
    return any(re.match(t, name) if t.startswith("^") else t == name for t in kafka.input_topics)


def _check_partitions(inputs: dict[str, int], output: str, written: int) -> None:
    for name, count in inputs.items():
        if count > written:
            raise TopicError(
                f"{name!r} has {count} partitions and {output!r} only {written}, but "
                "kafka.output_partition = 'source' keeps their numbers. Add partitions, or set it to 'key'."
            )
