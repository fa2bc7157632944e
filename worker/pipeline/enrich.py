"""The message's own JSON object with the result as its last member; every other byte stays as it came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from worker.errors import InvalidMessage
from worker.pipeline.json_text import kind, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.pipeline.decode import Read
    from worker.pipeline.encode import Write
    from worker.pipeline.messages import Headers, Record

_WHITESPACE = b" \t\n\r"
"""JSON's own (RFC 8259)."""


def with_member(value: bytes, name: str, member: bytes) -> bytes:
    """A JSON object with one more member.

    Args:
        value: the object; anything else gives no JSON.
        name: of the new member, which the object must not have.
        member: its value, as JSON.
    """
    end = len(value.rstrip(_WHITESPACE)) - 1
    comma = b"" if value[:end].rstrip(_WHITESPACE).endswith(b"{") else b","
    return b"".join((value[:end], comma, orjson.dumps(name), b":", member, value[end:]))


def enriching(field: str) -> Write:
    """What writes results into their messages, which `enrichable` must have read."""

    def write(result: Mapping[str, object], record: Record, topic: str) -> tuple[bytes, Headers]:  # noqa: ARG001
        return with_member(record.value or b"", field, orjson.dumps(result)), []

    return write


def enrichable(field: str) -> Read:
    """What reads messages that can take a result as `field`: objects without such a member, however it is written."""

    def read(value: bytes) -> Any:
        document = parse(value)
        if not isinstance(document, dict):
            raise InvalidMessage("not-an-object", f"The value is {kind(document)}, and only an object can be enriched.")
        if field in document:
            raise InvalidMessage("field-exists", f"The message has a field {field} already, where the result would be.")
        return document

    return read
