"""The schema registry, where formats need one: whether it answers, and has the schema of results."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from worker.doctor.findings import Finding, ok, problem, refused
from worker.errors import Fatal
from worker.forms import Forms
from worker.kafka.registry import FORMATS, NotRegistered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.config import Settings

MEND_REGISTRY = "Check registry.url and registry.properties."


def registered(settings: Settings) -> Iterator[Finding]:
    """Of the formats that are in use; nothing where none is a registry's."""
    with closing(Forms(settings)) as forms:
        yield from _registered(settings, forms)


def _registered(settings: Settings, forms: Forms) -> Iterator[Finding]:
    read, written = settings.input.format, settings.output.format
    if read in FORMATS:
        try:
            forms.registry.deserializer(read)
        except Fatal as error:
            yield refused("registry", error, MEND_REGISTRY)
            return
        yield ok("registry", f"The schema registry at {settings.registry.url} answers, and has schemas of {read}.")
    if written in FORMATS:
        yield from (_of_results(settings, forms, topic) for topic in settings.result_topics)


def _of_results(settings: Settings, forms: Forms, topic: str) -> Finding:
    check, form = f"schema {topic}", settings.output.format
    try:
        forms.registry.serializer(form, topic)
    except NotRegistered as error:
        if settings.registry.auto_register:
            return ok(check, f"{str(error).partition(':')[0]}; a start registers it.")
        return problem(check, str(error), "Register it, or set registry.auto_register = true.")
    except Fatal as error:
        return refused(check, error, MEND_REGISTRY)
    return ok(check, f"The schema registry has the {form} schema of results for {topic}.")
