"""What the chart computes so that two places cannot contradict each other."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.rendering import CHART
from tests.contract.security.secure_kafka import KEY_PASSWORD, Certificates
from tests.deploy.rendered import (
    each_ci,
    loaded,
    needs_helm,
    of_file,
    of_values,
    only,
    pod,
    refusal,
    template,
    workload,
)
from tests.deploy.rendered import settings as toml_of
from worker.capacity.writing import write_keda
from worker.commands.configuration import lint
from worker.commands.run import CLOSING_GRACE
from worker.config import load
from worker.health import STALLED_AFTER

pytestmark = [pytest.mark.deploy, needs_helm]

SASL = {
    "config": {
        "kafka": {
            "bootstrap_servers": "kafka:9093",
            "properties": {
                "security.protocol": "SASL_SSL",
                "sasl.mechanism": "SCRAM-SHA-512",
                "sasl.username": "${env:KAFKA_USER}",
                "sasl.password": "${env:KAFKA_PASSWORD}",
            },
        }
    },
    "secrets": {
        "env": {"KAFKA_USER": {"secret": "kafka", "key": "user"}, "KAFKA_PASSWORD": {"secret": "kafka", "key": "pass"}}
    },
    "autoscaling": {"enabled": True},
}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(drain=st.integers(21, 299_999), margin=st.integers(2, 600))
def test_the_grace_period_outlasts_the_longest_shutdown(drain: int, margin: int):
    """Drain budget, the 8 s in which the worker ends itself, and the margin, rounded up."""
    found = of_values({"config": {"shutdown": {"drain_ms": drain}}, "shutdownMarginSeconds": margin})
    grace = pod(found)["terminationGracePeriodSeconds"]
    assert grace == math.ceil(drain / 1000) + CLOSING_GRACE + margin
    assert tomllib.loads(toml_of(found))["shutdown"]["drain_ms"] == drain


@each_ci
def test_the_settings_are_taken_by_the_worker(values: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """winnow.toml passes `winnow config lint`, with the variables of the pod and the files of its secrets."""
    found = of_file(values)
    container = pod(found)["containers"][0]
    text = toml_of(found).replace("/run/secrets", str(tmp_path))
    for name, reference in loaded(values).get("secrets", {}).get("files", {}).items():
        assert reference["secret"]
        secret_folder(tmp_path / name)
    for variable in container.get("env", []):
        monkeypatch.setenv(variable["name"], variable.get("value", "name:secret"))
    file = tmp_path / "winnow.toml"
    file.write_text(text, "utf-8")
    lint(file, [])
    assert load(file, []).serving.port == container["ports"][0]["containerPort"]


def test_values_reach_the_settings_as_they_are():
    """Numbers stay numbers, whole ones whole; quotes, escapes and letters beyond ASCII survive."""
    config = {
        "batching": {"max_in_flight_bytes": 67_108_864},
        "decision": {"accept_score": 0.25},
        "input": {"metadata_headers": ['schöner "name"', "back\\slash", "tab\there", "<&>"]},
        "kafka": {"properties": {"socket.keepalive.enable": True, "client.rack": "a.b", "fetch.min.bytes": 1_000_000}},
    }
    read = tomllib.loads(toml_of(of_values({"config": config})))
    for section, values in config.items():
        for name, value in values.items():
            assert read[section][name] == value
            assert type(read[section][name]) is type(value)


def test_numbers_beyond_a_million_stay_numbers():
    """Not 1e+06: in variables, which are text, in topics, and in settings."""
    values = {
        "env": {"SIZE": 12_345_678, "RATIO": 0.1, "ON": True, "WORD": "yes"},
        "topics": {"strimzi": {"enabled": True, "cluster": "a", "config": {"retention.ms": 604_800_000}}},
        "config": {"batching": {"max_in_flight_bytes": 10_000_000_000}},
    }
    found = of_values(values)
    env = {each["name"]: each["value"] for each in pod(found)["containers"][0]["env"]}
    assert env == {"SIZE": "12345678", "RATIO": "0.1", "ON": "true", "WORD": "yes"}
    topic = next(each for each in found if each["kind"] == "KafkaTopic")
    assert topic["spec"]["config"]["retention.ms"] == 604_800_000
    assert "max_in_flight_bytes = 10000000000\n" in toml_of(found)


def test_lanes_follow_the_cores():
    """The limit is whole cores in both profiles; `pinned` asks for all of it, so that the pod is Guaranteed."""
    pinned, burst = (
        pod(of_values({"resources": {"profile": profile, "cpu": 3}}))["containers"][0]["resources"]
        for profile in ("pinned", "burst")
    )
    assert pinned["limits"] == pinned["requests"] == {"cpu": "3", "memory": "512Mi"}
    assert burst == {"limits": pinned["limits"], "requests": {"cpu": "500m", "memory": "512Mi"}}
    assert "lanes" not in toml_of(of_values({"resources": {"cpu": 3}})), "the worker counts them itself"


def test_an_init_container_does_not_cost_the_cores():
    """A pod is Guaranteed when all its containers are."""
    specification = pod(of_file(CHART / "ci" / "init-container-values.yaml"))
    assert specification["initContainers"][0]["resources"] == specification["containers"][0]["resources"]


def test_probes_ask_what_they_are_for():
    """Liveness asks the loop alone, startup has as long as it was given."""
    container = pod(of_values({"probes": {"startupSeconds": 300}, "config": {"serving": {"port": 9000}}}))[
        "containers"
    ][0]
    assert container["ports"] == [{"name": "http", "containerPort": 9000}]
    paths = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
    assert paths == {
        kind: {"path": path, "port": "http"}
        for kind, path in {"startup": "/startupz", "readiness": "/readyz", "liveness": "/healthz"}.items()
    }
    assert workload(of_values({}))["spec"]["progressDeadlineSeconds"] == 600
    slow = workload(of_values({"probes": {"startupSeconds": 3600}}))["spec"]
    assert slow["progressDeadlineSeconds"] == 3660, "a start that may take so long is no rollout that failed"
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] == 300
    liveness = container["livenessProbe"]
    assert liveness["periodSeconds"] < STALLED_AFTER, "seen before it is over"


def test_the_network_policy_lets_out_where_the_settings_lead():
    """Ports of all brokers and of the registry, without one its scheme's."""
    egress = only(of_file(CHART / "ci" / "secrets-values.yaml"), "NetworkPolicy")["spec"]["egress"]
    assert ports(egress) == {53, 9093, 443}
    egress = only(of_file(CHART / "ci" / "keda-values.yaml"), "NetworkPolicy")["spec"]["egress"]
    assert ports(egress) == {53, 9092, 9093}
    tokens = {"sasl.oauthbearer.token.endpoint.url": "https://login.example.com/token"}
    values = {
        "config": {"kafka": {"properties": tokens}},
        "env": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/v1"},
    }
    assert ports(only(of_values(values), "NetworkPolicy")["spec"]["egress"]) == {53, 9092, 443, 4318}
    issuer = {"bearer.auth.issuer.endpoint.url": "https://login:8443/token"}
    values = {"config": {"registry": {"url": "http://registry:8081", "properties": issuer}}}
    assert ports(only(of_values(values), "NetworkPolicy")["spec"]["egress"]) == {53, 9092, 8081, 8443}
    servers = {
        "config": {"kafka": {"bootstrap_servers": "kafka, [::1]:9095"}},
        "networkPolicy": {"brokerPorts": [9096]},
    }
    assert ports(only(of_values(servers), "NetworkPolicy")["spec"]["egress"]) == {53, 9092, 9095, 9096}


def test_partitions_that_are_made_are_those_that_are_reckoned_with():
    """By the worker or by Strimzi, `topics.partitions` is the number."""
    found = of_values({"config": {"kafka": {"create_topics": True}}, "topics": {"partitions": 9}})
    assert tomllib.loads(toml_of(found))["kafka"]["create_partitions"] == 9


@pytest.mark.parametrize("workload_kind", ["Deployment", "StatefulSet"])
def test_names_of_workers(workload_kind: str):
    """A StatefulSet's pods are static members by their names; exactly once each has one in any case."""
    exactly = {"config": {"kafka": {"delivery": "exactly-once"}}, "workload": workload_kind}
    stateful = workload_kind == "StatefulSet"
    assert names(exactly) == {"GROUP_INSTANCE_ID" if stateful else "INSTANCE_ID"}
    assert names({"workload": workload_kind}) == ({"GROUP_INSTANCE_ID"} if stateful else set())
    assert names({**exactly, "statefulSet": {"staticMembership": False}}) == {"INSTANCE_ID"}
    doctor = only(of_values(exactly), "Pod")["spec"]["containers"][0]
    assert "env" not in doctor, "it is no worker, and speaks for all of them"


def test_keda_asks_for_what_the_worker_reads():
    """Brokers, group, topics and the beginning are the settings'; all of it is text, and the version is said."""
    found = of_file(CHART / "ci" / "keda-values.yaml")
    kafka = tomllib.loads(toml_of(found))["kafka"]
    scaled = only(found, "ScaledObject")["spec"]
    assert scaled["scaleTargetRef"]["name"] == workload(found)["metadata"]["name"]
    assert scaled["scaleTargetRef"]["kind"] == workload(found)["kind"]
    assert "replicas" not in workload(found)["spec"], "an upgrade would undo what KEDA has scaled"
    assert [trigger["metadata"]["topic"] for trigger in scaled["triggers"]] == kafka["input_topics"]
    for trigger in scaled["triggers"]:
        metadata = trigger["metadata"]
        assert all(isinstance(value, str) for value in metadata.values())
        assert metadata["bootstrapServers"].split(",") == [
            each.strip() for each in kafka["bootstrap_servers"].split(",")
        ]
        assert metadata["consumerGroup"] == kafka["group_id"]
        assert metadata["offsetResetPolicy"] == kafka["consumer_properties"]["auto.offset.reset"] == "latest"
        assert metadata["lagThreshold"] == "1234567"
        assert metadata["version"] == "2.6.0"
        assert metadata["limitToPartitionsWithLag"] == metadata["excludePersistentLag"] == "true"
    behavior = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 300
    assert scaled["minReplicaCount"] == 1
    assert (scaled["maxReplicaCount"], keda({})["maxReplicaCount"]) == (12, 6)


@pytest.mark.parametrize(
    ("word", "policy"), [("smallest", "earliest"), ("beginning", "earliest"), ("largest", "latest"), ("end", "latest")]
)
def test_librdkafkas_other_words_for_the_beginning(word: str, policy: str):
    """KEDA knows two."""
    spec = keda({"config": {"kafka": {"consumer_properties": {"auto.offset.reset": word}}}})
    assert spec["triggers"][0]["metadata"]["offsetResetPolicy"] == policy


def test_the_lag_that_wakes_the_first_pod():
    """Exactly once above the lag of 1 that each partition of a transactional input keeps; a value that is set holds."""
    exactly = {"config": {"kafka": {"delivery": "exactly-once"}}, "topics": {"partitions": 24}}
    assert activation({}) == "0"
    assert activation(exactly) == "24"
    assert activation(exactly, activationLagThreshold=0) == "0"
    assert activation({}, activationLagThreshold="7") == "7"


def test_the_file_of_winnow_bench_is_one_of_values(tmp_path: Path):
    """`--values values-lag.yaml` as it was written."""
    file = tmp_path / "values-lag.yaml"
    write_keda(file, 1_234_567, "1,000 messages/s a replica")
    found = list(yaml.safe_load_all(template("--values", file, "--set", "autoscaling.enabled=true")))
    assert only(found, "ScaledObject")["spec"]["triggers"][0]["metadata"]["lagThreshold"] == "1234567"


def test_keda_logs_in_as_the_worker_does():
    """Its parameters are the very keys of Secrets that the properties refer to."""
    found = of_file(CHART / "ci" / "secrets-values.yaml")
    (trigger,) = only(found, "ScaledObject")["spec"]["triggers"]
    assert (trigger["metadata"]["tls"], trigger["metadata"]["sasl"]) == ("enable", "scram_sha512")
    authentication = only(found, "TriggerAuthentication")
    assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
    targets = {each["parameter"]: (each["name"], each["key"]) for each in authentication["spec"]["secretTargetRef"]}
    assert targets == {
        "username": ("winnow-kafka", "username"),
        "password": ("winnow-kafka", "password"),
        "ca": ("winnow-kafka-tls", "ca.crt"),
        "cert": ("winnow-kafka-tls", "user.crt"),
        "key": ("winnow-kafka-tls", "user.key"),
        "keyPassword": ("winnow-kafka-tls", "key-password"),
    }


def test_keda_takes_certificates_given_as_text_too():
    """By the same references."""
    properties = {"security.protocol": "ssl"} | {
        f"ssl.{name}.pem": f"${{env:{name.upper()}}}" for name in ("ca", "certificate", "key")
    }
    secrets = {name: {"secret": "tls", "key": name.lower()} for name in ("CA", "CERTIFICATE", "KEY")}
    found = of_values({**SASL, "config": {"kafka": {"properties": properties}}, "secrets": {"env": secrets}})
    assert only(found, "ScaledObject")["spec"]["triggers"][0]["metadata"]["tls"] == "enable"
    targets = {t["parameter"]: t["key"] for t in only(found, "TriggerAuthentication")["spec"]["secretTargetRef"]}
    assert targets == {"ca": "ca", "cert": "certificate", "key": "key"}


@pytest.mark.parametrize(("mechanism", "word"), [("PLAIN", "plaintext"), ("scram-sha-256", "scram_sha256")])
def test_mechanisms_have_kedas_names(mechanism: str, word: str):
    """Whatever case they are written in."""
    values = {
        **SASL,
        "config": {"kafka": {"properties": {**SASL["config"]["kafka"]["properties"], "sasl.mechanism": mechanism}}},
    }
    assert only(of_values(values), "ScaledObject")["spec"]["triggers"][0]["metadata"]["sasl"] == word


def test_a_login_that_keda_cannot_have_is_refused():
    """A user name in plain text, or OAUTHBEARER: then an authentication of one's own is asked for, and taken."""
    for changed in ({"sasl.username": "winnow"}, {"sasl.mechanism": "OAUTHBEARER"}):
        properties = {**SASL["config"]["kafka"]["properties"], **changed}
        values = {**SASL, "config": {"kafka": {"properties": properties}}}
        assert "autoscaling.authenticationRef" in refusal(values)
        found = of_values({**values, "autoscaling": {"enabled": True, "authenticationRef": "own"}})
        assert only(found, "ScaledObject")["spec"]["triggers"][0]["authenticationRef"] == {"name": "own"}
        assert "TriggerAuthentication" not in {each["kind"] for each in found}


def secret_folder(folder: Path) -> None:
    """Files that librdkafka takes, under the names that ci/secrets-values.yaml has."""
    folder.mkdir()
    certificates = Certificates(folder)
    for name, made in (("user.crt", "winnow.crt"), ("user.key", "winnow.key")):
        (folder / name).write_bytes(Path(certificates[made]).read_bytes())
    (folder / "key-password").write_text(KEY_PASSWORD, "utf-8")


def keda(values: dict[str, Any]) -> dict[str, Any]:
    scaling = {**values.get("autoscaling", {}), "enabled": True}
    return only(of_values({**values, "autoscaling": scaling}), "ScaledObject")["spec"]


def activation(values: dict[str, Any], **scaling: Any) -> str:
    return keda({**values, "autoscaling": scaling})["triggers"][0]["metadata"]["activationLagThreshold"]


def names(values: dict[str, Any]) -> set[str]:
    env = pod(of_values(values))["containers"][0].get("env", [])
    assert all(each["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name" for each in env)
    return {each["name"].removeprefix("WINNOW_KAFKA__") for each in env}


def ports(egress: list[dict[str, Any]]) -> set[int]:
    return {each["port"] for rule in egress for each in rule["ports"]}
