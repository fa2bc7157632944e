"""deploy/kustomize: base and overlays are the chart's objects, and build."""

from __future__ import annotations

import copy
import re
import subprocess
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from deploy import generate
from deploy.rendering import objects, tool
from tests.deploy.rendered import needs_helm, only, workload
from tests.deploy.rendered import settings as toml_of

if TYPE_CHECKING:
    from pathlib import Path

FOLDERS = [generate.KUSTOMIZE / "base", *(generate.KUSTOMIZE / "overlays" / name for name in generate.OVERLAYS)]
VALUES = {"base": ("base",), **{name: ("base", name) for name in generate.OVERLAYS}}

pytestmark = [
    pytest.mark.deploy,
    pytest.mark.skipif(tool("kubectl") is None, reason="needs kubectl, or `tests/kube/cluster install core`"),
]
each_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)


@cache
def built(folder: Path) -> str:
    """What `kubectl kustomize` makes of a folder."""
    command = [str(tool("kubectl")), "kustomize", str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr
    return ran.stdout


@needs_helm
def test_files_are_what_the_chart_gives():
    """Each is what `python deploy/generate.py` writes, and there are no others."""
    wanted = generate.kustomize()
    there = {path for folder in FOLDERS for path in folder.rglob("*") if path.is_file()}
    assert there == set(wanted), "run `python deploy/generate.py`"
    for path, text in wanted.items():
        assert path.read_text("utf-8") == text, f"{path}: run `python deploy/generate.py`"


@needs_helm
@each_folder
def test_what_is_built_is_what_helm_would_install(folder: Path):
    """Object by object; the name of the settings apart, which has their digest, so that a change is a rollout."""
    assert plain(objects(built(folder))) == plain(generate.plain(*VALUES[folder.name]))


@each_folder
def test_a_changed_setting_is_a_rollout(folder: Path):
    """Pods mount the settings under the name with the digest, and nothing has the plain name."""
    found = objects(built(folder))
    name = next(each["metadata"]["name"] for each in found if "winnow.toml" in each.get("data", {}))
    assert re.fullmatch(r"winnow-[a-z0-9]{10}", name)
    volumes = workload(found)["spec"]["template"]["spec"]["volumes"]
    assert [each["configMap"]["name"] for each in volumes if "configMap" in each] == [name]


def test_none_while_there_is_no_lag():
    """Scale to zero: KEDA decides of the number alone, and nobody is called because no worker is there."""
    found = objects(built(generate.KUSTOMIZE / "overlays" / "scale-to-zero"))
    assert only(found, "ScaledObject")["spec"]["minReplicaCount"] == 0
    assert "replicas" not in workload(found)["spec"]
    assert "WinnowAbsent" not in str(only(found, "PrometheusRule"))


def test_production_has_what_people_on_call_need():
    """Alerts, dashboard, scraping; exactly once with names that come back."""
    found = objects(built(generate.KUSTOMIZE / "overlays" / "production"))
    kinds = {each["kind"] for each in found}
    assert {"StatefulSet", "Service", "ScaledObject", "PodMonitor", "PrometheusRule"} <= kinds
    assert "Deployment" not in kinds
    assert 'delivery = "exactly-once"' in toml_of(found)
    assert any(each["metadata"]["labels"].get("grafana_dashboard") for each in found)


def plain(found: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """By kind and name, with digests taken off names."""
    objects_by_name = {}
    for each in copy.deepcopy(found):
        text = re.sub(r"\bwinnow-[a-z0-9]{10}\b", "winnow", each["metadata"]["name"])
        if each["kind"] == "ConfigMap" and "winnow.toml" in each["data"]:
            each["metadata"]["name"] = text
        if each["kind"] in ("Deployment", "StatefulSet"):
            for volume in each["spec"]["template"]["spec"]["volumes"]:
                if "configMap" in volume:
                    volume["configMap"]["name"] = "winnow"
        objects_by_name[each["kind"], each["metadata"]["name"]] = each
    return objects_by_name
