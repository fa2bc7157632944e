"""CloudEvents: what the specification allows is read and written; any record is an event or an `InvalidMessage`."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import hypothesis.strategies as st
import pytest
from cloudevents.core.bindings import kafka as sdk
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import example, given

from tests.kit import record
from worker.errors import InvalidMessage
from worker.pipeline.cloudevents import Event, binary, structured, tombstone, unwrap, without_envelope
from worker.pipeline.cloudevents_attributes import REASON, is_uri_reference
from worker.pipeline.json_text import MISSING

STRUCTURED = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
REQUIRED = {"specversion": "1.0", "id": "e-1", "source": "/shop", "type": "com.example.message"}
SECRET = "the-quick-brown-secret"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
RESULT = {
    "schema": 1,
    "id": "sms-4711",
    "result_id": "messages-3-90211@0123456789ab",
    "source": {"topic": "messages", "partition": 3, "offset": 90211, "timestamp": 1763700000123},
    "label": "ham",
    "score": 0.997312,
    "truncated": False,
    "tokens": 8,
    "model": {"name": "spam-filter", "digest": "0123456789ab"},
}


def in_structured_mode(**members):
    return record(0, json.dumps(REQUIRED | members).encode(), headers=STRUCTURED)


def in_binary_mode(value=b"x", content_type=b"text/plain", **attributes):
    headers = [(f"ce_{n}", v if v is None or isinstance(v, bytes) else v.encode()) for n, v in attributes.items()]
    return record(0, value, headers=[*headers, *([("content-type", content_type)] if content_type else [])])


def refused(message, reason=REASON) -> str:
    with pytest.raises(InvalidMessage) as caught:
        unwrap(message)
    assert caught.value.reason == reason
    assert SECRET not in str(caught.value)
    return str(caught.value)


def from_sdk(made: sdk.KafkaMessage):
    key = made.key.encode() if isinstance(made.key, str) else made.key
    return record(0, made.value, key=key, headers=list(made.headers.items()))


def to_sdk(value, headers, key) -> CloudEvent:
    assert len(dict(headers)) == len(headers)
    return sdk.from_kafka(sdk.KafkaMessage(dict(headers), key, value), JSONFormat())


# Reading


def test_binary_mode_has_the_data_as_the_value():
    """Attributes come from headers, the data as it was sent."""
    assert unwrap(in_binary_mode(b"hi", **REQUIRED)) == Event("e-1", b"hi", MISSING, "text/plain")


def test_structured_mode_has_json_data_in_the_document():
    """Without a datacontenttype the data is a JSON value, strings included."""
    assert unwrap(in_structured_mode(data={"text": "hi"})) == Event("e-1", None, {"text": "hi"}, None)
    assert unwrap(in_structured_mode(data="hi")) == Event("e-1", None, "hi", None)


@pytest.mark.parametrize("media_type", ["application/json", "text/json; charset=utf-8", "application/vnd.shop+JSON"])
def test_json_is_told_by_the_subtype(media_type):
    """`*/json` and `*/*+json`, whatever the case and the parameters."""
    assert unwrap(in_structured_mode(data=[1], datacontenttype=media_type)).document == [1]


def test_text_is_a_string_in_structured_mode():
    """The string of a datacontenttype that is not JSON comes as bytes in UTF-8, whatever charset it names."""
    event = unwrap(in_structured_mode(data="größe", datacontenttype="text/plain; charset=ISO-8859-1"))
    assert event == Event("e-1", "größe".encode(), MISSING, "text/plain; charset=ISO-8859-1")
    assert "an object" in refused(in_structured_mode(data={"a": SECRET}, datacontenttype="text/plain"))


def test_binary_data_is_base64_in_structured_mode():
    """`data_base64` is decoded, and what is not Base64 is refused."""
    encoded = base64.b64encode(b"\x00\xff").decode()
    assert unwrap(in_structured_mode(data_base64=encoded)).data == b"\x00\xff"
    for broken in (SECRET, "größe", 7, ["AA=="], {}):
        assert "data_base64" in refused(in_structured_mode(data_base64=broken))
    assert "both" in refused(in_structured_mode(data=1, data_base64=encoded))


def test_no_data_is_told_from_null():
    """An event need not have data; an explicit null is data."""
    assert unwrap(in_structured_mode()) == Event("e-1", None, MISSING, None)
    assert unwrap(in_structured_mode(data=None)).document is None


@pytest.mark.parametrize("missing", REQUIRED)
def test_required_attributes_are_required(missing):
    """All four, in both modes; null and a header without a value are the same as none."""
    rest = {name: value for name, value in REQUIRED.items() if name != missing}
    assert missing in refused(in_structured_mode(**{missing: None}))
    assert missing in refused(in_structured_mode(**{missing: ""}))
    assert missing in refused(in_binary_mode(**rest))
    assert missing in refused(in_binary_mode(**rest, **{missing: None}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("specversion", "0.3"),
        ("specversion", 1.0),
        ("id", 7),
        ("id", f"{SECRET}\n"),
        ("source", f"{SECRET} with spaces"),
        ("source", "/größe"),
        ("source", "a#b#c"),
        ("type", "a\ufffe"),
        ("type", "a\U0010ffff"),
        ("subject", ""),
        ("subject", "a\x7f"),
        ("time", "2018-04-05"),
        ("time", "2018-02-30T17:31:00Z"),
        ("time", "2018-04-05T24:31:00Z"),
        ("time", "٢018-04-05T17:31:00Z"),
        ("dataschema", "/relative"),
        ("datacontenttype", "json"),
    ],
)
def test_core_attributes_have_their_types(name, value):
    """What breaks a rule of the specification is named, and not quoted."""
    assert name in refused(in_structured_mode(**{name: value}))


@pytest.mark.parametrize(
    "extension",
    [
        {SECRET: "a"},
        {"Upper": "a"},
        {"": "a"},
        {"a\n": "a"},
        {"price": 1.5},
        {"items": [SECRET]},
        {"nested": {}},
        {"big": 2**31},
        {"small": -(2**31) - 1},
        {"bell": f"{SECRET}\a"},
    ],
)
def test_extensions_follow_the_rules_of_names_and_types(extension):
    """Letters a to z and digits; booleans, 32-bit integers and strings."""
    refused(in_structured_mode(**extension))


def test_optional_attributes_and_extensions_may_be_there():
    """Whatever the specification allows is let through."""
    event = in_structured_mode(
        time="2018-04-05t17:31:60.123456789+05:30",
        dataschema="https://example.com/schema#part",
        subject="größe",
        ext1=True,
        ext2=-(2**31),
        ext3="",
        ext4=None,
        traceparent=PARENT,
        data=1,
    )
    assert unwrap(event).document == 1
    assert unwrap(
        in_binary_mode(b"1", time="2018-04-05T17:31:00Z", source="%20", **dict(list(REQUIRED.items())[:2]), type="t")
    )


def test_batches_are_refused_with_a_sentence():
    """Kafka's binding has no batched mode."""
    for headers in ([("content-type", b"application/cloudevents-batch+json")], STRUCTURED):
        sentence = refused(record(0, b"[]", headers=headers))
        assert "batch" in sentence or "an array" in sentence


def test_other_formats_and_charsets_are_refused():
    """Structured mode is read in JSON, in UTF-8; so is text in binary mode."""
    assert "format" in refused(record(0, b"x", headers=[("content-type", b"application/cloudevents+avro")]))
    for header in (b"application/cloudevents+json; charset=latin-1", b'application/cloudevents+json;charset="UTF-16"'):
        assert "charset" in refused(record(0, b"x", headers=[("content-type", header)]))
    assert "charset" in refused(in_binary_mode(content_type=b"text/plain; charset=latin-1", **REQUIRED))
    assert unwrap(in_binary_mode(content_type=b'text/plain; charset="UTF-8"', **REQUIRED)).data == b"x"


def test_headers_are_utf_8_and_come_once():
    """An attribute twice is no event, nor is a header that cannot be read."""
    twice = in_binary_mode(**REQUIRED)
    refused(twice._replace(headers=[*twice.headers, ("CE_ID", b"e-2")]))
    refused(in_binary_mode(**(REQUIRED | {"id": b"\xff"})))
    refused(record(0, b"x", headers=[("content-type", b"\xff")]))


def test_what_is_no_event_is_told_how_to_become_one():
    """A message without any sign of CloudEvents."""
    assert "ce_specversion" in refused(record(0, b'{"text": "hi"}', headers=[("content-type", b"application/json")]))
    assert "ce_specversion" in refused(record(0, json.dumps(REQUIRED).encode()))


def test_structured_mode_needs_json():
    """What is no JSON has the words of JSON messages."""
    refused(record(0, b"{", headers=STRUCTURED), "invalid-json")
    refused(record(0, b"\xff", headers=STRUCTURED), "invalid-utf8")
    refused(record(0, None, headers=STRUCTURED), "invalid-json")


# Writing


def written(message, result=RESULT, mode="structured"):
    if mode == "structured":
        return structured(result, message, source="winnow")
    return binary(b"\x00Avro", result, message, source="winnow", content_type="application/avro")


@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_the_sdk_reads_what_is_written(mode):
    """The official SDK finds every attribute and the data, equal."""
    message = record(0, b"{}", key=b"customer-7", timestamp=1763700000123, headers=[("traceparent", PARENT.encode())])
    event = to_sdk(*written(message, mode=mode), message.key)
    attributes = event.get_attributes()
    assert attributes.pop("time") == datetime(2025, 11, 21, 4, 40, 0, 123000, UTC)
    assert attributes == {
        "specversion": "1.0",
        "id": RESULT["result_id"],
        "source": "winnow",
        "type": "winnow.result.v1",
        "dataschema": "urn:winnow:result:1",
        "subject": "sms-4711",
        "partitionkey": "customer-7",
        "traceparent": PARENT,
        "datacontenttype": "application/json" if mode == "structured" else "application/avro",
    }
    assert event.get_data() == (RESULT if mode == "structured" else "\x00Avro")


@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_what_is_written_is_read_again(mode):
    """An output topic can be an input topic."""
    message = record(0, b"{}", key=b"k", timestamp=0)
    value, headers = written(message, mode=mode)
    event = unwrap(record(1, value, headers=headers))
    assert event.id == RESULT["result_id"]
    assert (event.document, event.data) == ((RESULT, None) if mode == "structured" else (MISSING, b"\x00Avro"))


@pytest.mark.parametrize("to_kafka", [sdk.to_structured, sdk.to_binary])
@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        ({"text": "größe 👋"}, "application/json"),
        ({"text": "hi"}, None),
        ("just text", "text/plain"),
        (b"\x00\xff", "application/octet-stream"),
    ],
)
def test_what_the_sdk_writes_is_read(to_kafka, data, media_type):
    """Both modes, with data of every kind."""
    attributes = REQUIRED | {"time": datetime(2026, 1, 2, tzinfo=UTC), "subject": "s", "partitionkey": "k", "ext": 7}
    if media_type:
        attributes["datacontenttype"] = media_type
    event = unwrap(from_sdk(to_kafka(CloudEvent(attributes, data), JSONFormat())))
    assert (event.id, event.content_type) == ("e-1", media_type)
    found = json.loads(event.data) if isinstance(data, dict) and event.data else (event.data or event.document)
    assert found == (data.encode() if isinstance(data, str) else data)


def test_a_tombstone_is_an_event_without_data():
    """In binary mode, as the binding has it: no value, no content type; of another type than results are."""
    message = record(7, None, key=b"k", timestamp=1763700000123, headers=[("traceparent", PARENT.encode())])
    headers = tombstone(message, source="/spam")
    assert dict(headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"in-0-7",
        "ce_source": b"/spam",
        "ce_type": b"winnow.tombstone.v1",
        "ce_time": b"2025-11-21T04:40:00.123Z",
        "ce_traceparent": PARENT.encode(),
    }
    assert unwrap(record(1, None, headers=headers)) == Event("in-0-7", None, MISSING, None)
    assert to_sdk(b"", headers, message.key).get_id() == "in-0-7"  # it takes no null for the value


def test_attributes_that_cannot_be_are_left_out():
    """Ids, keys and timestamps that CloudEvents' types do not take make no event invalid."""
    for name, message in {
        "time": record(0, timestamp=None),
        "partitionkey": record(0, key=b"\xff"),
        "traceparent": record(0, headers=[("traceparent", b"a\n"), ("tracestate", b"a=b")]),
    }.items():
        assert name not in json.loads(written(message)[0])
    assert "time" not in json.loads(written(record(0, timestamp=2**62))[0])
    assert "tracestate" not in json.loads(written(record(0, headers=[("tracestate", b"a=b")]))[0])
    for id_ in ("", "a\nb"):
        assert "subject" not in json.loads(written(record(0), RESULT | {"id": id_})[0])


def test_the_trace_is_the_one_the_event_began_with():
    """The event's own extension goes before the header of the last hop, in both modes."""
    hop = ("traceparent", PARENT.replace("4bf9", "ffff").encode())
    state = ("ce_tracestate", b"a=b")
    in_headers = record(0, headers=[hop, ("ce_traceparent", PARENT.encode()), state])
    in_value = in_structured_mode(traceparent=PARENT, tracestate="a=b")
    for message in (in_headers, in_value._replace(headers=[hop, *in_value.headers])):
        made = json.loads(written(message)[0])
        assert (made["traceparent"], made["tracestate"]) == (PARENT, "a=b")
    broken = record(0, b'"traceparent"{', headers=[hop, *STRUCTURED])
    assert json.loads(written(broken)[0])["traceparent"] == hop[1].decode()


def test_the_same_message_gives_the_same_bytes():
    """No clock, no random id."""
    message = record(0, key=b"k", timestamp=5)
    assert written(message) == written(message)
    assert written(message, mode="binary") == written(message, mode="binary")


def test_headers_of_the_events_that_came_are_not_said_of_results():
    """Attributes and content type go, all others stay."""
    kept = [("traceparent", b"1"), ("cell", b"2")]
    assert without_envelope([("ce_id", b"a"), ("Content-Type", b"b"), *kept, ("CE_source", None)]) == kept


def test_a_source_is_a_uri_reference():
    """What settings name as the source is checked with the same rule."""
    assert all(map(is_uri_reference, ["winnow", "/a/b", "urn:x:y", "https://example.com/a?b#c"]))
    assert not any(map(is_uri_reference, ["", "a b", "ä", "a\n", "%zz"]))


# Whatever comes

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(
    [*REQUIRED, "time", "subject", "datacontenttype", "dataschema", "data", "data_base64"]
) | st.text(max_size=8)
events = st.dictionaries(names, values, max_size=6).map(lambda more: json.dumps(REQUIRED | more).encode())
content_types = st.sampled_from([b"application/cloudevents+json", b"application/json", b"application/cloudevents", b""])
header_names = st.sampled_from(["ce_id", "ce_source", "ce_type", "ce_specversion", "content-type", "ce_"]) | st.text(
    max_size=8
)
headers = st.lists(st.tuples(header_names, st.none() | st.binary(max_size=12) | content_types), max_size=6)


def outcome_of(message) -> Event | InvalidMessage:
    """Any other error fails the test by being raised."""
    try:
        return unwrap(message)
    except InvalidMessage as error:
        return error


@given(
    st.none() | st.binary(max_size=60) | events,
    headers | content_types.map(lambda found: [("content-type", found)]),
)
@example(b'{"data_base64": null, "specversion": "1.0", "id": "1", "source": "s", "type": "t"}', STRUCTURED)
@example(b"[" * 2000, STRUCTURED)
def test_every_record_is_an_event_or_an_invalid_message(value, headers):
    """Nothing else is ever raised, and what is an event has an id."""
    outcome = outcome_of(record(0, value, headers=headers))
    if isinstance(outcome, Event):
        assert outcome.id
        assert outcome.data is None or outcome.document is MISSING
    else:
        assert outcome.reason in {REASON, "invalid-json", "invalid-utf8"}


@given(st.binary(max_size=20), st.none() | st.integers(-(2**63), 2**63 - 1), headers, st.text(max_size=10))
def test_every_result_makes_an_event_that_is_valid(key, timestamp, headers, id_):
    """Whatever key, timestamp, headers and id a message has."""
    message = record(0, b"{}", key=key, timestamp=timestamp, headers=headers)
    value, made = structured(RESULT | {"id": id_}, message, source="winnow")
    assert unwrap(record(0, value, headers=made)).id == RESULT["result_id"]
    value, made = binary(b"1", RESULT | {"id": id_}, message, source="winnow", content_type="application/json")
    assert unwrap(record(0, value, headers=made)).data == b"1"
