"""In which form messages come and results leave, and to which topics: settings to decoder and encoder."""

from __future__ import annotations

from contextlib import closing
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import orjson

from worker import contracts
from worker.config import environment
from worker.config_providers import resolve
from worker.errors import ConfigError, Fatal, InvalidMessage
from worker.kafka.registry import CONTENT_TYPES, FORMATS, NotRegistered, Registry
from worker.pipeline import cloudevents, passing
from worker.pipeline.decode import (
    document_decoder,
    event_decoder,
    header_decoder,
    plain_text,
    text_decoder,
)
from worker.pipeline.encode import LEAST_BYTES, Encoder, Form, Topics
from worker.pipeline.enrich import enrichable, enriching
from worker.pipeline.error_headers import connect_headers, spring_headers
from worker.pipeline.json_text import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from worker.config import Settings
    from worker.opening import Fitting, Model
    from worker.pipeline.decode import Decoder, Read
    from worker.pipeline.encode import Write
    from worker.pipeline.error_headers import ErrorHeaders
    from worker.pipeline.messages import Headers, Record


T = TypeVar("T")
CONTEXT_BYTES = 1_100
"""More than the headers of a context take that tracing adds to a record."""
JSON: Final = "application/json"
Serialize: TypeAlias = "Callable[[dict[str, Any]], bytes]"


class Forms:
    """What reads messages and writes results as the settings say. Used by one thread.

    Args:
        settings: of the worker.
        registers: whether a schema that is missing in the registry may be added, where the settings want it.

    Everything may raise ConfigError and BrokerError, where there is a registry: the settings do not fit it, it does not
    answer.
    """

    def __init__(self, settings: Settings, *, registers: bool = False) -> None:
        self._settings = settings
        self._registers = registers

    @cached_property
    def registry(self) -> Registry:
        """The registry of the settings; made when it is asked for, which contacts nobody."""
        settings = self._settings.registry
        return Registry(
            settings.url or "",
            resolve(settings.properties, environment()),
            auto_register=settings.auto_register and self._registers,
            subjects=settings.subjects,
            timeout=settings.timeout_ms / 1000,
        )

    def check(self) -> None:
        """Make the registry's client, which contacts nobody.

        Raises:
            ConfigError: the settings of the registry are wrong, or a package of the extra is missing.
        """
        self._asked(lambda _: None)

    def close(self) -> None:
        """End the connection to the registry, where there is one."""
        if "registry" in vars(self):
            self.registry.close()

    def decoder(self) -> Decoder:
        """Messages to requests."""
        settings = self._settings.input
        decode = self._decoder(named=True)
        if settings.id_header is None and not settings.metadata_headers:
            return decode
        without_id = self._decoder(named=False) if settings.id_header else decode
        return header_decoder(decode, without_id, settings.id_header, settings.metadata_headers)

    def _decoder(self, *, named: bool) -> Decoder:
        settings = self._settings.input
        bounds = settings.max_bytes, settings.max_characters
        if settings.envelope == "cloudevents":
            text_pointer = "" if settings.format == "text" else settings.text_pointer
            return event_decoder(text_pointer, *bounds, self._read, named=named)
        if settings.format == "text":
            return text_decoder(*bounds)
        id_pointer = settings.id_pointer if named else None
        return document_decoder(settings.text_pointer, id_pointer, *bounds, self._read)

    @cached_property
    def _read(self) -> Read:
        read, written = self._settings.input, self._settings.output
        if read.format == "text":
            return plain_text
        if read.format in FORMATS:
            return self._asked(lambda registry: registry.deserializer(read.format))
        return enrichable(written.field) if written.content == "enriched" else parse

    def encoder(self, model: Model, max_bytes: int) -> Encoder:
        """Outcomes to records of `max_bytes` at most, with the context that tracing adds.

        Raises:
            ConfigError: a route is not one that the bundle's results can take, or there is no room for contexts.
        """
        settings = self._settings
        if settings.tracing.enabled:
            max_bytes -= CONTEXT_BYTES
            if max_bytes < LEAST_BYTES:
                raise ConfigError(
                    f"With tracing.enabled, output.max_bytes and the max.message.bytes of the topics that are written "
                    f"must be at least {LEAST_BYTES + CONTEXT_BYTES:,}: what is written carries the context of a trace."
                )
        return Encoder(
            model.identity,
            settings.output.all_scores,
            settings.kafka.pass_headers,
            max_bytes,
            error_headers(settings),
            topics(settings, model),
            Form(self._write(), self._strip(), self._tombstone()),
        )

    def result_reader(self) -> Read:
        """The value of a record that holds a result to the result; raises InvalidMessage or ValueError for others."""
        written = self._settings.output
        if written.content == "enriched":
            return partial(_member, written.field)
        if written.format in FORMATS:
            return partial(
                _of_contract, _FROM[written.format], self._asked(lambda registry: registry.deserializer(written.format))
            )
        return partial(_member, "data") if written.envelope == "cloudevents-structured" else orjson.loads

    def _write(self) -> Write | None:
        written = self._settings.output
        if written.content == "enriched":
            return enriching(written.field)
        if written.envelope == "cloudevents-structured":
            return _structured(written.cloudevents_source)
        if written.format == "json":
            plain: Serialize = orjson.dumps
            serialize = dict.fromkeys(self._settings.result_topics, plain)
            return None if written.envelope == "none" else _binary(serialize, written.cloudevents_source, JSON)
        serialize = {topic: self._serializer(written.format, topic) for topic in self._settings.result_topics}
        if written.envelope == "none":
            return _framed(serialize)
        return _binary(serialize, written.cloudevents_source, CONTENT_TYPES[written.format])

    def _strip(self) -> Callable[[Headers], Headers] | None:
        settings = self._settings
        read, written, passed = settings.input, settings.output, settings.kafka.pass_headers
        if written.format in FORMATS or {read.envelope, written.envelope} != {"none"}:
            return passing.without_description
        return None if {"*", passing.VALUE_SCHEMA_ID}.isdisjoint(passed) else passing.without_schema

    def _tombstone(self) -> Callable[[Record], Headers] | None:
        written = self._settings.output
        return None if written.envelope == "none" else partial(cloudevents.tombstone, source=written.cloudevents_source)

    def _asked(self, ask: Callable[[Registry], T]) -> T:
        """What the registry gives; where it gives nothing, it is not asked again."""
        try:
            return ask(self.registry)
        except Fatal:
            self.close()
            raise

    def _serializer(self, form: str, topic: str) -> Serialize:
        try:
            return self._asked(lambda registry: registry.serializer(form, topic))
        except NotRegistered as error:
            if not self._settings.registry.auto_register:
                raise
            mend = "a worker registers it when it starts, and this changes nothing"
            raise NotRegistered(error.subject, error.format, mend) from None


def _member(name: str, value: bytes) -> Any:
    document = orjson.loads(value)
    return document.get(name) if isinstance(document, dict) else None


def _structured(source: str) -> Write:
    return lambda result, record, _: cloudevents.structured(result, record, source=source)


def _binary(serialize: Mapping[str, Serialize], source: str, content_type: str) -> Write:
    def write(result: dict[str, object], record: Record, topic: str) -> tuple[bytes, Headers]:
        value = serialize[topic](result)
        return cloudevents.binary(value, result, record, source=source, content_type=content_type)

    return write


def _framed(serialize: Mapping[str, Serialize]) -> Write:
    return lambda result, _, topic: (serialize[topic](result), [])


def _of_contract(result: Callable[[Any, bytes], Any], read: Read, value: bytes) -> Any:
    """A result as JSON has it, out of the document that a registry's format has of it."""
    document = read(value)
    try:
        return result(document, value)
    # A value of another schema may have anything in the place of what is asked for.
    except (AttributeError, TypeError, ValueError):
        raise InvalidMessage("invalid-payload", "The value is no result.") from None


def _of_protobuf(document: Any, value: bytes) -> Any:
    if not document.get("result_id") or not value.startswith(_FIRST, _IDENTIFIED):
        raise ValueError("another message")
    return contracts.parse_protobuf(value[_IDENTIFIED + len(_FIRST) :])


_IDENTIFIED: Final = 5
"""Bytes in which a value says which schema it has."""
_FIRST: Final = b"\0"
"""What follows in Protobuf where the value is the first message of its file, as results are."""
_FROM: Final[Mapping[str, Callable[[Any, bytes], Any]]] = {
    "avro": lambda document, _: contracts.from_avro(document),
    "json-schema": lambda document, _: document,
    "protobuf": _of_protobuf,
}
"""Documents as the registry's formats have them, and their values, to results."""


def check_registry(settings: Settings) -> None:
    """Whether the registry's settings make a client: asks nobody. Raises ConfigError where they do not."""
    with closing(Forms(settings)) as forms:
        forms.check()


def error_headers(settings: Settings) -> ErrorHeaders:
    """What dead letters are told by."""
    return connect_headers if settings.dead_letters.headers == "connect" else spring_headers(settings.kafka.group_id)


def topics(settings: Settings, model: Model | Fitting) -> Topics:
    """Where records go.

    Raises:
        ConfigError: a route is not one that the bundle's results can take.
    """
    kafka, routing = settings.kafka, settings.routing
    if not routing.topics:
        return Topics(kafka.output_topic, kafka.dead_letter_topic)
    if not model.answers:
        raise ConfigError(
            f"routing.topics has no meaning for the bundle {model.identity.name}, which finds entities: its results "
            "have no label. Leave it out."
        )
    if routing.by == "label":
        _check_labels(settings, model)
    return Topics(kafka.output_topic, kafka.dead_letter_topic, dict(routing.topics), routing.by == "action")


def _check_labels(settings: Settings, model: Model | Fitting) -> None:
    for label in settings.routing.topics:
        if label not in model.answers:
            raise ConfigError(
                f"routing.topics has {label!r}, which is no label of the bundle {model.identity.name}; it has "
                f"{', '.join(model.answers)}."
            )
