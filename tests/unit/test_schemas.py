"""The schemas of what goes in and what comes out, against what the worker really takes and writes."""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given
from jsonschema import Draft202012Validator

from schemas import generate
from tests.kit import MODEL, record
from worker.errors import InvalidMessage
from worker.metrics import REASONS
from worker.pipeline.decode import json_decoder
from worker.pipeline.encode import Encoder
from worker.pipeline.interpret import SCORE_DIGITS
from worker.pipeline.messages import Classification, Destination, Headers, Outgoing, Rejection, Request, Result

SCHEMAS = Path(__file__).parents[2] / "schemas"
NAMES = ("request", "result", "dead-letter")
decode = json_decoder("/text", "/id", 1_000_000, 100_000)


@cache
def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((SCHEMAS / f"{name}.schema.json").read_text("utf-8")))


def as_json(outgoing: Outgoing) -> dict[str, object]:
    """A dead letter written down as its schema says."""

    def encoded(value: bytes | None) -> str | None:
        return None if value is None else base64.b64encode(value).decode()

    headers = {name: None if value is None else value.decode("utf-8", "replace") for name, value in outgoing.headers}
    return {"key": encoded(outgoing.key), "value": encoded(outgoing.value), "headers": headers}


def test_the_files_are_current():
    """What is committed is what `python schemas/generate.py` writes, and nothing else is there."""
    made = generate.files()
    for path, text in made.items():
        assert path.read_text("utf-8") == text, f"{path.name} is not current: run `python schemas/generate.py`"
    there = {path for path in SCHEMAS.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path for path in there if path.suffix != ".py"} == set(made)


def test_the_command_writes_them_and_keeps_those_of_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All files, and with --release the definitions and their twins, beside those of the releases before."""
    monkeypatch.setattr(generate, "SCHEMAS", tmp_path / "schemas")
    monkeypatch.setattr(generate, "RELEASED", tmp_path / "released")
    monkeypatch.setattr("sys.argv", ["generate.py", "--release", "1.2.3"])
    generate.main()
    written = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {path.relative_to(tmp_path) for path in [*generate.files(), *generate.release("1.2.3")]}
    assert (tmp_path / "schemas" / "result.avsc").read_text("utf-8") == (SCHEMAS / "result.avsc").read_text("utf-8")
    kept = tmp_path / "released" / "1.2.3" / "result.json"
    assert kept.read_bytes() == (SCHEMAS.parent / "worker" / "contracts" / "result.json").read_bytes()


ids = st.text(max_size=40)
places = st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1), st.none() | st.integers(0, 2**53))
headers = st.lists(st.tuples(st.text(max_size=20), st.none() | st.binary(max_size=50)), max_size=3)
scores = st.lists(st.floats(0, 1).map(lambda score: round(score, SCORE_DIGITS)), min_size=1, max_size=4)


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_a_schema(name: str):
    """Each file is valid JSON Schema 2020-12, with its URN, a title, a description and examples that conform."""
    schema = validator(name).schema
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:winnow:{name}:1"
    assert schema["title"]
    assert schema["description"]
    assert schema["examples"]
    for example in schema["examples"]:
        validator(name).validate(example)


@given(ids, places, scores, st.booleans(), st.booleans(), st.integers(1, 512))
def test_results_conform(id_, place, all_scores, truncated, with_scores, tokens):
    """Every result the encoder writes conforms, with and without all scores, with and without a timestamp."""
    partition, offset, timestamp = place
    labels = {f"label-{i}": score for i, score in enumerate(all_scores)}
    said = Classification("label-0", all_scores[0], labels, layer=2 if with_scores else None)
    encode = Encoder(MODEL, with_scores, ["*"], 1_000_000)
    source = record(offset, b"{}", partition=partition, timestamp=timestamp)
    outgoing, _ = encode(source, Result(Request(id_, "text", truncated), said, truncated, tokens))
    assert outgoing is not None
    document = json.loads(outgoing.value or b"")
    validator("result").validate(document)
    assert ("scores" in document) == with_scores


@pytest.mark.parametrize(
    "damage",
    [
        {"more": 1}, {"schema": 2}, {"score": None}, {"score": "1"}, {"label": ""}, {"label": None},
        {"tokens": 0}, {"tokens": 1.5},
        {"source": {"topic": "in", "partition": 0, "offset": 0}}, {"model": {"name": "a", "digest": "XYZ"}},
        {"scores": {}}, {"truncated": "no"}, {"action": "keep"}, {"windows": 1}, {"entities": []},
        {"layer": 0}, {"labels": [{"label": "ham"}]}, {"labels": [{"label": "ham", "score": 1.1}]},
        {"metadata": {}}, {"metadata": {"tenant": 3}}, {"metadata": {"tenant": None}},
    ],
)  # fmt: skip
def test_the_result_schema_is_strict(damage: dict[str, object]):
    """A result with a field too many, of a wrong type or out of range does not conform."""
    example = validator("result").schema["examples"][0]
    assert not validator("result").is_valid(example | damage)


REQUIRED = {*validator("result").schema["required"], "label", "score", "labels", "entities"}
EXAMPLES = list(enumerate(validator("result").schema["examples"]))


@pytest.mark.parametrize(("number", "name"), [(n, name) for n, one in EXAMPLES for name in sorted(REQUIRED & set(one))])
def test_every_field_of_a_result_is_needed(number: int, name: str):
    """Leaving out a required field does not conform; a multi-label result without its labels is another kind."""
    example = dict(validator("result").schema["examples"][number])
    del example[name]
    assert validator("result").is_valid(example) == (name == "labels")


def test_the_kinds_of_results_do_not_mix():
    """No result has both entities and a label, and no label only where there are none at all."""
    _, _, several, entities = validator("result").schema["examples"]
    assert not validator("result").is_valid(entities | {"label": "a", "score": 0.5})
    assert not validator("result").is_valid(entities | {"labels": []})
    assert not validator("result").is_valid(entities | {"layer": 2})
    assert not validator("result").is_valid(entities | {"entities": [{"entity_group": "PER", "score": 0.5}]})
    assert not validator("result").is_valid(several | {"label": None})
    assert validator("result").is_valid(several | {"label": None, "labels": []})


@given(st.none() | st.binary(max_size=6_000), st.none() | st.binary(max_size=6_000), headers, places, st.data())
def test_dead_letters_of_every_reason_conform(value, key, own: Headers, place, data):
    """Whatever the stage, the reason, the size and the message's own headers: the dead letter conforms."""
    partition, offset, timestamp = place
    encode = Encoder(MODEL, False, [], 4_096)
    source = record(offset, value, partition=partition, key=key, headers=own, timestamp=timestamp)
    stage = data.draw(st.sampled_from(sorted(REASONS)))
    for reason in REASONS[stage]:
        outgoing, _ = encode(source, Rejection(stage, reason, "What is wrong.", "InvalidMessage"))
        assert outgoing is not None
        assert outgoing.destination is Destination.DEAD_LETTER
        validator("dead-letter").validate(as_json(outgoing))


def test_the_dead_letter_schema_knows_exactly_the_reasons_of_the_metrics():
    """One list of reasons, in the schema as in the metrics."""
    reasons = validator("dead-letter").schema["properties"]["headers"]["properties"]["winnow.errors.reason"]["enum"]
    assert reasons == sorted({reason for of in REASONS.values() for reason in of})


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20) | st.sampled_from(["", " ", "\t\n", "x", "i" * 512, "i" * 513]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["text", "id"]), inner, max_size=2),
    max_leaves=5,
)  # fmt: skip
documents = values | st.fixed_dictionaries({"text": values}, optional={"id": values, "more": values})


@given(documents)
def test_the_request_schema_accepts_what_the_decoder_accepts(document: object):
    """With the default pointers, a document conforms exactly where the decoder makes a request of it."""
    if isinstance(document, dict) and isinstance(document.get("id"), float) and document["id"].is_integer():
        return  # JSON Schema takes 1.0 for an integer; the description says that integers have no fraction
    try:
        decode(record(0, json.dumps(document).encode()))
        accepted = True
    except InvalidMessage:
        accepted = False
    assert validator("request").is_valid(document) == accepted
