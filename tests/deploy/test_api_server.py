"""What is deployed, before a real API server: strict validation, Pod Security "restricted", and helm's whole course."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from deploy.rendering import CHART, objects
from tests.deploy.api_server import NAMESPACE, ApiServer, started
from tests.deploy.rendered import each_ci, of_file, pod
from tests.deploy.test_kustomize import FOLDERS, built

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(1_800)]
"""The API server is built once where it is not there."""


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with started() as server:
        server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kafka"}})
        for name in ("default", "winnow", "spam-filter"):  # no controller makes the first one
            server.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
        streams = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "streams"}}
        server.apply({**streams, "value": 1000})
        yield server


@each_ci
def test_it_takes_every_object(server: ApiServer, values: Path):
    """Strictly, and without a warning, as deprecated versions and pods that are not "restricted" would give."""
    said, code = server.check(*in_namespace(of_file(values)))
    assert code == 0, said
    assert "Warning" not in said


@each_ci
def test_pods_pass_pod_security(server: ApiServer, values: Path):
    """Workloads are only warned of; the pod itself is what is refused or not."""
    said, code = server.check(pod_of(pod(of_file(values))))
    assert code == 0, said


def test_pod_security_is_enforced_there(server: ApiServer):
    """The same pod with one right more is refused: what passes above has been looked at."""
    specification = pod(of_file(CHART / "ci" / "default-values.yaml"))
    specification["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    said, code = server.check(pod_of(specification))
    assert code != 0
    assert 'violates PodSecurity "restricted' in said


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_it_takes_what_kustomize_builds(server: ApiServer, folder: Path):
    """The same for base and overlays."""
    said, code = server.check(*in_namespace(objects(built(folder))))
    assert code == 0, said
    assert "Warning" not in said


def test_helm_from_installation_to_removal(server: ApiServer):
    """Installed, upgraded to everything and back, removed: each time the objects of the values, at the end none."""
    files = {name: CHART / "ci" / f"{name}-values.yaml" for name in ("default", "everything")}
    label = "--selector=app.kubernetes.io/instance=winnow"
    # Its name is that of the objects with everything, so that an upgrade changes what is there.
    named = ("--set", "fullnameOverride=winnow")

    def there() -> set[str]:
        kinds = "deploy,sts,cm,svc,sa,pdb,netpol,scaledobjects,podmonitors,prometheusrules"
        said = server.kubectl("get", kinds, label, "--output", "json")
        return {f"{each['kind']}/{each['metadata']['name']}" for each in json.loads(said)["items"]}

    server.kubectl("delete", "serviceaccount", "winnow")
    server.helm("install", "winnow", str(CHART), "--values", str(files["default"]), *named)
    first = there()
    assert first == names(files["default"])
    server.helm("upgrade", "winnow", str(CHART), "--values", str(files["everything"]), *named)
    everything = {each.replace("spam-filter", "winnow") for each in names(files["everything"])}
    assert there() == everything
    server.helm("rollback", "winnow", "1")
    assert there() == first
    server.helm("uninstall", "winnow")
    assert there() == set()
    topics = server.kubectl("get", "kafkatopics", "--all-namespaces", "--output", "name").split()
    assert len(topics) == 5, "topics.strimzi.keep: they outlive the release"


def names(file: Path) -> set[str]:
    """Of the objects that helm removes by itself."""
    found = [each for each in of_file(file) if each["kind"] not in ("KafkaTopic", "Pod")]
    return {f"{each['kind']}/{each['metadata']['name']}" for each in found}


def pod_of(specification: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": specification}


def in_namespace(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same objects, all in the namespace with the rules."""
    for each in found:
        each["metadata"]["namespace"] = NAMESPACE
    return found
