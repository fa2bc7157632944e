"""The schema of the chart's values: of the worker's settings, current, and closed at every level. Needs no helm."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from deploy import generate, schemas
from deploy.rendering import CHART
from worker.config import Settings, reference

SCHEMA = json.loads((CHART / "values.schema.json").read_text("utf-8"))
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))


def nested(path: str, value: Any) -> dict[str, Any]:
    for name in reversed(path.split("/")):
        value = {name: value}
    return value


def tables() -> list[str]:
    """The paths of all objects in the schema that have a fixed set of names."""
    found: list[str] = []

    def walk(schema: dict[str, Any], path: str) -> None:
        for name, inner in schema.get("properties", {}).items():
            here = f"{path}/{name}".lstrip("/")
            if "properties" in inner:
                found.append(here)
                walk(inner, here)

    walk(SCHEMA, "")
    return found


def test_what_is_generated_is_current():
    """Schema and README are what `python deploy/generate.py` writes."""
    assert json.loads(generate.schema()) == SCHEMA, "run `python deploy/generate.py`"
    assert generate.readme() == (CHART / "README.md").read_text("utf-8"), "run `python deploy/generate.py`"


def test_the_schema_is_one():
    """And takes the chart's own values."""
    Draft7Validator.check_schema(SCHEMA)
    Draft7Validator(SCHEMA).validate(DEFAULTS)


@pytest.mark.parametrize("path", tables())
def test_a_typo_is_refused_at_every_level(path: str):
    """Whatever has a fixed set of names takes no other one."""
    errors = list(Draft7Validator(SCHEMA).iter_errors(nested(f"{path}/no-such-name", 1)))
    assert any("no-such-name" in error.message for error in errors)


def test_every_setting_of_the_worker_can_be_set():
    """Under its own name and no other; the schema says of each what the documentation says."""
    sections = SCHEMA["properties"]["config"]["properties"]
    known = {f"{section}.{name}" for section, inner in sections.items() for name in inner["properties"]}
    assert known == {name for name, _ in reference()}
    for name, field in reference():
        section, _, key = name.partition(".")
        assert sections[section]["properties"][key]["description"] == field.description


def test_every_value_is_explained():
    """Each has a comment above it, which is its line in the README."""
    said = schemas.comments()
    for path, _ in schemas._leaves(DEFAULTS):
        assert said.get(path), ".".join(path)


def test_defaults_are_the_workers():
    """What values.yaml says of settings is what the worker does without it; the brokers' address apart."""
    defaults = Settings().model_dump(mode="json")
    for section, values in DEFAULTS["config"].items():
        for name, value in values.items():
            if name not in ("bootstrap_servers", "consumer_properties"):
                assert value == defaults[section][name], f"{section}.{name}"
