"""The chart's values, as helm takes them: typos and contradictions are refused, what is seldom meant is told."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.rendered import needs_helm, notes, of_values, pod, refusal
from worker.config import SECRET_WORDS
from worker.kafka.registry import FORMATS

pytestmark = [pytest.mark.deploy, needs_helm]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"autoscaling": {"lagTreshold": "5"}}, "lagTreshold"),
        ({"replica": 3}, "replica"),
        ({"config": {"kafka": {"groupId": "a"}}}, "groupId"),
        ({"config": {"batching": {"max_token": 4}}}, "max_token"),
        ({"config": {"kafka": {"delivery": "exactly-onse"}}}, "delivery"),
        ({"config": {"kafka": {"input_topics": []}}}, "input_topics"),
        ({"config": {"kafka": {"input_topics": "messages"}}}, "input_topics"),
        ({"config": {"shutdown": {"drain_ms": "20s"}}}, "drain_ms"),
        ({"config": {"serving": {"port": 0}}}, "port"),
        ({"workload": "DaemonSet"}, "workload"),
        ({"resources": {"cpu": 1.5}}, "cpu"),
        ({"resources": {"cpu": "500m"}}, "cpu"),
        ({"resources": {"profile": "fast"}}, "profile"),
        ({"topics": {"partitions": 0}}, "partitions"),
        ({"config": {"kafka": {"properties": {"group.id": "a"}}}}, "group.id"),
        ({"config": {"kafka": {"producer_properties": {"acks": 1}}}}, "acks"),
        ({"secrets": {"env": {"PASSWORD": "hunter2"}}}, "PASSWORD"),
        ({"secrets": {"env": {"PASSWORD": {"secret": "a", "kye": "b"}}}}, "kye"),
        ({"podDisruptionBudget": {"maxUnavailable": 0}}, "maxUnavailable"),
        ({"podLabels": {"app.kubernetes.io/name": "other"}}, "app.kubernetes.io/name"),
        ({"tolerations": [{"kez": "a"}]}, "kez"),
        ({"terminationGracePeriodSeconds": 5}, "terminationGracePeriodSeconds"),
        ({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnored": {}}}}, "requiredDuringSchedulingIgnored"),
        ({"networkPolicy": {"extraEgress": [{"ports": [{"prot": 4318}]}]}}, "prot"),
        ({"networkPolicy": {"scrapeFrom": [{"namespaceSelector": {"matchLabel": {"a": "b"}}}]}}, "matchLabel"),
        ({"monitoring": {"rules": {"extraGroups": [{"name": "own", "rules": [], "rulez": 1}]}}}, "rulez"),
        ({"monitoring": {"rules": {"extraGroups": [{"name": "own", "rules": [{"alrt": "a", "expr": "1"}]}]}}}, "alrt"),
        ({"extraVolumeMounts": [{"name": "a", "mountPath": "/a", "readonly": True}]}, "readonly"),
        ({"podLabels": {"not a label!": "a"}}, "not a label!"),
        ({"podLabels": {"label": "not a value!"}}, "not a value!"),
        ({"autoscaling": {"lagThreshold": "99999999999999999999"}}, "lagThreshold"),
        ({"autoscaling": {"lagThreshold": 99999999999999999999}}, "lagThreshold"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_helm_refuses(values: dict[str, Any], named: str):
    """Names that there are not, and values of a wrong kind, with the place."""
    said = refusal(values)
    assert "specifications of the schema" in said
    assert named in said


REFERRING = {"properties": {"sasl.password": "${env:KAFKA_PASSWORD}"}}
SCALED = {"autoscaling": {"enabled": True}}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"config": {"batching": {"max_delay_ms": 20000}}}, "config.batching.max_delay_ms (20000) must be below"),
        ({"config": {"shutdown": {"drain_ms": 20}}}, "must be below config.shutdown.drain_ms (20)"),
        ({"config": {"shutdown": {"drain_ms": 300000}}}, "config.shutdown.drain_ms must be below max.poll.interval.ms"),
        ({"config": {"shutdown": {"revoke_ms": 300000}}}, "config.shutdown.revoke_ms must be below"),
        ({"config": {"serving": {"enabled": False}}}, "config.serving.enabled cannot be false"),
        ({"config": {"model": {"lanes": 3}}}, "config.model.lanes (3) is above resources.cpu (2)"),
        ({"config": {"kafka": {"group_instance_id": "a"}}}, "group_instance_id would be the same in every pod"),
        ({"config": {"kafka": {"instance_id": "a"}}}, "instance_id would be the same in every pod"),
        ({"config": {"kafka": {"create_partitions": 3}}}, "follows from topics.partitions"),
        ({"env": {"WINNOW_KAFKA__GROUP_ID": "b"}}, "env has WINNOW_KAFKA__GROUP_ID, which would go before"),
        (
            {"secrets": {"env": {"WINNOW_KAFKA__GROUP_ID": {"secret": "a", "key": "b"}}}},
            "secrets.env has WINNOW_KAFKA__GROUP_ID",
        ),
        ({"config": {"kafka": {"output_topic": "messages"}}}, "output_topic messages is also an input topic"),
        ({"config": {"kafka": {"dead_letter_topic": "messages"}}}, "dead_letter_topic messages is also an input topic"),
        ({"config": {"kafka": {"dead_letter_topic": "messages.labelled"}}}, "are both messages.labelled"),
        ({"bundle": {"claim": "a"}}, "Set bundle.source: persistentVolumeClaim, or leave it out"),
        ({"bundle": {"reference": "a"}}, "bundle.reference means nothing with bundle.source: image"),
        (
            {"bundle": {"source": "imageVolume", "reference": "a", "command": ["cp"]}},
            "bundle.command means nothing with bundle.source: imageVolume",
        ),
        (
            {"config": {"kafka": {"properties": {"sasl.password": "hunter2"}}}},
            "sasl.password holds a secret in the values",
        ),
        (
            {"config": {"kafka": {"properties": {"sasl.password": "${env:X}hunter2"}}}},
            "sasl.password holds a secret in the values",
        ),
        (
            {"config": {"registry": {"properties": {"bearer.auth.token": "hunter2"}}}},
            "bearer.auth.token holds a secret in the values",
        ),
        (
            {"config": {"kafka": {"properties": {"sasl.oauthbearer.token.endpoint.url": "https://me:hunter2@a/b"}}}},
            "token.endpoint.url holds a secret in the values",
        ),
        ({"config": {"registry": {"url": "https://me:hunter2@registry"}}}, "config.registry.url holds a login"),
        ({"config": {"kafka": REFERRING}}, "secrets.env has no KAFKA_PASSWORD"),
        (
            {"config": {"kafka": REFERRING}, "env": {"KAFKA_PASSWORD": "hunter2"}},
            "secrets.env has no KAFKA_PASSWORD",
        ),
        (
            {"env": {"A": "b"}, "secrets": {"env": {"A": {"secret": "a", "key": "b"}}}},
            "A is in secrets.env and in env",
        ),
        ({"config": {"serving": {"host": "127.0.0.1"}}}, "config.serving.host (127.0.0.1) must be 0.0.0.0"),
        ({"config": {"kafka": {"connect_timeout_ms": 120_000}}}, "must be below probes.startupSeconds (120 s)"),
        ({"probes": {"startupSeconds": 15}}, "connect_timeout_ms (15000) must be below probes.startupSeconds"),
        (
            {"resources": {"profile": "burst", "cpu": 2, "burst": {"cpuRequest": "2500m"}}},
            "resources.burst.cpuRequest (2500m) is above resources.cpu (2)",
        ),
        ({"resources": {"profile": "burst", "cpu": 2, "burst": {"cpuRequest": "8"}}}, "cpuRequest (8) is above"),
        (
            {"config": {"kafka": {"properties": {"ssl.ca.location": "/run/secrets/tls/ca.crt"}}}},
            "secrets.files has no tls",
        ),
        ({"deployment": {"maxSurge": 0, "maxUnavailable": "0%"}}, "are both 0"),
        ({"bundle": {"source": "imageVolume"}}, "bundle.source: imageVolume needs bundle.reference"),
        ({"bundle": {"source": "initContainer", "reference": "a"}}, "initContainer needs bundle.command"),
        ({"bundle": {"source": "persistentVolumeClaim"}}, "needs bundle.claim"),
        (
            {"bundle": {"source": "persistentVolumeClaim", "claim": "a"}, "config": {"model": {"bundle": "/b"}}},
            "both say where the bundle is",
        ),
        ({"topics": {"strimzi": {"enabled": True}}}, "needs topics.strimzi.cluster"),
        (
            {"topics": {"strimzi": {"enabled": True, "cluster": "a"}}, "config": {"kafka": {"create_topics": True}}},
            "both make the topics",
        ),
        (
            {"topics": {"strimzi": {"enabled": True, "cluster": "a", "replicas": 1}}},
            "min.insync.replicas (2) is above topics.strimzi.replicas (1)",
        ),
        (
            {**SCALED, "config": {"kafka": {"consumer_properties": {"security.protocol": "SSL"}}}},
            "config.kafka.consumer_properties has security.protocol: with autoscaling",
        ),
        (
            {**SCALED, "config": {"kafka": {"producer_properties": {"sasl.username": "a"}}}},
            "config.kafka.producer_properties has sasl.username: with autoscaling",
        ),
        (
            {**SCALED, "config": {"kafka": {"commit_interval_ms": 15_000}}},
            "commit_interval_ms (15000) must be below autoscaling.pollingInterval (15 s)",
        ),
        (
            {**SCALED, "config": {"kafka": {"input_topics": ["^m.*"]}}},
            "autoscaling.enabled needs topics by name",
        ),
        ({"autoscaling": {"enabled": True, "minReplicas": 7}}, "autoscaling.minReplicas (7) is above"),
        (
            {**SCALED, "config": {"kafka": {"consumer_properties": {"auto.offset.reset": "error"}}}},
            "to be earliest or latest, and it is error",
        ),
        (
            {"monitoring": {"rules": {"enabled": True, "disabled": ["WinnowAbsnt"]}}},
            "has WinnowAbsnt, and there is no such",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_contradictions_are_refused_with_a_sentence(values: dict[str, Any], sentence: str):
    """It names the values and the mend, and holds no secret."""
    said = refusal(values)
    assert sentence in " ".join(said.split())
    assert "hunter2" not in said


def test_every_word_for_a_secret_is_known():
    """What `winnow config show` masks by its name and the chart could see in the values is refused there."""
    for word in SECRET_WORDS:
        name = word if "." in word else f"sasl.{word}"
        said = refusal({"config": {"kafka": {"properties": {name: "hunter2"}}}})
        assert "holds a secret in the values" in " ".join(said.split()), name


@pytest.mark.parametrize("section", ["input", "output"])
@pytest.mark.parametrize("form", FORMATS)
def test_a_format_of_the_registry_needs_one(section: str, form: str):
    """Each that the worker has."""
    assert f"config.{section}.format: {form} needs config.registry.url" in " ".join(
        refusal({"config": {section: {"format": form}}}).split()
    )


def test_what_only_names_where_a_secret_is_stays_in_the_values():
    """The addresses of tokens, the kind of a login, references by themselves or one after the other."""
    kafka = {
        "sasl.oauthbearer.token.endpoint.url": "https://login/token",
        "sasl.username": "${env:USER}",
        "sasl.password": "${env:FIRST}${env:SECOND}",
    }
    registry = {"bearer.auth.credentials.source": "STATIC_TOKEN", "bearer.auth.token": "${env:FIRST}"}
    values = {
        "config": {"kafka": {"properties": kafka}, "registry": {"properties": registry}},
        "env": {"USER": "winnow"},
        "secrets": {"env": {name: {"secret": "a", "key": "b"} for name in ("FIRST", "SECOND")}},
    }
    assert pod(of_values(values))


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        ({"replicas": 8}, "8 replicas, 6 partitions (topics.partitions): 2 stand by without work"),
        ({"replicas": 1}, "one replica"),
        ({"config": {"kafka": {"delivery": "exactly-once"}}}, "workload: StatefulSet ends it at once"),
        ({"config": {"kafka": {"delivery": "exactly-once"}}}, "isolation.level=read_committed"),
        ({"autoscaling": {"enabled": True}, "workload": "StatefulSet"}, "statefulSet.staticMembership: false"),
        (
            {"autoscaling": {"enabled": True, "minReplicas": 0}, "config": {"kafka": {"delivery": "exactly-once"}}},
            "a pod starts from a lag above 6 on",
        ),
        ({"monitoring": {"podMonitor": {"enabled": True}}}, "nobody is told"),
        ({"image": {"tag": "latest"}}, "image.tag latest"),
        ({"monitoring": {"rules": {"enabled": True}}}, "monitoring.rules.runbookUrl says where"),
        ({"config": {"tracing": {"enabled": True}}}, "built with REQUIREMENTS=otel"),
        ({"config": {"tracing": {"enabled": True}}}, "traces go to localhost:4318 of each pod"),
        ({"env": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}}, "and nothing is traced"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_notes_warn(values: dict[str, Any], warning: str):
    """Of what is allowed and seldom meant; without it nothing is said of it."""
    assert warning in notes(values)
    assert warning not in notes({})


def test_notes_say_what_to_look_at():
    """With names and namespace of this release, so that lines can be copied."""
    said = notes({"config": {"serving": {"port": 9000}, "shutdown": {"drain_ms": 30000}}})
    assert "Mind" not in said
    for line in (
        "kubectl --namespace mail rollout status deployment/spam-winnow",
        "helm --namespace mail test spam --logs",
        "kubectl --namespace mail port-forward deployment/spam-winnow 9000",
        "grace period 45 s = 30 s to drain + 8 s to close + 7 s margin",
        "pods may reach DNS and ports 9092",
    ):
        assert line in said


def test_defaults_taken_away_are_refused():
    """null takes a value out of a chart: not those that the chart reads."""
    assert "bootstrap_servers" in refusal({"config": {"kafka": {"bootstrap_servers": None}}})
    for name in ("commonLabels", "secrets", "probes"):
        assert f"missing property '{name}'" in refusal({name: None})
    assert pod(of_values({"autoscaling": {"maxReplicas": None}}))
