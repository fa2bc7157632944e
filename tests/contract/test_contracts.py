"""What workers of every kind really write, against every form of the contracts."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import pytest

from tests.contract import emitting
from tests.contract.emitting import SETUPS, Given, Setup
from tests.contract.forms import forms, message_validators, written_down
from worker.metrics import REASONS
from worker.pipeline import encode
from worker.pipeline.messages import Destination

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from worker.pipeline.messages import Outgoing

MESSAGES = 10_000
EACH = -(-MESSAGES // len(SETUPS))
"""Of every kind of worker."""
OF_A_REGISTRY = {"invalid-framing", "unknown-schema", "invalid-payload"}
"""Reasons of workers that read by a schema registry."""


class Worked(NamedTuple):
    """What a kind of worker read, and what it wrote."""

    setup: Setup
    given: list[Given]
    sent: list[Outgoing]

    def results(self) -> Iterator[dict[str, Any]]:
        for one in self.sent:
            if one.destination is Destination.OUTPUT:
                yield self.setup.result(one)

    def letters(self) -> Iterator[dict[str, Any]]:
        for one in self.sent:
            if one.destination is Destination.DEAD_LETTER:
                yield written_down(one.key, one.value, one.headers)

    def faults(self) -> list[str]:
        """What is wrong with what was written, by the name of the form that says so."""
        of_results = (fault for one in self.results() for fault in forms("result").faults(one))
        of_letters = (fault for one in self.letters() for fault in forms("dead-letter").faults(one))
        return [*of_results, *of_letters]


Bundles: TypeAlias = "Callable[[str], Path]"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """`bundles(kind)`: the folder of a toy bundle."""
    folder, made = tmp_path_factory.mktemp("bundles"), {}

    def find(kind: str) -> Path:
        if kind not in made:
            made[kind] = emitting.bundle(folder, kind)
        return made[kind]

    return find


@pytest.fixture(scope="module")
def work(bundles: Bundles) -> Iterator[dict[str, Worked]]:
    """Every kind of worker, and its work."""
    found = {}
    with pytest.MonkeyPatch.context() as patching:
        for seed, (name, setup) in enumerate(SETUPS.items()):
            given = found[setup.twin].given if setup.twin else emitting.messages(seed, EACH, event=setup.event)
            found[name] = Worked(setup, given, emitting.emitted(patching, bundles(setup.bundle), setup, given))
    return found


def places(letters: Iterator[dict[str, Any]]) -> dict[tuple[str, int, int], str]:
    """Reasons of dead letters with Kafka Connect's headers, by their message's place."""
    found = {}
    for one in letters:
        headers = one["headers"]
        topic, partition, offset = (headers[f"__connect.errors.{name}"] for name in ("topic", "partition", "offset"))
        found[topic, int(partition), int(offset)] = headers["winnow.errors.reason"]
    return found


def test_every_record_of_every_worker_conforms_to_every_form(work: dict[str, Worked]):
    """10,000 varied messages, each with its result or its dead letter: all conform and come back equal in all forms."""
    found = {name: one.faults() for name, one in work.items()}
    assert {name: said[:3] for name, said in found.items() if said} == {}
    assert all(len(one.sent) == EACH for one in work.values())
    assert sum(len(one.sent) for one in work.values()) >= MESSAGES


def by_place(results: Iterator[dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {tuple(one["source"].values())[:3]: one for one in results}


@pytest.mark.parametrize("name", emitting.TWINS)
def test_readers_of_a_registrys_formats_have_the_results_of_json(work: dict[str, Worked], name: str):
    """By Confluent's own deserializers, field for field; and what is refused is refused with the same words."""
    one = work[name]
    twin = work[one.setup.twin or ""]
    results = by_place(one.results())
    assert len(results) > EACH / 2
    assert results == by_place(twin.results())
    assert sorted(map(json.dumps, one.letters())) == sorted(map(json.dumps, twin.letters()))


@pytest.mark.parametrize("name", [n for n, one in SETUPS.items() if one.plain and n not in ("small", "windows")])
def test_each_message_gets_what_it_should(work: dict[str, Worked], name: str):
    """Dead letters for those that are of no use, with their reasons; results for all others."""
    one = work[name]
    expected = {record[:3]: reason for record, reason in one.given if reason is not None}
    assert places(one.letters()) == expected
    sources = [tuple(result["source"].values())[:3] for result in one.results()]
    assert Counter(sources) == Counter(record[:3] for record, reason in one.given if reason is None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("decided", "result"), ("early-exit", "result"), ("small", "result"), ("named-by-headers", "result"),
        ("enriched", "enriched"), ("as-events", "resultEvent"), ("in-events", "resultInEvent"),
    ],
)  # fmt: skip
def test_envelopes_are_those_of_the_asyncapi_document(work: dict[str, Worked], name: str, message: str):
    """Values and headers of results, with what is around the result."""
    payload, headers = message_validators(message)
    sent = [one for one in work[name].sent if one.destination is Destination.OUTPUT]
    assert len(sent) > EACH / 2
    for one in sent:
        payload.validate(json.loads(one.value or b""))
        headers.validate(written_down(None, None, one.headers)["headers"])


def test_the_messages_are_varied_enough(work: dict[str, Worked]):
    """Every field of a result is there and, where it may be, missing, null and empty; every reason is given."""
    seen: dict[str, set[str]] = defaultdict(set)
    schema = json.loads((emitting.SCHEMAS / "result.schema.json").read_text("utf-8"))
    for one in work.values():
        for result in one.results():
            for name in schema["properties"]:
                value = result.get(name, "absent")
                seen[name].add("empty" if value == [] else value if value in ("absent", None) else "there")
            seen["timestamp"].add("null" if result["source"]["timestamp"] is None else "there")
    assert {name for name, values in seen.items() if "there" in values} >= set(schema["properties"])
    assert {n for n, values in seen.items() if "absent" not in values} == {*schema["required"], "timestamp"}
    assert (seen["label"], seen["timestamp"]) == ({"there", None, "absent"}, {"there", "null"})
    assert (seen["labels"], seen["entities"]) == ({"there", "empty", "absent"},) * 2
    reasons = {letter["headers"]["winnow.errors.reason"] for one in work.values() for letter in one.letters()}
    assert reasons == {reason for of in REASONS.values() for reason in of} - OF_A_REGISTRY


def test_a_worker_that_breaks_the_contract_is_found_out(monkeypatch: pytest.MonkeyPatch, bundles: Bundles):
    """Results that say that they are of another version are all refused, and nothing else is."""
    monkeypatch.setattr(encode, "SCHEMA_VERSION", 2)
    setup, given = SETUPS["one-label"], emitting.messages(1, 50)
    worked = Worked(setup, given, emitting.emitted(monkeypatch, bundles(setup.bundle), setup, given))
    said = Counter(fault.partition(":")[0] for fault in worked.faults())
    assert said == dict.fromkeys(("JSON Schema", "AsyncAPI"), sum(1 for _ in worked.results()))


ALL = {"JSON Schema", "AsyncAPI", "Avro", "Protobuf"}
CHECKED = {"JSON Schema", "AsyncAPI"}


@pytest.mark.parametrize(
    ("damage", "refused_by"),
    [
        ({"more": 1}, ALL), ({"tokens": "9"}, ALL), ({"id": 3}, ALL), ({"label": 3}, ALL), ({"truncated": "no"}, ALL),
        ({"source": None}, ALL), ({"scores": {"ham": None}}, ALL), ({"metadata": {"a": 1}}, ALL),
        ({"score": None}, ALL), ({"labels": [{"label": "ham"}]}, ALL),
        ({"schema": 2}, CHECKED), ({"label": ""}, CHECKED), ({"action": "keep"}, CHECKED), ({"windows": 1}, CHECKED),
        ({"entities": []}, CHECKED), ({"label": None}, CHECKED),
    ],
)  # fmt: skip
def test_each_form_finds_the_faults_that_it_can(damage: dict[str, Any], refused_by: set[str]):
    """What is of another type no form takes; what is of the type and out of range, those that know ranges refuse."""
    document = emitting.example("result") | damage
    assert {fault.partition(":")[0] for fault in forms("result").faults(document)} == refused_by


@pytest.mark.parametrize("name", ["schema", "id", "result_id", "source", "label", "truncated", "tokens", "model"])
def test_every_form_misses_what_has_to_be_there(name: str):
    """Without a field that has to be there a result conforms to none of them."""
    document = emitting.example("result")
    del document[name]
    assert {fault.partition(":")[0] for fault in forms("result").faults(document)} == ALL


def test_every_form_finds_damaged_dead_letters():
    """A dead letter without a reason, or with a key that is no text."""
    letter = emitting.example("dead-letter")
    assert {f.partition(":")[0] for f in forms("dead-letter").faults(letter | {"headers": {}})} == CHECKED
    assert {f.partition(":")[0] for f in forms("dead-letter").faults(letter | {"key": 3})} == ALL - {"AsyncAPI"}
