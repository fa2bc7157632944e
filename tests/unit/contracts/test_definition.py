"""The definition of the contracts: what its annotations mean, and which ones it refuses."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from worker import contracts
from worker.contracts.definition import NAMES, ListOf, MapOf, Scalar, as_message, completed, message, published, schema
from worker.contracts.protobuf import block


def made(**properties):
    """The fields of a definition with these properties."""
    numbered = {
        name: {"title": name, "x-number": number, **part} for number, (name, part) in enumerate(properties.items(), 1)
    }
    return as_message({"title": "Made", "required": ["first"], "properties": numbered}).fields


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"type": "string"}, "string"), ({"type": "integer"}, "int64"), ({"type": "number"}, "double"),
        ({"type": "boolean"}, "boolean"), ({"enum": ["a", "b"]}, "string"), ({"const": 1}, "int64"),
        ({"type": ["integer", "null"]}, "int64"), ({"type": "integer", "x-type": "int32"}, "int32"),
        ({"type": ["string", "null"], "contentEncoding": "base64"}, "bytes"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}], "x-type": "string"}, "string"),
    ],
)  # fmt: skip
def test_scalars(part, kind):
    """JSON's types, and what the annotation says where those are not enough."""
    (field,) = made(first=part)
    assert (field.type, field.nullable) == (Scalar(kind), "null" in json.dumps(part))


def test_lists_maps_and_messages():
    """A list of objects, an object of free names, and one of fixed ones."""
    inner = {"title": "Inner part", "properties": {"a": {"type": "string", "x-number": 1}}}
    many, free, one = made(
        first={"type": "array", "items": inner},
        second={"type": "object", "minProperties": 1, "additionalProperties": {"type": ["number", "null"]}},
        third={"type": "object", **inner, "title": "Another part"},
    )
    assert isinstance(many.type, ListOf)
    assert (many.type.item.name, many.required, many.may_be_empty, many.optional) == ("InnerPart", True, True, False)
    assert (free.type, free.required, free.may_be_empty, free.optional) == (
        MapOf(Scalar("double"), True), False, False, True,
    )  # fmt: skip
    assert one.type == many.type.item._replace(name="AnotherPart")


def test_a_field_needs_a_number_of_its_own():
    """Without one, or with another's, the definition is refused."""
    with pytest.raises(ValueError, match=r"The field b has no x-number\."):
        as_message({"title": "Made", "properties": {"b": {"type": "string"}}})
    twice = {name: {"type": "string", "x-number": 3} for name in "ab"}
    with pytest.raises(ValueError, match=r"Made: a and b have the same x-number 3\."):
        as_message({"title": "Made", "properties": twice})


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"type": "string", "x-type": "text"}, "The field first: the x-type text is none of string, int32, int64"),
        ({"type": "string", "x-type": "int32"}, "The field first: the x-type int32 cannot have what is of type string"),
        ({"type": ["string", "integer"]}, "The field first: its types are integer, string; the twins have one"),
        ({"type": ["array", "string"]}, "The field first: the type array has no twin here"),
        ({"type": "null"}, "The field first: its types are none"),
        ({"description": "Anything."}, "The field first: its types are none"),
        ({"type": "array", "items": {"type": "string"}}, "The field first: An object without title or properties"),
        ({"enum": ["a", 1]}, "The field first: its types are integer, string"),
        ({"const": []}, "The field first: a constant that is no single value"),
        ({"type": "string", "x-number": 19_000}, "The field first has the x-number 19000, which Protobuf"),
        ({"type": "string", "x-number": "1"}, "The field first has the x-number 1, which Protobuf"),
    ],
)
def test_what_the_twins_could_not_have_is_named(part, said):
    """Every fault is a sentence with the field in it, and never another kind of error."""
    with pytest.raises(ValueError, match="^" + said.replace("(", r"\(")):
        made(first=part)
    with pytest.raises(ValueError, match="The field a-b has a name that Avro and Protobuf do not take"):
        made(**{"a-b": {"type": "string"}})


def test_two_types_of_one_name_are_refused():
    """Wherever they are: a title names a record of Avro and a message of Protobuf, whose lists have names of theirs."""
    part = {"type": "object", "title": "Part", "properties": {"a": {"type": "string", "x-number": 1}}}
    again = {"type": "object", "title": "Other", "properties": {"b": {**part, "x-number": 1}}}
    with pytest.raises(ValueError, match=r"Made: two objects in it have the title Part,"):
        made(first=part, second=again)
    items = {"type": "array", "title": "Part", "items": {**part, "title": "Parts"}}
    with pytest.raises(ValueError, match=r"Made: two messages of its Protobuf twin would have the name Part\."):
        block(as_message({"title": "Made", "properties": {
            "first": {**part, "x-number": 1}, "second": {**items, "x-number": 2},
        }}))  # fmt: skip


def test_annotations_are_not_published():
    """Wherever they are; what is left is what validators know."""
    assert published({"x-number": 1, "items": [{"x-type": "a", "type": "b"}], "title": "c"}) == {
        "items": [{"type": "b"}],
        "title": "c",
    }
    for name in NAMES:
        assert '"x-' not in contracts.json_schema(name)
        assert '"x-number"' in json.dumps(schema(name))


@pytest.mark.parametrize(
    ("document", "nulls"),
    [
        ({"score": 0.5}, {"label"}),
        ({"score": 0.5, "label": "a"}, set()),
        ({"score": 0.5, "labels": []}, {"label"}),
        ({"entities": []}, set()),
    ],
)
def test_nulls_are_completed_where_the_kind_of_a_result_has_them(document, nulls):
    """A result without entities has a label, if only null; one with entities has none."""
    assert completed(message("result"), dict(document)) == document | dict.fromkeys(nulls)


def test_whoever_asks_for_nothing_loads_nothing():
    """Neither Avro's library nor Protobuf's is there before somebody needs it."""
    code = (
        "import sys; from worker import contracts as c; c.json_schema(); c.avro_schema(); c.protobuf_schema();"
        "c.to_avro({'id': 'a'}); print({'fastavro', 'google.protobuf', 'jsonschema'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout == "set()\n"
