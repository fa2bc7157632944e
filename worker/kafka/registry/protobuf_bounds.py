"""How much memory a Protobuf value takes once it is parsed, found before it is.

A submessage takes room for all fields of its type, and two bytes of a value may stand for one: of a type with thousands
of fields, a megabyte of such would take gigabytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker.errors import InvalidMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool

_MOST_BYTES = 128 * 1024 * 1024
_FIELD_BYTES = 16
_MESSAGE_BYTES = 32
_FEWEST_BYTES = 2
"""Of a value, for a submessage."""
_VARINT, _EIGHT, _LENGTH, _GROUP, _GROUP_END, _FOUR = range(6)


def checker(files: Iterable[FileDescriptorProto], pool: DescriptorPool) -> Callable[[Any, bytes], None]:
    """What refuses values that would take too much; given the descriptor of the message, and the value.

    It raises InvalidMessage. Only values that could be such are looked through.
    """
    most_fields = max((len(message.field) for message in _messages(files)), default=0)
    sure = _FEWEST_BYTES * _MOST_BYTES // (2 * _room(most_fields))

    def check(kind: Any, payload: bytes) -> None:
        if len(payload) > sure and _taken(kind, payload, pool) > _MOST_BYTES:
            raise InvalidMessage("invalid-payload", "The value has too many messages in it for the fields they have.")

    return check


def _messages(files: Iterable[FileDescriptorProto]) -> Iterable[Any]:
    waiting = [message for file in files for message in file.message_type]
    while waiting:
        message = waiting.pop()
        yield message
        waiting += message.nested_type


def _room(fields: int) -> int:
    return _MESSAGE_BYTES + _FIELD_BYTES * fields


def _room_of(kind: Any) -> int:
    if kind.has_options and kind.GetOptions().map_entry:
        # A value that is a message is made together with its entry.
        value = kind.fields_by_name["value"].message_type
        return _room(len(kind.fields)) + (_room(len(value.fields)) if value else 0)
    return _room(len(kind.fields))


def _taken(kind: Any, payload: bytes, pool: DescriptorPool) -> int:
    """At most; what does not parse counts as far as it does, and what is beyond `_MOST_BYTES` does not count."""
    taken, at = _room_of(kind), 0
    around = [(kind, len(payload))]
    while around and taken <= _MOST_BYTES:
        kind, end = around[-1]
        if at >= end:
            around.pop()
            continue
        tag, at = _varint(payload, at)
        wire_type = tag & 7
        if wire_type == _GROUP_END:
            around.pop()
        elif wire_type not in (_LENGTH, _GROUP):
            at = _after(payload, at, wire_type)
        else:
            part = _message_type(kind, tag >> 3, pool)
            length, at = _varint(payload, at) if wire_type == _LENGTH else (end - at, at)
            if part is None and wire_type == _LENGTH:
                at += length
                continue
            around.append((part, min(end, at + length)))
            taken += 0 if part is None else _room_of(part)
    return taken


def _message_type(kind: Any, number: int, pool: DescriptorPool) -> Any:
    """That of a field, or None."""
    if kind is None:
        return None
    field = kind.fields_by_number.get(number)
    if field is None and kind.is_extendable:
        try:
            field = pool.FindExtensionByNumber(kind, number)
        except KeyError:
            return None
    return None if field is None else field.message_type


def _after(payload: bytes, at: int, wire_type: int) -> int:
    """Where a number ends."""
    if wire_type == _VARINT:
        return _varint(payload, at)[1]
    return at + {_EIGHT: 8, _FOUR: 4}.get(wire_type, len(payload))


def _varint(payload: bytes, at: int) -> tuple[int, int]:
    found = shift = 0
    while at < len(payload) and shift < 70:
        byte = payload[at]
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found, at
        shift += 7
    return 0, len(payload)
