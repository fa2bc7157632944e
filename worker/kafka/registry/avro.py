"""Avro values to documents, by a schema of the registry.

fastavro's compiled reader recurses without a bound, so that a deeply nested value of a recursive schema ends the
process: those are read by its Python twin, which raises an error. Logical types are left out of the schemas: what is
read is what JSON would have, numbers and strings, and not datetimes and UUIDs.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from fastavro import schemaless_reader
from fastavro._read_py import schemaless_reader as bounded_reader
from fastavro.repository import AbstractSchemaRepository
from fastavro.schema import load_schema

from worker.errors import InvalidMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from confluent_kafka.schema_registry import Schema

    from worker.kafka.registry.client import Client

_ROOT = "$root"
_NAMED = ("record", "error", "enum", "fixed")


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
    names[_ROOT] = _plain(_loads(schema.schema_str or ""))
    parsed = load_schema(_ROOT, repo=_Names(names))
    if _is_unbounded(parsed):
        raise InvalidMessage("unknown-schema", "It has arrays of items that take no bytes, of any number.")
    if parsed == "bytes" or (isinstance(parsed, dict) and parsed.get("type") == "bytes"):
        return lambda payload: payload  # serializers write such values without their length
    read = bounded_reader if _is_recursive(parsed) else schemaless_reader
    return lambda payload: read(io.BytesIO(payload), parsed, None)


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


def _parts(schema: Any) -> list[Any]:
    """The schemas that a schema is made of."""
    if isinstance(schema, list):
        return schema
    if not isinstance(schema, dict):
        return []
    fields = [field["type"] for field in schema.get("fields", ())]
    inner = [schema[key] for key in ("items", "values") if key in schema]
    return fields + inner + ([schema["type"]] if isinstance(schema["type"], dict | list) else [])


def _within(schema: Any) -> Iterator[Any]:
    """A schema, and all that it is made of."""
    yield schema
    for part in _parts(schema):
        yield from _within(part)


def _is_unbounded(schema: Any) -> bool:
    """Whether a value of a few bytes can stand for any number of items: arrays of what takes no bytes."""
    defined = {one["name"]: one for one in _within(schema) if isinstance(one, dict) and one.get("type") in _NAMED}
    arrays = (one for one in _within(schema) if isinstance(one, dict) and one.get("type") == "array")
    return any(_takes_no_bytes(array["items"], defined, ()) for array in arrays)


def _takes_no_bytes(schema: Any, defined: Mapping[str, Any], begun: tuple[str, ...]) -> bool:
    if isinstance(schema, str):
        if schema not in defined or schema in begun:
            return schema == "null"
        schema, begun = defined[schema], (*begun, schema)
    if not isinstance(schema, dict) or schema["type"] in ("array", "map", "enum"):
        return False
    if schema["type"] == "fixed":
        return bool(schema["size"] == 0)
    if schema["type"] in ("record", "error"):
        return all(_takes_no_bytes(field["type"], defined, begun) for field in schema["fields"])
    return _takes_no_bytes(schema["type"], defined, begun)


def _is_recursive(schema: Any, around: tuple[str, ...] = ()) -> bool:
    """Whether a named type has itself as a part: parsed schemas define a type where it comes first, then name it."""
    if isinstance(schema, str):
        return schema in around
    if isinstance(schema, dict) and schema.get("type") in _NAMED:
        around = (*around, schema["name"])
    return any(_is_recursive(part, around) for part in _parts(schema))
