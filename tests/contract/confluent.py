"""Confluent's own client, its mock of a registry and its deserializers, as readers of results have them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry._sync.mock_schema_registry_client import MockSchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from tests.contract.forms import SCHEMAS, message_class
from worker import contracts

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from worker.pipeline.messages import Outgoing

URL = "http://registry"
REGISTRY = MockSchemaRegistryClient({"url": "mock://registry"})
"""One for workers and readers."""
_FROM: dict[str, Callable[[Any], dict[str, Any]]] = {
    "avro": contracts.from_avro,
    "json-schema": lambda found: found,
    "protobuf": contracts.from_protobuf,
}


def patch(patching: pytest.MonkeyPatch) -> None:
    """Let workers have the mock in the place of a registry; it knows everything but the types of schemas."""
    types = staticmethod(lambda: ["AVRO", "JSON", "PROTOBUF"])
    patching.setattr(MockSchemaRegistryClient, "get_schema_types", types)
    patching.setattr(SchemaRegistryClient, "new_client", staticmethod(lambda _: REGISTRY))


@cache
def _deserializer(form: str) -> Any:
    if form == "avro":
        return AvroDeserializer(REGISTRY)
    if form == "json-schema":
        return JSONDeserializer(None, schema_registry_client=REGISTRY)
    return ProtobufDeserializer(message_class(SCHEMAS, "result"))


def result(form: str, written: Outgoing) -> dict[str, Any]:
    """The result that a reader has of a record, by the defaults of the library: headers before the value."""
    context = SerializationContext(written.topic, MessageField.VALUE, written.headers)
    return _FROM[form](_deserializer(form)(written.value, context))
