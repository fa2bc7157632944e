"""Settings of several sections that have no meaning together, each with its sentence."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from worker.kafka.registry import FORMATS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.sections import (
        DecisionSettings,
        InputSettings,
        KafkaSettings,
        OutputSettings,
        RegistrySettings,
        RoutingSettings,
        Section,
        TracingSettings,
    )

_OF_DOCUMENTS = frozenset({"text_pointer", "id_pointer"})
"""Settings of the input that point into what is more than a text."""
_OF_RESULTS = frozenset({"auto_register", "subjects"})
"""Settings of the registry that speak of what is written alone."""


def faults_of_routes(kafka: KafkaSettings, decision: DecisionSettings, routing: RoutingSettings) -> Iterator[str]:
    """What is wrong with routes that lead where this worker reads, or are never taken."""
    for name, topic in routing.topics.items():
        route = f"routing.topics sends {name!r} to {topic!r}"
        if topic == kafka.dead_letter_topic:
            yield f"{route}, which is kafka.dead_letter_topic; give them two names"
        for read in kafka.input_topics:
            if re.match(read, topic) if read.startswith("^") else read == topic:
                yield f"{route}, which kafka.input_topics reads as {read!r}: a circle"
    if routing.by == "action" and decision.accept_score is None:
        yield 'routing.by = "action" needs a decision.accept_score, without which there is no action'
    if routing.by == "action" and "review" in routing.topics and decision.review_score is None:
        yield "routing.topics has 'review', an action that needs a decision.review_score"


def faults_of_forms(read: InputSettings, written: OutputSettings, registry: RegistrySettings) -> Iterator[str]:
    """What of formats, envelopes and what is written of a message cannot be had together, or has no meaning."""
    yield from _of_text(read)
    yield from _of_enriched(read, written)
    yield from _of_events(read, written)
    yield from _of_registry(read, written, registry)


def faults_of_tracing(tracing: TracingSettings) -> Iterator[str]:
    """What has no meaning while nothing is traced."""
    if not tracing.enabled and tracing.propagate != type(tracing).model_fields["propagate"].default:
        yield f'tracing.propagate = "{tracing.propagate}" has no meaning without tracing.enabled = true'


def _changed(section: Section) -> Iterator[str]:
    """The settings that are not what they are by default."""
    fields = type(section).model_fields
    return (name for name, field in fields.items() if getattr(section, name) != field.default)


def _of_text(read: InputSettings) -> Iterator[str]:
    for name in _changed(read) if read.format == "text" else ():
        if name in _OF_DOCUMENTS and getattr(read, name) is not None:
            yield f'input.{name} has no meaning with input.format = "text": all of it is the text'


def _of_registry(read: InputSettings, written: OutputSettings, registry: RegistrySettings) -> Iterator[str]:
    formats = {"input": read.format, "output": written.format}
    for name, form in formats.items():
        if form in FORMATS and registry.url is None:
            yield f'{name}.format = "{form}" needs a registry.url, the address of a schema registry'
    for name in _changed(registry):
        if set(FORMATS).isdisjoint(formats.values()):
            some = ", ".join(f'"{form}"' for form in FORMATS)
            yield f"registry.{name} has no meaning unless input.format or output.format is one of {some}"
        elif name in _OF_RESULTS and written.format not in FORMATS:
            yield (
                f"registry.{name} is about the schema of results, and has no meaning with "
                f'output.format = "{written.format}"'
            )


def _of_enriched(read: InputSettings, written: OutputSettings) -> Iterator[str]:
    if written.content != "enriched":
        if written.field != type(written).model_fields["field"].default:
            yield 'output.field has no meaning without output.content = "enriched"'
        return
    needed = {
        "input.format": (read.format, "json"),
        "input.envelope": (read.envelope, "none"),
        "output.format": (written.format, "json"),
        "output.envelope": (written.envelope, "none"),
    }
    for name, (value, wanted) in needed.items():
        if value != wanted:
            yield f'output.content = "enriched" needs {name} = "{wanted}", and it is "{value}"'


def _of_events(read: InputSettings, written: OutputSettings) -> Iterator[str]:
    if read.envelope == "cloudevents" and read.id_pointer and "id_pointer" in read.model_fields_set:
        yield 'input.id_pointer has no meaning with input.envelope = "cloudevents": events have their id'
    if written.envelope == "none" and written.cloudevents_source != "winnow":
        yield "output.cloudevents_source has no meaning without an output.envelope"
    if written.envelope == "cloudevents-structured" and written.format != "json":
        binary = 'set output.envelope = "cloudevents-binary"'
        yield f'output.envelope = "cloudevents-structured" is JSON, and output.format is not; {binary}'
