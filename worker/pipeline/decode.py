"""Bytes to `Request`: JSON with the text found by a JSON Pointer (RFC 6901), or the plain payload.

Whatever a message holds, it becomes a request or an `InvalidMessage`; nothing else is ever raised.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from worker.errors import InvalidMessage
from worker.pipeline.messages import Rejection, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.pipeline.messages import Forward, Record, Skip

Decoder: TypeAlias = "Callable[[Record], Request]"

MAX_ID_CHARACTERS = 512
MAX_DEPTH = 1024
"""Levels of arrays and objects that the parser takes."""
_HALF_A_PAIR = "has half of a surrogate pair (an escape \\ud800 to \\udfff without its other half)"
_FAULTS = {
    "depth limit exceeded": f"is nested deeper than {MAX_DEPTH:,} levels",
    "no low surrogate in string": _HALF_A_PAIR,
    "invalid low surrogate in string": _HALF_A_PAIR,
    "invalid high surrogate in string": _HALF_A_PAIR,
    "UTF-8 byte order mark (BOM) is not supported": "begins with a byte order mark, which JSON may not have,",
}
"""What the parser's own messages mean where it is more than that the value is not JSON."""
_MISSING = object()
_HEADERS_UNREADABLE = Rejection("decode", "invalid-headers", "A header's name is not UTF-8.", "InvalidMessage")


def json_decoder(text_pointer: str, id_pointer: str | None, max_bytes: int, max_characters: int) -> Decoder:
    """A decoder of JSON messages.

    Args:
        text_pointer: where the text is, e.g. `/text` or `/event/0/body`.
        id_pointer: where the id is; None, or a message without it, gives `topic-partition-offset`.
        max_bytes: larger values are invalid; checked before parsing.
        max_characters: longer texts are cut and marked as truncated.
    """
    text_of = pointer(text_pointer)
    id_of = pointer(id_pointer) if id_pointer else None

    def decode(record: Record) -> Request:
        document = _parse(_bounded(record, max_bytes))
        text = text_of(document)
        if text is _MISSING:
            raise InvalidMessage("missing-field", f"The message has no field {text_pointer}.")
        if not isinstance(text, str):
            raise InvalidMessage("wrong-type", f"The field {text_pointer} is {_kind(text)}, not a string.")
        found = id_of(document) if id_of else _MISSING
        return _request(_id(found, record), text, max_characters)

    return decode


def text_decoder(max_bytes: int, max_characters: int) -> Decoder:
    """A decoder of messages whose whole value is the text, in UTF-8."""

    def decode(record: Record) -> Request:
        try:
            text = _bounded(record, max_bytes).decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidMessage("invalid-utf8", f"The value is not UTF-8 at byte {error.start}.") from None
        return _request(_id(_MISSING, record), text, max_characters)

    return decode


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
    if record.value is None:
        return tombstone
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
        return document.get(key, _MISSING)
    if isinstance(document, list) and key.isascii() and key.isdigit() and (key == "0" or key[0] != "0"):
        index = int(key[:10])
        return document[index] if index < len(document) else _MISSING
    return _MISSING


def _bounded(record: Record, max_bytes: int) -> bytes:
    value = record.value
    if not value:
        raise InvalidMessage("empty", "The message has no value." if value is None else "The value is empty.")
    if len(value) > max_bytes:
        raise InvalidMessage("too-large", f"The value has {len(value)} bytes, more than input.max_bytes = {max_bytes}.")
    return value


def _parse(value: bytes) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise _json_fault(value, error) from None


def _json_fault(value: bytes, error: orjson.JSONDecodeError) -> InvalidMessage:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError as found:
        return InvalidMessage("invalid-utf8", f"The value is not UTF-8 at byte {found.start}, so it cannot be JSON.")
    # The parser's own message may quote the document, so only its kind and its position are kept.
    what = _FAULTS.get(error.msg, "is not JSON")
    return InvalidMessage("invalid-json", f"The value {what} at character {error.pos}.")


def _request(id_: str, text: str, max_characters: int) -> Request:
    if not text or text.isspace():
        raise InvalidMessage("empty-text", "The text is empty.")
    if len(text) > max_characters:
        return Request(id_, text[:max_characters], True)
    return Request(id_, text, False)


def _id(found: Any, record: Record) -> str:
    if found is _MISSING or found is None:
        return f"{record.topic}-{record.partition}-{record.offset}"
    if isinstance(found, str):
        if len(found) > MAX_ID_CHARACTERS:
            raise InvalidMessage("invalid-id", f"The id has {len(found)} characters, more than {MAX_ID_CHARACTERS}.")
        return found
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    raise InvalidMessage("invalid-id", f"The id is {_kind(found)}, not a string or an integer.")


def _kind(value: Any) -> str:
    names = {
        type(None): "null",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "an array",
    }
    return names.get(type(value), "an object")
