"""The contracts' one definition: JSON Schemas whose annotations say what the other forms need to know.

`x-number` is a field's number in Protobuf, and is never changed nor given to another field; `x-type` is the type in
Avro and Protobuf where JSON's own does not say it; `x-open` says of an enumeration that words may be added to it.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NAMES = ("request", "result", "dead-letter")
VERSION = 1
_FOLDER = Path(__file__).parent
_ANNOTATION = "x-"
_SCALARS = {"string": "string", "integer": "int64", "number": "double", "boolean": "boolean"}
_KINDS = {
    "string": set(_SCALARS), "int32": {"integer"}, "int64": {"integer"}, "double": {"integer", "number"},
    "boolean": {"boolean"}, "bytes": {"string"},
}  # fmt: skip
"""Types of the twins, and those of JSON whose values they can have."""
_CONSTANTS = {str: "string", int: "integer", float: "number", bool: "boolean"}
_FIELD_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
"""What Avro and Protobuf both take."""
_NUMBERS = (range(1, 19_000), range(20_000, 2**29))
"""Protobuf keeps those between to itself."""


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
        ValueError: a field has no number, or two have the same; the twins could not have it as it is.
    """
    if "title" not in node or "properties" not in node:
        raise ValueError(f"An object without title or properties can be no message: {sorted(node)}.")
    required = set(node.get("required", ()))
    fields = tuple(_field(name, part, name in required) for name, part in node["properties"].items())
    named: dict[int, str] = {}
    for field in fields:
        if (other := named.setdefault(field.number, field.name)) != field.name:
            raise ValueError(f"{node['title']}: {other} and {field.name} have the same x-number {field.number}.")
    made = Message(_name(node["title"]), node.get("description", ""), fields, tuple(map(_kind, node.get("oneOf", ()))))
    if twice := repeated(part.name for part in _messages(made)):
        raise ValueError(f"{node['title']}: two objects in it have the title {twice}, which names a type in the twins.")
    return made


def repeated(names: Iterable[str]) -> str | None:
    """The first of names that has come before; None where each is another."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _messages(of: Message) -> Iterator[Message]:
    """A message and those in it."""
    yield of
    for field in of.fields:
        inner = field.type.item if isinstance(field.type, ListOf) else field.type
        if isinstance(inner, Message):
            yield from _messages(inner)


def _name(title: str) -> str:
    return "".join(word.capitalize() for word in title.removeprefix("Winnow ").split())


def _kind(node: dict[str, Any]) -> Kind:
    excluded = frozenset(name for name, part in node.get("properties", {}).items() if part is False)
    return Kind(frozenset(node["required"]), excluded)


def _field(name: str, node: dict[str, Any], required: bool) -> Field:
    number = node.get("x-number")
    if number is None:
        raise ValueError(f"The field {name} has no x-number.")
    if not any(number in some for some in _NUMBERS):
        raise ValueError(f"The field {name} has the x-number {number}, which Protobuf does not take.")
    if not _FIELD_NAME.fullmatch(name):
        raise ValueError(f"The field {name} has a name that Avro and Protobuf do not take.")
    least = node.get("minItems", 0) + node.get("minProperties", 0)
    title, description = node.get("title", name.capitalize()), node.get("description", "")
    try:
        of, nullable = _type(node), "null" in _types(node)
    except ValueError as error:
        raise ValueError(f"The field {name}: {error}") from None
    return Field(name, number, of, title, description, required, nullable, least == 0)


def _types(node: dict[str, Any]) -> set[str]:
    """JSON's types that a value may have."""
    if "const" in node:
        return {_constant(node["const"])}
    if "enum" in node:
        return set(map(_constant, node["enum"]))
    if "anyOf" in node and "type" not in node:
        return set().union(*map(_types, node["anyOf"]))
    found = node.get("type", [])
    return {found} if isinstance(found, str) else set(found)


def _constant(value: Any) -> str:
    if value is None:
        return "null"
    if type(value) not in _CONSTANTS:
        raise ValueError("a constant that is no single value has no twin.")
    return _CONSTANTS[type(value)]


def _type(node: dict[str, Any]) -> Type:
    types = _types(node) - {"null"}
    if types == {"array"}:
        return ListOf(as_message(node.get("items", {})))
    if types == {"object"}:
        free = node.get("additionalProperties")
        if isinstance(free, dict):
            return MapOf(_scalar(free, _types(free)), "null" in _types(free))
        return as_message(node)
    return _scalar(node, types)


def _scalar(node: dict[str, Any], types: set[str]) -> Scalar:
    types = types - {"null"}
    if unknown := types - _SCALARS.keys():
        raise ValueError(f"the type {', '.join(sorted(unknown))} has no twin here.")
    if "x-type" in node:
        return Scalar(_kind_of(node["x-type"], types))
    if node.get("contentEncoding") == "base64":
        return Scalar("bytes")
    if len(types) != 1:
        said = ", ".join(sorted(types)) or "none"
        raise ValueError(f"its types are {said}; the twins have one, which x-type names.")
    return Scalar(_SCALARS[types.pop()])


def _kind_of(name: Any, types: set[str]) -> str:
    if name not in _KINDS:
        raise ValueError(f"the x-type {name} is none of {', '.join(_KINDS)}.")
    if wrong := types - _KINDS[name]:
        raise ValueError(f"the x-type {name} cannot have what is of type {', '.join(sorted(wrong))}.")
    return str(name)


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
