"""The Protobuf twin of a contract: its file, its message class, and documents as messages.

An optional list is a message with `items`, because Protobuf cannot tell an empty list from none. A map is a list of
entries with `key` and `value`: on the wire the same as Protobuf's own `map`, so that readers may declare one, but
written in the document's order, so that equal documents give equal bytes.
"""

from __future__ import annotations

import base64
import textwrap
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from worker.contracts.definition import VERSION, ListOf, MapOf, Message, Scalar, completed, repeated
from worker.contracts.definition import message as definition_of

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
    from google.protobuf.message import Message as Made

    from worker.contracts.definition import Field

PACKAGE = f"winnow.v{VERSION}"
_TYPES = {"boolean": "bool"}
"""Protobuf's names, where they are others."""
_WIDTH = 100


class Line(NamedTuple):
    """A field as Protobuf declares it."""

    name: str
    number: int
    type: str
    """A scalar's name, or that of a message nested in the same one."""
    scalar: bool
    label: str = ""
    """`optional`, `repeated` or nothing."""
    description: str = ""


class Block(NamedTuple):
    """A message as Protobuf declares it."""

    name: str
    description: str
    lines: list[Line]
    nested: list[Block]


def file_name(name: str) -> str:
    """Where the file is imported from: Protobuf wants files to be named after their package."""
    return f"{PACKAGE.replace('.', '/')}/{name.replace('-', '_')}.proto"


def block(of: Message) -> Block:
    """The message as Protobuf declares it.

    Raises:
        ValueError: two messages that it has would have the same name.
    """
    made = Block(of.name, of.description, [], [])
    for field in of.fields:
        made.lines.append(_line(field, made.nested))
    if twice := repeated(nested.name for nested in made.nested):
        raise ValueError(f"{of.name}: two messages of its Protobuf twin would have the name {twice}.")
    return made


def _line(field: Field, nested: list[Block]) -> Line:
    of, name, number = field.type, field.name, field.number
    if isinstance(of, Scalar):
        return Line(name, number, _scalar(of), True, "optional" if field.optional else "", field.description)
    inner = _inner(field.title, of)
    nested.append(inner)
    if isinstance(of, Message):
        return Line(name, number, inner.name, False, "optional" if field.optional else "", field.description)
    if not _wrapped(field):
        return Line(name, number, inner.name, False, "repeated", field.description)
    wrapper = Block(field.title.replace(" ", ""), "", [Line("items", 1, inner.name, False, "repeated")], [])
    nested.append(wrapper)
    return Line(name, number, wrapper.name, False, "optional", field.description)


def _inner(title: str, of: ListOf | MapOf | Message) -> Block:
    if isinstance(of, MapOf):
        value = Line("value", 2, _scalar(of.value), True, "optional" if of.nullable else "")
        return Block(f"{title.replace(' ', '')}Entry", "", [Line("key", 1, "string", True), value], [])
    return block(of.item if isinstance(of, ListOf) else of)


def _wrapped(field: Field) -> bool:
    return isinstance(field.type, ListOf | MapOf) and field.optional and field.may_be_empty


def _scalar(of: Scalar) -> str:
    return _TYPES.get(of.kind, of.kind)


def text(of: Message) -> str:
    """The file, in proto3."""
    return f'syntax = "proto3";\n\npackage {PACKAGE};\n\n{_declared(block(of), "")}'


def _declared(of: Block, indent: str) -> str:
    inside = indent + "  "
    parts = [_declared(nested, inside) + "\n" for nested in of.nested]
    for line in of.lines:
        label = f"{line.label} " if line.label else ""
        parts.append(f"{_comment(line.description, inside)}{inside}{label}{line.type} {line.name} = {line.number};\n")
    return f"{_comment(of.description, indent)}{indent}message {of.name} {{\n{''.join(parts)}{indent}}}\n"


def _comment(said: str, indent: str) -> str:
    return "".join(f"{indent}// {line}\n" for line in textwrap.wrap(said, _WIDTH, break_on_hyphens=False))


def descriptor(name: str) -> FileDescriptorProto:
    """The file of a contract, as Protobuf libraries describe one; one of the definition's `NAMES`."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    made = block(definition_of(name))
    file = FileDescriptorProto(name=file_name(name), package=PACKAGE, syntax="proto3")
    _describe(file.message_type.add(), made, f".{PACKAGE}.{made.name}")
    return file


def _describe(into: DescriptorProto, of: Block, path: str) -> None:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Described

    into.name = of.name
    for nested in of.nested:
        _describe(into.nested_type.add(), nested, f"{path}.{nested.name}")
    for line in of.lines:
        field = into.field.add(name=line.name, number=line.number)
        field.label = Described.LABEL_REPEATED if line.label == "repeated" else Described.LABEL_OPTIONAL
        if line.scalar:
            field.type = Described.Type.Value(f"TYPE_{line.type.upper()}")
        else:
            # A list's wrapper stands beside the message of its items, not around it.
            scope = path if any(nested.name == line.type for nested in of.nested) else path.rpartition(".")[0]
            field.type, field.type_name = Described.TYPE_MESSAGE, f"{scope}.{line.type}"
        if line.label == "optional":
            field.proto3_optional, field.oneof_index = True, len(into.oneof_decl)
            into.oneof_decl.add(name=f"_{line.name}")


@cache
def message_class(name: str) -> type[Made]:
    """The class of a contract's messages, made without `protoc`; one of the definition's `NAMES`."""
    from google.protobuf import descriptor_pool, message_factory

    pool = descriptor_pool.DescriptorPool()
    file = descriptor(name)
    pool.AddSerializedFile(file.SerializeToString())
    found = pool.FindMessageTypeByName(f"{PACKAGE}.{file.message_type[0].name}")
    made: type[Made] = message_factory.GetMessageClass(found)
    return made


def to_protobuf(name: str, document: dict[str, Any]) -> Made:
    """A document, as JSON has it, as a message of a contract; fields it does not know are left out."""
    return message_class(name)(**_arguments(definition_of(name), document))


def _arguments(of: Message, document: dict[str, Any]) -> dict[str, Any]:
    given = ((field, document.get(field.name)) for field in of.fields)
    return {field.name: _written(field, value) for field, value in given if value is not None}


def _written(field: Field, value: Any) -> Any:
    of = field.type
    if isinstance(of, Scalar):
        if of.kind == "bytes":
            return base64.b64decode(value)
        return str(value) if of.kind == "string" else value
    if isinstance(of, Message):
        return _arguments(of, value)
    if isinstance(of, ListOf):
        items = [_arguments(of.item, one) for one in value]
    else:
        items = [{"key": key} if one is None else {"key": key, "value": one} for key, one in value.items()]
    return {"items": items} if _wrapped(field) else items


def from_protobuf(name: str, made: Made) -> dict[str, Any]:
    """The document, as JSON has it, of a message of a contract."""
    return _document(definition_of(name), made)


def _document(of: Message, made: Made) -> dict[str, Any]:
    return completed(of, {field.name: _read(field, made) for field in of.fields if _is_there(field, made)})


def _is_there(field: Field, made: Made) -> bool:
    if isinstance(field.type, ListOf | MapOf) and not _wrapped(field):
        return field.required or bool(getattr(made, field.name))
    return not field.optional or made.HasField(field.name)


def _read(field: Field, made: Made) -> Any:
    of, value = field.type, getattr(made, field.name)
    if isinstance(of, Scalar):
        return base64.b64encode(value).decode() if of.kind == "bytes" else value
    if isinstance(of, Message):
        return _document(of, value)
    items = value.items if _wrapped(field) else value
    if isinstance(of, ListOf):
        return [_document(of.item, one) for one in items]
    return {one.key: None if of.nullable and not one.HasField("value") else one.value for one in items}


def parse(name: str, payload: bytes) -> dict[str, Any]:
    """The document, as JSON has it, of a serialized message of a contract. Raises ValueError where it is none."""
    from google.protobuf.message import DecodeError

    try:
        return from_protobuf(name, message_class(name).FromString(payload))
    except DecodeError:
        raise ValueError(f"It is no message of the contract {name}.") from None
