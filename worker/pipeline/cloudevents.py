"""CloudEvents 1.0 by its Kafka protocol binding: messages that are events, and results as events.

In *binary* mode the value is the event's data and its attributes are headers (`ce_id`, `content-type`); in
*structured* mode the value is a JSON document of attributes and data. The header `content-type` tells which. The
binding has no batched mode, so that is refused.

What is written is a function of message and bundle: no clock, no random ids.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from worker.errors import InvalidMessage
from worker.pipeline.cloudevents_attributes import REASON, SPECVERSION, check, is_string
from worker.pipeline.json_text import MISSING, kind, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.pipeline.messages import Headers, Record

CONTENT_TYPE = "content-type"
STRUCTURED = "application/cloudevents+json"
TOMBSTONE = "winnow.tombstone.v1"
"""The type of events that say that a message without a value came."""
_PREFIX = "ce_"
_EVENTS = "application/cloudevents"
_BATCH = "application/cloudevents-batch"
_STRUCTURED_HEADER = (CONTENT_TYPE, f"{STRUCTURED}; charset=UTF-8".encode())
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\s;\"]+)", re.IGNORECASE)
_UTF_8 = frozenset({"utf-8", "utf8", "us-ascii"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Event(NamedTuple):
    """What of an event is of use. Without data both `data` is None and `document` is `MISSING`."""

    id: str
    data: bytes | None
    """As it was sent (binary mode, `data_base64`), or text in UTF-8; None where it is in `document`."""
    document: Any
    """JSON data of structured mode, null included; `MISSING` where there is none."""
    content_type: str | None
    """The event's datacontenttype."""


def unwrap(record: Record) -> Event:
    """The event that a message is.

    Raises:
        InvalidMessage: it is none of CloudEvents 1.0, in a mode or format that is not read, or not in UTF-8.
    """
    attributes, content_type = _headers(record.headers)
    mode, _, _ = (content_type or "").partition(";")
    mode = mode.strip().lower()
    if not mode.startswith(_EVENTS):
        return _binary_event(record, attributes, content_type)
    if mode.startswith(_BATCH):
        raise InvalidMessage(
            REASON, "The message is a batch of events, which CloudEvents does not have on Kafka: send one per message."
        )
    if mode != STRUCTURED:
        raise InvalidMessage(REASON, f"The event is in a format that is not read; the one that is, is {STRUCTURED}.")
    _check_charset(content_type)
    return _structured_event(record.value or b"")


def structured(result: Mapping[str, Any], record: Record, *, source: str) -> tuple[bytes, Headers]:
    """The value of an event with a result in it, and its header."""
    event = _attributes(result, record, source)
    event["datacontenttype"] = "application/json"
    event["data"] = result
    return orjson.dumps(event), [_STRUCTURED_HEADER]


def binary(
    value: bytes, result: Mapping[str, Any], record: Record, *, source: str, content_type: str
) -> tuple[bytes, Headers]:
    """An encoded result, and the headers that make an event of it."""
    headers = _prefixed_headers(_attributes(result, record, source))
    headers.append((CONTENT_TYPE, content_type.encode()))
    return value, headers


def tombstone(record: Record, *, source: str) -> Headers:
    """The headers that make an event of a record without a value: an event without data, which is in binary mode.

    In structured mode the attributes would be its value, and it would be no tombstone.
    """
    place = f"{record.topic}-{record.partition}-{record.offset}"
    attributes = {"specversion": SPECVERSION, "id": place, "source": source, "type": TOMBSTONE}
    if time := _time(record.timestamp):
        attributes["time"] = time
    return _prefixed_headers(attributes | _trace(record))


def without_envelope(headers: Headers) -> Headers:
    """Headers but for those that speak of the event they came with, which must not be said of the result."""
    return [header for header in headers if not _is_envelope(header[0].lower())]


def _prefixed_headers(attributes: Mapping[str, str]) -> Headers:
    return [(f"{_PREFIX}{name}", attribute.encode()) for name, attribute in attributes.items()]


def _is_envelope(name: str) -> bool:
    return name == CONTENT_TYPE or name.startswith(_PREFIX)


def _headers(headers: Headers) -> tuple[dict[str, str], str | None]:
    """The attributes among the headers, and the content type; headers without a value are unset ones."""
    found: dict[str, str] = {}
    for name, value in headers:
        name = name.lower()
        if value is None or not _is_envelope(name):
            continue
        if name in found:
            raise InvalidMessage(REASON, "The message has one of its CloudEvents headers twice.")
        try:
            found[name] = value.decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidMessage(REASON, "The message has a CloudEvents header that is not UTF-8.") from None
    content_type = found.pop(CONTENT_TYPE, None)
    return {name[len(_PREFIX) :]: value for name, value in found.items()}, content_type


def _binary_event(record: Record, attributes: dict[str, str], content_type: str | None) -> Event:
    if "specversion" not in attributes:
        raise InvalidMessage(
            REASON,
            f"The message is no CloudEvent: it has neither a header ce_specversion nor content-type {STRUCTURED}.",
        )
    if content_type is not None:
        attributes["datacontenttype"] = content_type
    check(attributes)
    return _event(attributes, record.value, MISSING)


def _structured_event(value: bytes) -> Event:
    event = parse(value)
    if not isinstance(event, dict):
        raise InvalidMessage(REASON, f"The event is {kind(event)}, not a JSON object.")
    document = event.pop("data", MISSING)
    encoded = event.pop("data_base64", None)
    attributes = {name: attribute for name, attribute in event.items() if attribute is not None}
    check(attributes)
    if encoded is not None:
        if document is not MISSING:
            raise InvalidMessage(REASON, "The event has both data and data_base64.")
        return _event(attributes, _decoded(encoded), MISSING)
    if document is MISSING or _is_json(attributes.get("datacontenttype")):
        return _event(attributes, None, document)
    if not isinstance(document, str):
        raise InvalidMessage(
            REASON,
            f"The event's data is {kind(document)}; as its datacontenttype is not of JSON, only a string can be.",
        )
    # The string is text already, whatever charset the datacontenttype names.
    return Event(attributes["id"], document.encode(), MISSING, attributes["datacontenttype"])


def _event(attributes: Mapping[str, Any], data: bytes | None, document: Any) -> Event:
    content_type = attributes.get("datacontenttype")
    _check_charset(content_type)
    return Event(attributes["id"], data, document, content_type)


def _decoded(encoded: Any) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise InvalidMessage(REASON, "The event's data_base64 is not Base64.") from None


def _is_json(content_type: str | None) -> bool:
    """Whether the data is a JSON value; without a datacontenttype it is."""
    if content_type is None:
        return True
    subtype = content_type.partition(";")[0].strip().lower().partition("/")[2]
    return subtype == "json" or subtype.endswith("+json")


def _check_charset(content_type: str | None) -> None:
    found = _CHARSET.search(content_type) if content_type else None
    if found and found[1].lower() not in _UTF_8:
        raise InvalidMessage(REASON, "The event's content type names a charset other than UTF-8.")


def _attributes(result: Mapping[str, Any], record: Record, source: str) -> dict[str, Any]:
    """What is said of a result. The specification's own type String bounds what can be."""
    version = result["schema"]
    attributes = {
        "specversion": SPECVERSION,
        "id": result["result_id"],
        "source": source,
        "type": f"winnow.result.v{version}",
        "dataschema": f"urn:winnow:result:{version}",
    }
    if is_string(result["id"]):
        attributes["subject"] = result["id"]
    if time := _time(record.timestamp):
        attributes["time"] = time
    if key := _text(record.key):
        attributes["partitionkey"] = key
    return attributes | _trace(record)


def _time(timestamp: int | None) -> str | None:
    """RFC 3339, which ends with the year 9999."""
    if timestamp is None:
        return None
    try:
        moment = _EPOCH + timedelta(milliseconds=timestamp)
    except OverflowError:
        return None
    return f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def _text(value: bytes | None) -> str | None:
    try:
        text = (value or b"").decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if is_string(text) else None


def _trace(record: Record) -> dict[str, str]:
    """The extension for distributed tracing: where the trace began, so the event's own goes before the hop's."""
    headers = {name.lower(): value for name, value in record.headers}
    for found in (_prefixed(headers), _within(record.value or b"", headers.get(CONTENT_TYPE)), headers):
        parent, state = _text(found.get("traceparent")), _text(found.get("tracestate"))
        if parent:
            return {"traceparent": parent, "tracestate": state} if state else {"traceparent": parent}
    return {}


def _prefixed(headers: Mapping[str, bytes | None]) -> dict[str, bytes | None]:
    return {name: headers.get(f"{_PREFIX}{name}") for name in ("traceparent", "tracestate")}


def _within(value: bytes, content_type: bytes | None) -> dict[str, bytes | None]:
    """The trace of an event in structured mode, where the message is one."""
    if b'"traceparent"' not in value or not (content_type or b"").lower().startswith(STRUCTURED.encode()):
        return {}
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError:
        return {}
    event = event if isinstance(event, dict) else {}
    return {name: event[name].encode() for name in ("traceparent", "tracestate") if isinstance(event.get(name), str)}
