"""The Avro and the Protobuf twin of each contract, by the libraries that read and write them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import fastavro
import orjson
import pytest
from google.protobuf import descriptor_pool, message_factory
from hypothesis import given

from schemas import generate
from tests.contract.forms import SCHEMAS, avro_bytes, compiled, forms
from tests.kit import record
from tests.unit.contracts.documents import letters, requests, results
from worker import contracts
from worker.contracts import protobuf
from worker.contracts.definition import NAMES, as_message
from worker.pipeline.decode import json_decoder

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import DescriptorProto

decode = json_decoder("/text", "/id", 1_000_000, 100_000)
AVRO = {name: fastavro.parse_schema(contracts.avro_schema(name)) for name in NAMES}


def by_avro(name: str, document: dict[str, Any]) -> dict[str, Any]:
    """A document that has been Avro's bytes."""
    written = avro_bytes(AVRO[name], contracts.to_avro(document, name))
    return contracts.from_avro(fastavro.schemaless_reader(io.BytesIO(written), AVRO[name]), name)


def by_protobuf(name: str, document: dict[str, Any]) -> dict[str, Any]:
    """A document that has been Protobuf's bytes."""
    written = contracts.to_protobuf(document, name).SerializeToString()
    return contracts.from_protobuf(contracts.message_class(name).FromString(written), name)


@given(results)
def test_results_come_back_as_they_were(document: dict[str, Any]):
    """What was absent is absent, what was null is null, what was empty is empty, and all conforms to all forms."""
    assert by_avro("result", document) == document
    assert by_protobuf("result", document) == document
    assert forms("result").faults(document) == []


@given(letters)
def test_dead_letters_come_back_as_they_were(document: dict[str, Any]):
    """With key, value and headers without a value, and with empty ones."""
    assert by_avro("dead-letter", document) == document
    assert by_protobuf("dead-letter", document) == document
    assert forms("dead-letter").faults(document) == []


@given(requests)
def test_requests_mean_the_same(document: dict[str, Any]):
    """The worker takes the same from a request that was one of the twins: ids that are integers come back as text."""
    asked = decode(record(0, orjson.dumps(document)))
    for twin in (by_avro, by_protobuf):
        assert decode(record(0, orjson.dumps(twin("request", document)))) == asked


@given(results)
def test_equal_results_are_equal_bytes(document: dict[str, Any]):
    """Those of a result that was read are those it was read from, in the order of its maps."""
    written = contracts.to_protobuf(document).SerializeToString()
    again = contracts.to_protobuf(by_protobuf("result", document)).SerializeToString()
    assert again == written
    assert list(by_protobuf("result", document).get("scores", {})) == list(document.get("scores", {}))


def test_every_process_writes_the_same_bytes():
    """A message that another worker classifies again gives what the first one wrote."""
    code = (
        "from worker import contracts; scores = {f'label-{i}': i / 9 for i in range(9)};"
        "print(contracts.to_protobuf({'scores': scores, 'metadata': dict.fromkeys('abcdefg', '')})"
        ".SerializeToString().hex())"
    )
    run = partial(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    first, second, third = (run().stdout for _ in range(3))
    assert first == second == third != ""


@pytest.mark.parametrize("name", NAMES)
def test_the_class_is_that_of_the_file(name: str):
    """What is made without `protoc` is what `protoc` makes of the file, names of JSON left aside."""
    (file,) = compiled(SCHEMAS, name).file
    _forget_json_names(file.message_type[0])
    assert file == protobuf.descriptor(name)


def _forget_json_names(of: DescriptorProto) -> None:
    for field in of.field:
        field.ClearField("json_name")
    for inner in of.nested_type:
        _forget_json_names(inner)


def test_readers_may_declare_a_map():
    """Entries are on the wire what Protobuf's own map is."""
    file = protobuf.descriptor("result")
    (entry,) = (inner for inner in file.message_type[0].nested_type if inner.name == "ScoresEntry")
    entry.options.map_entry = True
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    reader = message_factory.GetMessageClass(pool.FindMessageTypeByName("winnow.v1.Result"))
    scores = {"ham": 0.25, "spam": 0.75}
    read = reader.FromString(contracts.to_protobuf({"scores": scores}).SerializeToString())
    assert dict(read.scores) == scores


def test_fields_that_a_twin_does_not_know_are_left_out():
    """A request may have any others."""
    document = {"text": "a", "more": {"of": 1}}
    assert contracts.to_avro(document, "request") == {"text": "a"}
    assert by_protobuf("request", document) == {"text": "a"}


def test_comments_are_the_descriptions():
    """Each field's, in lines that can be read."""
    made = as_message(
        {"title": "Winnow thing", "description": "Words. " * 30, "properties": {"a": {"type": "string", "x-number": 1}}}
    )
    text = protobuf.text(made)
    assert text.startswith('syntax = "proto3";\n\npackage winnow.v1;\n\n// Words. Words.')
    assert max(map(len, text.splitlines())) <= 103
    assert "message Thing {\n  optional string a = 1;\n}" in text


def test_every_name_of_an_avro_record_is_its_own():
    """No two records of one namespace share a name, in all contracts together."""
    names: list[str] = []

    def collect(node: Any) -> None:
        if isinstance(node, dict):
            names.extend([node["name"]] if node.get("type") == "record" else [])
            collect(list(node.values()))
        elif isinstance(node, list):
            for one in node:
                collect(one)

    for name in NAMES:
        collect(json.loads((generate.SCHEMAS / f"{name}.avsc").read_text("utf-8")))
    assert len(set(names)) == len(names) >= 7


def test_a_serialized_message_is_parsed():
    """To the document that it was made of; what is no message is refused, without its bytes in the sentence."""
    for document in json.loads(contracts.json_schema())["examples"]:
        assert contracts.parse_protobuf(contracts.to_protobuf(document).SerializeToString()) == document
    with pytest.raises(ValueError, match=r"^It is no message of the contract result\.$"):
        contracts.parse_protobuf(b"\x12\x01\xff")
