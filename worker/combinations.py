"""Settings of several sections that have no meaning together, each with its sentence."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from worker.kafka.registry import FORMATS

if TYPE_CHECKING:
    from worker.sections import (
        DecisionSettings,
        InputSettings,
        KafkaSettings,
        OutputSettings,
        RegistrySettings,
        RoutingSettings,
    )


def check_routes(kafka: KafkaSettings, decision: DecisionSettings, routing: RoutingSettings) -> None:
    """Whether routes lead where nobody reads for this worker, and are ever taken.

    Raises:
        ValueError: they do not.
    """
    for name, topic in routing.topics.items():
        route = f"routing.topics sends {name!r} to {topic!r}"
        if topic == kafka.dead_letter_topic:
            raise ValueError(f"{route}, which is kafka.dead_letter_topic; give them two names")
        for read in kafka.input_topics:
            if re.match(read, topic) if read.startswith("^") else read == topic:
                raise ValueError(f"{route}, which kafka.input_topics reads as {read!r}: a circle")
    if routing.by == "action" and decision.accept_score is None:
        raise ValueError('routing.by = "action" needs a decision.accept_score, without which there is no action')
    if routing.by == "action" and "review" in routing.topics and decision.review_score is None:
        raise ValueError("routing.topics has 'review', an action that needs a decision.review_score")


def check_forms(read: InputSettings, written: OutputSettings, registry: RegistrySettings) -> None:
    """Whether formats, envelopes and what is written of a message can be had together.

    Raises:
        ValueError: they cannot.
    """
    _check_enriched(read, written)
    _check_events(read, written)
    for name, form in (("input", read.format), ("output", written.format)):
        if form in FORMATS and registry.url is None:
            raise ValueError(f'{name}.format = "{form}" needs a registry.url, the address of a schema registry')


def _check_enriched(read: InputSettings, written: OutputSettings) -> None:
    if written.content != "enriched":
        if written.field != type(written).model_fields["field"].default:
            raise ValueError('output.field has no meaning without output.content = "enriched"')
        return
    needed = {
        "input.format": (read.format, "json"),
        "input.envelope": (read.envelope, "none"),
        "output.format": (written.format, "json"),
        "output.envelope": (written.envelope, "none"),
    }
    for name, (value, wanted) in needed.items():
        if value != wanted:
            raise ValueError(f'output.content = "enriched" needs {name} = "{wanted}", and it is "{value}"')


def _check_events(read: InputSettings, written: OutputSettings) -> None:
    if read.envelope == "cloudevents" and read.id_pointer and "id_pointer" in read.model_fields_set:
        raise ValueError('input.id_pointer has no meaning with input.envelope = "cloudevents": events have their id')
    if written.envelope == "none" and written.cloudevents_source != "winnow":
        raise ValueError("output.cloudevents_source has no meaning without an output.envelope")
    if written.envelope == "cloudevents-structured" and written.format != "json":
        binary = 'set output.envelope = "cloudevents-binary"'
        raise ValueError(f'output.envelope = "cloudevents-structured" is JSON, and output.format is not; {binary}')
