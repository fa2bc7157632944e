"""Avro values to documents, by a schema of the registry.

fastavro's compiled reader recurses without a bound, so that a deeply nested value ends the process: where a schema lets
values be deep, they are read by its Python twin, which raises an error. Logical types are left out of the schemas: what
is read is what JSON would have, numbers and strings, and not datetimes and UUIDs.
"""

from __future__ import annotations

import io
import json
import math
from typing import TYPE_CHECKING, Any

from fastavro import schemaless_reader
from fastavro._read_py import schemaless_reader as bounded_reader
from fastavro.repository import AbstractSchemaRepository
from fastavro.schema import load_schema

from worker.errors import InvalidMessage
from worker.kafka.registry.avro_bounds import bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from confluent_kafka.schema_registry import Schema

    from worker.kafka.registry.client import Client

_ROOT = "$root"
_FIELD = "value"
_COMPILED_DEPTH = 200
"""Types within types that the compiled reader is trusted with; it takes some hundred bytes of the stack for each."""
_MOST_FREE = 10_000
"""Values without bytes that one byte may bring: schemas that people write have one or two."""
_MOST_FREE_IN_ALL = 4_000_000
"""The same of a whole message; each takes 8 bytes to 200."""


class _Names(AbstractSchemaRepository):
    """Schemas by the names they are referred to with."""

    def __init__(self, schemas: Mapping[str, Any]) -> None:
        self._schemas = schemas

    def load(self, name: str) -> Any:
        return self._schemas.get(name)


def reader(client: Client, _: int, schema: Schema) -> Callable[[bytes], Any]:
    """What reads values of a schema.

    Raises:
        InvalidMessage: the schema cannot be used.
        Exception: whatever fastavro makes of a broken one.
    """
    names = {name: _plain(_loads(text)) for name, text in client.referenced(schema).items()}
    names |= {_full_name(named): named for named in names.values() if isinstance(named, dict) and "name" in named}
    root = _plain(_loads(schema.schema_str or ""))
    # fastavro parses unions anew for each value; fields take no bytes of their own.
    names[_ROOT] = _in_a_field(root) if isinstance(root, list) else root
    parsed = load_schema(_ROOT, repo=_Names(names))
    depth, free = bounds(parsed)
    if free > _MOST_FREE:
        raise InvalidMessage("unknown-schema", f"It has more than {_MOST_FREE:,} values that take no bytes.")
    if parsed == "bytes" or (isinstance(parsed, dict) and parsed.get("type") == "bytes"):
        return lambda payload: payload  # serializers write such values without their length
    read = _reading(parsed, schemaless_reader if depth <= _COMPILED_DEPTH else bounded_reader, free)
    return (lambda payload: read(payload)[_FIELD]) if isinstance(root, list) else read


def _in_a_field(schema: Any) -> dict[str, Any]:
    return {"type": "record", "name": "WinnowRoot", "fields": [{"name": _FIELD, "type": schema}]}


def _reading(parsed: Any, read: Callable[..., Any], free: float) -> Callable[[bytes], Any]:
    # One value to a byte is as many as there can be in any case.
    most_bytes = _MOST_FREE_IN_ALL // (free - 1) if free > 1 else math.inf

    def bounded(payload: bytes) -> Any:
        if len(payload) > most_bytes:
            raise InvalidMessage("invalid-payload", "The value may stand for too many that take no bytes.")
        return read(io.BytesIO(payload), parsed, None)

    return bounded


def _loads(text: str) -> Any:
    """A schema; a primitive type may stand there without its quotes."""
    return json.loads(text) if text.lstrip()[:1] in ("{", "[", '"') else text.strip()


def _plain(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _plain(value) for key, value in schema.items() if key != "logicalType"}
    return [_plain(one) for one in schema] if isinstance(schema, list) else schema


def _full_name(schema: Mapping[str, Any]) -> str:
    name, space = schema["name"], schema.get("namespace")
    return f"{space}.{name}" if space and "." not in name else str(name)
