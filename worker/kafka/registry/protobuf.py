"""Protobuf values to documents, by a schema of the registry.

Values say which message of the file they are. Schemas are text, which is compiled, or descriptors in Base64, as
Confluent's client for Python registers them. Registries can be asked for descriptors of text, too, but Apicurio's are
damaged on their way through JSON.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any

# Loads the files of google/ and confluent/ that schemas may import.
from confluent_kafka.schema_registry import protobuf as _known_files  # noqa: F401
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from worker.errors import InvalidMessage
from worker.kafka.registry import protobuf_bounds, protoc
from worker.kafka.registry.protobuf_documents import document

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka.schema_registry import Schema

    from worker.kafka.registry.client import Client

_IMPORT = re.compile(r"""\bimport\s+(?:public\s+|weak\s+)?["']([^"']+)["']""")
_MOST_LEVELS = 32
"""Of messages within messages of a file."""
_VARINT_BYTES = 5


def reader(client: Client, schema_id: int, schema: Schema) -> Callable[[bytes], Any]:
    """What reads values of a schema.

    Raises:
        InvalidMessage: the schema cannot be used.
        NotNow: it cannot be used now.
        ConfigError: only the compiler could read it, and it is not installed.
        SetupError: the compiler cannot do its work.
        BrokerError: the registry does not answer.
    """
    files = _files(client, schema_id, schema)
    pool = _pool(files)
    check = protobuf_bounds.checker(files, pool)
    messages: dict[tuple[int, ...], Any] = {}

    def read(payload: bytes) -> Any:
        place, begin = _place(payload)
        kind = messages.get(place)
        if kind is None:
            kind = messages[place] = GetMessageClass(pool.FindMessageTypeByName(_name(files[-1], place)))
        payload = payload[begin:]
        check(kind.DESCRIPTOR, payload)
        return document(kind.FromString(payload), pool)

    return read


def _files(client: Client, schema_id: int, schema: Schema) -> list[FileDescriptorProto]:
    """The files of a schema, each after those it imports."""
    root = f"schema-{schema_id}.proto"
    texts = client.referenced(schema) | {root: schema.schema_str or ""}
    protoc.check_names(texts)
    found = {name: _descriptor(name, text) for name, text in texts.items()}
    files = [file for file in found.values() if file]
    if len(files) == len(texts):
        return files
    texts = {name: text for name, text in texts.items() if not found[name]}
    imports = {name for text in texts.values() for name in _IMPORT.findall(text)} | _imports(files)
    known = _known(imports - found.keys())
    return protoc.compile_files(texts, known + files, root, f"{client.address} (schema {schema_id})")


def _imports(files: list[FileDescriptorProto]) -> set[str]:
    return {name for file in files for name in file.dependency}


def _known(names: set[str]) -> list[FileDescriptorProto]:
    """Those of the files that come with the libraries, and what they import."""
    known: list[FileDescriptorProto] = []
    for name in sorted(names):
        _add_known(name, known)
    return known


def _descriptor(name: str, text: str) -> FileDescriptorProto | None:
    """The descriptor that a text is in Base64, under the name that other files know it by; None for any other text."""
    try:
        file = FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error, DecodeError):
        return None
    file.name = name
    return file


def _add_known(name: str, files: list[FileDescriptorProto]) -> None:
    """Add a file, after those it imports; one that is not known is left for others to miss."""
    if any(file.name == name for file in files):
        return
    try:
        found = descriptor_pool.Default().FindFileByName(name)
    except KeyError:
        return
    for imported in found.dependencies:
        _add_known(imported.name, files)
    file = FileDescriptorProto()
    found.CopyToProto(file)
    files.append(file)


def _pool(files: list[FileDescriptorProto]) -> DescriptorPool:
    pool = DescriptorPool()
    for file in _known(_imports(files) - {file.name for file in files}) + files:
        pool.Add(file)
    return pool


def _name(file: FileDescriptorProto, place: tuple[int, ...]) -> str:
    """The full name of the message at a place."""
    names = [file.package] if file.package else []
    messages = file.message_type
    for index in place:
        if not 0 <= index < len(messages):
            raise InvalidMessage(
                "invalid-framing", "The value says that it is a message which its schema does not have."
            )
        names.append(messages[index].name)
        messages = messages[index].nested_type
    return ".".join(names)


def _place(payload: bytes) -> tuple[tuple[int, ...], int]:
    """Which message of the file a value is, and where it begins."""
    count, at = _varint(payload, 0)
    if count == 0:
        return (0,), at
    if not 0 < count <= _MOST_LEVELS:
        raise InvalidMessage("invalid-framing", "The value does not say which message of its schema it is.")
    place = []
    for _ in range(count):
        index, at = _varint(payload, at)
        place.append(index)
    return tuple(place), at


def _varint(payload: bytes, at: int) -> tuple[int, int]:
    """A number in Protobuf's zigzag form, and where the next thing begins."""
    found = 0
    for shift, byte in enumerate(payload[at : at + _VARINT_BYTES]):
        found |= (byte & 0x7F) << 7 * shift
        if not byte & 0x80:
            return (found >> 1) ^ -(found & 1), at + shift + 1
    raise InvalidMessage("invalid-framing", "The value does not say which message of its schema it is.")
