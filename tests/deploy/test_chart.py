"""The chart's objects, for each of its `ci` values: by helm's own check, strict schemas, and what they promise."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from deploy.rendering import CHART, RefusedError, helm, template, tool
from tests.deploy.rendered import CI, each_ci, needs_helm, of_file, of_values, only, pod, text_of, workload
from worker import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.deploy, needs_helm]

OLDEST = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))["kubeVersion"].removeprefix(">=").removesuffix("-0")
IMAGE_VOLUME = "bundle-values.yaml"
EVERYTHING = CHART / "ci" / "everything-values.yaml"
OPTIONAL = {
    "PodDisruptionBudget": {"podDisruptionBudget": {"enabled": True}},
    "NetworkPolicy": {"networkPolicy": {"enabled": True}},
    "ServiceAccount": {"serviceAccount": {"create": True}},
    "ScaledObject": {"autoscaling": {"enabled": True}},
    "PodMonitor": {"monitoring": {"podMonitor": {"enabled": True}}},
    "PrometheusRule": {"monitoring": {"rules": {"enabled": True}}},
    "KafkaTopic": {"topics": {"strimzi": {"enabled": True, "cluster": "events"}}},
    "Service": {"workload": "StatefulSet"},
}
"""Objects with the values that bring them."""


def switched(values: Any) -> Any:
    """The same values the other way round."""
    if isinstance(values, dict):
        return {name: switched(value) for name, value in values.items()}
    return {True: False, "StatefulSet": "Deployment"}.get(values, values)


@each_ci
def test_helm_lints_it(values: Path):
    """Strictly: warnings are errors."""
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART, "--values", values)


@each_ci
def test_the_output_is_tidy_yaml(values: Path):
    """No key twice, no odd indentation, no trailing spaces."""
    pytest.importorskip("yamllint", reason="needs the group deploy")
    from yamllint import linter
    from yamllint.config import YamlLintConfig

    rules: dict[str, Any] = dict.fromkeys(("line-length", "document-start", "comments"), "disable")
    # Lists that helm itself writes stand below their key without indentation.
    rules["indentation"] = {"indent-sequences": "whatever"}
    config = YamlLintConfig(yaml.safe_dump({"extends": "default", "rules": rules}))
    assert [str(problem) for problem in linter.run(text_of(values).rstrip() + "\n", config)] == []


@each_ci
def test_every_object_fits_its_schema(values: Path):
    """Those of Kubernetes itself, strictly, in the oldest version that the chart is for and the newest known one."""
    kubernetes = pytest.importorskip("kubernetes_validate", reason="needs the group deploy")
    own = [each for each in of_file(values) if "." not in each["apiVersion"] or ".k8s.io/" in each["apiVersion"]]
    own += [each for each in of_file(values) if each["apiVersion"] in ("apps/v1", "policy/v1")]
    assert {"ConfigMap", workload(of_file(values))["kind"]} <= {each["kind"] for each in own}
    versions = [kubernetes.latest_version()]
    if values.name != IMAGE_VOLUME:
        versions.append(OLDEST)
    for each in own:
        for version in versions:
            kubernetes.validate(each, version, strict=True)


def test_an_image_volume_is_refused_where_there_is_none():
    """With the mend, instead of a pod that the API server stores without its bundle."""
    for version, taken in ((OLDEST, False), ("1.32.9", False), ("1.33.0", True)):
        arguments = ("--values", CHART / "ci" / IMAGE_VOLUME, "--kube-version", version)
        if taken:
            assert template(*arguments)
        else:
            with pytest.raises(RefusedError, match="Take initContainer"):
                template(*arguments)


def test_older_clusters_are_refused():
    """Chart.yaml says from what version on."""
    with pytest.raises(RefusedError, match=r"1\.28\.9"):
        template("--kube-version", "1.28.9")
    assert template("--kube-version", OLDEST)


def test_every_object_of_others_fits_its_schema(tmp_path: Path):
    """KEDA's and the Prometheus operator's; Strimzi's is below."""
    cluster = CHART.parents[2] / "tests" / "kube" / "cluster"
    if tool("kubeconform") is None:
        pytest.skip("needs kubeconform: `tests/kube/cluster install core`")
    files = []
    for values in CI:
        files.append(tmp_path / values.name)
        files[-1].write_text(
            "---\n".join(yaml.safe_dump(each) for each in of_file(values) if each["kind"] != "KafkaTopic"), "utf-8"
        )
    ran = subprocess.run([cluster, "lint", *files], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Invalid: 0, Errors: 0, Skipped: 0" in ran.stdout


@pytest.mark.parametrize(("kind", "values"), OPTIONAL.items(), ids=list(OPTIONAL))
def test_what_is_switched_off_is_gone(kind: str, values: dict[str, Any]):
    """Each optional object comes and goes with its value, and nothing else does."""
    on, off = ({each["kind"] for each in of_values(chosen)} for chosen in (values, switched(values)))
    assert kind in on
    assert on - off <= {kind, "StatefulSet"}
    assert off - on <= {"Deployment"}


def test_labels_of_one_object_go_before_those_of_all():
    """And each is there once, which the tidy YAML says."""
    found = of_file(EVERYTHING)
    chosen = {each["kind"]: each["metadata"]["labels"]["release"] for each in found}
    assert chosen["PodMonitor"] == chosen["PrometheusRule"] == "prometheus"
    assert chosen["StatefulSet"] == "spam"


def test_the_dashboard_is_a_config_map_that_grafana_finds():
    """With the label of its sidecar, and the file as it is."""
    found = of_values({"monitoring": {"dashboard": {"enabled": True}}})
    (dashboard,) = [each for each in found if each["metadata"]["name"].endswith("-dashboard")]
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert dashboard["data"]["winnow.json"] == (CHART / "files" / "dashboard.json").read_text("utf-8").strip()


@each_ci
def test_pods_are_restricted(values: Path):
    """Pod Security "restricted" and more: read-only root, no token, no variables of services; the doctor's, too."""
    found = of_file(values)
    for specification in (pod(found), only(found, "Pod")["spec"]):
        assert specification["automountServiceAccountToken"] is False
        assert specification["enableServiceLinks"] is False, "a Service named winnow-… would set WINNOW_…"
        security = specification["securityContext"]
        assert (security["runAsNonRoot"], security["runAsUser"]) == (True, 10001)
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(specification):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]


@each_ci
def test_what_is_mounted_is_there(values: Path):
    """Each mount has its volume, and each volume a mount."""
    specification = pod(of_file(values))
    mounted = {mount["name"] for container in containers(specification) for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in specification["volumes"]}


@each_ci
def test_selectors_meet_the_workers_alone(values: Path):
    """The workload's, the budget's and the monitor's match no doctor; the network policy's matches both."""
    found = of_file(values)
    worker = workload(found)["spec"]["template"]["metadata"]["labels"]
    doctor = only(found, "Pod")["metadata"]["labels"]
    for each in found:
        match each["kind"]:
            case "Deployment" | "StatefulSet" | "PodDisruptionBudget" | "PodMonitor":
                selector = each["spec"]["selector"]["matchLabels"]
                assert selector.items() <= worker.items()
                assert not selector.items() <= doctor.items()
            case "NetworkPolicy":
                selector = each["spec"]["podSelector"]["matchLabels"]
                assert selector.items() <= worker.items()
                assert selector.items() <= doctor.items()


def test_a_changed_setting_is_a_rollout():
    """And a changed number of replicas is none."""
    before, same, other = (
        workload(of_values(values))["spec"]["template"]
        for values in ({}, {"replicas": 5}, {"config": {"logging": {"level": "debug"}}})
    )
    assert before == same
    assert before["metadata"]["annotations"]["checksum/config"] != other["metadata"]["annotations"]["checksum/config"]


def test_one_replica_does_not_block_a_node():
    """The budget says how many may be missing, not how many must be there."""
    budget = only(of_values({"replicas": 1}), "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert "minAvailable" not in budget


def test_the_image_is_of_this_version():
    """Chart and worker are released together; a digest goes before the tag."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert chart["appVersion"] == chart["version"] == __version__
    assert images({}) == [f"winnow:{__version__}"]
    assert images({"image": {"tag": "2", "digest": f"sha256:{'a' * 64}"}}) == [f"winnow@sha256:{'a' * 64}"]


def test_a_bundle_by_each_way():
    """The settings name the folder where it is mounted, and for the image's own none."""
    folders = {}
    for name in ("default", "bundle", "init-container", "everything"):
        found = of_file(CHART / "ci" / f"{name}-values.yaml")
        text = next(each["data"]["winnow.toml"] for each in found if "winnow.toml" in each.get("data", {}))
        folders[name] = [line for line in text.splitlines() if line.startswith("bundle = ")]
        mounts = [m["mountPath"] for m in pod(found)["containers"][0]["volumeMounts"] if m["name"] == "bundle"]
        assert mounts == ([] if name == "default" else ["/opt/bundle"])
    assert folders == {
        "default": [],
        "bundle": ['bundle = "/opt/bundle/my-bundle"'],
        "init-container": ['bundle = "/opt/bundle"'],
        "everything": ['bundle = "/opt/bundle/spam/2"'],
    }


def test_topics_of_strimzi():
    """All that are read and written, each once, by their own names where those are no names of objects."""
    topics = {
        each["spec"].get("topicName", each["metadata"]["name"]): each
        for each in of_file(EVERYTHING)
        if each["kind"] == "KafkaTopic"
    }
    assert set(topics) == {"Messages_EU", "messages.us", "messages.labelled", "quarantine", "messages.dead"}
    for topic in topics.values():
        assert topic["apiVersion"] == "kafka.strimzi.io/v1"
        assert topic["metadata"]["labels"]["strimzi.io/cluster"] == "events"
        assert topic["metadata"]["namespace"] == "kafka"
        assert topic["metadata"]["name"] == topic["metadata"]["name"].lower().replace("_", "-")
        assert set(topic["spec"]) <= {"topicName", "partitions", "replicas", "config"}
        assert (topic["spec"]["partitions"], topic["spec"]["replicas"]) == (12, 3)
    assert topics["Messages_EU"]["metadata"]["name"] != "messages-eu", "messages_EU would have the same"


def test_rules_are_the_file_but_for_addresses_and_what_is_left_out():
    """`runbook_url` leads to where the documentation is; disabled alerts are gone, others are added."""
    spec = only(of_file(EVERYTHING), "PrometheusRule")["spec"]
    rules = [rule for group in spec["groups"] for rule in group["rules"]]
    alerts = {rule["alert"]: rule for rule in rules if "alert" in rule}
    (file,) = [yaml.safe_load((CHART / "files" / "alerts.yaml").read_text("utf-8"))]
    known = {rule["alert"]: rule for group in file["groups"] for rule in group["rules"] if "alert" in rule}
    assert set(alerts) == set(known) - {"WinnowTruncated", "WinnowAbsent"} | {"Own"}, "scaled to zero, none is absent"
    for name in set(alerts) & set(known):
        anchor = known[name]["annotations"]["runbook_url"].partition("#")[2]
        assert alerts[name]["annotations"]["runbook_url"] == f"https://docs.example.com/winnow/operations#{anchor}"
        assert alerts[name]["expr"] == known[name]["expr"]


def images(values: dict[str, Any]) -> list[str]:
    return [container["image"] for container in pod(of_values(values))["containers"]]


def containers(specification: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from specification.get("initContainers", [])
    yield from specification["containers"]
