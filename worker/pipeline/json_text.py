"""Bytes to a JSON document, or to an `InvalidMessage` that says where they are none."""

from __future__ import annotations

from typing import Any, Final

import orjson

from worker.errors import InvalidMessage

MAX_DEPTH = 1024
"""Levels of arrays and objects that the parser takes."""
MISSING: Final = object()
"""Stands for a value that is not there; no JSON value equals it."""
_HALF_A_PAIR = "has half of a surrogate pair (an escape \\ud800 to \\udfff without its other half)"
_FAULTS = {
    "depth limit exceeded": f"is nested deeper than {MAX_DEPTH:,} levels",
    "no low surrogate in string": _HALF_A_PAIR,
    "invalid low surrogate in string": _HALF_A_PAIR,
    "invalid high surrogate in string": _HALF_A_PAIR,
    "UTF-8 byte order mark (BOM) is not supported": "begins with a byte order mark, which JSON may not have,",
}
"""What the parser's own messages mean where it is more than that the value is not JSON."""


def parse(value: bytes) -> Any:
    """The document.

    Raises:
        InvalidMessage: the value is no JSON in UTF-8.
    """
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise _fault(value, error) from None


def kind(value: Any) -> str:
    """What a value is, in JSON's words: `a string`, `null`; Avro has `bytes`, too."""
    names = {
        type(None): "null",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "an array",
        bytes: "bytes",
    }
    return names.get(type(value), "an object")


def _fault(value: bytes, error: orjson.JSONDecodeError) -> InvalidMessage:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError as found:
        return InvalidMessage("invalid-utf8", f"The value is not UTF-8 at byte {found.start}, so it cannot be JSON.")
    # The parser's own message may quote the document, so only its kind and its position are kept.
    what = _FAULTS.get(error.msg, "is not JSON")
    return InvalidMessage("invalid-json", f"The value {what} at character {error.pos}.")
