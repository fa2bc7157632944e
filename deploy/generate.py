"""Write what follows from the chart and the worker: `python deploy/generate.py`. Needs helm (see deploy/rendering.py).

`values.schema.json` and the table in the chart's README; `deploy/kustomize`, from the chart and the values there.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import yaml  # noqa: E402

from deploy import schemas  # noqa: E402
from deploy.rendering import CHART, objects, template  # noqa: E402

KUSTOMIZE = ROOT / "deploy" / "kustomize"
OVERLAYS = ("production", "scale-to-zero")
OF_HELM = ("app.kubernetes.io/managed-by", "helm.sh/chart")
"""Labels that would be wrong without Helm."""
GENERATED = "# Written by `python deploy/generate.py`; change the chart or deploy/kustomize/values, and run it again.\n"
TABLE = re.compile(r"(?<=<!-- values -->\n).*(?=<!-- end of values -->)", re.S)

Object = dict[str, Any]


def main() -> None:
    """Write all files anew; those of kustomize that are no longer written are removed."""
    (CHART / "values.schema.json").write_text(schema(), "utf-8")
    (CHART / "README.md").write_text(readme(), "utf-8")
    for folder in (KUSTOMIZE / "base", KUSTOMIZE / "overlays"):
        shutil.rmtree(folder, ignore_errors=True)
    for path, text in kustomize().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def schema() -> str:
    return json.dumps(schemas.values_schema(), indent=2, ensure_ascii=False) + "\n"


def readme() -> str:
    """The chart's README with its table of values as they are."""
    text = (CHART / "README.md").read_text("utf-8")
    return TABLE.sub(lambda _: f"{schemas.table()}\n", text)


def kustomize() -> dict[Path, str]:
    """What each file of deploy/kustomize holds, those of its `values` apart."""
    base = plain("base")
    files = _base(KUSTOMIZE / "base", base)
    for name in OVERLAYS:
        files |= _overlay(KUSTOMIZE / "overlays" / name, base, plain("base", name))
    return files


def plain(*names: str) -> list[Object]:
    """The chart's objects with these values, without what speaks of Helm or of one namespace."""
    values = [argument for name in names for argument in ("--values", KUSTOMIZE / "values" / f"{name}.yaml")]
    return [_plain(each) for each in objects(template("--skip-tests", "--api-versions", "keda.sh/v1alpha1", *values))]


def settings(found: list[Object]) -> str:
    """The worker's settings, TOML."""
    return next(each["data"]["winnow.toml"] for each in found if "winnow.toml" in each.get("data", {}))


def _plain(found: Object) -> Object:
    metadata = found["metadata"]
    del metadata["namespace"]
    for label in OF_HELM:
        metadata["labels"].pop(label, None)
    annotations = found.get("spec", {}).get("template", {}).get("metadata", {}).get("annotations", {})
    if annotations.pop("checksum/config", None) and not annotations:  # the generator of kustomize names by the content
        del found["spec"]["template"]["metadata"]["annotations"]
    if found["kind"] == "PrometheusRule":
        _for_any_namespace(found)
    return found


def _for_any_namespace(found: Object) -> None:
    """The alert that the chart words for its release as the file has it, for all jobs."""
    groups = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text("utf-8"))["groups"]
    written = {rule.get("alert"): rule["expr"] for group in groups for rule in group["rules"]}
    for group in found["spec"]["groups"]:
        for rule in group["rules"]:
            if rule.get("alert") == "WinnowAbsent":
                rule["expr"] = written["WinnowAbsent"]


def _base(folder: Path, found: list[Object]) -> dict[Path, str]:
    resources = {f"{each['kind'].lower()}.yaml": each for each in found if "winnow.toml" not in each.get("data", {})}
    index = {
        "resources": sorted(resources),
        "configMapGenerator": [{"name": "winnow", "files": ["winnow.toml"]}],
        "generatorOptions": {"labels": found[0]["metadata"]["labels"]},
    }
    files = {folder / name: _document(each) for name, each in resources.items()}
    return files | {folder / "kustomization.yaml": _index(index), folder / "winnow.toml": settings(found)}


def _overlay(folder: Path, base: list[Object], found: list[Object]) -> dict[Path, str]:
    before = {_key(each): each for each in base}
    added = {f"{_file(each)}.yaml": each for each in found if _key(each) not in before}
    index: Object = {"resources": ["../../base", *sorted(added)]}
    files = {folder / name: _document(each) for name, each in added.items()}
    if settings(found) != settings(base):
        index["configMapGenerator"] = [{"name": "winnow", "behavior": "replace", "files": ["winnow.toml"]}]
        files[folder / "winnow.toml"] = settings(found)
    after = {_key(each): each for each in found}
    patches = [_patch(each, after.get(_key(each))) for each in base if "data" not in each]
    index["patches"] = [patch for patch in patches if patch]
    return files | {folder / "kustomization.yaml": _index({name: each for name, each in index.items() if each})}


def _patch(before: Object, after: Object | None) -> Object | None:
    """As kustomize takes it: what is to be done to an object of the base."""
    target = {"kind": before["kind"], "name": before["metadata"]["name"]}
    if after is None:
        gone = {"$patch": "delete", "apiVersion": before["apiVersion"], "kind": before["kind"]}
        return {"patch": yaml.safe_dump({**gone, "metadata": {"name": target["name"]}}, sort_keys=False)}
    steps = list(_steps(before, after, ""))
    return {"target": target, "patch": yaml.safe_dump(steps, sort_keys=False)} if steps else None


def _steps(before: Object, after: Object, path: str) -> Any:
    """JSON Patch from one to the other; lists of another length are replaced as a whole."""
    for name in sorted(before.keys() | after.keys()):
        here = f"{path}/{str(name).replace('~', '~0').replace('/', '~1')}"
        if name not in after:
            yield {"op": "remove", "path": here}
        elif name not in before:
            yield {"op": "add", "path": here, "value": after[name]}
        elif isinstance(before[name], dict) and isinstance(after[name], dict):
            yield from _steps(before[name], after[name], here)
        elif isinstance(before[name], list) and isinstance(after[name], list) and len(before[name]) == len(after[name]):
            yield from _steps(dict(enumerate(before[name])), dict(enumerate(after[name])), here)
        elif before[name] != after[name]:
            yield {"op": "replace", "path": here, "value": after[name]}


def _key(found: Object) -> tuple[str, str]:
    return found["kind"], found["metadata"]["name"]


def _file(found: Object) -> str:
    return "dashboard" if found["metadata"]["name"].endswith("-dashboard") else found["kind"].lower()


def _index(content: Object) -> str:
    return _document({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", **content})


def _document(content: Object) -> str:
    return GENERATED + yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as such."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)

if __name__ == "__main__":
    main()
