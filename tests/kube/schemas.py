"""Strict JSON schemas for kubeconform: `schemas.py OUT DEFINITIONS VERSION`.

Those of Kubernetes VERSION come from the package `kubernetes-validate`, those of other kinds from the folder
DEFINITIONS of CustomResourceDefinitions. Strict: a field that the API server would drop without a word is an error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ANY = {"type": "string"}


def core(version: str, out: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """File names and schemas of what Kubernetes itself has, as they are to be in OUT."""
    definitions = f"{(out / '_definitions.json').absolute().as_uri()}#"
    shipped = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / f"v{version}.0-local-strict"
    for path in shipped.glob("*.json"):
        # Their references are to a place of that package's.
        place = "#" if path.name == "_definitions.json" else definitions
        schema = json.loads(path.read_text("utf-8").replace('"/api/_definitions.json#', f'"{place}'))
        schema.pop("$id", None)
        yield path.name, schema


def custom(definitions: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """File names and schemas of every served version of every definition."""
    for path in definitions.glob("*.yaml"):
        for document in yaml.load_all(path.read_text("utf-8"), Loader=_Loader):
            if document and document.get("kind") == "CustomResourceDefinition":
                yield from _versions(document["spec"])


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Forbid unknown fields wherever the API server would prune them."""
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("type", None)
        schema.setdefault("anyOf", [{"type": "integer"}, {"type": "string"}])
    kept = schema.get("x-kubernetes-preserve-unknown-fields")
    if "properties" in schema and "additionalProperties" not in schema and not kept:
        schema["additionalProperties"] = False
    within = (schema[name] for name in ("items", "additionalProperties", "not") if isinstance(schema.get(name), dict))
    for nested in [*schema.get("properties", {}).values(), *within]:
        strict(nested)
    return schema


def _versions(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for served in spec["versions"]:
        schema = strict(served["schema"]["openAPIV3Schema"])
        schema["properties"].update({"apiVersion": ANY, "kind": ANY, "metadata": {"type": "object"}})
        yield f"{spec['names']['kind'].lower()}-{spec['group'].split('.')[0]}-{served['name']}.json", schema


class _Loader(yaml.SafeLoader):
    """Some definitions have a bare `=`, which YAML 1.1 takes for a key of its own."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: node.value)


def main(out: Path, definitions: Path, version: str) -> None:
    draft = out.with_name(f"{out.name}.draft")
    draft.mkdir(parents=True, exist_ok=True)
    for name, schema in [*core(version, out), *custom(definitions)]:
        (draft / name).write_text(json.dumps(schema), "utf-8")
    draft.rename(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
