"""What sections of settings are, and types of settings that have rules of their own."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, StringConstraints

from worker.pipeline.cloudevents_attributes import is_uri_reference
from worker.pipeline.decode import pointer

Topic = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
Split = BeforeValidator(lambda value: [v.strip() for v in value.split(",")] if isinstance(value, str) else value)
InputTopic = Annotated[str, StringConstraints(pattern=r"^(\^.+|[A-Za-z0-9._-]{1,249})$")]
Pointer = Annotated[str, AfterValidator(lambda value: _checked_pointer(value))]
UriReference = Annotated[str, AfterValidator(lambda value: _checked_reference(value))]
Property = Annotated[str | int | float | bool, BeforeValidator(lambda value: _checked_property(value))]
Properties = dict[str, Property]
OWNED_PROPERTIES = {
    "enable.auto.commit": "kafka.commit_interval_ms says when offsets are committed",
    "enable.auto.offset.store": "offsets are stored once results are acknowledged",
    "enable.idempotence": "it keeps results free of doubles and in order",
    "acks": "an offset may only pass when all replicas have the result",
    "request.required.acks": "an offset may only pass when all replicas have the result",
    "delivery.report.only.error": "an offset passes with the acknowledgement",
    "bootstrap.servers": "set kafka.bootstrap_servers",
    "metadata.broker.list": "set kafka.bootstrap_servers",
    "group.id": "set kafka.group_id",
    "group.protocol": "set kafka.group_protocol",
    "group.instance.id": "set kafka.group_instance_id",
    "transactional.id": "set kafka.delivery, kafka.transactional_id_prefix and kafka.instance_id",
    "message.max.bytes": "output.max_bytes bounds what is written",
    "message.copy.max.bytes": "output.max_bytes bounds what is written",
    "statistics.interval.ms": "readiness follows the client's statistics",
    "on_commit": "it is a function, not a property",
}
"""Properties of librdkafka that the worker sets itself, and what to set instead."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _checked_pointer(path: str) -> str:
    pointer(path)
    return path


def _checked_reference(text: str) -> str:
    if not is_uri_reference(text):
        raise ValueError(f"{text!r} is no URI reference (RFC 3986); spaces and the like are written as %20")
    return text


def _checked_property(value: object) -> object:
    if not isinstance(value, str | int | float | bool):
        raise ValueError("a property is a text, a number, true or false")
    return value
