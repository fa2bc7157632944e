"""Protobuf messages as the documents that their JSON would be, of which only what is asked for is made.

To make all of it takes hundreds of times the memory of the value where a schema wants it to: each field that is not
there has a default. A message has the fields that a pointer names, and no more is looked at.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor

from worker.errors import InvalidMessage

if TYPE_CHECKING:
    from google.protobuf.descriptor_pool import DescriptorPool

_LARGE = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
_WITH_JSON_OF_THEIR_OWN = "google.protobuf."


if TYPE_CHECKING:
    _Object = dict[str, Any]
else:

    class _Object(Mapping, dict):
        """A dict by its type, which pointers go by, all of whose methods are a Mapping's."""


class Document(_Object):
    """A message by the names of its fields, each of which is made when it is got.

    Fields without presence that are not there have their defaults; those with presence are missing then. What has no
    JSON raises InvalidMessage.
    """

    def __init__(self, message: Any, pool: DescriptorPool) -> None:
        super().__init__()
        self._message = message
        self._pool = pool

    def __getitem__(self, name: str) -> Any:
        field = self._message.DESCRIPTOR.fields_by_name.get(name)
        if field is None or not self._has(field):
            raise KeyError(name)
        return _of_field(field, self._message, self._pool)

    def __iter__(self) -> Iterator[str]:
        return (field.name for field in self._message.DESCRIPTOR.fields if self._has(field))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _has(self, field: FieldDescriptor) -> bool:
        return not field.has_presence or self._message.HasField(field.name)


class Items(list[Any]):
    """A repeated field, whose items are made when they are got."""

    def __init__(self, field: FieldDescriptor, items: Any, pool: DescriptorPool) -> None:
        super().__init__()
        self._field = field
        self._items = items
        self._pool = pool

    def __getitem__(self, index: Any) -> Any:
        return _of_value(self._field, self._items[index], self._pool)

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, list) and list(iter(self)) == list(iter(other))

    __hash__ = None


def document(message: Any, pool: DescriptorPool) -> Any:
    """A message as its JSON would be; those of Protobuf's own types need not be objects.

    Raises:
        InvalidMessage: it has none, as a time in the year 10,000.
    """
    if not message.DESCRIPTOR.full_name.startswith(_WITH_JSON_OF_THEIR_OWN):
        return Document(message, pool)
    try:
        return json_format.MessageToDict(message, preserving_proto_field_name=True, descriptor_pool=pool)
    # The library raises what it meets, and may quote the value.
    except (ValueError, TypeError, KeyError, RecursionError, json_format.Error):
        raise InvalidMessage("invalid-payload", f"A {message.DESCRIPTOR.full_name} of the value has no JSON.") from None


def _of_field(field: FieldDescriptor, message: Any, pool: DescriptorPool) -> Any:
    value = getattr(message, field.name)
    if not field.is_repeated:
        return _of_value(field, value, pool)
    if not (field.message_type and field.message_type.GetOptions().map_entry):
        return Items(field, value, pool)
    of = field.message_type.fields_by_name["value"]
    return {_key(key): _of_value(of, value[key], pool) for key in value}


def _of_value(field: FieldDescriptor, value: Any, pool: DescriptorPool) -> Any:
    if field.message_type:
        return document(value, pool)
    if field.enum_type:
        known = field.enum_type.values_by_number.get(value)
        return value if known is None else known.name
    if field.cpp_type in _LARGE:
        return str(value)
    if isinstance(value, bytes):
        if field.type == FieldDescriptor.TYPE_STRING:
            # proto2 lets it be what it is not.
            raise InvalidMessage("invalid-payload", f"The field {field.full_name} is not UTF-8.")
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value).replace("inf", "Infinity").replace("nan", "NaN")
    return value


def _key(key: object) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)
