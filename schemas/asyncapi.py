"""The AsyncAPI 3 document: topics, what is read from them and written to them, in every form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from worker import contracts
from worker.contracts import definition
from worker.kafka.registry import CONTENT_TYPES
from worker.pipeline.cloudevents import STRUCTURED, TOMBSTONE
from worker.pipeline.cloudevents_attributes import SPECVERSION
from worker.sections import KafkaSettings, OutputSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

VERSION = "3.0.0"
_KAFKA = "0.5.0"
"""Version of the Kafka bindings."""
_JSON = "application/json"
_KEY = {"type": ["string", "null"], "description": "The message's key, any bytes, handed on as it is."}
_BINDINGS = {"kafka": {"key": _KEY, "bindingVersion": _KAFKA}}
_FRAMED = {"kafka": _BINDINGS["kafka"] | {"schemaIdLocation": "payload", "schemaIdPayloadEncoding": "confluent"}}
_TEXT = {"type": "string", "minLength": 1}


class Form(NamedTuple):
    """A form by a schema registry."""

    title: str
    setting: str
    schema_format: str
    schema: Callable[[str], Any]


_FORMS = {
    "Avro": Form("Avro", "avro", "application/vnd.apache.avro+json;version=1.9.0", contracts.avro_schema),
    "Protobuf": Form("Protobuf", "protobuf", "application/vnd.google.protobuf;version=3", contracts.protobuf_schema),
    "JsonSchema": Form("JSON Schema", "json-schema", "", contracts.json_schema),
}


def document() -> dict[str, Any]:
    """The whole document."""
    return {
        "asyncapi": VERSION,
        "id": "urn:winnow",
        "info": {
            "title": "Winnow",
            "version": str(definition.VERSION),
            "description": "Reads messages from Kafka topics, classifies their texts, and writes a result or a dead "
            "letter for each. The version is that of the contracts. Which of the messages of a topic are read and "
            "written is said by the settings in their summaries.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": _JSON,
        "servers": {"kafka": _server()},
        "channels": _channels(),
        "operations": _operations(),
        "components": {"messages": _messages(), "schemas": _schemas()},
    }


def _server() -> dict[str, Any]:
    return {
        "host": "{bootstrapServers}",
        "protocol": "kafka",
        "description": "The brokers: `kafka.bootstrap_servers`.",
        "variables": {"bootstrapServers": {"default": _default("bootstrap_servers"), "description": "host:port"}},
    }


def _default(setting: str) -> str:
    found = KafkaSettings.model_fields[setting].default
    return str(found[0] if isinstance(found, tuple) else found)


def _channels() -> dict[str, Any]:
    requests = ["request", "text", "requestEvent", "requestInEvent", *(f"request{form}" for form in _FORMS)]
    results = ["result", "enriched", "resultEvent", "resultInEvent", *(f"result{form}" for form in _FORMS)]
    tombstones = ["tombstone", "tombstoneEvent"]
    every = "Results, with their messages' keys, in the order of each partition's messages."
    letters = "What cannot be classified, with its own bytes, and headers that say why."
    routed = "Topics of results of some labels or actions: `routing.topics`."
    return {
        "input": _channel("Input", "inputTopic", "input_topics", "Messages to be classified.", requests),
        "output": _channel("Output", "outputTopic", "output_topic", every, [*results, *tombstones]),
        "routed": _channel("Routed results", None, None, routed, results),
        "deadLetters": _channel("Dead letters", "deadLetterTopic", "dead_letter_topic", letters, ["deadLetter"]),
    }


def _channel(
    title: str, parameter: str | None, setting: str | None, description: str, messages: list[str]
) -> dict[str, Any]:
    """A topic; without a parameter its name is known to the settings alone."""
    made: dict[str, Any] = {
        "title": title,
        "address": f"{{{parameter}}}" if parameter else None,
        "description": description,
        "servers": [{"$ref": "#/servers/kafka"}],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"kafka": {"bindingVersion": _KAFKA}},
    }
    if parameter and setting:
        said = {"default": _default(setting), "description": f"The setting `kafka.{setting}`."}
        made["parameters"] = {parameter: said}
    return made


def _operations() -> dict[str, Any]:
    group = {"type": "string", "description": "The setting `kafka.group_id`.", "default": _default("group_id")}

    def operation(action: str, channel: str, summary: str, **bindings: Any) -> dict[str, Any]:
        return {
            "action": action,
            "channel": {"$ref": f"#/channels/{channel}"},
            "summary": summary,
            "bindings": {"kafka": {**bindings, "bindingVersion": _KAFKA}},
        }

    return {
        "readMessages": operation("receive", "input", "Read what is to be classified.", groupId=group),
        "writeResults": operation("send", "output", "Write a result for each message that can be classified."),
        "writeRoutedResults": operation("send", "routed", "Write results of some labels or actions elsewhere."),
        "writeDeadLetters": operation("send", "deadLetters", "Write a dead letter for each that cannot."),
    }


def _messages() -> dict[str, Any]:
    made = {**_of_requests(), **_of_results(), "deadLetter": _dead_letter()}
    for name, setting in (("request", "input"), ("result", "output")):
        for suffix, form in _FORMS.items():
            said = f'As {form.title}, by a schema registry: `{setting}.format = "{form.setting}"`.'
            title = f"{name.capitalize()} ({form.title})"
            content_type = CONTENT_TYPES[form.setting]
            made[f"{name}{suffix}"] = _message(title, said, f"{name}{suffix}", content_type, bindings=_FRAMED)
    return made


def _of_requests() -> dict[str, Any]:
    events = '`input.envelope = "cloudevents"`.'
    text = 'The value is the text, in UTF-8: `input.format = "text"`.'
    in_event = f"As the data of a CloudEvent in binary mode: {events}"
    return {
        "request": _message("Request", 'As JSON: `input.format = "json"`.', "request", examples="request"),
        "text": _message("Text", text, "text", "text/plain; charset=utf-8"),
        "requestEvent": _message(
            "Request (CloudEvent)", f"In a CloudEvent in structured mode: {events}", "requestEvent", STRUCTURED
        ),
        "requestInEvent": _message("Request (CloudEvent, binary)", in_event, "request", headers=_event_headers({})),
    }


def _of_results() -> dict[str, Any]:
    modes = {mode: f'`output.envelope = "cloudevents-{mode}"`.' for mode in ("structured", "binary")}
    enriched = 'The message itself, with the result as a member: `output.content = "enriched"`.'
    in_event = f"As the data of a CloudEvent in binary mode: {modes['binary']}"
    event = f"In a CloudEvent in structured mode: {modes['structured']}"
    forwarded = 'A message without a value, handed on: `input.tombstones = "forward"`.'
    return {
        "result": _message(
            "Result", 'As JSON: `output.format = "json"`.', "result", headers=_passed(), examples="result"
        ),
        "enriched": _message("Enriched message", enriched, "enriched", headers=_passed()),
        "resultEvent": _message("Result (CloudEvent)", event, "resultEvent", STRUCTURED, headers=_passed()),
        "resultInEvent": _message(
            "Result (CloudEvent, binary)", in_event, "result", headers=_event_headers(_of_result(), ["dataschema"])
        ),
        "tombstone": _tombstone("Tombstone", forwarded, _passed()),
        "tombstoneEvent": _tombstone(
            "Tombstone (CloudEvent)",
            f"{forwarded} With an `output.envelope` it is a CloudEvent without data, in binary mode.",
            _event_headers({"type": {"const": TOMBSTONE}}),
        ),
    }


def _tombstone(title: str, summary: str, headers: dict[str, Any]) -> dict[str, Any]:
    payload = {"type": "null"}
    return {"title": title, "summary": summary, "headers": headers, "payload": payload, "bindings": _BINDINGS}


def _message(
    title: str,
    summary: str,
    schema: str,
    content_type: str = _JSON,
    *,
    headers: dict[str, Any] | None = None,
    examples: str | None = None,
    bindings: dict[str, Any] = _BINDINGS,
) -> dict[str, Any]:
    made: dict[str, Any] = {"title": title, "summary": summary, "contentType": content_type}
    if headers:
        made["headers"] = headers
    made["payload"] = {"$ref": f"#/components/schemas/{schema}"}
    if examples:
        made["examples"] = [{"payload": example} for example in definition.schema(examples)["examples"]]
    return made | {"bindings": bindings}


def _passed() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "Headers of the message that `kafka.pass_headers` names.",
        "additionalProperties": {"type": ["string", "null"]},
    }


def _dead_letter() -> dict[str, Any]:
    value = definition.schema("dead-letter")["properties"]["value"]
    return {
        "title": "Dead letter",
        "summary": "The message's own key and value, and headers that say where it came from and why it failed.",
        "contentType": "application/octet-stream",
        "headers": {"$ref": "#/components/schemas/deadLetterHeaders"},
        "payload": {"type": ["string", "null"], "format": "binary", "description": value["description"]},
        "bindings": _BINDINGS,
    }


def _attributes(more: dict[str, Any]) -> dict[str, Any]:
    """Attributes of an event; `more` is said of these in particular."""
    return {"specversion": {"const": SPECVERSION}, "id": _TEXT, "source": _TEXT, "type": _TEXT} | more


def _of_result() -> dict[str, Any]:
    """Attributes of the events that results are."""
    source = OutputSettings.model_fields["cloudevents_source"].default
    schema = definition.schema("result")
    said = {
        "id": schema["properties"]["result_id"]["description"],
        "source": f"The setting `output.cloudevents_source`; `{source}` by default.",
        "subject": schema["properties"]["id"]["description"],
        "time": schema["properties"]["source"]["properties"]["timestamp"]["description"],
        "partitionkey": "The message's key, where it is text.",
        "traceparent": "Of the trace that the message belongs to.",
        "tracestate": "Of the trace that the message belongs to.",
    }
    version = definition.VERSION
    fixed = {"type": {"const": f"winnow.result.v{version}"}, "dataschema": {"const": schema["$id"]}}
    return {name: {**_TEXT, "description": words} for name, words in said.items()} | fixed


def _event_headers(more: dict[str, Any], also_required: Sequence[str] = ()) -> dict[str, Any]:
    """Headers of an event in binary mode; `more` is said of these attributes in particular."""
    attributes = _attributes(more)
    required = ["specversion", "id", "source", "type", *also_required]
    return {
        "type": "object",
        "required": [f"ce_{name}" for name in required],
        "properties": {f"ce_{name}": part for name, part in attributes.items()} | {"content-type": _TEXT},
        "additionalProperties": {"type": ["string", "null"]},
    }


def _event(data: str, more: dict[str, Any], *also_required: str) -> dict[str, Any]:
    part = {"$ref": f"#/components/schemas/{data}"}
    return {
        "type": "object",
        "required": ["specversion", "id", "source", "type", *also_required],
        "properties": {**_attributes(more), "datacontenttype": {"type": "string"}, "data": part},
        "additionalProperties": {"type": ["string", "integer", "boolean", "null"]},
    }


def _schemas() -> dict[str, Any]:
    field = OutputSettings.model_fields["field"].default
    made = {
        "request": _draft_07(definition.schema("request")),
        "text": {"type": "string", "pattern": "\\S"},
        "requestEvent": _event("request", {}),
        "result": _draft_07(definition.schema("result")),
        "resultEvent": _event("result", _of_result(), "dataschema", "datacontenttype", "data"),
        "enriched": {
            "type": "object",
            "description": f"The member's name is the setting `output.field`, `{field}` by default.",
            "required": [field],
            "properties": {field: {"$ref": "#/components/schemas/result"}},
        },
        "deadLetterHeaders": _draft_07(definition.schema("dead-letter")["properties"]["headers"]),
    }
    for suffix, form in _FORMS.items():
        for name in ("request", "result"):
            same = {"$ref": f"#/components/schemas/{name}"}
            twin = {"schemaFormat": form.schema_format, "schema": form.schema(name)}
            made[f"{name}{suffix}"] = twin if form.schema_format else same
    return made


def _draft_07(schema: dict[str, Any]) -> dict[str, Any]:
    """As AsyncAPI has it, whose own schemas are a superset of draft 07."""
    left_out = ("$schema", "$id", "examples")
    made = {key: value for key, value in definition.published(schema).items() if key not in left_out}
    if "dependentRequired" in made:
        made["dependencies"] = made.pop("dependentRequired")
    return made
