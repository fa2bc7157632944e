"""Results in the formats of a registry: the schema's text, and documents to bytes."""

from __future__ import annotations

import io
import json
import struct
from base64 import standard_b64encode
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from worker import contracts
from worker.kafka.registry.client import MAGIC_BYTE, SCHEMA_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable


class Form(NamedTuple):
    """How results are written in a format."""

    schema_type: str
    name: str
    """What the format calls the record, for subjects that are named by it."""
    texts: tuple[str, ...]
    """The schema; first as it is registered, then as others may have registered it."""
    encode: Callable[[dict[str, Any]], bytes]
    place: bytes = b""
    """Protobuf: which message of the file it is."""

    def head(self, schema_id: int) -> bytes:
        """What stands before every value."""
        return struct.pack(">bI", MAGIC_BYTE, schema_id) + self.place


def form(format: str) -> Form:
    """The form of a format of the settings."""
    schema_type = SCHEMA_TYPES[format]
    return {"avro": _avro, "json-schema": _json, "protobuf": _protobuf}[format](schema_type)


def _avro(schema_type: str) -> Form:
    from fastavro import parse_schema, schemaless_writer

    schema = contracts.avro_schema()
    parsed: Any = parse_schema(schema)

    def encode(document: dict[str, Any]) -> bytes:
        value = io.BytesIO()
        schemaless_writer(value, parsed, contracts.to_avro(document))
        return value.getvalue()

    return Form(schema_type, parsed["name"], (json.dumps(schema),), encode)


def _json(schema_type: str) -> Form:
    schema = contracts.json_schema()
    return Form(schema_type, json.loads(schema)["title"], (schema,), orjson.dumps)


def _protobuf(schema_type: str) -> Form:
    message = contracts.message_class().DESCRIPTOR
    # Confluent's client for Python registers descriptors, which registries other than Confluent's keep as they are.
    descriptor = standard_b64encode(message.file.serialized_pb).decode("ascii")
    texts = (contracts.protobuf_schema(), descriptor)

    def encode(document: dict[str, Any]) -> bytes:
        value: bytes = contracts.to_protobuf(document).SerializeToString()
        return value

    # One zero byte stands for the first message of the file.
    return Form(schema_type, message.full_name, texts, encode, b"\0")
