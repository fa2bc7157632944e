"""Outcomes to records: determinism, bounds, headers, dead letters."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from pathlib import Path

import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import assume, given
from jsonschema import Draft202012Validator

from tests.kit import MODEL, record, says
from worker.metrics import REASONS
from worker.pipeline.encode import LEAST_BYTES, Encoder, Form, Topics
from worker.pipeline.error_headers import (
    MAX_GROUP_CHARACTERS,
    MAX_MESSAGE_CHARACTERS,
    NO_TIMESTAMP,
    connect_headers,
    spring_headers,
)
from worker.pipeline.messages import Destination, Forward, Headers, Outgoing, Rejection, Request, Result, Skip

LEAST = LEAST_BYTES
"""The least that the settings allow for `output.max_bytes`."""
SCHEMA = Path(__file__).parents[3] / "schemas" / "dead-letter.schema.json"
REJECTED = Rejection("decode", "invalid-json", "The value is not JSON at character 3.", "InvalidMessage")

headers = st.lists(st.tuples(st.text(max_size=30), st.none() | st.binary(max_size=2_000)), max_size=5)
rejections = st.builds(
    Rejection,
    st.sampled_from(sorted(REASONS)),
    st.sampled_from(sorted({reason for reasons in REASONS.values() for reason in reasons})),
    st.text(min_size=1, max_size=2_000),
    st.sampled_from(["InvalidMessage", "RuntimeException"]),
)


STYLES = {"connect": connect_headers, "spring": spring_headers("the-group")}
styles = st.sampled_from([*STYLES.values(), spring_headers("\U0001f44b" * 300)])


def encoder(
    all_scores: bool = False,
    pass_headers: tuple[str, ...] = ("traceparent",),
    max_bytes: int = 100_000,
    error_headers=connect_headers,
):
    return Encoder(MODEL, all_scores, pass_headers, max_bytes, error_headers)


def result(text: str = "some text", truncated: bool = False, id_: str = "1") -> Result:
    return Result(Request(id_, text, truncated), says(text), truncated, 5)


def written(encode: Encoder, *arguments) -> Outgoing:
    outgoing, _ = encode(*arguments)
    assert outgoing is not None
    return outgoing


def on_the_wire(outgoing: Outgoing) -> int:
    """Bytes of a record and of the batch it could be alone in, with the longest lengths Kafka writes."""
    named = sum(len(name.encode()) + len(value or b"") + 10 for name, value in outgoing.headers)
    return 61 + 30 + len(outgoing.key or b"") + len(outgoing.value or b"") + named


def last(of: Headers) -> dict[str, bytes | None]:
    return dict(of)


def test_a_result_says_what_and_where_from():
    """A result names the request, its place, what was said of it and by which bundle."""
    outgoing = written(encoder(), record(4, b"{}", partition=2, timestamp=17, key=b"k"), result())
    said = says("some text")
    assert outgoing.destination is Destination.OUTPUT
    assert (outgoing.key, outgoing.source) == (b"k", ("in", 2))
    assert orjson.loads(outgoing.value or b"") == {
        "schema": 1,
        "id": "1",
        "result_id": f"in-2-4@{MODEL.digest}",
        "source": {"topic": "in", "partition": 2, "offset": 4, "timestamp": 17},
        "label": said.label,
        "score": said.score,
        "truncated": False,
        "tokens": 5,
        "model": {"name": MODEL.name, "digest": MODEL.digest},
    }


def test_all_scores_come_by_setting():
    """`output.all_scores` adds every label's score and changes nothing else."""
    plain = orjson.loads(written(encoder(), record(), result()).value or b"")
    full = orjson.loads(written(encoder(all_scores=True), record(), result()).value or b"")
    assert full.pop("scores") == says("some text").scores
    assert full == plain


def test_the_layer_is_told_where_there_is_more_than_one():
    """A result that was there early says after how many layers, and is else the same."""
    said = result()
    early = said._replace(classification=said.classification._replace(layer=2))
    document = orjson.loads(written(encoder(), record(), early).value or b"")
    assert document.pop("layer") == 2
    assert document == orjson.loads(written(encoder(), record(), said).value or b"")


@given(st.text(max_size=100), st.booleans(), st.none() | st.integers(0, 2**60), headers)
def test_a_result_is_a_function_of_message_and_bundle(text: str, truncated: bool, timestamp: int | None, own: Headers):
    """Encoding twice, and with another encoder, gives the same bytes: a redelivery cannot be told apart."""
    source = record(3, b"{}", headers=own, timestamp=timestamp)
    again = encoder()
    assert encoder()(source, result(text, truncated)) == again(source, result(text, truncated))
    assert again(source, REJECTED) == encoder()(source, REJECTED)


def test_a_result_takes_over_the_headers_it_is_told_to():
    """Chosen headers pass in their order, others stay behind; `*` takes all; repeated names stay repeated."""
    own: Headers = [("a", b"1"), ("traceparent", b"2"), ("a", None), ("traceparent", b"3")]
    source = record(headers=own)
    assert written(encoder(), source, result()).headers == [("traceparent", b"2"), ("traceparent", b"3")]
    assert written(encoder(pass_headers=("*",)), source, result()).headers == own
    assert written(encoder(pass_headers=()), source, result()).headers == []


def routed(label: str | None = None, action: str | None = None) -> Result:
    plain = result()
    return plain._replace(classification=plain.classification._replace(label=label, action=action))


def test_every_record_knows_its_topic():
    """Results by their route, others and tombstones to the output, dead letters to theirs, the too large as well."""
    topics = Topics("out", "dead", {"spam": "quarantine", "accept": "never", "": "never"})
    encode = Encoder(MODEL, False, (), LEAST, topics=topics)
    assert written(encode, record(), routed("spam")).topic == "quarantine"
    assert written(encode, record(), routed("ham", "accept")).topic == "out"
    assert written(encode, record(), routed(None)).topic == "out"
    assert written(encode, record(0, None), Forward()).topic == "out"
    assert written(encode, record(), REJECTED).topic == "dead"
    large = routed("spam")
    assert written(encode, record(), large._replace(request=Request("i" * LEAST, "", False))).topic == "dead"


def test_actions_are_routes_as_well():
    """Then labels are none."""
    encode = Encoder(MODEL, False, (), LEAST, topics=Topics("out", "dead", {"review": "people", "spam": "never"}, True))
    assert written(encode, record(), routed("spam", "review")).topic == "people"
    assert written(encode, record(), routed("review", "accept")).topic == "out"
    assert written(encode, record(), routed("spam")).topic == "out"


def test_metadata_is_there_where_the_request_has_some():
    """And the rest of the result is what it is without."""
    said = result()
    plain = orjson.loads(written(encoder(), record(), said).value or b"")
    full = said._replace(request=said.request._replace(metadata={"tenant": "a"}))
    document = orjson.loads(written(encoder(), record(), full).value or b"")
    assert document.pop("metadata") == {"tenant": "a"}
    assert document == plain


def test_a_form_of_its_own_gets_result_message_and_topic():
    """It makes the value and headers, which come after the message's; what it strips is not passed on."""

    def write(document, message, topic):
        return f"{document['id']} {message.offset} {topic}".encode(), [("form", b"1")]

    form = Form(write, lambda headers: [header for header in headers if header[0] != "ce_id"])
    encode = Encoder(MODEL, False, ("*",), LEAST, topics=Topics("out", "dead"), form=form)
    source = record(7, b"{}", headers=[("ce_id", b"x"), ("own", b"y")])
    outgoing = written(encode, source, result())
    assert (outgoing.value, outgoing.headers) == (b"1 7 out", [("own", b"y"), ("form", b"1")])
    assert source.headers == [("ce_id", b"x"), ("own", b"y")]
    assert written(encode, source, Forward()).headers == [("own", b"y")]
    assert written(encode, source, REJECTED).headers[:2] == source.headers


def test_what_a_form_adds_counts_for_the_bound():
    """Its headers make a result too large as its value does."""
    encode = Encoder(MODEL, False, (), LEAST, form=Form(lambda *_: (b"", [("large", b"x" * LEAST)])))
    assert written(encode, record(), result()).destination is Destination.DEAD_LETTER


def test_skip_writes_nothing_and_forward_writes_the_tombstone():
    """A skipped record leaves nothing behind; a forwarded one goes to the output with key and without value."""
    assert encoder()(record(0, None), Skip()) == (None, None)
    outgoing = written(encoder(), record(0, None, key=b"k"), Forward())
    assert (outgoing.destination, outgoing.key, outgoing.value) == (Destination.OUTPUT, b"k", None)


def test_a_dead_letter_holds_the_original_and_the_reason():
    """Key, value and all headers are the message's own; Kafka Connect's headers say why and where."""
    source = record(9, b"{,", partition=1, key=b"k", headers=[("own", b"1"), ("none", None)], timestamp=17)
    outgoing, rejection = encoder()(source, REJECTED)
    assert rejection is REJECTED
    assert outgoing is not None
    assert (outgoing.destination, outgoing.key, outgoing.value) == (Destination.DEAD_LETTER, b"k", b"{,")
    assert outgoing.headers[:2] == [("own", b"1"), ("none", None)]
    assert last(outgoing.headers[2:]) == {
        "__connect.errors.topic": b"in",
        "__connect.errors.partition": b"1",
        "__connect.errors.offset": b"9",
        "__connect.errors.connector.name": b"winnow",
        "__connect.errors.task.id": b"0",
        "__connect.errors.stage": b"VALUE_CONVERTER",
        "__connect.errors.class.name": b"worker.pipeline.decode",
        "__connect.errors.exception.class.name": b"InvalidMessage",
        "__connect.errors.exception.message": b"The value is not JSON at character 3.",
        "winnow.errors.reason": b"invalid-json",
        "winnow.errors.timestamp": b"17",
    }


def test_what_a_message_says_of_itself_as_a_dead_letter_is_not_said_of_the_new_one():
    """Headers that are a dead letter's own are written anew, or are not there; others' stay, before ours."""
    own: Headers = [
        ("winnow.errors.reason", b"old"), ("winnow.errors.timestamp", b"1"), ("winnow.errors.original.bytes", b"9"),
        ("__connect.errors.topic", b"other"), ("winnow.replays", b"1"),
    ]  # fmt: skip
    outgoing = written(encoder(), record(0, b"{,", headers=own, timestamp=None), REJECTED)
    assert outgoing.headers[:2] == own[3:]
    ours = [header for header in outgoing.headers if header[0].startswith("winnow.errors.")]
    assert ours == [("winnow.errors.reason", b"invalid-json")]


def test_a_tombstone_has_the_headers_of_its_form():
    """After those that are passed on; without a form it has none of its own."""
    form = Form(tombstone=lambda message: [("offset", str(message.offset).encode())])
    encode = Encoder(MODEL, False, ("own",), LEAST, form=form)
    source = record(7, None, headers=[("own", b"y"), ("other", b"z")])
    assert written(encode, source, Forward()).headers == [("own", b"y"), ("offset", b"7")]
    assert written(encoder(), source, Forward()).headers == []


def test_a_tombstone_too_large_becomes_a_dead_letter():
    """Its key and what its form adds may be more than the output takes, which must not end the worker."""
    encode = Encoder(MODEL, False, (), LEAST, form=Form(tombstone=lambda message: [("more", b"x" * LEAST)]))
    outgoing, rejection = encode(record(7, None, key=b"k"), Forward())
    assert rejection is not None
    assert rejection.reason == "result-too-large"
    assert rejection.message.startswith("The tombstone has ")
    assert outgoing is not None
    assert (outgoing.destination, outgoing.key, outgoing.value) == (Destination.DEAD_LETTER, b"k", None)


def test_spring_finds_its_own_headers():
    """By setting they are those of Spring Kafka's recoverer: text in UTF-8, numbers big-endian as Java writes them."""
    source = record(9, b"{,", partition=1, key=b"k", headers=[("own", b"1")], timestamp=17)
    outgoing = written(encoder(error_headers=STYLES["spring"]), source, REJECTED)
    assert outgoing.headers[0] == ("own", b"1")
    assert last(outgoing.headers[1:]) == {
        "kafka_dlt-original-topic": b"in",
        "kafka_dlt-original-partition": b"\x00\x00\x00\x01",
        "kafka_dlt-original-offset": b"\x00\x00\x00\x00\x00\x00\x00\x09",
        "kafka_dlt-original-timestamp": b"\x00\x00\x00\x00\x00\x00\x00\x11",
        "kafka_dlt-original-timestamp-type": b"CreateTime",
        "kafka_dlt-original-consumer-group": b"the-group",
        "kafka_dlt-exception-fqcn": b"InvalidMessage",
        "kafka_dlt-exception-message": b"The value is not JSON at character 3.",
        "winnow.errors.reason": b"invalid-json",
        "winnow.errors.timestamp": b"17",
    }


def test_a_record_without_a_timestamp_has_kafkas_number_for_none():
    """As in Java: -1."""
    noted = last(written(encoder(error_headers=STYLES["spring"]), record(timestamp=None), REJECTED).headers)
    assert noted["kafka_dlt-original-timestamp"] == struct.pack(">q", NO_TIMESTAMP)
    assert noted["kafka_dlt-original-timestamp-type"] == b"NoTimestampType"
    assert "winnow.errors.timestamp" not in noted


def test_a_timestamp_of_the_brokers_is_told_as_such():
    """Topics with `message.timestamp.type = LogAppendTime` have no times of producers."""
    source = record(timestamp=17)._replace(log_append_time=True)
    noted = last(written(encoder(error_headers=STYLES["spring"]), source, REJECTED).headers)
    assert noted["kafka_dlt-original-timestamp-type"] == b"LogAppendTime"


def test_a_long_group_is_cut():
    """The name of a consumer group has no bound, and the headers have one."""
    noted = last(written(encoder(error_headers=spring_headers("g" * 1_000)), record(), REJECTED).headers)
    assert noted["kafka_dlt-original-consumer-group"] == b"g" * MAX_GROUP_CHARACTERS


@pytest.mark.parametrize("style", STYLES)
@given(st.none() | st.binary(max_size=6_000), rejections, st.none() | st.integers(0, 2**53))
def test_dead_letters_of_both_styles_conform_to_the_schema(style: str, value, rejection: Rejection, timestamp):
    """With Kafka Connect's headers and with Spring's: both are what the schema describes."""
    source = record(7, value, key=b"k", timestamp=timestamp)
    outgoing = written(encoder(max_bytes=LEAST, error_headers=STYLES[style]), source, rejection)
    document = {
        "key": base64.b64encode(outgoing.key or b"").decode(),
        "value": None if outgoing.value is None else base64.b64encode(outgoing.value).decode(),
        "headers": {name: (held or b"").decode("utf-8", "replace") for name, held in outgoing.headers},
    }
    schema = Draft202012Validator(json.loads(SCHEMA.read_text("utf-8")))
    schema.validate(document)
    del document["headers"]["winnow.errors.reason"]
    assert not schema.is_valid(document)


def test_a_dead_tombstone_stays_a_tombstone():
    """The dead letter of a message without a value has no value either."""
    assert written(encoder(), record(0, None, key=b"k"), REJECTED).value is None


def test_a_result_too_large_becomes_a_dead_letter():
    """No limit turns into silent loss: what the output topic would refuse is diverted, with its reason."""
    outgoing, rejection = encoder(pass_headers=("*",), max_bytes=LEAST)(
        record(0, b"{}", headers=[("big", b"x" * LEAST)]), result()
    )
    assert outgoing is not None
    assert rejection is not None
    assert outgoing.destination is Destination.DEAD_LETTER
    assert (rejection.stage, rejection.reason) == ("encode", "result-too-large")
    assert on_the_wire(outgoing) <= LEAST


def test_a_cut_value_leaves_its_size_and_digest():
    """A dead letter that would be too large keeps the beginning of the value, its size and its SHA-256."""
    value = bytes(range(256)) * 40
    outgoing = written(encoder(max_bytes=LEAST), record(0, value, key=b"k"), REJECTED)
    assert outgoing.value
    assert value.startswith(outgoing.value)
    assert outgoing.key == b"k"
    noted = last(outgoing.headers)
    assert noted["winnow.errors.original.bytes"] == b"10240"
    assert noted["winnow.errors.original.sha256"] == hashlib.sha256(value).hexdigest().encode()
    assert LEAST - 100 < on_the_wire(outgoing) <= LEAST


@given(
    st.none() | st.binary(max_size=9_000),
    st.none() | st.binary(max_size=6_000),
    headers,
    rejections,
    st.text("abc.-_", min_size=1, max_size=249),
    st.none() | st.integers(0, 2**62),
    styles,
)
def test_a_dead_letter_is_always_within_the_bound(value, key, own, rejection, topic, timestamp, style):
    """Whatever key, value, headers, topic, group and reason: what is written fits, and says what was cut."""
    source = record(2**62, value, topic=topic, partition=2**31 - 1, key=key, headers=own, timestamp=timestamp)
    outgoing = written(encoder(max_bytes=LEAST, error_headers=style), source, rejection)
    assert on_the_wire(outgoing) <= LEAST
    noted = last(outgoing.headers)
    assert noted["winnow.errors.reason"] == rejection.reason.encode()
    if outgoing.value != value or outgoing.key != key:
        assert noted["winnow.errors.original.bytes"] == str(len(value or b"")).encode()


def test_header_names_are_measured_in_bytes():
    """A header's name counts as what it is on the wire, in every script."""
    source = record(0, b"x" * LEAST, headers=[("👋" * 300, b"")])
    assert on_the_wire(written(encoder(max_bytes=LEAST), source, REJECTED)) <= LEAST


@given(headers, st.text(max_size=50))
def test_a_result_is_always_within_the_bound(own: Headers, id_: str):
    """Whatever is written for a result fits the bound, as a result or as a dead letter."""
    outgoing = written(encoder(pass_headers=("*",), max_bytes=LEAST), record(0, b"{}", headers=own), result(id_=id_))
    assert on_the_wire(outgoing) <= LEAST


def test_a_value_of_exactly_the_room_is_not_cut():
    """A dead letter that fits to the byte is whole."""
    empty = on_the_wire(written(encoder(), record(0, b""), REJECTED))
    for size in range(LEAST - empty - 30, LEAST - empty + 1):
        outgoing = written(encoder(max_bytes=LEAST), record(0, b"x" * size), REJECTED)
        cut = "winnow.errors.original.bytes" in last(outgoing.headers)
        assert cut == (outgoing.value != b"x" * size)


@pytest.mark.parametrize("stage", sorted(REASONS))
def test_every_stage_has_a_name_in_kafka_connect(stage: str):
    """No stage is without Kafka Connect's word for it."""
    outgoing = written(encoder(), record(), Rejection(stage, "empty", "Why.", "Error"))
    assert last(outgoing.headers)["__connect.errors.stage"]


@given(st.text(min_size=1, max_size=3_000))
def test_long_explanations_are_cut(message: str):
    """A message of any length (a JSON Pointer may be long) becomes a header of bounded length."""
    assume(len(message) > 0)
    outgoing = written(encoder(), record(), REJECTED._replace(message=message))
    said = (last(outgoing.headers)["__connect.errors.exception.message"] or b"").decode()
    assert said == message[:MAX_MESSAGE_CHARACTERS]
