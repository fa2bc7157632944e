"""The schema registry, with the client's own mock: what is written, what is read, and what each fault becomes."""

from __future__ import annotations

import base64
import io
import json
import re
import struct

import fastavro
import hypothesis.strategies as st
import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference
from confluent_kafka.schema_registry._sync.mock_schema_registry_client import MockSchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from hypothesis import given

from tests.kit import FakeClock
from worker import contracts
from worker.errors import BrokerError, ConfigError, InvalidMessage
from worker.kafka.registry import FORMATS, NotRegistered, Registry, subject
from worker.kafka.registry.client import _RETRIES
from worker.kafka.registry.reading import UNKNOWN_SECONDS

SECRET = "the-quick-brown-secret"
RESULTS = json.loads(contracts.json_schema())["examples"]
FROM = {"avro": contracts.from_avro, "json-schema": lambda found: found, "protobuf": contracts.from_protobuf}
NAMES = {"avro": "winnow.v1.Result", "json-schema": "Winnow result", "protobuf": "winnow.v1.Result"}
PROTO = (
    'syntax = "proto3"; package shop; message Pad {} message Sms { message Part { string text = 1; int64 id = 2; } }'
)
TEXT = {"type": "record", "name": "Sms", "namespace": "shop", "fields": [{"name": "text", "type": "string"}]}


@pytest.fixture(autouse=True)
def _mock_has_types(monkeypatch):
    """The client's mock knows everything but this; nobody waits between the times that a registry is asked."""
    monkeypatch.setattr(MockSchemaRegistryClient, "get_schema_types", lambda self: ["AVRO", "JSON", "PROTOBUF"])
    monkeypatch.setitem(_RETRIES, "retries.wait.ms", 1)


def opened(url="mock://registry", properties=None, *, auto_register=True, subjects="topic", timeout=20, clock=None):
    clock = clock or FakeClock()
    return Registry(
        url,
        properties or {},
        auto_register=auto_register,
        subjects=subjects,
        timeout=timeout,
        clock=clock,
        sleep=clock.advance,
    )


def client_of(registry):
    return registry.client._client


def add(registry, text, schema_type, name="in-value", references=()) -> int:
    text = text if isinstance(text, str) else json.dumps(text)
    return client_of(registry).register_schema(name, Schema(text, schema_type, list(references)))


def framed(schema_id: int, payload: bytes) -> bytes:
    return struct.pack(">bI", 0, schema_id) + payload


def avro(schema, datum) -> bytes:
    value = io.BytesIO()
    fastavro.schemaless_writer(value, fastavro.parse_schema(schema), datum)
    return value.getvalue()


def refused(read, value: bytes, reason: str) -> str:
    with pytest.raises(InvalidMessage) as caught:
        read(value)
    assert caught.value.reason == reason
    assert SECRET not in str(caught.value)
    return str(caught.value)


class Down:
    """In the place of the client's client: nothing answers."""

    def __getattr__(self, name):
        raise OSError("nobody is there")


# Results


@pytest.mark.parametrize("format", FORMATS)
def test_confluents_deserializers_read_what_is_written(format):
    """All examples of the contract come back equal, in all formats, with the magic byte and the id in front."""
    registry = opened()
    write = registry.serializer(format, "out")
    client = client_of(registry)
    read = {
        "avro": lambda: AvroDeserializer(client),
        "json-schema": lambda: JSONDeserializer(None, schema_registry_client=client),
        "protobuf": lambda: ProtobufDeserializer(contracts.message_class()),
    }[format]()
    context = SerializationContext("out", MessageField.VALUE)
    for result in RESULTS:
        value = write(result)
        assert value[:1] == b"\0"
        assert FROM[format](read(value, context if format == "json-schema" else None)) == result


@pytest.mark.parametrize("naming", ["topic", "record", "topic-record"])
@pytest.mark.parametrize("format", FORMATS)
def test_subjects_are_named_as_confluents_clients_do(format, naming):
    """By topic, by the record's name in the format, or by both."""
    registry = opened(subjects=naming)
    registry.serializer(format, "out")
    expected = {"topic": "out-value", "record": NAMES[format], "topic-record": f"out-{NAMES[format]}"}
    assert client_of(registry).get_subjects() == [expected[naming]]
    assert subject(naming, "out", NAMES[format]) == expected[naming]


@pytest.mark.parametrize("format", FORMATS)
def test_a_missing_schema_is_refused_at_start_or_registered(format):
    """Without `auto_register` the sentence names the subject and the mend; what is there is used."""
    registry = opened(auto_register=False)
    with pytest.raises(NotRegistered, match=r"^The subject out-value .*auto_register") as caught:
        registry.serializer(format, "out")
    assert (caught.value.subject, caught.value.format) == ("out-value", format)
    text = re.search(r"`worker\.contracts\.(\w+)\(\)`", str(caught.value))[1]
    assert getattr(contracts, text)()
    texts = {
        "avro": json.dumps(contracts.avro_schema()),
        "json-schema": contracts.json_schema(),
        "protobuf": contracts.protobuf_schema(),
    }
    schema_id = add(registry, texts[format], registry.deserializer(format).schema_type, "out-value")
    assert registry.serializer(format, "out")(RESULTS[0])[:5] == framed(schema_id, b"")


def test_a_descriptor_that_confluents_client_registered_is_found():
    """Registries keep the text they were given: both forms of a Protobuf schema are looked for."""
    registry = opened(auto_register=False)
    text = base64.b64encode(contracts.message_class().DESCRIPTOR.file.serialized_pb).decode()
    schema_id = add(registry, text, "PROTOBUF", "out-value")
    assert registry.serializer("protobuf", "out")(RESULTS[0])[:6] == framed(schema_id, b"\0")


@pytest.mark.parametrize("format", FORMATS)
def test_after_the_start_nothing_is_asked_of_the_registry(format):
    """Results are written, and messages with a known schema read, while the registry is away."""
    registry = opened()
    write, read = registry.serializer(format, "out"), registry.deserializer(format)
    first = read(write(RESULTS[0]))
    registry.client._client = Down()
    assert read(write(RESULTS[0])) == first
    assert write(RESULTS[1])


# Messages


def test_what_confluents_serializers_write_is_read():
    """Avro, JSON Schema and Protobuf, each with a schema of its own."""
    registry = opened()
    client, context = client_of(registry), SerializationContext("in", MessageField.VALUE)
    document = {"text": "größe 👋"}
    by_avro = AvroSerializer(client, json.dumps(TEXT))(document, context)
    by_json = JSONSerializer('{"title": "Sms", "type": "object"}', client)(document, context)
    request = contracts.message_class("request")
    by_protobuf = ProtobufSerializer(request, client)(contracts.to_protobuf(document, "request"), context)
    assert registry.deserializer("avro")(by_avro) == document
    assert registry.deserializer("json-schema")(by_json) == document
    assert registry.deserializer("protobuf")(by_protobuf) == document


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("value", [b"", b"\0", b"\0\0\0\0", b"\1\0\0\0\1x", b'{"text": 1}', b"\0\xff\xff\xff\xffx"])
def test_values_without_a_schema_id_are_refused(format, value):
    """Too short, another first byte, or a number that no registry gives."""
    assert "zero byte" in refused(opened().deserializer(format), value, "invalid-framing")


@pytest.mark.parametrize("format", FORMATS)
def test_an_unknown_id_is_refused_and_not_asked_for_again_at_once(format):
    """A producer that errs must not make the worker ask for each of its messages."""
    clock = FakeClock()
    registry = opened(clock=clock)
    read = registry.deserializer(format)
    assert "schema 77" in refused(read, framed(77, b"x"), "unknown-schema")
    client, registry.client._client = client_of(registry), Down()
    refused(read, framed(77, b"x"), "unknown-schema")
    clock.advance(UNKNOWN_SECONDS)
    with pytest.raises(BrokerError, match="nobody is there"):
        read(framed(77, b"x"))
    registry.client._client = client
    refused(read, framed(77, b"x"), "unknown-schema")


def test_ids_that_are_unknown_take_no_memory_without_a_bound():
    """However many a broken producer makes up; the oldest are forgotten, and what is known stays known."""
    registry = opened()
    read = registry.deserializer("avro")
    schema_id = add(registry, TEXT, "AVRO")
    read(framed(schema_id, b"\4hi"))
    for unknown in range(10, 1_100):
        refused(read, framed(unknown, b""), "unknown-schema")
    assert list(read._unknown) == list(range(100, 1_100))
    registry.client._client = Down()
    refused(read, framed(1_099, b""), "unknown-schema")
    assert read(framed(schema_id, b"\4hi")) == {"text": "hi"}


@pytest.mark.parametrize("format", FORMATS)
def test_a_registry_that_is_away_ends_the_worker_and_no_message(format):
    """A new schema while nobody answers is no fault of the message; afterwards it is read."""
    registry = opened()
    write, read = registry.serializer(format, "out"), registry.deserializer(format)
    client, registry.client._client = client_of(registry), Down()
    with pytest.raises(BrokerError, match=r"mock://registry does not answer \(nobody is there\)"):
        read(write(RESULTS[0]))
    registry.client._client = client
    assert read(write(RESULTS[0]))


def test_a_schema_of_another_type_is_refused():
    """An id says which schema, and not that it is of the format of the settings."""
    registry = opened()
    schema_id = add(registry, TEXT, "AVRO")
    for format in ("json-schema", "protobuf"):
        assert "type AVRO" in refused(registry.deserializer(format), framed(schema_id, b"{}"), "unknown-schema")


@pytest.mark.parametrize(
    ("format", "schema", "payload", "reason"),
    [
        ("avro", json.dumps(TEXT), b"\xff", "invalid-payload"),
        ("avro", json.dumps(TEXT), b"\x08\xff\xff\xff\xff", "invalid-payload"),
        ("avro", json.dumps(TEXT), b"", "invalid-payload"),
        ("json-schema", "{}", SECRET.encode(), "invalid-json"),
        ("json-schema", "{}", b"\xff", "invalid-utf8"),
        ("protobuf", PROTO, b"\x04\x02\x00\xff\xff", "invalid-payload"),
        ("protobuf", PROTO, b"", "invalid-framing"),
        ("protobuf", PROTO, b"\x80" * 100_000, "invalid-framing"),
        ("protobuf", PROTO, b"\x02\x09", "invalid-framing"),
        ("protobuf", PROTO, b"\x02\x01", "invalid-framing"),
        ("protobuf", PROTO, b"\xd0\x0f", "invalid-framing"),
    ],
)
def test_values_that_do_not_parse_are_refused(format, schema, payload, reason):
    """By their schema, or as the message of it that they say they are."""
    registry = opened()
    read = registry.deserializer(format)
    refused(read, framed(add(registry, schema, read.schema_type), payload), reason)


# Avro


def test_avro_is_read_as_json_would_have_it():
    """Logical types are numbers and strings: an id may be a UUID, and a pointer finds it."""
    registry = opened()
    fields = {
        "id": {"type": "string", "logicalType": "uuid"},
        "at": {"type": "long", "logicalType": "timestamp-millis"},
        "price": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}],
        "kind": {"type": "enum", "name": "Kind", "symbols": ["SMS"]},
    }
    schema = {"type": "record", "name": "R", "fields": [{"name": n, "type": t} for n, t in fields.items()]}
    plain = {"type": "record", "name": "R", "fields": [
        {"name": "id", "type": "string"}, {"name": "at", "type": "long"}, {"name": "price", "type": ["null", "bytes"]},
        {"name": "kind", "type": fields["kind"]},
    ]}  # fmt: skip
    datum = {"id": "6e8bc430-9c3a-11d9-9669-0800200c9a66", "at": 1763700000000, "price": None, "kind": "SMS"}
    assert registry.deserializer("avro")(framed(add(registry, schema, "AVRO"), avro(plain, datum))) == datum


@pytest.mark.parametrize(("schema", "payload", "expected"), [('"string"', b"\4hi", "hi"), ('"bytes"', b"hi", b"hi")])
def test_avro_schemas_may_be_of_one_type(schema, payload, expected):
    """A string is the document itself; bytes are written without their length, as Confluent's serializers do."""
    registry = opened()
    assert registry.deserializer("avro")(framed(add(registry, schema, "AVRO"), payload)) == expected


def test_avro_schemas_may_refer_to_others():
    """To schemas of the registry that refer to others themselves, by more than one way."""
    registry = opened()
    country = {"type": "enum", "name": "Country", "namespace": "geo", "symbols": ["DE", "FR"]}
    place = {"type": "record", "name": "Place", "namespace": "geo", "fields": [{"name": "in", "type": "geo.Country"}]}
    fields = [
        {"name": "text", "type": "string"},
        {"name": "at", "type": "geo.Place"},
        {"name": "of", "type": "geo.Country"},
    ]
    add(registry, country, "AVRO", "country")
    add(registry, place, "AVRO", "place", [SchemaReference("geo.Country", "country", 1)])
    root = {"type": "record", "name": "Sms", "fields": fields}
    references = [SchemaReference("geo.Place", "place", 1), SchemaReference("geo.Country", "country", 1)]
    read = registry.deserializer("avro")
    document = read(framed(add(registry, root, "AVRO", references=references), b"\4hi\0\2"))
    assert document == {"text": "hi", "at": {"in": "DE"}, "of": "FR"}


def test_a_deeply_nested_value_of_a_recursive_schema_is_refused():
    """fastavro's compiled reader would end the process; some levels are read."""
    node = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
    for schema in (node, {"type": "array", "items": node}, ["null", {"type": "map", "values": node}]):
        registry = opened()
        read = registry.deserializer("avro")
        refused(read, framed(add(registry, schema, "AVRO"), b"\2" * 260_000 + b"\0"), "invalid-payload")
    registry = opened()
    value = framed(add(registry, node, "AVRO"), b"\2" * 50 + b"\0")
    document, levels = registry.deserializer("avro")(value), 0
    while document := document["next"]:
        levels += 1
    assert levels == 50


@pytest.mark.parametrize(
    "items",
    [
        "null",
        {"type": "null"},
        {"type": "fixed", "name": "F", "size": 0},
        {"type": "record", "name": "E", "fields": []},
        {
            "type": "record",
            "name": "O",
            "fields": [{"name": "a", "type": {"type": "record", "name": "E", "fields": []}}],
        },
    ],
)
def test_arrays_of_what_takes_no_bytes_are_refused(items):
    """A value of ten bytes could say that there are a billion."""
    registry = opened()
    schema_id = add(registry, {"type": "array", "items": items}, "AVRO")
    refused(registry.deserializer("avro"), framed(schema_id, b"\xfe\xff\xff\xff\xff\x07"), "unknown-schema")


@pytest.mark.parametrize("schema", ["{", "17", '{"type": "no.such.Type"}'])
@pytest.mark.parametrize("format", ["avro", "protobuf"])
def test_a_schema_that_is_none_is_refused(format, schema):
    """Whatever a registry holds, its messages are dead letters, and the worker goes on."""
    registry = opened()
    read = registry.deserializer(format)
    refused(read, framed(add(registry, schema, read.schema_type), b"\0"), "unknown-schema")


# Protobuf


def test_any_message_of_a_protobuf_file_is_read():
    """Messages within messages, fields by the names of the file, and those that are not set with their defaults."""
    registry = opened()
    schema_id = add(registry, PROTO, "PROTOBUF")
    read = registry.deserializer("protobuf")
    assert read(framed(schema_id, b"\4\2\0\x0a\2hi\x10\7")) == {"text": "hi", "id": "7"}
    assert read(framed(schema_id, b"\4\2\0")) == {"text": "", "id": "0"}
    assert read(framed(schema_id, b"\0")) == {}


@pytest.mark.parametrize("as_text", ["root", "import", "both", "none"])
def test_protobuf_schemas_import_others_as_text_or_descriptors(as_text):
    """Files of the registry and those that come with Protobuf, whichever way a client registered them."""
    registry = opened()
    imported = FileDescriptorProto(
        name="who.proto", package="shop", syntax="proto3", dependency=["google/type/date.proto"]
    )
    field = imported.message_type.add(name="Who").field.add(name="born", number=1, type=11, label=1)
    field.type_name = ".google.type.Date"
    root = FileDescriptorProto(name="sms.proto", package="shop", syntax="proto3", dependency=["shop/who.proto"])
    field = root.message_type.add(name="Sms").field.add(name="who", number=1, type=11, label=1)
    field.type_name = ".shop.Who"
    texts = {
        "import": 'syntax = "proto3"; package shop; import "google/type/date.proto"; '
        "message Who { google.type.Date born = 1; }",
        "root": 'syntax = "proto3"; package shop; import public "shop/who.proto"; message Sms { Who who = 1; }',
    }
    files = {"import": imported, "root": root}
    made = {
        part: texts[part] if as_text in (part, "both") else base64.b64encode(files[part].SerializeToString()).decode()
        for part in files
    }
    add(registry, made["import"], "PROTOBUF", "who")
    schema_id = add(registry, made["root"], "PROTOBUF", references=[SchemaReference("shop/who.proto", "who", 1)])
    document = registry.deserializer("protobuf")(framed(schema_id, b"\0\x0a\5\x0a\3\x08\xea\x0f"))
    assert document == {"who": {"born": {"year": 2026, "month": 0, "day": 0}}}


def test_protobuf_imports_do_not_leave_their_folder():
    """A schema's names are not trusted."""
    registry = opened()
    add(registry, 'syntax = "proto3";', "PROTOBUF", "evil")
    references = [SchemaReference("../../evil.proto", "evil", 1)]
    schema_id = add(registry, PROTO, "PROTOBUF", references=references)
    assert "by a name" in refused(registry.deserializer("protobuf"), framed(schema_id, b"\0"), "unknown-schema")


def test_without_the_compiler_a_schema_as_text_ends_the_worker(monkeypatch):
    """It is the set-up that lacks something, and not the message."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    registry = opened()
    with pytest.raises(ConfigError, match=r"winnow-worker\[registry\]"):
        registry.deserializer("protobuf")(framed(add(registry, PROTO, "PROTOBUF"), b"\0"))


# Whatever comes


@given(st.sampled_from(FORMATS), st.binary(max_size=40), st.booleans())
def test_every_value_is_a_document_or_an_invalid_message(format, payload, with_id):
    """Nothing else is ever raised."""
    registry, read = known(format)
    try:
        read(framed(registry, payload) if with_id else payload)
    except InvalidMessage as error:
        reason = error.reason
    else:
        reason = "read"
    assert reason in {"read", "invalid-framing", "invalid-payload", "unknown-schema", "invalid-json", "invalid-utf8"}


_KNOWN: dict[str, tuple] = {}


def known(format: str):
    """One registry with one schema for all examples."""
    if format not in _KNOWN:
        registry = opened()
        schemas = {
            "avro": json.dumps(contracts.avro_schema()),
            "json-schema": "{}",
            "protobuf": contracts.protobuf_schema(),
        }
        registry.client.check = lambda schema_type: None
        read = registry.deserializer(format)
        _KNOWN[format] = add(registry, schemas[format], read.schema_type), read
    return _KNOWN[format]
