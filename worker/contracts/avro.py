"""The Avro twin of a contract: its schema, and documents as an Avro library takes and gives them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from worker.contracts.definition import VERSION, ListOf, MapOf, Message, Scalar, completed

if TYPE_CHECKING:
    from worker.contracts.definition import Field, Type

NAMESPACE = f"winnow.v{VERSION}"
_TYPES = {"int32": "int", "int64": "long"}
"""Avro's names, where they are others."""


def schema(of: Message) -> dict[str, Any]:
    """The record's schema. What may be null or absent is a union with null, null by default."""
    return {"namespace": NAMESPACE, **_record(of)}


def _record(of: Message) -> dict[str, Any]:
    about = {"doc": of.description} if of.description else {}
    return {"type": "record", "name": of.name, **about, "fields": [_field(field) for field in of.fields]}


def _field(field: Field) -> dict[str, Any]:
    made: dict[str, Any] = {"name": field.name, "type": _type(field.type), "doc": field.description}
    if field.optional:
        made["type"], made["default"] = ["null", made["type"]], None
    return made


def _type(of: Type) -> Any:
    if isinstance(of, Scalar):
        return _TYPES.get(of.kind, of.kind)
    if isinstance(of, ListOf):
        return {"type": "array", "items": _record(of.item)}
    if isinstance(of, MapOf):
        value = _type(of.value)
        return {"type": "map", "values": ["null", value] if of.nullable else value}
    return _record(of)


def to_avro(of: Message, document: dict[str, Any]) -> dict[str, Any]:
    """A document, as JSON has it, as what an Avro library writes with the schema; fields it does not know are left out.

    Where nothing has to be changed, values are shared with the document.
    """
    fields = {field.name: field.type for field in of.fields}
    return {
        name: value if value is None else _written(fields[name], value)
        for name, value in document.items()
        if name in fields
    }


def _written(of: Type, value: Any) -> Any:
    if isinstance(of, Scalar):
        if of.kind == "bytes":
            return base64.b64decode(value)
        return str(value) if of.kind == "string" else value
    return value


def from_avro(of: Message, datum: dict[str, Any]) -> dict[str, Any]:
    """The document, as JSON has it, of what an Avro library read with the schema."""
    found = {
        field.name: _read(field.type, datum[field.name]) for field in of.fields if datum.get(field.name) is not None
    }
    return completed(of, found)


def _read(of: Type, value: Any) -> Any:
    if isinstance(of, Scalar):
        return base64.b64encode(value).decode() if of.kind == "bytes" else value
    if isinstance(of, ListOf):
        return [from_avro(of.item, one) for one in value]
    return from_avro(of, value) if isinstance(of, Message) else value
