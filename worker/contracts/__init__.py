"""What goes in and what comes out, in every form: JSON Schema, Avro and Protobuf, of one definition each.

The contracts are named `request`, `result` and `dead-letter`. Documents are what `json.loads` gives. Avro's and
Protobuf's libraries are needed by nobody but who asks for what they make.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from worker.contracts import avro, definition, protobuf

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = [
    "avro_schema",
    "from_avro",
    "from_protobuf",
    "json_schema",
    "message_class",
    "parse_protobuf",
    "protobuf_schema",
    "to_avro",
    "to_protobuf",
]


def json_schema(name: str = "result") -> str:
    """JSON Schema 2020-12, as JSON."""
    return json.dumps(definition.published(definition.schema(name)), ensure_ascii=False, indent=2)


def avro_schema(name: str = "result") -> dict[str, Any]:
    """The Avro schema, a record."""
    return avro.schema(definition.message(name))


def protobuf_schema(name: str = "result") -> str:
    """The Protobuf file, in proto3."""
    return protobuf.text(definition.message(name))


def to_avro(document: dict[str, Any], name: str = "result") -> dict[str, Any]:
    """A document as what an Avro library writes with `avro_schema`."""
    return avro.to_avro(definition.message(name), document)


def from_avro(datum: dict[str, Any], name: str = "result") -> dict[str, Any]:
    """The document of what an Avro library has read with `avro_schema`."""
    return avro.from_avro(definition.message(name), datum)


def message_class(name: str = "result") -> type[Message]:
    """The class of Protobuf's messages, made without `protoc`. Needs `protobuf`."""
    return protobuf.message_class(name)


def to_protobuf(document: dict[str, Any], name: str = "result") -> Message:
    """A document as a message of `message_class`. Equal documents serialize to equal bytes."""
    return protobuf.to_protobuf(name, document)


def from_protobuf(message: Message, name: str = "result") -> dict[str, Any]:
    """The document of a message of `message_class`."""
    return protobuf.from_protobuf(name, message)


def parse_protobuf(payload: bytes, name: str = "result") -> dict[str, Any]:
    """The document of a serialized message of `message_class`.

    Raises:
        ValueError: it is none.
    """
    return protobuf.parse(name, payload)
