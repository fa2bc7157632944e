"""Enrichment: the message's own bytes, and the result as its last member."""

from __future__ import annotations

import json

import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import assume, given

from tests.kit import record
from worker.errors import InvalidMessage
from worker.metrics import REASONS
from worker.pipeline.decode import document_decoder
from worker.pipeline.enrich import enrichable, enriching, with_member

WHITESPACE = st.text(" \t\n\r", max_size=3)
SECRET = "the-quick-brown-secret"
names = st.text(max_size=10)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    """JSON objects as anybody may write them: any spaces, escapes, numbers, names twice."""
    members = draw(st.lists(st.tuples(names, values), max_size=4))
    space = lambda: draw(WHITESPACE)  # noqa: E731
    written = ",".join(
        f"{space()}{json.dumps(name, ensure_ascii=draw(st.booleans()))}{space()}:{space()}{json.dumps(value)}{space()}"
        for name, value in members
    )
    return f"{space()}{{{written or space()}}}{space()}".encode("utf-8", "surrogatepass")


@given(objects(), names, values)
def test_the_original_stays_to_the_byte_and_has_one_member_more(value: bytes, name: str, member: object):
    """Up to its closing brace, and after it; parsed it is the original and the member, which is the last."""
    try:
        original = orjson.loads(value)
    except orjson.JSONDecodeError:  # half of a surrogate pair: the decoder refuses it
        assume(False)
    assume(name not in original)
    enriched = with_member(value, name, orjson.dumps(member))
    end = value.rindex(b"}")
    assert enriched.startswith(value[:end])
    assert enriched.endswith(value[end:])
    assert orjson.loads(enriched) == original | {name: orjson.loads(orjson.dumps(member))}
    assert list(orjson.loads(enriched)) == [*original, name]


@pytest.mark.parametrize(
    ("value", "enriched"),
    [
        (b"{}", b'{"w":1}'), (b" { } \n", b' { "w":1} \n'), (b'{"a":{}}', b'{"a":{},"w":1}'),
        (b'{"a":"}"}\r\n', b'{"a":"}","w":1}\r\n'), (b'{"a": 1.0e2 }', b'{"a": 1.0e2 ,"w":1}'),
    ],
)  # fmt: skip
def test_how_it_looks(value: bytes, enriched: bytes):
    """A comma where there was a member; numbers, spaces and line ends are nobody's to touch."""
    assert with_member(value, "w", b"1") == enriched


def test_the_writer_takes_value_and_result():
    """Its headers are none."""
    written = enriching("winnow")({"label": "ham"}, record(0, b'{"text": "x"}'), "out")
    assert written == (b'{"text": "x","winnow":{"label":"ham"}}', [])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'{"text": "x", "winnow": null}', "field-exists"), (b'{"\\u0077innow": 1, "text": "x"}', "field-exists"),
        (b'{"w\\u0069nno\\u0077": {}}', "field-exists"), (b'["text"]', "not-an-object"), (b'"text"', "not-an-object"),
        (b"17", "not-an-object"), (b"null", "not-an-object"), (b"{", "invalid-json"), (b"{\xff}", "invalid-utf8"),
    ],
)  # fmt: skip
def test_what_cannot_be_enriched_is_a_dead_letter(value: bytes, reason: str):
    """No object, or one that has the field already, with escapes or without: before anything is classified."""
    decode = document_decoder("/text", "/id", 1_000, 100, enrichable("winnow"))
    with pytest.raises(InvalidMessage) as refused:
        decode(record(0, value))
    assert refused.value.reason == reason
    assert reason in REASONS["decode"]
    assert str(refused.value).endswith(".")


def test_the_sentence_holds_nothing_of_the_message():
    """Only the setting's own name of the field."""
    with pytest.raises(InvalidMessage) as refused:
        enrichable("winnow")(orjson.dumps({"text": SECRET, "winnow": SECRET}))
    assert SECRET not in str(refused.value)
    assert "field winnow" in str(refused.value)


def test_a_field_of_that_name_further_down_is_no_obstacle():
    """Only members of the object itself count, and only the whole name."""
    document = {"text": "x", "a": {"winnow": 1}, "Winnow": 2, "winnow ": 3}
    assert enrichable("winnow")(orjson.dumps(document)) == document
