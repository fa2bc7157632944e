"""What a value of an Avro schema may come to: how deep it is read, and how much it holds that takes no bytes.

Schemas come from others. Named types let a short one stand for a tree that no memory holds, so each type is looked at
once, without recursion: the work grows with the schema's text.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_RECORDS = ("record", "error")
_NAMED = (*_RECORDS, "enum", "fixed")
_PRIMITIVE_BYTES = {"null": 0, "float": 4, "double": 8}
"""That a value takes at least; of the types that are not here one."""


class Bounds(NamedTuple):
    """Of the values of a schema."""

    depth: float
    """Types within types on the way to the innermost one; infinite where a type has itself as a part."""
    free: float
    """Values without bytes of their own that each byte of a message may bring; infinite where there is no bound."""


class _Size(NamedTuple):
    depth: float
    bytes: int
    """Taken at least."""
    free: int
    """Values that come with them and take none: nulls, records, and what is fixed at no bytes."""


_WITHIN_ITSELF = _Size(math.inf, 1, 0)
"""Only a union, an array or a map lets that end, and each of them takes a byte."""


def bounds(schema: Any) -> Bounds:
    """Of a schema that fastavro has parsed: types are defined where they come first, and named from there on."""
    defined = {one["name"]: one for one in _within(schema) if _is_named(one)}
    sizes: dict[object, _Size] = {}
    free = 0.0
    for one in _inside_out(schema, defined):
        parts = [sizes.get(_key(part), _WITHIN_ITSELF) for part in _parts(one, defined)]
        sizes[_key(one)] = size = _size(one, parts)
        endless = isinstance(one, dict) and one["type"] == "array" and parts[0].bytes == 0
        free = math.inf if endless else max(free, size.free // (1 + size.bytes))
    return Bounds(sizes[_key(schema)].depth, free)


def _within(schema: Any) -> Iterator[Any]:
    """A schema, and all that it is made of by its text."""
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        yield one
        waiting += _parts(one, {})


def _inside_out(schema: Any, defined: Mapping[str, Any]) -> Iterator[Any]:
    """All types, each once, after those it is made of, but for those that it is a part of."""
    waiting = [(schema, False)]
    begun: set[object] = set()
    while waiting:
        one, has_parts = waiting.pop()
        if has_parts:
            yield one
        elif _key(one) not in begun:
            begun.add(_key(one))
            waiting.append((one, True))
            waiting += [(part, False) for part in _parts(one, defined)]


def _size(schema: Any, parts: Sequence[_Size]) -> _Size:
    depth = 1 + max((part.depth for part in parts), default=0)
    if isinstance(schema, str):
        taken = _PRIMITIVE_BYTES.get(schema, 1)
        return _Size(depth, taken, int(not taken))
    if isinstance(schema, list) or schema["type"] in ("array", "map", "enum"):
        return _Size(depth, 1, 0)
    if schema["type"] == "fixed":
        return _Size(depth, max(0, schema["size"]), int(schema["size"] <= 0))
    free = sum(part.free for part in parts) + (schema["type"] in _RECORDS)
    return _Size(depth, sum(part.bytes for part in parts), free)


def _parts(schema: Any, defined: Mapping[str, Any]) -> list[Any]:
    """The types that a type is made of; those that are named, as they are defined."""
    if isinstance(schema, str):
        return []
    if isinstance(schema, list):
        parts = schema
    elif schema["type"] in _RECORDS:
        parts = [field["type"] for field in schema["fields"]]
    elif schema["type"] in ("array", "map"):
        parts = [schema["items" if schema["type"] == "array" else "values"]]
    else:
        parts = [] if schema["type"] in ("enum", "fixed") else [schema["type"]]
    return [defined.get(part, part) if isinstance(part, str) else part for part in parts]


def _is_named(schema: Any) -> bool:
    return isinstance(schema, dict) and schema["type"] in _NAMED


def _key(schema: Any) -> object:
    """Types by their names, others by their places in the schema."""
    if isinstance(schema, str):
        return schema
    return schema["name"] if _is_named(schema) else id(schema)
