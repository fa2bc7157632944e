"""Today's contracts with those of earlier versions: `released/` has a folder for each, with what workers wrote."""

from __future__ import annotations

import copy
import io
import json
from functools import cache
from typing import TYPE_CHECKING, Any

import fastavro
import jsonschema_rs
import pytest

from schemas import compatibility, generate
from tests.contract.forms import SCHEMAS, avro_bytes, avro_schema, compiled, forms, message_class
from worker import contracts
from worker.contracts import definition
from worker.contracts.definition import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from google.protobuf.descriptor_pb2 import DescriptorProto

RELEASED = sorted(folder for folder in compatibility.RELEASED.iterdir() if folder.is_dir())
EVERY = [pytest.param(folder, name, id=f"{folder.name}-{name}") for folder in RELEASED for name in NAMES]
METADATA = {"metadata": {"tenant": "ä"}}
released = pytest.mark.parametrize(("folder", "name"), EVERY)


@cache
def samples(folder: Path, name: str) -> list[dict[str, Any]]:
    """What workers of a version read and wrote, and the examples that its definitions had."""
    lines = (folder / f"{name}.jsonl").read_text("utf-8").split("\n")
    found = [json.loads(line) for line in lines if line]
    assert found
    examples: list[dict[str, Any]] = json.loads((folder / f"{name}.json").read_text("utf-8"))["examples"]
    return found + examples


@released
def test_what_was_written_before_conforms_today(folder: Path, name: str):
    """Results and dead letters of earlier versions, and messages that they took, conform to all forms of today."""
    for document in samples(folder, name):
        said = forms(name).faults(document)
        if name == "request":  # the twins have only the fields that Winnow reads, and ids as text
            said = [fault for fault in said if not fault.endswith("is not what was written")]
        assert said == []


@released
def test_the_definitions_are_compatible(folder: Path, name: str):
    """Nothing has changed that breaks those who know an earlier version."""
    assert compatibility.since(folder) == []
    before = json.loads((folder / f"{name}.json").read_text("utf-8"))
    assert before["$id"] == definition.schema(name)["$id"]


@released
def test_avro_reads_what_was_written_before_and_is_read_by_those_of_before(folder: Path, name: str):
    """By Avro's rules of resolution, in both directions."""
    before, today = avro_schema(folder, name), avro_schema(SCHEMAS, name)
    for document in samples(folder, name):
        datum = contracts.to_avro(document, name)
        for writer, reader in ((before, today), (today, before)):
            read = fastavro.schemaless_reader(io.BytesIO(avro_bytes(writer, datum)), writer, reader)
            assert contracts.from_avro(read, name) == contracts.from_avro(datum, name)


def test_readers_of_before_read_what_is_new_without_it():
    """A result with a field that an earlier version did not have: read by it as if it were not there."""
    folder = RELEASED[0]
    document = samples(folder, "result")[0]
    written = avro_bytes(avro_schema(SCHEMAS, "result"), contracts.to_avro(document | METADATA))
    read = fastavro.schemaless_reader(
        io.BytesIO(written), avro_schema(SCHEMAS, "result"), avro_schema(folder, "result")
    )
    assert "metadata" not in read
    assert contracts.from_avro(read) == document
    old = message_class(folder, "result").FromString(contracts.to_protobuf(document | METADATA).SerializeToString())
    assert old.id == document["id"]
    assert contracts.from_protobuf(contracts.message_class().FromString(old.SerializeToString())) == document | METADATA


@released
def test_protobuf_reads_what_was_written_before_and_is_read_by_those_of_before(folder: Path, name: str):
    """What one of both has serialized, the other one parses, and serializes to the same bytes."""
    before, today = message_class(folder, name), message_class(SCHEMAS, name)
    for document in samples(folder, name):
        written = contracts.to_protobuf(document, name).SerializeToString()
        assert before.FromString(written).SerializeToString() == written
        assert today.FromString(before.FromString(written).SerializeToString()).SerializeToString() == written


def fields(of: DescriptorProto, path: str = "") -> dict[tuple[str, int], tuple[Any, ...]]:
    """What is known of each field, by the message it is in and its number."""
    here = f"{path}/{of.name}"
    found = {(here, f.number): (f.name, f.type, f.label, f.type_name, f.proto3_optional) for f in of.field}
    return found | {key: value for inner in of.nested_type for key, value in fields(inner, here).items()}


@released
def test_protobuf_numbers_stay_with_their_fields(folder: Path, name: str):
    """Each number still has its field, of the same type; so none was given to another one."""
    before, today = (fields(compiled(where, name).file[0].message_type[0]) for where in (folder, SCHEMAS))
    assert {number: field for number, field in today.items() if number in before} == before


def test_with_the_settings_of_before_results_conform_to_the_schemas_of_before():
    """New fields come only with new settings: the examples without them conform to what readers may have."""
    for folder in RELEASED:
        before = json.loads((folder / "result.json").read_text("utf-8"))
        validator = jsonschema_rs.validator_for(definition.published(before))
        for document in definition.schema("result")["examples"]:
            assert validator.is_valid(document)


def change(name: str, mend: Callable[[dict[str, Any]], object]) -> list[str]:
    """What is said of a definition of today after a change."""
    changed = copy.deepcopy(definition.schema(name))
    mend(changed)
    return compatibility.breaking(definition.schema(name), changed)


def new_field(**more: Any) -> dict[str, Any]:
    return {"x-number": 99, "description": "New.", "type": "string", **more}


def test_an_unchanged_definition_breaks_nothing():
    """Nor do other words, new fields that need not be there, and new words of an open enumeration."""
    for name in NAMES:
        assert change(name, lambda schema: None) == []
        assert change(name, lambda schema: schema.update(description="Other words.", examples=[])) == []
        assert change(name, lambda schema: schema["properties"].update(new=new_field())) == []
    reasons = lambda schema: schema["properties"]["headers"]["properties"]["winnow.errors.reason"]["enum"]  # noqa: E731
    assert change("dead-letter", lambda schema: reasons(schema).append("haunted")) == []


BREAKING: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "removed": (lambda s: s["properties"].pop("layer"), "/layer: the field is gone"),
    "removed inside": (lambda s: _in(s, "source").pop("offset"), "/source/offset: the field is gone"),
    "renamed": (
        lambda s: s["properties"].update(words=s["properties"].pop("tokens")),
        "/tokens: the field is gone",
    ),
    "new and required": (
        lambda s: (s["properties"].update(new=new_field()), s["required"].append("new")),
        "/new: it has to be there now",
    ),
    "no longer required": (lambda s: s["required"].remove("tokens"), "/tokens: it may be missing now"),
    "another type": (
        lambda s: s["properties"]["tokens"].update({"type": "string", "x-type": "string"}),
        '/tokens: type was "integer" and is "string"',
    ),
    "another type of the twins": (
        lambda s: s["properties"]["tokens"].update({"x-type": "int64"}),
        '/tokens: x-type was "int32" and is "int64"',
    ),
    "null where there was none": (
        lambda s: s["properties"]["id"].update(type=["string", "null"]),
        '/id: type was "string" and is ["string", "null"]',
    ),
    "another number": (
        lambda s: s["properties"]["label"].update({"x-number": 77}),
        "/label: x-number was 5 and is 77",
    ),
    "a number of another": (
        lambda s: s["properties"].update(new=new_field(**{"x-number": 5})),
        "Winnow result: label and new have the same x-number 5.",
    ),
    "no number": (lambda s: s["properties"].update(new={"type": "string"}), "The field new has no x-number."),
    "two types of one title": (
        lambda s: s["properties"].update(
            new=new_field(type="object", title="Model", properties={"a": {"type": "string", "x-number": 1}})
        ),
        "Winnow result: two objects in it have the title Model, which names a type in the twins.",
    ),
    "two messages of one name": (
        lambda s: s["properties"].update(
            new=new_field(type="object", title="Scores entry", properties={"a": {"type": "string", "x-number": 1}})
        ),
        "Result: two messages of its Protobuf twin would have the name ScoresEntry.",
    ),
    "a type of the twins that there is not": (
        lambda s: s["properties"].update(new=new_field(**{"x-type": "int31"})),
        "The field new: the x-type int31 is none of string, int32, int64, double, boolean, bytes.",
    ),
    "a new field of two types": (
        lambda s: s["properties"].update(new=new_field(type=["integer", "string"])),
        "The field new: its types are integer, string; the twins have one, which x-type names.",
    ),
    "a field of two types now": (
        lambda s: s["properties"]["id"].update(type=["integer", "string"]),
        "The field id: its types are integer, string; the twins have one, which x-type names.",
    ),
    "a field of no type": (
        lambda s: s["properties"].update(new={"x-number": 99}),
        "The field new: its types are none; the twins have one, which x-type names.",
    ),
    "a name of Avro": (
        lambda s: s["properties"]["entities"]["items"].update(title="Found"),
        '/entities/items: title was "Entity" and is "Found"',
    ),
    "a bound": (lambda s: s["properties"]["id"].update(maxLength=9), "/id: maxLength was 512 and is 9"),
    "a pattern": (
        lambda s: s["properties"]["result_id"].pop("pattern"),
        '/result_id: pattern was "^.+-[0-9]+-[0-9]+@[0-9a-f]{12}$" and is not there',
    ),
    "the version": (lambda s: s["properties"]["schema"].update(const=2), "/schema: const was 1 and is 2"),
    "a word of no open enumeration": (
        lambda s: s["properties"]["action"]["enum"].append("ask"),
        '/action: "ask" is a new one of its words',
    ),
    "a word that is gone": (
        lambda s: s["properties"]["action"]["enum"].remove("review"),
        '/action: "review" is none of its words any more',
    ),
    "free fields": (
        lambda s: s.update(additionalProperties=True),
        "/additionalProperties was false and is true",
    ),
    "values of a map": (
        lambda s: s["properties"]["scores"].update(additionalProperties={"type": "string"}),
        '/scores/additionalProperties: type was "number" and is "string"',
    ),
}


def _in(schema: dict[str, Any], name: str) -> Any:
    return schema["properties"][name]["properties"]


@pytest.mark.parametrize("name", BREAKING)
def test_a_change_that_breaks_readers_is_named(name: str):
    """Each, and what it is."""
    mend, said = BREAKING[name]
    assert said in change("result", mend)


def test_a_change_of_the_kinds_of_results_is_named():
    """Which fields go together is part of the contract."""
    (said,) = change("result", lambda schema: schema["oneOf"][2]["properties"].pop("layer"))
    assert said.startswith("/: oneOf was ")


def test_the_title_of_a_type_that_may_be_null_is_named():
    """It names a type in the twins, as any other object's and list's does."""
    part = {"type": ["object", "null"], "title": "Part", "x-number": 1, "properties": {}}
    before = {"title": "Made", "properties": {"a": part}}
    after = {"title": "Made", "properties": {"a": part | {"title": "Piece"}}}
    assert compatibility.breaking(before, after) == ['/a: title was "Part" and is "Piece"']


def test_the_command_says_what_breaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path):
    """A line for each, with the version, and exit code 1; nothing and 0 where nothing does."""
    assert (compatibility.main(), capsys.readouterr().out) == (0, "")
    monkeypatch.setattr(compatibility, "RELEASED", tmp_path)
    for path, text in generate.release("1.2").items():
        kept = tmp_path / path.relative_to(generate.RELEASED)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(text.replace('"x-number": 5,', '"x-number": 55,'), "utf-8")
    assert compatibility.main() == 1
    assert "1.2 result: /label: x-number was 55 and is 5\n" in capsys.readouterr().out
