"""Headers that say what a message's value is: a result is another value, and must not take them over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.pipeline.cloudevents import without_envelope

if TYPE_CHECKING:
    from worker.pipeline.messages import Headers

VALUE_SCHEMA_ID = "__value_schema_id"
"""Where Confluent's serializers may put the id of the value's schema, and their deserializers look before they look
into the value. `__key_schema_id` stays true: results have their messages' keys."""


def without_schema(headers: Headers) -> Headers:
    """Headers but for the id of the value's schema."""
    return [header for header in headers if header[0] != VALUE_SCHEMA_ID]


def without_description(headers: Headers) -> Headers:
    """Headers but for all that speak of the value: its schema, its type, the event that it was."""
    return without_envelope(without_schema(headers))
