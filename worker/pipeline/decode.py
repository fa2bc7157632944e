"""Messages to `Request`: documents with the text found by a JSON Pointer (RFC 6901), or the plain payload.

Whatever a message holds, it becomes a request or an `InvalidMessage`; nothing else is ever raised.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias

from worker.errors import InvalidMessage
from worker.pipeline.cloudevents import unwrap
from worker.pipeline.json_text import MISSING, kind, parse
from worker.pipeline.messages import Rejection, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.pipeline.messages import Forward, Record, Skip

Decoder: TypeAlias = "Callable[[Record], Request]"
Read: TypeAlias = "Callable[[bytes], Any]"
"""A value to the document that it holds; raises InvalidMessage where it holds none."""

MAX_ID_CHARACTERS = 512
_HEADERS_UNREADABLE = Rejection("decode", "invalid-headers", "A header's name is not UTF-8.", "InvalidMessage")


def json_decoder(text_pointer: str, id_pointer: str | None, max_bytes: int, max_characters: int) -> Decoder:
    """A decoder of JSON messages: see `document_decoder`."""
    return document_decoder(text_pointer, id_pointer, max_bytes, max_characters, parse)


def document_decoder(
    text_pointer: str, id_pointer: str | None, max_bytes: int, max_characters: int, read: Read
) -> Decoder:
    """A decoder of messages that are documents.

    Args:
        text_pointer: where the text is, e.g. `/text` or `/event/0/body`.
        id_pointer: where the id is; None, or a message without it, gives `topic-partition-offset`.
        max_bytes: larger values are invalid; checked before parsing.
        max_characters: longer texts are cut and marked as truncated.
        read: a value to its document.
    """
    text_of = pointer(text_pointer)
    id_of = pointer(id_pointer) if id_pointer else None

    def decode(record: Record) -> Request:
        document = read(_bounded(record, max_bytes))
        text = text_of(document)
        if not isinstance(text, str):
            raise _no_text(text, text_pointer)
        found = id_of(document) if id_of else MISSING
        return _request(_id(found, record), text, max_characters)

    return decode


def text_decoder(max_bytes: int, max_characters: int) -> Decoder:
    """A decoder of messages whose whole value is the text, in UTF-8."""

    def decode(record: Record) -> Request:
        return _request(_id(MISSING, record), plain_text(_bounded(record, max_bytes)), max_characters)

    return decode


def event_decoder(text_pointer: str, max_bytes: int, max_characters: int, read: Read, *, named: bool = True) -> Decoder:
    """A decoder of CloudEvents.

    Args:
        text_pointer: where the text is in an event's data; empty where the data is the text.
        max_bytes: larger values are invalid; checked before parsing.
        max_characters: longer texts are cut and marked as truncated.
        read: data that are bytes to their document.
        named: whether the id is the event's, or `topic-partition-offset`.
    """
    text_of = pointer(text_pointer)

    def decode(record: Record) -> Request:
        _bounded(record, max_bytes)
        event = unwrap(record)
        document = event.document if event.data is None else read(event.data)
        if document is MISSING:
            raise InvalidMessage("empty", "The event has no data.")
        text = text_of(document)
        if not isinstance(text, str):
            raise _no_text(text, text_pointer)
        return _request(_id(event.id if named else MISSING, record), text, max_characters)

    return decode


def header_decoder(
    decode: Decoder, without_id: Decoder, id_header: str | None, metadata_headers: Sequence[str]
) -> Decoder:
    """A decoder that takes the id, and what the result repeats, from headers; of equal names the last one counts.

    Without an id are messages whose header has no value, or an empty one.

    Args:
        decode: the rest of messages that have no such id.
        without_id: the same of those that have one, which need no other.
        id_header: the header with the id; it goes before any other.
        metadata_headers: names of those that results repeat.
    """
    names = frozenset(metadata_headers)

    def by_headers(record: Record) -> Request:
        ids = [(name, value) for name, value in record.headers if name == id_header and value]
        said = {name: value for name, value in record.headers if name in names and value is not None}
        named = _header_text(*ids[-1]) if ids else None
        texts = {name: _header_text(name, value) for name, value in said.items()}
        request = (decode if named is None else without_id)(record)
        metadata = {name: texts[name] for name in metadata_headers if name in texts}
        identity = request.id if named is None else _id(named, record)
        return request._replace(id=identity, metadata=metadata or None)

    return by_headers


def plain_text(value: bytes) -> str:
    """Raises InvalidMessage where the value is not UTF-8."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidMessage("invalid-utf8", f"The value is not UTF-8 at byte {error.start}.") from None


def pointer(path: str) -> Callable[[Any], Any]:
    """A function that finds what a JSON Pointer names, or a marker that no JSON value equals.

    Raises:
        ValueError: the path is no JSON Pointer.
    """
    if path == "":
        return lambda document: document
    if not path.startswith("/") or re.search("~(?![01])", path):
        raise ValueError(f"a JSON Pointer starts with '/' and has '~' only in '~0' and '~1', {path!r} does not")
    keys = [part.replace("~1", "/").replace("~0", "~") for part in path[1:].split("/")]
    if len(keys) == 1:
        only = keys[0]
        return lambda document: _step(document, only)
    return lambda document: _walk(document, keys)


def decoded(
    record: Record, decode: Decoder, tombstone: Skip | Forward | Rejection
) -> Request | Rejection | Skip | Forward:
    """What is to be classified, or the outcome of what cannot be; `tombstone` is that of a record without a value."""
    if record.headers_unreadable:
        return _HEADERS_UNREADABLE
    return tombstone if record.value is None else requested(record, decode)


def requested(record: Record, decode: Decoder) -> Request | Rejection:
    """What is to be classified, or why the record's value is nothing that could be."""
    try:
        return decode(record)
    except InvalidMessage as error:
        return Rejection("decode", error.reason, str(error), type(error).__name__)


def _walk(document: Any, keys: list[str]) -> Any:
    for key in keys:
        document = _step(document, key)
    return document


def _step(document: Any, key: str) -> Any:
    if isinstance(document, dict):
        return document.get(key, MISSING)
    if isinstance(document, list) and key.isascii() and key.isdigit() and (key == "0" or key[0] != "0"):
        index = int(key[:10])
        return document[index] if index < len(document) else MISSING
    return MISSING


def _no_text(found: Any, text_pointer: str) -> InvalidMessage:
    if found is MISSING:
        return InvalidMessage("missing-field", f"The message has no field {text_pointer}.")
    what = f"The field {text_pointer}" if text_pointer else "The whole value"
    return InvalidMessage("wrong-type", f"{what} is {kind(found)}, not a string.")


def _header_text(name: str, value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidMessage("invalid-header-value", f"The header {name} is not UTF-8 at byte {error.start}.") from None


def _bounded(record: Record, max_bytes: int) -> bytes:
    value = record.value
    if not value:
        raise InvalidMessage("empty", "The message has no value." if value is None else "The value is empty.")
    if len(value) > max_bytes:
        raise InvalidMessage("too-large", f"The value has {len(value)} bytes, more than input.max_bytes = {max_bytes}.")
    return value


def _request(id_: str, text: str, max_characters: int) -> Request:
    if not text or text.isspace():
        raise InvalidMessage("empty-text", "The text is empty.")
    if len(text) > max_characters:
        return Request(id_, text[:max_characters], True)
    return Request(id_, text, False)


def _id(found: Any, record: Record) -> str:
    if found is MISSING or found is None:
        return f"{record.topic}-{record.partition}-{record.offset}"
    if isinstance(found, str):
        if len(found) > MAX_ID_CHARACTERS:
            raise InvalidMessage("invalid-id", f"The id has {len(found)} characters, more than {MAX_ID_CHARACTERS}.")
        return found
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    raise InvalidMessage("invalid-id", f"The id is {kind(found)}, not a string or an integer.")
