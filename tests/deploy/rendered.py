"""What tests of the chart share: its manifests for some values, and a reason to skip where there is no helm."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from deploy.rendering import CHART, RefusedError, helm, objects, template, tool

if TYPE_CHECKING:
    from pathlib import Path

CI = sorted((CHART / "ci").glob("*-values.yaml"))
needs_helm = pytest.mark.skipif(
    tool("helm") is None, reason="needs helm: on the PATH, or `tests/kube/cluster install core`"
)
each_ci = pytest.mark.parametrize("values", CI, ids=lambda path: path.stem.removesuffix("-values"))


def loaded(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text("utf-8"))


@cache
def text_of(path: Path) -> str:
    """The manifests for a file of values."""
    return template("--values", path)


def of_file(path: Path) -> list[dict[str, Any]]:
    return objects(text_of(path))


def of_values(values: dict[str, Any]) -> list[dict[str, Any]]:
    return objects(template(values=values))


def refusal(values: dict[str, Any]) -> str:
    """What helm says of values that it does not take; fails where it takes them."""
    with pytest.raises(RefusedError) as refused:
        template(values=values)
    return str(refused.value)


def notes(values: dict[str, Any]) -> str:
    """What a user reads after the installation."""
    said = helm("install", "spam", CHART, "--dry-run=client", "--namespace", "mail", values=values)
    return said.partition("NOTES:\n")[2]


def only(found: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The one object of a kind."""
    (one,) = [each for each in found if each["kind"] == kind]
    return one


def workload(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The Deployment or StatefulSet."""
    (one,) = [each for each in found if each["kind"] in ("Deployment", "StatefulSet")]
    return one


def pod(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The specification of the worker's pods."""
    return workload(found)["spec"]["template"]["spec"]


def settings(found: list[dict[str, Any]]) -> str:
    """winnow.toml."""
    return next(each["data"]["winnow.toml"] for each in found if "winnow.toml" in each.get("data", {}))
