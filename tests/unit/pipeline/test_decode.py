"""Decoding: whatever bytes a message holds, they become a request or an `InvalidMessage`."""

from __future__ import annotations

import json

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from tests.kit import record
from worker.errors import InvalidMessage
from worker.metrics import REASONS
from worker.pipeline.decode import (
    MAX_ID_CHARACTERS,
    document_decoder,
    event_decoder,
    header_decoder,
    json_decoder,
    plain_text,
    pointer,
    text_decoder,
)
from worker.pipeline.json_text import MAX_DEPTH, parse
from worker.pipeline.messages import Request

MAX_BYTES, MAX_CHARACTERS = 2_000, 100
decode = json_decoder("/text", "/id", MAX_BYTES, MAX_CHARACTERS)
plain = text_decoder(MAX_BYTES, MAX_CHARACTERS)
SECRET = "the-quick-brown-secret"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "text", "a", ""]), inner, max_size=4)
    ),
    max_leaves=10,
)


def rejected(value: bytes | None, how=decode) -> InvalidMessage:
    with pytest.raises(InvalidMessage) as caught:
        how(record(7, value))
    return caught.value


def outcome_of(value: bytes | None, how=decode) -> Request | InvalidMessage:
    """Any other error fails the test by being raised."""
    try:
        return how(record(0, value))
    except InvalidMessage as error:
        return error


def dumped(**document: object) -> bytes:
    return json.dumps(document).encode()


def check(request: Request) -> None:
    assert request.text.strip()
    assert len(request.text) <= MAX_CHARACTERS
    assert isinstance(request.id, str)
    request.text.encode("utf-8")
    request.id.encode("utf-8")


@given(st.binary(max_size=300) | json_values.map(lambda v: json.dumps(v).encode()))
@example(b"")
@example(b"\xff\xfe")
@example(b'{"text": "\\ud800"}')
@example(b'{"text": "\\udc00 lone"}')
@example(b"[" * 1500)
@example(b'{"text":' * 200)
@example(b'{"text": NaN}')
@example(b'{"text": 1' + b"0" * 500 + b"}")
@example(b'\xef\xbb\xbf{"text": "with a byte order mark"}')
@example('{"text": "سلام 👋 \\u0000 \\u202e"}'.encode())
@example(b'{"text": "a", "text": "twice"}')
def test_any_bytes_are_a_request_or_invalid(value: bytes):
    """Nothing but `Request` and `InvalidMessage` ever leaves a decoder, and its reason is one that metrics know."""
    for how in (decode, plain):
        outcome = outcome_of(value, how)
        if isinstance(outcome, Request):
            check(outcome)
        else:
            assert outcome.reason in REASONS["decode"]
            assert str(outcome).endswith(".")


@given(st.sampled_from(["text", "id", "other"]), st.sampled_from(["", "}", "]", '"', "\\ud800", ",", "\x00"]))
def test_what_is_said_of_an_invalid_message_never_quotes_it(field: str, damage: str):
    """Error texts go to logs and headers, so they hold nothing of the message."""
    documents = [
        f'{{"{field}": "{SECRET}{damage}"}}{damage}',
        f'{{"{field}": ["{SECRET}"], "text": {{"{SECRET}": 1}}}}',
        f'{{"text": "x", "id": {{"{SECRET}": 1}}}}',
        f'{{"text": "x", "id": "{SECRET * 30}"}}',
        f'"{SECRET}"',
        SECRET * 200,
    ]
    for document in documents:
        for value in (document.encode(), document.encode() + b"\xff", document.encode("utf-16")):
            outcome = outcome_of(value)
            if isinstance(outcome, InvalidMessage):
                assert "secret" not in f"{outcome} {outcome.reason}"
                assert outcome.__suppress_context__ or outcome.__context__ is None


@given(st.text(min_size=1, max_size=60).filter(str.strip), st.text(max_size=60) | st.integers(-(2**63), 2**64 - 1))
def test_a_good_message_comes_back_whole(text: str, id_: str | int):
    """Text and id of a valid document are taken as they are, in every script."""
    assert decode(record(0, dumped(text=text, id=id_, more=[1]))) == Request(str(id_), text, False)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"x" * (MAX_BYTES + 1), "too-large"),
        (b"{", "invalid-json"),
        (b"[" * 1500 + b"]" * 100, "invalid-json"),
        (b'{"text": "\xff"}', "invalid-utf8"),
        (b"{}", "missing-field"),
        (b"[]", "missing-field"),
        (b'"text"', "missing-field"),
        (b'{"text": null}', "wrong-type"),
        (b'{"text": 3}', "wrong-type"),
        (b'{"text": ["a"]}', "wrong-type"),
        (b'{"text": ""}', "empty-text"),
        (b'{"text": " \\n\\t\\u3000"}', "empty-text"),
        (b'{"text": "a", "id": 1.5}', "invalid-id"),
        (b'{"text": "a", "id": true}', "invalid-id"),
        (b'{"text": "a", "id": {}}', "invalid-id"),
        (b'{"text": "a", "id": "' + b"i" * (MAX_ID_CHARACTERS + 1) + b'"}', "invalid-id"),
    ],
)
def test_each_fault_has_its_reason(value: bytes | None, reason: str):
    """Every way to be invalid has one fixed word."""
    assert rejected(value).reason == reason


HALF_A_PAIR = (
    "The value has half of a surrogate pair (an escape \\ud800 to \\udfff without its other half) at character"
)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "The message has no value."),
        (b"", "The value is empty."),
        (
            b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
            "The value is nested deeper than 1,024 levels at character 1025.",
        ),
        (b'{"text": "\xff"}', "The value is not UTF-8 at byte 10, so it cannot be JSON."),
        (b'{"text": "\\ud800"}', f"{HALF_A_PAIR} 10."),
        (b'{"text": "\\ud800\\u0041"}', f"{HALF_A_PAIR} 10."),
        (b'{"text": "\\udc00"}', f"{HALF_A_PAIR} 10."),
        (b"\xef\xbb\xbf{}", "The value begins with a byte order mark, which JSON may not have, at character 0."),
        (b"{,", "The value is not JSON at character 1."),
    ],
)
def test_what_json_is_not_is_said(value: bytes | None, said: str):
    """What the parser knows of the fault is in the sentence, with its place."""
    how = json_decoder("/text", "/id", 3 * MAX_DEPTH, MAX_CHARACTERS)
    assert str(rejected(value, how)) == said


def test_the_deepest_document_is_read():
    """As many levels as the sentence names are JSON."""
    levels = MAX_DEPTH - 1
    value = b'{"text": "a", "more": ' + b"[" * levels + b"]" * levels + b"}"
    how = json_decoder("/text", "/id", len(value), MAX_CHARACTERS)
    assert how(record(0, value)).text == "a"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("null", "null"),
        ("true", "a boolean"),
        ("1", "a number"),
        ("1.5", "a number"),
        ("[]", "an array"),
        ("{}", "an obj"),
    ],
)
def test_a_wrong_type_is_named(value: str, kind: str):
    """Who sent a number where a text belongs is told that it was a number."""
    assert kind in str(rejected(f'{{"text": {value}}}'.encode()))


@pytest.mark.parametrize("document", [b'{"text": "a"}', b'{"text": "a", "id": null}'])
def test_a_message_without_an_id_is_named_by_its_place(document: bytes):
    """The id of a message without one is `topic-partition-offset`, the same at every redelivery."""
    assert decode(record(7, document, topic="in", partition=3)).id == "in-3-7"


def test_no_id_pointer_means_ids_by_place():
    """With `id_pointer` unset, ids in documents are not looked at."""
    how = json_decoder("/text", None, MAX_BYTES, MAX_CHARACTERS)
    assert how(record(7, b'{"text": "a", "id": {}}')).id == "in-0-7"


def test_the_bounds_are_inclusive():
    """A value of exactly `max_bytes`, and a text of exactly `max_characters`, are whole."""
    document = dumped(text="a" * MAX_CHARACTERS)
    padded = document + b" " * (MAX_BYTES - len(document))
    assert decode(record(0, padded)) == Request("in-0-0", "a" * MAX_CHARACTERS, False)


def test_a_longer_text_is_cut_and_marked():
    """One character more than allowed is cut, and the request says so."""
    assert decode(record(0, dumped(text="ä" * (MAX_CHARACTERS + 1)))) == Request("in-0-0", "ä" * MAX_CHARACTERS, True)


@given(st.text(min_size=1, max_size=MAX_CHARACTERS).filter(str.strip))
def test_plain_text_is_the_whole_value(text: str):
    """The text decoder takes the value as UTF-8, JSON or not."""
    assert plain(record(4, text.encode())) == Request("in-0-4", text, False)


@pytest.mark.parametrize(
    ("value", "reason"),
    [(None, "empty"), (b"\xc3", "invalid-utf8"), (b"  ", "empty-text"), (b"\xed\xa0\x80", "invalid-utf8")],
)
def test_plain_text_has_its_faults(value: bytes | None, reason: str):
    """The text decoder refuses what is no text; a surrogate in UTF-8 is none."""
    assert rejected(value, plain).reason == reason


RFC = {"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, 'k"l': 6, " ": 7, "m~n": 8}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("", RFC), ("/foo", ["bar", "baz"]), ("/foo/0", "bar"), ("/", 0), ("/a~1b", 1), ("/c%d", 2), ("/e^f", 3),
        ("/g|h", 4), ("/i\\j", 5), ('/k"l', 6), ("/ ", 7), ("/m~0n", 8),
    ],
)  # fmt: skip
def test_pointers_find_what_rfc_6901_says(path: str, found: object):
    """The examples of RFC 6901, section 5."""
    assert pointer(path)(RFC) == found


@pytest.mark.parametrize(
    "path", ["/nope", "/foo/2", "/foo/-", "/foo/01", "/foo/-1", "/foo/x", "/foo/٣", "/foo/0/0", "/foo/" + "9" * 40]
)
def test_pointers_to_nothing_find_nothing(path: str):
    """Wrong keys, indexes out of range or badly written, and steps into scalars give the marker, not an error."""
    assert type(pointer(path)(RFC)) is object


@pytest.mark.parametrize("path", ["text", "text/", " /text", "/a~", "/a~2b"])
def test_what_is_no_pointer_is_refused(path: str):
    """A path without the leading slash, or with `~` that escapes nothing, is a mistake of the settings."""
    with pytest.raises(ValueError, match="JSON Pointer"):
        pointer(path)


def test_tilde_and_slash_escapes_do_not_mix():
    """`~01` is the key `~1`, not a slash."""
    assert pointer("/~01")({"~1": "right", "/": "wrong"}) == "right"


# Headers

without_id = json_decoder("/text", None, MAX_BYTES, MAX_CHARACTERS)
by_headers = header_decoder(decode, without_id, "id", ("tenant", "id", "none"))


def with_headers(*headers: tuple[str, bytes | None], value: bytes = b'{"id": "own", "text": "x"}'):
    return record(3, value, headers=list(headers))


def test_the_id_of_a_header_goes_before_the_messages():
    """The last of equal names counts; without one, without a value or with an empty one, the message's own holds."""
    assert by_headers(with_headers(("id", b"1"), ("id", "\u00e9".encode()))).id == "\u00e9"
    assert by_headers(with_headers(("other", b"1"))).id == "own"
    assert by_headers(with_headers(("id", None))).id == "own"
    assert by_headers(with_headers(("id", b""))).id == "own"
    assert by_headers(with_headers(("id", b"1"), ("id", b""))).id == "1"
    assert by_headers(with_headers(("id", b""), value=b'{"text": "x"}')).id == "in-0-3"
    assert by_headers(with_headers(("id", b"17"), value=b'{"id": [], "text": "x"}')).id == "17"
    assert rejected(b'{"id": [], "text": "x"}', by_headers).reason == "invalid-id"


def test_headers_become_metadata():
    """Those that are asked for, in the order of the settings, the last of equal names; None where there are none."""
    said = with_headers(("id", b"1"), ("tenant", b"a"), ("more", b"\xff"), ("tenant", b"b"), ("none", None))
    request = by_headers(said)
    assert list((request.metadata or {}).items()) == [("tenant", "b"), ("id", "1")]
    assert by_headers(with_headers(("more", b"1"))).metadata is None
    only_id = header_decoder(decode, without_id, "id", ())
    assert only_id(with_headers(("id", b"1"), ("tenant", b"a"))) == Request("1", "x", False)


@pytest.mark.parametrize("name", ["id", "tenant"])
def test_a_header_that_is_not_utf8_is_named(name: str):
    """By its name, which the settings have, and never by its value; one that nobody asked for may be anything."""
    with pytest.raises(InvalidMessage) as refused:
        by_headers(with_headers((name, SECRET.encode() + b"\xff")))
    assert (refused.value.reason, str(refused.value)) == (
        "invalid-header-value", f"The header {name} is not UTF-8 at byte {len(SECRET)}."
    )  # fmt: skip
    assert by_headers(with_headers((name, b"\xff"), (name, b"good"), ("other", b"\xff"))).text == "x"


def test_an_id_of_a_header_has_the_same_bound():
    """As any other id."""
    with pytest.raises(InvalidMessage, match="more than 512"):
        by_headers(with_headers(("id", b"i" * (MAX_ID_CHARACTERS + 1))))


@given(st.lists(st.tuples(st.sampled_from(["id", "tenant", "x"]), st.none() | st.binary(max_size=4)), max_size=5))
def test_any_headers_are_metadata_or_refused(headers: list[tuple[str, bytes | None]]):
    """Whatever they hold, a request or an InvalidMessage comes of it, and metadata can be written as JSON."""
    last = dict(header for header in headers if header[1] is not None and header[0] != "x")
    said = with_headers(*headers)
    ids = ["own", *(value for name, value in headers if name == "id" and value)]
    try:
        named = ids[-1].decode() if isinstance(ids[-1], bytes) else ids[-1]
        wanted = {name: value.decode() for name, value in last.items() if value is not None}
    except UnicodeDecodeError:
        with pytest.raises(InvalidMessage):
            by_headers(said)
        return
    request = by_headers(said)
    check(request)
    assert (request.metadata or {}) == wanted
    assert request.id == named


# CloudEvents

ATTRIBUTES = {"specversion": "1.0", "id": "e-1", "source": "/s", "type": "t"}
STRUCTURED = ("content-type", b"application/cloudevents+json")
BINARY = [(f"ce_{name}", value.encode()) for name, value in ATTRIBUTES.items()]
events = event_decoder("/text", MAX_BYTES, MAX_CHARACTERS, parse)
plain_events = event_decoder("", MAX_BYTES, MAX_CHARACTERS, plain_text)


def structured(**members: object):
    return with_headers(STRUCTURED, value=dumped(**ATTRIBUTES, **members))


def test_the_text_of_an_event_is_in_its_data():
    """Structured or binary, as JSON or as Base64; its id is the event's."""
    data = {"text": "x", "id": "not this"}
    assert events(structured(data=data)) == Request("e-1", "x", False)
    assert events(structured(data_base64="eyJ0ZXh0IjogIngifQ==")) == Request("e-1", "x", False)
    assert events(with_headers(*BINARY, value=dumped(**data))) == Request("e-1", "x", False)
    unnamed = event_decoder("/text", MAX_BYTES, MAX_CHARACTERS, parse, named=False)
    assert unnamed(structured(data=data)).id == "in-0-3"


def test_the_data_of_an_event_may_be_the_text():
    """Any JSON string, or bytes in UTF-8."""
    assert plain_events(structured(data="x")).text == "x"
    assert plain_events(structured(data="x", datacontenttype="text/plain")).text == "x"
    assert plain_events(with_headers(*BINARY, value=b"x")).text == "x"


@pytest.mark.parametrize(
    ("members", "how", "reason"),
    [
        ({}, events, "empty"), ({"data": None}, events, "missing-field"), ({"data": {"text": 3}}, events, "wrong-type"),
        ({"data": {"text": "x"}}, plain_events, "wrong-type"), ({"data_base64": "e30"}, events, "invalid-cloudevent"),
        ({"data_base64": "ew=="}, events, "invalid-json"), ({"data": "x" * MAX_BYTES}, events, "too-large"),
        ({"data": {"text": " "}}, events, "empty-text"), ({"data_base64": "/w=="}, plain_events, "invalid-utf8"),
    ],
)  # fmt: skip
def test_events_without_a_text_are_refused(members: dict[str, object], how, reason: str):
    """Each with a reason that metrics know."""
    with pytest.raises(InvalidMessage) as refused:
        how(structured(**members))
    assert refused.value.reason == reason
    assert reason in REASONS["decode"]


def test_what_a_value_is_read_with_is_the_decoders_own_affair():
    """Any document will do, not JSON alone; what it refuses is refused."""
    how = document_decoder("/text", "/id", MAX_BYTES, MAX_CHARACTERS, lambda value: {"text": value.decode(), "id": 7})
    assert how(record(0, b"x")) == Request("7", "x", False)
    whole = document_decoder("", None, MAX_BYTES, MAX_CHARACTERS, parse)
    assert str(rejected(b"17", whole)) == "The whole value is a number, not a string."
