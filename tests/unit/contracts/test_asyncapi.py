"""The AsyncAPI document, against AsyncAPI's own schema and against what it describes."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from schemas import asyncapi
from worker import contracts
from worker.config import Settings
from worker.contracts import definition

OFFICIAL = json.loads((Path(__file__).parent / "asyncapi-3.0.0.schema.json").read_text("utf-8"))
VALIDATOR = jsonschema_rs.validator_for(OFFICIAL)
DOCUMENT = asyncapi.document()


def found(reference: dict[str, str]) -> Any:
    node: Any = DOCUMENT
    for step in reference["$ref"].removeprefix("#/").split("/"):
        node = node[step]
    return node


def references(node: Any) -> list[dict[str, str]]:
    if isinstance(node, dict):
        return [node] if set(node) == {"$ref"} else [one for value in node.values() for one in references(value)]
    return [one for value in node for one in references(value)] if isinstance(node, list) else []


def test_it_is_valid():
    """By the schema that AsyncAPI publishes for version 3.0.0, Kafka's bindings included."""
    assert [error.message for error in VALIDATOR.iter_errors(DOCUMENT)] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("asyncapi",), "4"), (("operations", "readMessages", "action"), "read"),
        (("channels", "input", "bindings", "kafka", "partitions"), "three"),
        (("components", "messages", "result", "payloads"), {}), (("info", "version"), None),
        (("components", "schemas", "result", "required"), "schema"),
    ],
)  # fmt: skip
def test_the_official_schema_finds_faults(path: tuple[str, ...], value: Any):
    """What is no AsyncAPI is not taken for it."""
    damaged = copy.deepcopy(DOCUMENT)
    node = damaged
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    assert not VALIDATOR.is_valid(damaged)


def test_every_reference_leads_somewhere():
    """And every message is on a channel, and every channel has its operation."""
    assert all(found(one) for one in references(DOCUMENT))
    on_channels = {name for channel in DOCUMENT["channels"].values() for name in channel["messages"]}
    assert on_channels == set(DOCUMENT["components"]["messages"])
    assert DOCUMENT["channels"]["routed"]["address"] is None
    served = {operation["channel"]["$ref"] for operation in DOCUMENT["operations"].values()}
    assert served == {f"#/channels/{name}" for name in DOCUMENT["channels"]}


def test_addresses_are_the_settings_defaults():
    """Topics and brokers as they are where nothing is set."""
    kafka = Settings().kafka
    parameters = [channel.get("parameters", {}) for channel in DOCUMENT["channels"].values()]
    defaults = {name: one["default"] for of_channel in parameters for name, one in of_channel.items()}
    assert defaults == {
        "inputTopic": kafka.input_topics[0],
        "outputTopic": kafka.output_topic,
        "deadLetterTopic": kafka.dead_letter_topic,
    }
    assert DOCUMENT["servers"]["kafka"]["variables"]["bootstrapServers"]["default"] == kafka.bootstrap_servers


@pytest.mark.parametrize("name", ["request", "result"])
def test_payloads_are_the_contracts(name: str):
    """The JSON Schema, the Avro schema and the Protobuf file of the same definition; examples conform."""
    schemas = DOCUMENT["components"]["schemas"]
    published = json.loads(contracts.json_schema(name))
    assert schemas[name] == {k: v for k, v in published.items() if k not in ("$schema", "$id", "examples")}
    assert schemas[f"{name}Avro"]["schema"] == contracts.avro_schema(name)
    assert schemas[f"{name}Protobuf"]["schema"] == contracts.protobuf_schema(name)
    payload = jsonschema_rs.Draft7Validator(schemas[name])
    examples = DOCUMENT["components"]["messages"][name]["examples"]
    assert examples
    assert all(payload.is_valid(one["payload"]) for one in examples)


def test_dead_letters_are_told_by_their_headers():
    """The headers' schema says what the contract says, in the words of draft 07."""
    headers = jsonschema_rs.Draft7Validator(DOCUMENT["components"]["schemas"]["deadLetterHeaders"])
    for letter in definition.schema("dead-letter")["examples"]:
        assert headers.is_valid(letter["headers"])
        assert not headers.is_valid(letter["headers"] | {"winnow.errors.reason": "unheard of"})
        half = {k: v for k, v in letter["headers"].items() if k != "winnow.errors.original.sha256"}
        assert not headers.is_valid(half | {"winnow.errors.original.bytes": "3"})
