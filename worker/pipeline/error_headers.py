"""The headers that say of a dead letter where it came from and why it is one, as other tools name them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.pipeline.messages import Headers, Record, Rejection

ErrorHeaders: TypeAlias = "Callable[[Record, Rejection], Headers]"

MAX_MESSAGE_CHARACTERS = 512
"""Settings may make a message long (a JSON Pointer does), and the headers alone must fit a dead letter."""
MAX_GROUP_CHARACTERS = 128
"""Likewise the name of a consumer group."""
NO_TIMESTAMP = -1
"""Kafka's own, where a record has none."""
_CONNECT = "__connect.errors."
_SPRING = "kafka_dlt-"
_OWN = "winnow.errors."
# Kafka Connect's names for the stages at which a record can fail.
_CONNECT_STAGES = {
    "decode": "VALUE_CONVERTER",
    "tokenize": "TRANSFORMATION",
    "infer": "TRANSFORMATION",
    "encode": "TASK_PUT",
}


def connect_headers(record: Record, rejection: Rejection) -> Headers:
    """The headers that Kafka Connect writes: text, numbers too."""
    values = {
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "connector.name": "winnow",
        "task.id": "0",
        "stage": _CONNECT_STAGES[rejection.stage],
        "class.name": f"worker.pipeline.{rejection.stage}",
        "exception.class.name": rejection.error,
        "exception.message": rejection.message[:MAX_MESSAGE_CHARACTERS],
    }
    return [(_CONNECT + name, value.encode()) for name, value in values.items()]


def spring_headers(group: str) -> ErrorHeaders:
    """The headers of Spring Kafka's DeadLetterPublishingRecoverer: numbers are big-endian, and there is no stack trace.

    Args:
        group: the consumer group.
    """
    group_id = group[:MAX_GROUP_CHARACTERS].encode()

    def headers(record: Record, rejection: Rejection) -> Headers:
        timestamp = NO_TIMESTAMP if record.timestamp is None else record.timestamp
        values = {
            "original-topic": record.topic.encode(),
            "original-partition": struct.pack(">i", record.partition),
            "original-offset": struct.pack(">q", record.offset),
            "original-timestamp": struct.pack(">q", timestamp),
            "original-timestamp-type": _timestamp_type(record).encode(),
            "original-consumer-group": group_id,
            "exception-fqcn": rejection.error.encode(),
            "exception-message": rejection.message[:MAX_MESSAGE_CHARACTERS].encode(),
        }
        return [(_SPRING + name, value) for name, value in values.items()]

    return headers


def _timestamp_type(record: Record) -> str:
    """In Kafka's words."""
    if record.timestamp is None:
        return "NoTimestampType"
    return "LogAppendTime" if record.log_append_time else "CreateTime"


def own_headers(record: Record, rejection: Rejection) -> Headers:
    """What neither of them has a name for."""
    headers: Headers = [(f"{_OWN}reason", rejection.reason.encode())]
    if record.timestamp is not None:
        headers.append((f"{_OWN}timestamp", str(record.timestamp).encode()))
    return headers


def without_own(headers: Headers) -> Headers:
    """A message's headers but for those that a dead letter says of itself, which would be read as this one's."""
    return [header for header in headers if not header[0].startswith(_OWN)]
