"""The schema registry, where formats need one: whether it answers, and has or takes the schema of results."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from worker.doctor.findings import Finding, not_checked, ok, problem, refused, warning
from worker.errors import BrokerError, ConfigError
from worker.forms import Forms
from worker.kafka.registry import FORMATS, NotRegistered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.config import RegistrySettings, Settings

MEND_REGISTRY = "Check registry.url and registry.properties."
MEND_SETTING = "Set it right, or leave it out."
LOGINS = ("basic.auth.", "bearer.auth.")


def registered(settings: Settings) -> Iterator[Finding]:
    """Of the formats that are in use; nothing where none is a registry's."""
    if not {settings.input.format, settings.output.format} & {*FORMATS}:
        return
    if _tells_its_login(settings.registry):
        yield warning(
            "registry login",
            "The login of the schema registry goes over http://, where whoever is on the way can read it.",
            "Give registry.url an https:// address.",
        )
    try:
        with closing(Forms(settings)) as forms:
            yield from _registered(settings, forms)
    # Nothing more is asked: who does not answer once would be waited for as long again.
    except BrokerError as error:
        yield refused("registry", error, MEND_REGISTRY)
    except ConfigError as error:
        yield refused("registry", error, MEND_SETTING)


def _tells_its_login(registry: RegistrySettings) -> bool:
    plain = any(one.strip().startswith("http://") for one in (registry.url or "").split(","))
    return plain and any(name.startswith(LOGINS) for name in registry.properties)


def _registered(settings: Settings, forms: Forms) -> Iterator[Finding]:
    read, written = settings.input.format, settings.output.format
    if read in FORMATS:
        forms.registry.deserializer(read)
        yield ok("registry", f"The schema registry at {settings.registry.url} answers, and has schemas of {read}.")
    if written in FORMATS:
        for topic in settings.result_topics:
            yield _of_results(settings, forms, topic)


def _of_results(settings: Settings, forms: Forms, topic: str) -> Finding:
    check, form = f"schema {topic}", settings.output.format
    try:
        forms.registry.serializer(form, topic)
    except NotRegistered as error:
        if settings.registry.auto_register:
            return _to_be_registered(forms, topic, error)
        return problem(check, _lacking(error) + ".", "Register it, or set registry.auto_register = true.")
    return ok(check, f"The schema registry has the {form} schema of results for {topic}.")


def _to_be_registered(forms: Forms, topic: str, error: NotRegistered) -> Finding:
    check = f"schema {topic}"
    try:
        told = forms.registry.check_compatible(error.format, topic)
    except ConfigError as incompatible:
        return refused(check, incompatible, MEND_REGISTRY)
    if not told:
        return not_checked(check, f"{_lacking(error)}, and the registry does not say whether it would take it.")
    return ok(check, f"{_lacking(error)}; a start registers it.")


def _lacking(error: NotRegistered) -> str:
    return f"The subject {error.subject} does not have the {error.format} schema of results"
