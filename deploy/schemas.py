"""The schema and the table of values: types by chart_schema.yaml, settings by the worker, words by values.yaml."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from worker.config import Settings
from worker.setting_types import OWNED_PROPERTIES

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
VALUES = HERE / "helm" / "winnow" / "values.yaml"
TYPES = HERE / "chart_schema.yaml"

Schema = dict[str, Any]


def values_schema() -> Schema:
    """JSON Schema of the chart's values, without references, in what all drafts from 7 on share."""
    types = yaml.safe_load(TYPES.read_text("utf-8"))
    definitions = types.pop("$defs")
    schema = _closed(_inlined(types, definitions))
    schema["properties"]["config"] = settings_schema()
    # Values for subcharts, which Helm adds where this chart is one.
    schema["properties"]["global"] = {"type": "object"}
    _need(schema, yaml.safe_load(VALUES.read_text("utf-8")))
    for path, said in comments().items():
        _describe(schema, path, said)
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the chart winnow", **schema}


def settings_schema() -> Schema:
    """That of `config`: the worker's settings as they stand in TOML, where None is left out and lists are lists."""
    schema = Settings.model_json_schema()
    definitions = {f"#/$defs/{name}": each for name, each in schema.pop("$defs").items()}
    settings = _for_toml(_inlined(schema, definitions))
    settings["properties"]["serving"]["properties"]["port"]["minimum"] = 1
    for name in ("properties", "consumer_properties", "producer_properties"):
        settings["properties"]["kafka"]["properties"][name]["propertyNames"] = {"not": {"enum": [*OWNED_PROPERTIES]}}
    return settings


def comments() -> dict[tuple[str, ...], str]:
    """What values.yaml says above each key, by path."""
    found: dict[tuple[str, ...], str] = {}
    path: list[tuple[int, str]] = []
    said: list[str] = []
    for line in VALUES.read_text("utf-8").splitlines():
        match = re.match(r"( *)(#|[\w.-]+:)(.*)", line)
        if match is None:
            said = []
        elif match[2] == "#":
            said.append(match[3].strip())
        else:
            path = [*(each for each in path if each[0] < len(match[1])), (len(match[1]), match[2].rstrip(":"))]
            if said:
                found[tuple(name for _, name in path)] = " ".join(said)
            said = []
    return found


def table() -> str:
    """All values with their defaults, for the chart's README."""
    said = comments()
    rows = ["| value | default | what |", "|---|---|---|"]
    for path, default in _leaves(yaml.safe_load(VALUES.read_text("utf-8"))):
        dotted = ".".join(name.replace(".", "\\.") for name in path)
        rows.append(f"| `{dotted}` | `{json.dumps(default)}` | {said[path].replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def _leaves(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Values with a description of their own are leaves where nothing below them has one."""
    said = comments()
    for name, value in values.items():
        here = (*path, name)
        if isinstance(value, dict) and any(each[: len(here)] == here and len(each) > len(here) for each in said):
            yield from _leaves(value, here)
        else:
            yield here, value


def _inlined(node: Any, definitions: Schema) -> Any:
    if isinstance(node, dict):
        if "$ref" in node:
            others = {name: each for name, each in node.items() if name != "$ref"}
            return {**_inlined(copy.deepcopy(definitions[node["$ref"]]), definitions), **others}
        return {name: _inlined(each, definitions) for name, each in node.items()}
    return [_inlined(each, definitions) for each in node] if isinstance(node, list) else node


def _closed(node: Any) -> Any:
    """Whatever has properties is an object with those alone."""
    if isinstance(node, list):
        return [_closed(each) for each in node]
    if not isinstance(node, dict):
        return node
    closed = {name: _closed(each) for name, each in node.items()}
    if isinstance(node.get("properties"), dict):
        return {"type": "object", "additionalProperties": False, **closed}
    return closed


def _for_toml(node: Any) -> Any:
    if isinstance(node, list):
        return [_for_toml(each) for each in node]
    if not isinstance(node, dict):
        return node
    node = {name: _for_toml(each) for name, each in node.items() if not (name == "title" and isinstance(each, str))}
    kinds = [each for each in node.get("anyOf", []) if each != {"type": "null"}]
    if len(kinds) == 1:
        node = {**kinds[0], **{name: each for name, each in node.items() if name != "anyOf"}}
    elif kinds and all(set(each) == {"type"} for each in kinds):
        node = {"type": [each["type"] for each in kinds], **{n: each for n, each in node.items() if n != "anyOf"}}
    if node.get("type") == "array" and "minLength" in node:
        node["minItems"] = node.pop("minLength")
    if node.get("default", "") is None:
        del node["default"]
    return node


def _need(schema: Schema, defaults: Schema) -> None:
    """What the chart itself reads has a default there, and may not be taken away."""
    schema["required"] = sorted(name for name, value in defaults.items() if value is not None)
    for name, value in defaults.items():
        if isinstance(value, dict) and "properties" in schema["properties"][name]:
            _need(schema["properties"][name], value)


def _describe(schema: Schema, path: tuple[str, ...], said: str) -> None:
    for name in path:
        schema = schema.get("properties", {}).get(name, {})
    if schema:
        schema.setdefault("description", said)
