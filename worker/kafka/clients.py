"""What the clients are told: our defaults, each with its reason, under the user's properties."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException

from worker.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.config import KafkaSettings

Properties = dict[str, Any]
log = logging.getLogger("librdkafka")

RECORD_OVERHEAD = 10_000
"""More than Kafka adds to a record's key, value and headers."""


def common(kafka: KafkaSettings, on_error: Callable[[Any], None]) -> Properties:
    """For every client."""
    return {
        "bootstrap.servers": kafka.bootstrap_servers,
        "client.id": kafka.client_id,
        "log.connection.close": False,
        "error_cb": on_error,
        **kafka.properties,
    }


def consumer(kafka: KafkaSettings, on_error: Callable[[Any], None], on_commit: Callable[..., None]) -> Properties:
    return {
        **common(kafka, on_error),
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
        **kafka.properties,
        **kafka.consumer_properties,
    }


def _group(kafka: KafkaSettings) -> Properties:
    group: Properties = {"group.protocol": kafka.group_protocol}
    if kafka.group_protocol == "classic":
        group["partition.assignment.strategy"] = "cooperative-sticky"
    if kafka.group_instance_id:
        group["group.instance.id"] = kafka.group_instance_id
    return group


def producer(kafka: KafkaSettings, max_bytes: int, on_error: Callable[[Any], None]) -> Properties:
    return {
        **common(kafka, on_error),
        "enable.idempotence": True,
        "acks": "all",
        # The partitioner of the Java clients, so equal keys meet whoever wrote them.
        "partitioner": "murmur2_random",
        # Results come in bunches, batch by batch: long enough for a bunch to travel as one request, no longer.
        "linger.ms": 0.5,
        # The encoder bounds what is written; the client's own bound must not come first.
        "message.max.bytes": max_bytes + RECORD_OVERHEAD,
        "compression.type": "lz4",
        **kafka.properties,
        **kafka.producer_properties,
    }


def refused(error: Exception) -> ConfigError:
    """The error for a client that could not be made: its properties are wrong."""
    detail = error.args[0].str() if isinstance(error, KafkaException) else str(error)
    return ConfigError(f"The Kafka client refuses its properties: {detail}. See the tables of properties in [kafka].")
