"""The rules of CloudEvents 1.0 for context attributes: names, types, characters.

What breaks a rule is an `InvalidMessage` that names the attribute, where it is one of the specification's, and never
quotes a value; an extension's name is the sender's and is not quoted either.
"""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING, Any

from worker.errors import InvalidMessage
from worker.pipeline.json_text import kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REASON = "invalid-cloudevent"
SPECVERSION = "1.0"

_REQUIRED = ("specversion", "id", "source", "type")
_OPTIONAL = ("datacontenttype", "dataschema", "subject", "time")
_CORE = frozenset(_REQUIRED + _OPTIONAL)

_NAME = re.compile("[a-z0-9]+")
_NONCHARACTERS = "\ufdd0-\ufdef" + "".join(
    chr(plane + last) for plane in range(0, 0x110000, 0x10000) for last in (0xFFFE, 0xFFFF)
)
_FORBIDDEN = re.compile(f"[\x00-\x1f\x7f-\x9f\ud800-\udfff{_NONCHARACTERS}]")
_URI_CHARACTER = r"(?:[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})"
_URI_REFERENCE = re.compile(f"{_URI_CHARACTER}*(?:#{_URI_CHARACTER}*)?")
_URI = re.compile(f"[A-Za-z][A-Za-z0-9+.\\-]*:{_URI_CHARACTER}*(?:#{_URI_CHARACTER}*)?")
_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~\-]+"  # RFC 2045's word for a run of characters
_MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}[ \t]*(?:;.*)?")
_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d+)?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
_SMALLEST_INTEGER, _LARGEST_INTEGER = -(2**31), 2**31 - 1


def check(attributes: Mapping[str, Any]) -> None:
    """Refuse what is no set of attributes of an event; unset ones are left out of the mapping.

    Raises:
        InvalidMessage: a rule is broken.
    """
    for name in _REQUIRED:
        if name not in attributes:
            raise InvalidMessage(REASON, f"The event has no attribute {name}, which CloudEvents requires.")
    if attributes["specversion"] != SPECVERSION:
        raise InvalidMessage(REASON, f"The event's specversion is not {SPECVERSION}, the only one that is read.")
    for name, value in attributes.items():
        if name in _CORE:
            _check_core(name, value)
        else:
            _check_extension(name, value)


def is_string(text: str) -> bool:
    """Whether CloudEvents' type String takes the text, and it is not empty."""
    return bool(text) and not _FORBIDDEN.search(text)


def is_uri_reference(text: str) -> bool:
    """Whether a text can be an event's `source`: characters of RFC 3986, at least one."""
    return bool(text) and bool(_URI_REFERENCE.fullmatch(text))


def _check_core(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise InvalidMessage(REASON, f"The event's attribute {name} is {kind(value)}, not a string.")
    if not value:
        raise InvalidMessage(REASON, f"The event's attribute {name} is empty.")
    if _FORBIDDEN.search(value):
        raise InvalidMessage(REASON, f"The event's attribute {name} has a control character or a noncharacter.")
    if (fault := _FAULTS.get(name)) and not fault[0](value):
        raise InvalidMessage(REASON, f"The event's attribute {name} is {fault[1]}.")


def _check_extension(name: str, value: Any) -> None:
    if not _NAME.fullmatch(name) or name == "data":
        raise InvalidMessage(REASON, "The event has an attribute whose name is not of the letters a to z and digits.")
    if isinstance(value, str):
        if _FORBIDDEN.search(value):
            raise InvalidMessage(REASON, "The event has an extension with a control character or a noncharacter.")
    elif isinstance(value, int):  # booleans, too
        if not _SMALLEST_INTEGER <= value <= _LARGEST_INTEGER:
            raise InvalidMessage(REASON, "The event has an extension whose number is not of 32 bits.")
    else:
        raise InvalidMessage(
            REASON, f"The event has an extension that is {kind(value)}; a boolean, an integer or a string can be one."
        )


def _is_time(text: str) -> bool:
    found = _TIME.fullmatch(text)
    if not found:
        return False
    try:
        date.fromisoformat(found[1])
    except ValueError:
        return False
    return True


_FAULTS: dict[str, tuple[Callable[[str], object], str]] = {
    "source": (is_uri_reference, "no URI reference (RFC 3986)"),
    "dataschema": (_URI.fullmatch, "no URI (RFC 3986)"),
    "datacontenttype": (_MEDIA_TYPE.fullmatch, "no media type (RFC 2046)"),
    "time": (_is_time, "no time (RFC 3339)"),
}
