"""JSON to documents; what is none is told with its place, and never quoted. More of it: test_decode.py."""

from __future__ import annotations

import pytest

from worker.errors import InvalidMessage
from worker.pipeline.json_text import MAX_DEPTH, MISSING, kind, parse


def test_a_document_is_parsed():
    """Any JSON value is a document, null and strings too."""
    assert [parse(value) for value in (b"null", b'"a"', b"[1]", b" {} ")] == [None, "a", [1], {}]


@pytest.mark.parametrize(
    ("value", "reason", "words"),
    [
        (b"secret", "invalid-json", "is not JSON at character"),
        (b"", "invalid-json", "is not JSON"),
        (b'"\xff"', "invalid-utf8", "at byte 1"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "invalid-json", "nested deeper than 1,024 levels"),
        (b'"\\ud800"', "invalid-json", "surrogate"),
        (b"\xef\xbb\xbf{}", "invalid-json", "byte order mark"),
    ],
)
def test_what_is_no_document_is_told(value, reason, words):
    """With the place and the kind of the fault."""
    with pytest.raises(InvalidMessage, match=words) as caught:
        parse(value)
    assert caught.value.reason == reason
    assert "secret" not in str(caught.value)


def test_values_have_names():
    """As sentences say them; `MISSING` is no value."""
    values = (None, True, 1, 1.5, "a", [], {}, b"a")
    names = ["null", "a boolean", "a number", "a number", "a string", "an array", "an object", "bytes"]
    assert [kind(value) for value in values] == names
    assert MISSING not in values
