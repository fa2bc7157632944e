"""What the doctor says of a schema registry: as a start would have it, once, and each with its mend."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka.schema_registry._sync.mock_schema_registry_client import MockSchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from tests.unit.kafka.test_registry import _mock_has_types, opened  # noqa: F401
from worker.config import load
from worker.doctor import Status
from worker.doctor.registry import registered
from worker.errors import BrokerError, ConfigError

if TYPE_CHECKING:
    from worker.doctor.findings import Finding
    from worker.kafka.registry import Registry

TOPICS = ("kafka.output_topic=out", "routing.topics.a=x", "routing.topics.b=y")
HERE = ("registry.url=http://here", "output.format=avro", *TOPICS)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The one that settings lead to, whatever they say."""
    found = opened(auto_register=False)
    monkeypatch.setattr("worker.forms.Registry", lambda *_, **__: found)
    return found


def findings(*assignments: str) -> list[Finding]:
    return list(registered(load(None, list(assignments))))


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (True, Status.OK, "; a start registers it."),
        (False, Status.PROBLEM, "The subject x-value of the schema registry at mock://registry does not take"),
        (SchemaRegistryError(404, 40401, "no such subject"), Status.OK, "; a start registers it."),
        (SchemaRegistryError(500, 500, "no version"), Status.NOT_CHECKED, "does not say whether it would take it"),
    ],
)
def test_a_subject_that_refuses_the_schema_is_found_before_a_start(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, answer: bool | Exception, status: Status, said: str
):
    """With `auto_register` a start would end there; where there is no such subject yet, it would not."""
    asked: list[str] = []

    def all_versions(_: object, subject: str, *__: object) -> bool:
        asked.append(subject)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(MockSchemaRegistryClient, "test_compatibility_all_versions", all_versions)
    found = findings(*HERE, "registry.auto_register=true")
    assert asked == ["out-value", "x-value", "y-value"]
    assert [(one.check, one.status) for one in found] == [(f"schema {topic}", status) for topic in ("out", "x", "y")]
    assert said in found[1].found
    assert (status is Status.PROBLEM) is ("compatibility" in found[1].mend)


def test_a_missing_schema_is_a_problem_with_its_mend(registry: Registry):
    """Where a start does not register it."""
    found = findings(*HERE)
    assert {one.status for one in found} == {Status.PROBLEM}
    assert found[0].found == "The subject out-value does not have the avro schema of results."
    assert found[0].mend == "Register it, or set registry.auto_register = true."


def test_a_registry_that_is_down_is_waited_for_once(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    """And is named as such, not as the schema of a topic."""
    asked = []

    def down(*_: object) -> Any:
        asked.append(1)
        raise BrokerError("The schema registry at http://here does not answer.")

    monkeypatch.setattr(registry, "serializer", down)
    (found,) = findings(*HERE)
    assert (found.check, found.status, len(asked)) == ("registry", Status.PROBLEM, 1)
    assert found.mend == "Check registry.url and registry.properties."


def test_a_missing_extra_has_the_command_that_installs_it_as_its_mend(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
):
    """And not what to look at in the settings."""
    monkeypatch.setitem(sys.modules, "worker.kafka.registry.writing", None)
    (found,) = findings(*HERE)
    assert (found.check, found.status) == ("registry", Status.PROBLEM)
    assert found.mend == "Install it: pip install 'winnow-worker[registry]'."


def test_a_wrong_setting_is_a_problem(monkeypatch: pytest.MonkeyPatch):
    """One line, however many topics there are."""

    def wrong(*_: object, **__: object) -> Any:
        raise ConfigError("registry.properties: no.such is unknown.")

    monkeypatch.setattr("worker.forms.Registry", wrong)
    (found,) = findings(*HERE)
    assert (found.check, found.status, found.mend) == ("registry", Status.PROBLEM, "Set it right, or leave it out.")


@pytest.mark.parametrize(
    ("url", "name", "warned"),
    [
        ("http://here", "basic.auth.user.info", True),
        ("https://here, http://there", "bearer.auth.token", True),
        ("https://here", "basic.auth.user.info", False),
        ("http://here", "proxy", False),
    ],
)
def test_a_login_that_anyone_can_read_is_warned_of(registry: Registry, url: str, name: str, warned: bool):
    """With what to do."""
    found = findings(*HERE[1:], f"registry.url={url}", f"registry.properties.{name}=me:secret")
    assert (found[0].check == "registry login") is warned
    if warned:
        assert (found[0].status, found[0].mend) == (Status.WARNING, "Give registry.url an https:// address.")
    assert "secret" not in str(found)
