"""Schemas and values that somebody made to end the worker, to hang it or to take its memory."""

from __future__ import annotations

import base64
import errno
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka.schema_registry import SchemaReference
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from tests.unit.kafka.test_registry import _mock_has_types, add, framed, opened, refused  # noqa: F401
from worker.errors import ConfigError, InvalidMessage, SetupError
from worker.kafka.registry import protoc
from worker.kafka.registry.avro_bounds import bounds
from worker.kafka.registry.reading import UNKNOWN_SECONDS
from worker.pipeline.decode import pointer

PROTO = 'syntax = "proto3"; message Sms { string text = 1; }'
SMS = framed(0, b"\0\x0a\2hi")[5:]


def record(name, *types):
    return {"type": "record", "name": name, "fields": [{"name": f"f{n}", "type": t} for n, t in enumerate(types)]}


def zigzag(number: int) -> bytes:
    number, found = number << 1, []
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def avro_reader(schema):
    registry = opened()
    read, schema_id = registry.deserializer("avro"), add(registry, schema, "AVRO")
    return lambda payload: read(framed(schema_id, payload))


def chain(length: int, last: str) -> list:
    """A flat union of records, each with the one before it."""
    return [record("r0", last), *(record(f"r{n}", f"r{n - 1}") for n in range(1, length))]


# Avro


def test_a_flat_chain_of_records_does_not_end_the_process():
    """Five bytes go down twenty thousand levels, which the schema's text does not show. In a process of its own."""
    code = (
        "from tests.unit.kafka.test_registry_hostile import *\n"
        "with pytest.MonkeyPatch.context() as patch:\n"
        "    patch.setattr('worker.kafka.registry.client.Client.check', lambda *_: None)\n"
        "    read = avro_reader(chain(20_000, 'string'))\n"
        "    refused(read, zigzag(19_999) + b'\\2a', 'invalid-payload')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("length", [100, 210])
def test_some_hundred_levels_are_read(length):
    """By the compiled reader, and beyond by its bounded twin."""
    found = avro_reader(chain(length, "string"))(zigzag(length - 1) + b"\2a")
    for _ in range(length):
        found = found["f0"]
    assert found == "a"


@pytest.mark.parametrize(
    ("last", "items"),
    [("null", "r39"), ("null", {"type": "array", "items": "r39"}), ({"type": "fixed", "name": "f", "size": 0}, "r39")],
)
def test_records_that_double_are_refused(last, items):
    """Forty of them would be a million million values of no bytes; to find that out takes no time."""
    records = [record("r0", last), *(record(f"r{n}", f"r{n - 1}", f"r{n - 1}") for n in range(1, 40))]
    began = time.monotonic()
    sentence = refused(avro_reader([*records, record("top", "string", items)]), zigzag(40), "unknown-schema")
    assert "10,000 values that take no bytes" in sentence
    assert time.monotonic() - began < 5


def test_doubling_records_of_strings_are_read():
    """Each of their values takes a byte, so that a value is never more than its bytes."""
    records = [record("r0", "string"), *(record(f"r{n}", f"r{n - 1}", f"r{n - 1}") for n in range(1, 40))]
    refused(avro_reader(records), zigzag(39) + b"\2a", "invalid-payload")
    assert avro_reader(records)(zigzag(1) + b"\2a\2b") == {"f0": {"f0": "a"}, "f1": {"f0": "b"}}


@pytest.mark.parametrize(
    ("schema", "depth", "free"),
    [
        ("string", 1, 0),
        (record("a", "string"), 2, 0),
        (record("n", ["null", "n"]), float("inf"), 1),
        (record("n", {"type": "array", "items": "n"}), float("inf"), 0),
        (record("a", *["null"] * 20), 2, 21),
        (record("a", *[["null", "string"]] * 20), 3, 1),
        (record("a", {"type": "map", "values": record("b")}), 3, 1),
        ({"type": "array", "items": record("b")}, 2, float("inf")),
        ({"type": "array", "items": {"type": "fixed", "name": "f", "size": -1}}, 2, float("inf")),
        ({"type": "array", "items": record("b", record("c"))}, 3, float("inf")),
    ],
)
def test_the_bounds_of_a_schema(schema, depth, free):
    """How deep it is, and how many values come for free with a byte."""
    assert bounds(schema) == (depth, free)


def test_large_values_of_many_that_take_no_bytes_are_refused():
    """What a small one may stand for is read."""
    read = avro_reader({"type": "array", "items": ["null", record("a", *["null"] * 5_000)]})
    assert len(read(b"\2\2\0")[0]) == 5_000
    refused(read, b"\xa0\x1f" + b"\2" * 2_000 + b"\0", "invalid-payload")


def test_memory_that_is_missing_is_no_fault_of_a_message():
    """It is the machine's: the message is not given up."""
    registry = opened()
    read, schema_id = registry.deserializer("avro"), add(registry, "string", "AVRO")

    def fail(*_):
        raise MemoryError

    read._readers[schema_id] = fail
    with pytest.raises(MemoryError):
        read(framed(schema_id, b"\2a"))
    read._readers.clear()
    read._open = fail
    with pytest.raises(MemoryError):
        read(framed(schema_id, b"\2a"))


# Protobuf


def protobuf_reader(registry, text, references=()):
    read, schema_id = registry.deserializer("protobuf"), add(registry, text, "PROTOBUF", references=references)
    return lambda payload: read(framed(schema_id, payload))


def file_with(fields: int, label: int) -> str:
    """A message with submessages of so many fields, which are repeated or a map, as a descriptor."""
    file = FileDescriptorProto(name="x.proto", package="p", syntax="proto3")
    message = file.message_type.add(name="M")
    message.field.add(name="text", number=1, type=9, label=1)
    message.field.add(name="k", number=2, type=11, label=3, type_name=".p.M.K")
    wide = message.nested_type.add(name="K" if label == 3 else "Wide")
    for number in range(1, fields + 1):
        wide.field.add(name=f"f{number}", number=number, type=5, label=1)
    if label == 1:
        entry = message.nested_type.add(name="K")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=5, label=1)
        entry.field.add(name="value", number=2, type=11, label=1, type_name=".p.M.Wide")
        message.field[1].name, entry.name, message.field[1].type_name = "k", "KEntry", ".p.M.KEntry"
    return base64.b64encode(file.SerializeToString()).decode()


@pytest.mark.parametrize("label", [1, 3])
def test_empty_submessages_of_many_fields_are_refused_before_they_are_made(label):
    """Two bytes each would stand for twenty kilobytes; the same schema reads what is not so."""
    read = protobuf_reader(opened(), file_with(5_000, label))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "too many messages" in refused(read, b"\0\x0a\1a" + b"\x12\0" * 500_000, "invalid-payload")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    assert pointer("/text")(read(b"\0\x0a\1a" + b"\x12\0" * 100)) == "a"
    long = b"\0\x0a\xc0\x84\x3d" + b"a" * 1_000_000
    assert pointer("/text")(read(long)) == "a" * 1_000_000


def test_only_what_a_pointer_names_is_made():
    """Defaults of a thousand fields in thousands of messages cost nothing, and are there where they are asked for."""
    read = protobuf_reader(opened(), file_with(1_000, 3))
    began = time.process_time()
    document = read(b"\0\x0a\1a" + b"\x12\0" * 5_000)
    assert pointer("/text")(document) == "a"
    assert pointer("/k/4999/f1000")(document) == 0
    assert pointer("/k/5000/f1")(document) is pointer("/none")(document)
    assert time.process_time() - began < 1


def test_a_protobuf_document_is_the_json_that_the_message_has():
    """All kinds of fields, with the defaults of those that are not there; missing are those with presence."""
    text = (
        'syntax = "proto3"; import "google/protobuf/wrappers.proto"; import "google/protobuf/timestamp.proto";'
        'import "google/protobuf/struct.proto";'
        "message Sms { enum Kind { NONE = 0; SPAM = 1; } message Part { string text = 1; }"
        " string text = 1; int64 id = 2; bool read = 3; double price = 4; bytes raw = 5; Kind kind = 6; Part part = 7;"
        " repeated Part parts = 8; map<int32, Part> by_number = 9; map<bool, string> by_read = 10;"
        " optional string note = 11; google.protobuf.StringValue subject = 12; google.protobuf.Timestamp at = 13;"
        " google.protobuf.Struct more = 14; oneof of { string left = 15; string right = 16; } repeated uint64 ids = 17;"
        " }"
    )
    read = protobuf_reader(opened(), text)
    defaults = {
        "text": "", "id": "0", "read": False, "price": 0.0, "raw": "", "kind": "NONE", "parts": [], "by_number": {},
        "by_read": {}, "ids": [],
    }  # fmt: skip
    assert read(b"\0") == defaults
    assert pointer("/note")(read(b"\0")) is pointer("/none")(read(b"\0"))
    value = (
        b"\x0a\1a\x10\7\x18\1\x21\0\0\0\0\0\0\xf0\x7f\x2a\1\xff\x30\1\x3a\3\x0a\1b\x42\0\x42\3\x0a\1c"
        b"\x4a\7\x08\5\x12\3\x0a\1d\x52\5\x08\1\x12\1e\x5a\0\x62\3\x0a\1f\x6a\2\x08\1"
        b"\x72\x0a\x0a\x08\x0a\1k\x12\3\x1a\1v\x7a\0\x8a\1\2\1\2"
    )
    document = read(b"\0" + value)
    assert document == defaults | {
        "text": "a", "id": "7", "read": True, "price": "Infinity", "raw": "/w==", "kind": "SPAM", "part": {"text": "b"},
        "parts": [{"text": ""}, {"text": "c"}], "by_number": {"5": {"text": "d"}}, "by_read": {"true": "e"}, "note": "",
        "subject": "f", "at": "1970-01-01T00:00:01Z", "more": {"k": "v"}, "left": "", "ids": ["1", "2"],
    }  # fmt: skip
    assert pointer("/parts/1/text")(document) == "c"
    assert pointer("/by_number/5/text")(document) == "d"
    assert pointer("/subject")(document) == "f"


def test_what_has_no_json_is_refused_when_it_is_asked_for():
    """A time beyond the year 9999, and text that is not UTF-8 where Protobuf lets it be."""
    at = 'syntax = "proto3"; import "google/protobuf/timestamp.proto"; message M { google.protobuf.Timestamp at = 1; }'
    for text, payload in (
        (at, b"\0\x0a\x0a\x08" + b"\xff" * 8 + b"\x7f"),
        ('syntax = "proto2"; message M { optional string at = 1; }', b"\0\x0a\1\xff"),
    ):
        read = protobuf_reader(opened(), text)
        refused(lambda value, read=read: pointer("/at")(read(value)), payload, "invalid-payload")


@pytest.mark.parametrize(
    "names",
    [
        [""],
        ["a.proto", "a.proto/b.proto"],
        ["é" * 150],
        ["a" * 300],
        ["../a"],
        ["/a"],
        ["a//b"],
        ["./a"],
        ["a\0"],
        ["a b"],
    ],
)
def test_references_by_names_that_cannot_be_files_are_refused(names):
    """Whatever a schema calls them, the worker goes on, and nothing is written anywhere."""
    registry = opened()
    for number, _ in enumerate(names):
        add(registry, 'syntax = "proto3";', "PROTOBUF", f"s{number}")
    references = [SchemaReference(name, f"s{number}", 1) for number, name in enumerate(names)]
    assert "by a name" in refused(protobuf_reader(registry, PROTO, references), SMS, "unknown-schema")


def test_files_of_the_registry_may_be_called_as_the_compilers_own():
    """Sources are in a folder of their own."""
    registry = opened()
    for name in ("made", "known"):
        add(registry, f'syntax = "proto3"; package {name};', "PROTOBUF", name)
    references = [SchemaReference(name, name, 1) for name in ("made", "known")]
    assert protobuf_reader(registry, PROTO, references)(SMS) == {"text": "hi"}


def compiler(monkeypatch, *, code=0, stderr=b"", raises=None):
    def run(command, **_):
        if raises:
            raise raises
        return subprocess.CompletedProcess(command, code, b"", stderr)

    monkeypatch.setattr(protoc.subprocess, "run", run)


@pytest.mark.parametrize(
    "trouble",
    [
        {"code": -9},
        {"code": -15},
        {"code": 1, "stderr": b"Traceback (most recent call last):\n  File x\nImportError: no such file"},
        {"raises": subprocess.TimeoutExpired("protoc", protoc.SECONDS)},
    ],
)
def test_a_compiler_that_is_ended_ends_the_worker_and_no_message(monkeypatch, trouble):
    """It is the machine's trouble: the message is read again, then with success."""
    read = protobuf_reader(opened(), PROTO)
    with monkeypatch.context() as patch:
        compiler(patch, **trouble)
        with pytest.raises(SetupError, match="read again"):
            read(SMS)
    assert read(SMS) == {"text": "hi"}


@pytest.mark.parametrize(
    ("number", "fatal"), [(errno.ENOSPC, True), (errno.EACCES, True), (errno.EROFS, True), (errno.ENAMETOOLONG, False)]
)
def test_a_folder_that_cannot_be_had_ends_the_worker_and_no_message(monkeypatch, number, fatal):
    """But for what a schema may bring about."""
    read = protobuf_reader(opened(), PROTO)
    compiler(monkeypatch, raises=OSError(number, "no"))
    with pytest.raises(ConfigError if fatal else InvalidMessage):
        read(SMS)


def test_a_schema_that_the_compiler_crashes_on_is_tried_again_later(monkeypatch):
    """Its messages are dead letters meanwhile: the worker would end each time that it reads them."""
    registry = opened()
    read = protobuf_reader(registry, PROTO)
    with monkeypatch.context() as patch:
        compiler(patch, code=-11)
        refused(read, SMS, "unknown-schema")
    refused(read, SMS, "unknown-schema")
    registry._clock.advance(UNKNOWN_SECONDS)
    assert read(SMS) == {"text": "hi"}


@pytest.mark.parametrize("format", ["avro", "protobuf"])
def test_a_missing_reference_is_looked_for_again_later(format):
    """It may be registered after the schema was seen."""
    registry = opened()
    root = json.dumps(record("Sms", "geo.Country")) if format == "avro" else 'syntax = "proto3"; import "a.proto";'
    other = json.dumps({"type": "enum", "name": "geo.Country", "symbols": ["DE"]}) if format == "avro" else PROTO
    name = "geo.Country" if format == "avro" else "a.proto"
    root = root if format == "avro" else root + " message M { Sms sms = 1; }"
    read = registry.deserializer(format)
    value = framed(add(registry, root, read.schema_type, references=[SchemaReference(name, "late", 1)]), b"\0")
    assert "does not have" in refused(read, value, "unknown-schema")
    add(registry, other, read.schema_type, "late")
    refused(read, value, "unknown-schema")
    registry._clock.advance(UNKNOWN_SECONDS)
    assert read(value) == ({"f0": "DE"} if format == "avro" else {})


def test_references_without_end_are_refused():
    """Each is asked for, while the thread that polls waits."""
    registry = opened()
    for number in range(600):
        references = [SchemaReference(f"r{number - 1}", f"s{number - 1}", 1)] if number else []
        add(registry, json.dumps("string"), "AVRO", f"s{number}", references)
    references = [SchemaReference(f"r{number}", f"s{number}", 1) for number in range(600)]
    read = registry.deserializer("avro")
    value = framed(add(registry, json.dumps(record("Sms", "string")), "AVRO", references=references), b"\2a")
    assert "more than 500 others" in refused(read, value, "unknown-schema")
