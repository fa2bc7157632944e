"""The section `kafka` of the settings: the clients, the topics, the delivery."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode

from worker.setting_types import OWNED_PROPERTIES, InputTopic, Properties, Section, Split, Topic

if TYPE_CHECKING:
    from collections.abc import Iterable

AT_LEAST_ONCE_INTERVAL_MS = 1_000
EXACTLY_ONCE_INTERVAL_MS = 100
EXACTLY_ONCE_BEHIND_MS = 500
"""Where messages wait in a backlog, the end of a transaction is not what a reader waits for, and each has its price."""
TRANSACTION_TIMEOUT_MS = 10_000
"""After which the coordinator aborts a transaction, so that a dead worker does not hold up its successor for long."""


class KafkaSettings(Section):
    bootstrap_servers: Annotated[str, Field(min_length=1)] = "localhost:9092"
    """Brokers to start from, `host:port`, separated by commas."""
    client_id: str = "winnow"
    """Name in the brokers' logs and quotas."""
    group_id: Annotated[str, Field(min_length=1)] = "winnow"
    """Consumer group. All workers that share the input must have the same."""
    group_protocol: Literal["classic", "consumer"] = "classic"
    """`consumer` is the protocol of KIP-848, for brokers from 4.0 on; `classic` works with all."""
    group_instance_id: str | None = None
    """Static membership: a name of this worker that outlives restarts. Each worker needs its own."""
    input_topics: Annotated[tuple[InputTopic, ...], Field(min_length=1), Split, NoDecode] = ("messages",)
    """Topics to read; an entry that starts with `^` is a regular expression over topic names."""
    output_topic: Topic = "messages.labelled"
    """Topic of the results."""
    dead_letter_topic: Topic = "messages.dead"
    """Topic of the messages that could not be classified."""
    create_topics: bool = False
    """Create topics that are missing at start, instead of refusing."""
    create_partitions: Annotated[int, Field(ge=1, le=10_000)] = 6
    """Partitions of topics that are created."""
    create_replication: Annotated[int, Field(ge=-1, le=100)] = -1
    """Replicas of topics that are created; -1 is the brokers' default."""
    output_partition: Literal["key", "source"] = "key"
    """Of results. `key`: by the key, as the Java clients do (murmur2). `source`: the source partition's number."""
    pass_headers: Annotated[tuple[str, ...], Split, NoDecode] = ("traceparent", "tracestate")
    """Headers that results take over; `*` for all but those that describe the value. Dead letters take over all."""
    delivery: Literal["at-least-once", "exactly-once"] = "at-least-once"
    """`exactly-once`: results, dead letters and offsets in one transaction; readers need `read_committed`."""
    transactional_id_prefix: Annotated[str, Field(min_length=1)] = "winnow"
    """Exactly once: what the `transactional.id` starts with; the instance's id follows."""
    instance_id: str | None = None
    """Exactly once: a name of this worker that no other one has; None takes `group_instance_id`, or the host's name."""
    commit_interval_ms: Annotated[int | None, Field(ge=1, le=600_000)] = None
    """Between commits: a crash repeats so much. None: 1,000; exactly once 100, and 500 while there is a backlog."""
    connect_timeout_ms: Annotated[int, Field(ge=100, le=600_000)] = 15_000
    """How long to wait for the brokers at start before giving up."""
    properties: Properties = {}  # noqa: RUF012 - pydantic copies it
    """Any property of librdkafka, for all clients; secrets as `${env:NAME}` or from files: see docs/security.md."""
    consumer_properties: Properties = {}  # noqa: RUF012 - pydantic copies it
    """Any property of librdkafka, for the consumer alone; `auto.offset.reset` is `earliest` by default."""
    producer_properties: Properties = {}  # noqa: RUF012 - pydantic copies it
    """Any property of librdkafka, for the producer alone. Results wait `linger.ms`, or 0.5 ms and less without it."""

    @property
    def exactly_once(self) -> bool:
        return self.delivery == "exactly-once"

    @property
    def commit_interval(self) -> float:
        """Seconds."""
        default = EXACTLY_ONCE_INTERVAL_MS if self.exactly_once else AT_LEAST_ONCE_INTERVAL_MS
        return (self.commit_interval_ms or default) / 1000

    @property
    def commit_interval_behind(self) -> float:
        """Seconds, while there is a backlog."""
        if self.exactly_once and self.commit_interval_ms is None:
            return EXACTLY_ONCE_BEHIND_MS / 1000
        return self.commit_interval

    @property
    def transaction_timeout(self) -> float:
        """Seconds."""
        value = (self.properties | self.producer_properties).get("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)
        return float(value) / 1000

    @model_validator(mode="after")
    def _can_be_exact(self) -> KafkaSettings:
        if not self.exactly_once:
            return self
        try:
            timeout = self.transaction_timeout
        except ValueError:
            raise ValueError("the property transaction.timeout.ms is no number") from None
        if 2 * self.commit_interval_behind > timeout:
            raise ValueError(
                f"kafka.commit_interval_ms may be half of transaction.timeout.ms at most, which is {1000 * timeout:.0f}"
            )
        if "isolation.level" in self.properties | self.consumer_properties:
            exactly = 'kafka.delivery = "exactly-once"'
            raise ValueError(f"'isolation.level' cannot be set with {exactly}: it is read_committed")
        return self

    @field_validator("properties", "consumer_properties", "producer_properties")
    @classmethod
    def _not_owned(cls, properties: Properties) -> Properties:
        for name in properties:
            if name.endswith("_cb"):
                raise ValueError(f"{name!r} cannot be set here: it is a function, not a property")
            if name in OWNED_PROPERTIES:
                raise ValueError(f"{name!r} cannot be set here: {OWNED_PROPERTIES[name]}")
        return properties

    @model_validator(mode="after")
    def _no_circle(self) -> KafkaSettings:
        for topic in self.input_topics:
            if topic.startswith("^"):
                _check_pattern(topic, (self.output_topic, self.dead_letter_topic))
        if self.output_topic == self.dead_letter_topic:
            both = f"kafka.output_topic and kafka.dead_letter_topic are both {self.output_topic!r}"
            raise ValueError(f"{both}; give them two names")
        for name in ("output_topic", "dead_letter_topic"):
            if getattr(self, name) in self.input_topics:
                topic = getattr(self, name)
                raise ValueError(f"kafka.{name} {topic!r} is also an input topic: results would be read again")
        return self


def _check_pattern(pattern: str, written: Iterable[str]) -> None:
    try:
        found = [topic for topic in written if re.match(pattern, topic)]
    except re.error as error:
        raise ValueError(f"the input topic pattern {pattern!r} is no regular expression: {error}") from None
    if found:
        raise ValueError(f"the input topic pattern {pattern!r} matches {found[0]!r}, which is written: a circle")
