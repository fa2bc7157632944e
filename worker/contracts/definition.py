"""The contracts' one definition: JSON Schemas whose annotations say what the other forms need to know.

`x-number` is a field's number in Protobuf, and is never changed nor given to another field; `x-type` is the type in
Avro and Protobuf where JSON's own does not say it; `x-open` says of an enumeration that words may be added to it.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

NAMES = ("request", "result", "dead-letter")
VERSION = 1
_FOLDER = Path(__file__).parent
_ANNOTATION = "x-"
_SCALARS = {"string": "string", "integer": "int64", "number": "double", "boolean": "boolean"}


class Scalar(NamedTuple):
    """A single value."""

    kind: str
    """`string`, `int32`, `int64`, `double`, `boolean`, or `bytes`, which JSON has in base64."""


class ListOf(NamedTuple):
    """A list whose items are of one type."""

    item: Message


class MapOf(NamedTuple):
    """Values by names that the definition does not fix."""

    value: Scalar
    nullable: bool
    """Whether a value may be null."""


class Kind(NamedTuple):
    """One of several kinds of a document, told by the fields that it has."""

    required: frozenset[str]
    excluded: frozenset[str]


class Field(NamedTuple):
    """A field of a message."""

    name: str
    number: int
    type: Type
    title: str
    description: str
    required: bool
    nullable: bool
    may_be_empty: bool
    """Of lists and maps: whether empty and absent are two things."""

    @property
    def optional(self) -> bool:
        """Whether Avro and Protobuf need to have it without a value."""
        return self.nullable or not self.required


class Message(NamedTuple):
    """An object with fixed fields."""

    name: str
    description: str
    fields: tuple[Field, ...]
    kinds: tuple[Kind, ...] = ()


Type: TypeAlias = Scalar | ListOf | MapOf | Message


@cache
def schema(name: str) -> dict[str, Any]:
    """The definition as it is written down, annotations included; one of `NAMES`."""
    found: dict[str, Any] = json.loads((_FOLDER / f"{name}.json").read_text("utf-8"))
    return found


@cache
def message(name: str) -> Message:
    """The definition as a message with fields; one of `NAMES`."""
    return as_message(schema(name))


def published(node: Any) -> Any:
    """A JSON Schema without annotations: validators that are strict refuse keywords that they do not know."""
    if isinstance(node, dict):
        return {key: published(value) for key, value in node.items() if not key.startswith(_ANNOTATION)}
    return [published(value) for value in node] if isinstance(node, list) else node


def as_message(node: dict[str, Any]) -> Message:
    """The message that an annotated JSON Schema of an object defines.

    Raises:
        ValueError: a field has no number, or two have the same.
    """
    required = set(node.get("required", ()))
    fields = tuple(_field(name, part, name in required) for name, part in node["properties"].items())
    named: dict[int, str] = {}
    for field in fields:
        if (other := named.setdefault(field.number, field.name)) != field.name:
            raise ValueError(f"{node['title']}: {other} and {field.name} have the same x-number {field.number}.")
    return Message(_name(node["title"]), node.get("description", ""), fields, tuple(map(_kind, node.get("oneOf", ()))))


def _name(title: str) -> str:
    return "".join(word.capitalize() for word in title.removeprefix("Winnow ").split())


def _kind(node: dict[str, Any]) -> Kind:
    excluded = frozenset(name for name, part in node.get("properties", {}).items() if part is False)
    return Kind(frozenset(node["required"]), excluded)


def _field(name: str, node: dict[str, Any], required: bool) -> Field:
    if "x-number" not in node:
        raise ValueError(f"The field {name} has no x-number.")
    least = node.get("minItems", 0) + node.get("minProperties", 0)
    title, description = node.get("title", name.capitalize()), node.get("description", "")
    return Field(name, node["x-number"], _type(node), title, description, required, "null" in _types(node), least == 0)


def _types(node: dict[str, Any]) -> set[str]:
    """JSON's types that a value may have."""
    if "const" in node:
        return _types({"type": {int: "integer", str: "string"}[type(node["const"])]})
    if "enum" in node:
        return {"string"}
    if "anyOf" in node and "type" not in node:
        return set().union(*map(_types, node["anyOf"]))
    found = node["type"]
    return {found} if isinstance(found, str) else set(found)


def _type(node: dict[str, Any]) -> Type:
    types = _types(node) - {"null"}
    if "array" in types:
        return ListOf(as_message(node["items"]))
    if "object" in types:
        free = node.get("additionalProperties")
        if isinstance(free, dict):
            return MapOf(_scalar(free, _types(free)), "null" in _types(free))
        return as_message(node)
    return _scalar(node, types)


def _scalar(node: dict[str, Any], types: set[str]) -> Scalar:
    if "x-type" in node:
        return Scalar(node["x-type"])
    if node.get("contentEncoding") == "base64":
        return Scalar("bytes")
    (one,) = types - {"null"}
    return Scalar(_SCALARS[one])


def completed(of: Message, document: dict[str, Any]) -> dict[str, Any]:
    """A document read from a form that cannot tell null from absent: with the nulls that the definition asks for."""
    wanted = {field.name for field in of.fields if field.required and field.nullable}
    nullable = {field.name for field in of.fields if field.nullable}
    for kind in of.kinds:
        if not kind.excluded & document.keys() and kind.required - nullable <= document.keys():
            wanted |= kind.required & nullable
    for name in wanted - document.keys():
        document[name] = None
    return document
