"""What the clients are told: our defaults, each with its reason, under the user's properties."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import KafkaException

from worker.errors import ConfigError
from worker.kafka.properties import resolved

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from worker.config import KafkaSettings

Properties = dict[str, Any]
log = logging.getLogger("librdkafka")

RECORD_OVERHEAD = 10_000
"""More than Kafka adds to a record's key, value and headers."""
MOST_BYTES = 1_000_000_000
"""The client's own limit for `message.max.bytes`."""
LINGER_MS = 0.5
"""Results come in bunches, batch by batch: long enough for a bunch to travel as one request, no longer. Those with
nothing behind them do not wait at all (`Writer.flush`)."""


class WriteBounds(NamedTuple):
    """How large what is written may be, in bytes."""

    record: int
    """For the encoder."""
    batch: int
    """For the client: it counts a little otherwise than the encoder, and many records make a batch."""


def write_bounds(max_bytes: int, topic_limit: int | None) -> WriteBounds:
    """The bounds that `output.max_bytes` gives, and the topics' `max.message.bytes` where it is known.

    The brokers hold a whole batch to the topic's limit, as large as it is without compression in the worst case.
    """
    limit = MOST_BYTES if topic_limit is None else topic_limit
    return WriteBounds(min(max_bytes, limit), min(max_bytes + RECORD_OVERHEAD, limit))


def common(kafka: KafkaSettings, on_error: Callable[[Any], None], own: Mapping[str, Any] | None = None) -> Properties:
    """For every client; `own` is the user's table for one kind of client."""
    return _ours(kafka, on_error) | resolved(kafka.properties | dict(own or {}))


def _ours(kafka: KafkaSettings, on_error: Callable[[Any], None]) -> Properties:
    return {
        "bootstrap.servers": kafka.bootstrap_servers,
        "client.id": kafka.client_id,
        "log.connection.close": False,
        # Where the client misses that a leader came back after a restart, and for topics that a pattern is to find: by
        # default it looks every five minutes.
        "topic.metadata.refresh.interval.ms": 10_000,
        "error_cb": on_error,
    }


def member_name(kafka: KafkaSettings) -> str:
    """What this worker is called among those of its group."""
    return kafka.instance_id or kafka.group_instance_id or socket.gethostname()


def consumer(kafka: KafkaSettings, on_error: Callable[[Any], None], on_commit: Callable[..., None]) -> Properties:
    return {
        **_ours(kafka, on_error),
        "group.id": kafka.group_id,
        **_group(kafka),
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # Bound what is prefetched: the defaults hold 64 MiB and 100,000 messages a partition.
        "queued.min.messages": 1000,
        "queued.max.messages.kbytes": 16 * 1024,
        "fetch.max.bytes": 16 * 1024 * 1024,
        # After a full queue the client looks again only after this long (default 1 s): a worker faster
        # than that would run dry.
        "fetch.queue.backoff.ms": 20,
        "allow.auto.create.topics": False,
        "on_commit": on_commit,
        **resolved(kafka.properties | kafka.consumer_properties),
    }


def _group(kafka: KafkaSettings) -> Properties:
    group: Properties = {"group.protocol": kafka.group_protocol}
    if kafka.group_protocol == "classic":
        group["partition.assignment.strategy"] = "cooperative-sticky"
    if kafka.group_instance_id:
        group["group.instance.id"] = kafka.group_instance_id
    return group


def lingers(kafka: KafkaSettings) -> bool:
    """Whether the user says how long records wait for company, so that they are not to be sent before."""
    return not {"linger.ms", "queue.buffering.max.ms"}.isdisjoint(kafka.properties | kafka.producer_properties)


def producer(kafka: KafkaSettings, max_bytes: int, on_error: Callable[[Any], None]) -> Properties:
    """For the producer; `max_bytes` is `WriteBounds.batch`."""
    return {
        **_ours(kafka, on_error),
        "enable.idempotence": True,
        "acks": "all",
        # The partitioner of the Java clients, so equal keys meet whoever wrote them.
        "partitioner": "murmur2_random",
        "linger.ms": LINGER_MS,
        # The encoder bounds records; this bounds the batches that they travel in.
        "message.max.bytes": max_bytes,
        "compression.type": "lz4",
        **resolved(kafka.properties | kafka.producer_properties),
    }


def refused(error: Exception) -> ConfigError:
    """The error for a client that could not be made: its properties are wrong."""
    detail = error.args[0].str() if isinstance(error, KafkaException) else str(error)
    if "SASL mechanism GSSAPI" in detail:  # its default, of which this build knows nothing
        return ConfigError(
            "GSSAPI (Kerberos) is not supported, and it is what sasl.mechanism is by default. Set sasl.mechanism in "
            "kafka.properties: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER."
        )
    end = "" if detail.endswith("?") else "."
    return ConfigError(
        f"The Kafka client refuses its properties: {detail.rstrip('.')}{end} See the tables of properties in [kafka]."
    )
