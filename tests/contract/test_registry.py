"""Against a real schema registry: three formats in and out, by Confluent's own serializers, and its faults."""

from __future__ import annotations

import json
import struct
import time
from uuid import uuid4

import pytest
from confluent_kafka.schema_registry import (
    Schema,
    SchemaReference,
    SchemaRegistryClient,
    record_subject_name_strategy,
    topic_subject_name_strategy,
)
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from tests import documents
from worker import contracts
from worker.errors import BrokerError, ConfigError, InvalidMessage
from worker.kafka.registry import FORMATS, NotRegistered, Registry

pytestmark = pytest.mark.registry

RESULTS = json.loads(contracts.json_schema())["examples"]
REQUESTS = json.loads(contracts.json_schema("request"))["examples"]
SCHEMAS = {
    "avro": ("AVRO", lambda name: json.dumps(contracts.avro_schema(name))),
    "json-schema": ("JSON", contracts.json_schema),
    "protobuf": ("PROTOBUF", contracts.protobuf_schema),
}
TO = {"avro": contracts.to_avro, "json-schema": lambda document, _: document, "protobuf": contracts.to_protobuf}
FROM = {
    "avro": contracts.from_avro,
    "json-schema": lambda found, _="result": found,
    "protobuf": contracts.from_protobuf,
}
BY_TOPIC = {"subject.name.strategy": topic_subject_name_strategy}


@pytest.fixture
def client(apicurio):
    with SchemaRegistryClient({"url": apicurio.url, "timeout": 10}) as opened:
        yield opened


@pytest.fixture
def connect(apicurio):
    """Registries as a worker has them."""
    opened = []

    def connect(url=apicurio.url, *, auto_register=True, subjects="topic", timeout=10, **properties):
        opened.append(Registry(url, properties, auto_register=auto_register, subjects=subjects, timeout=timeout))
        return opened[-1]

    yield connect
    for registry in opened:
        registry.close()


@pytest.fixture
def topic():
    return f"topic-{uuid4().hex[:10]}"


def confluents_serializer(format, client):
    """Confluent's own, of requests."""
    _, text = SCHEMAS[format]
    if format == "avro":
        return AvroSerializer(client, text("request"), conf=BY_TOPIC)
    if format == "json-schema":
        return JSONSerializer(text("request"), client, conf=BY_TOPIC)
    return ProtobufSerializer(contracts.message_class("request"), client, conf=BY_TOPIC)


def confluents_deserializer(format, client):
    """Confluent's own, of results."""
    if format == "avro":
        return AvroDeserializer(client, conf=BY_TOPIC)
    if format == "json-schema":
        return JSONDeserializer(None, schema_registry_client=client, conf=BY_TOPIC)
    # With the client it would ask for the descriptor of what is text, which Apicurio cannot send.
    return ProtobufDeserializer(contracts.message_class(), conf=BY_TOPIC)


def framed(schema_id: int, payload: bytes) -> bytes:
    return struct.pack(">bI", 0, schema_id) + payload


@pytest.mark.parametrize("format", FORMATS)
def test_results_are_read_by_confluents_deserializers(connect, client, topic, format):
    """Every example of the contract comes back equal."""
    write, read = connect().serializer(format, topic), confluents_deserializer(format, client)
    context = SerializationContext(topic, MessageField.VALUE)
    assert [FROM[format](read(write(result), context)) for result in RESULTS] == RESULTS


@pytest.mark.parametrize("format", FORMATS)
def test_messages_by_confluents_serializers_are_read(connect, client, topic, format):
    """Text and id of every example of the contract come back; the twins of JSON have ids as text."""
    serialize, read = confluents_serializer(format, client), connect().deserializer(format)
    context = SerializationContext(topic, MessageField.VALUE)
    for request in ({name: one[name] for name in ("text", "id") if one.get(name) is not None} for one in REQUESTS):
        found = read(serialize(TO[format](request, "request"), context))
        if format != "protobuf":
            found = FROM[format](found, "request")
        assert found["text"] == request["text"]
        assert str(found.get("id") or None) == str(request.get("id"))


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_written_can_be_an_input_again(connect, topic, format):
    """A worker behind a worker, which never saw the schema."""
    write, read = connect().serializer(format, topic), connect().deserializer(format)
    for result in RESULTS:
        found = read(write(result))
        assert (found["id"], found["source"]["topic"]) == (result["id"], result["source"]["topic"])
        if format != "protobuf":
            assert FROM[format](found) == result


@pytest.mark.parametrize("format", FORMATS)
def test_registering_is_asked_for_and_done_once(connect, client, topic, format):
    """Without `auto_register` nothing is registered; with it, once, and then it is found without."""
    with pytest.raises(NotRegistered, match=f"{topic}-value"):
        connect(auto_register=False).serializer(format, topic)
    assert f"{topic}-value" not in client.get_subjects()
    first = connect().serializer(format, topic)(RESULTS[0])
    for auto_register in (True, False):
        assert connect(auto_register=auto_register).serializer(format, topic)(RESULTS[0]) == first
    assert client.get_versions(f"{topic}-value") == [1]


@pytest.mark.parametrize("format", ["avro", "json-schema"])
def test_a_schema_in_another_layout_is_found(connect, client, topic, format):
    """Whoever registered it may have formatted it."""
    schema_type, text = SCHEMAS[format]
    layout = json.dumps(json.loads(text("result")), indent=7)
    schema_id = client.register_schema(f"{topic}-value", Schema(layout, schema_type))
    assert connect(auto_register=False).serializer(format, topic)(RESULTS[0])[:5] == framed(schema_id, b"")


def test_a_schema_that_confluents_client_registered_is_found(connect, client, topic):
    """For Protobuf it registers a descriptor, and Apicurio keeps that as it is."""
    by_client = ProtobufSerializer(contracts.message_class(), client, conf=BY_TOPIC)
    value = by_client(contracts.to_protobuf(RESULTS[0]), SerializationContext(topic, MessageField.VALUE))
    assert connect(auto_register=False).serializer("protobuf", topic)(RESULTS[0]) == value


def test_subjects_by_record_are_those_of_confluents_clients(connect, client):
    """A client that looks for the schema by the record's name finds the one that was registered."""
    value = connect(subjects="record").serializer("avro", "any")(RESULTS[0])
    conf = {"subject.name.strategy": record_subject_name_strategy, "auto.register.schemas": False}
    serialize = AvroSerializer(client, json.dumps(contracts.avro_schema()), conf=conf)
    assert serialize(contracts.to_avro(RESULTS[0]), SerializationContext("any", MessageField.VALUE)) == value


def test_registering_by_hand_as_the_documentation_has_it(connect, client, apicurio):
    """The block of docs/registry.md, at this registry's address: what it registers is found."""
    (block,) = documents.run_by(__file__)
    ran = {}
    exec(block.text.replace("http://localhost:8081", apicurio.url), ran)
    ran["client"].close()
    assert connect(auto_register=False).serializer("protobuf", "messages.labelled")(RESULTS[0])
    assert client.get_versions("messages.labelled-value") == [1]


def test_an_incompatible_subject_is_told_at_start(connect, client, topic):
    """The registry's own reason is in the sentence, and what can be done."""
    other = {"type": "record", "name": "Result", "namespace": "winnow.v1", "fields": [{"name": "n", "type": "long"}]}
    client.register_schema(f"{topic}-value", Schema(json.dumps(other), "AVRO"))
    client.set_compatibility(f"{topic}-value", "BACKWARD")
    with pytest.raises(ConfigError, match=rf"{topic}-value.*does not take.*[Ii]ncompatible.*compatibility"):
        connect().serializer("avro", topic)


@pytest.mark.parametrize("format", FORMATS)
def test_whether_a_subject_would_take_the_schema_is_asked_without_a_change(connect, client, topic, format):
    """One that there is not yet does, and one with the schema itself; one with others says no."""
    asking = connect(auto_register=False)
    assert asking.check_compatible(format, topic)
    assert f"{topic}-value" not in client.get_subjects()
    connect().serializer(format, topic)
    # Apicurio does not know the newest JSON Schema well enough to compare.
    assert asking.check_compatible(format, topic) is (format != "json-schema")
    other = {"type": "record", "name": "Result", "namespace": "winnow.v1", "fields": [{"name": "n", "type": "long"}]}
    client.register_schema(f"{topic}-other-value", Schema(json.dumps(other), "AVRO"))
    client.set_compatibility(f"{topic}-other-value", "BACKWARD")
    with pytest.raises(ConfigError, match=rf"{topic}-other-value.*does not take.*compatibility"):
        asking.check_compatible("avro", f"{topic}-other")
    assert client.get_versions(f"{topic}-other-value") == [1]


@pytest.mark.parametrize("format", FORMATS)
def test_ids_that_the_registry_does_not_have_are_refused(connect, format):
    """The largest that there can be, too."""
    read = connect().deserializer(format)
    for schema_id in (0, 1_000_000, 2**31 - 1):
        with pytest.raises(InvalidMessage) as caught:
            read(framed(schema_id, b"{}"))
        assert caught.value.reason == "unknown-schema"


def test_avro_references_are_followed(connect, client, topic):
    """A type of a schema that another subject has."""
    place = {"type": "enum", "name": "Country", "namespace": topic.replace("-", "_"), "symbols": ["DE", "FR"]}
    name = f"{place['namespace']}.Country"
    client.register_schema(name, Schema(json.dumps(place), "AVRO"))
    fields = [{"name": "text", "type": "string"}, {"name": "of", "type": name}]
    root = Schema(
        json.dumps({"type": "record", "name": "Sms", "fields": fields}), "AVRO", [SchemaReference(name, name, 1)]
    )
    schema_id = client.register_schema(f"{topic}-value", root)
    assert connect().deserializer("avro")(framed(schema_id, b"\4hi\2")) == {"text": "hi", "of": "FR"}


def test_protobuf_references_are_followed(connect, client, topic):
    """A file that imports one of the registry, which imports one that comes with Protobuf; a message in a message."""
    package, name = topic.replace("-", "_"), f"{topic}/who.proto"
    who = (
        f'syntax = "proto3"; package {package}; import "google/type/date.proto"; '
        "message Who { google.type.Date born = 1; }"
    )
    sms = (
        f'syntax = "proto3"; package {package}; import "{name}"; '
        "message Pad {} message Sms { message Part { string text = 1; Who who = 2; } }"
    )
    client.register_schema(name, Schema(who, "PROTOBUF"))
    schema_id = client.register_schema(f"{topic}-value", Schema(sms, "PROTOBUF", [SchemaReference(name, name, 1)]))
    value = framed(schema_id, b"\4\2\0\x0a\2hi\x12\5\x0a\3\x08\xea\x0f")
    expected = {"text": "hi", "who": {"born": {"year": 2026, "month": 0, "day": 0}}}
    assert connect().deserializer("protobuf")(value) == expected


def test_an_address_without_the_registrys_path_is_told(connect, apicurio):
    """What answers there is a web server, and no message becomes a dead letter of it."""
    root = apicurio.url.partition("/apis")[0]
    with pytest.raises(BrokerError, match=rf"no schema registry at {root}.*path"):
        connect(root).deserializer("avro")


def test_a_registry_that_hangs_is_waited_for_with_a_bound(connect, apicurio, topic):
    """Three times the time for an answer, and then the worker ends; what is known goes on."""
    registry = connect(timeout=0.2)
    write, read = registry.serializer("avro", topic), registry.deserializer("avro")
    known = write(RESULTS[0])
    assert read(known)
    with apicurio.frozen():
        assert read(write(RESULTS[1]))
        began = time.monotonic()
        with pytest.raises(BrokerError, match="does not answer"):
            read(framed(2**30, b""))
        assert time.monotonic() - began < 10


def test_a_registry_that_is_away_ends_the_worker_and_no_message(connect, client, apicurio, topic):
    """At start with a sentence; while running only when a new schema comes up, and then no message is given up."""
    running = connect()
    write, read = running.serializer("avro", topic), running.deserializer("avro")
    new = framed(client.register_schema(f"{topic}-new", Schema('"string"', "AVRO")), b"\4hi")
    assert read(write(RESULTS[0]))
    with apicurio.away():
        assert read(write(RESULTS[1]))
        for call in (lambda: read(new), lambda: connect().serializer("avro", topic)):
            with pytest.raises(BrokerError, match=apicurio.url) as caught:
                call()
            assert caught.value.exit_code == 4
