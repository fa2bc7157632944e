"""A release of the chart, and the stream of messages through it."""

from __future__ import annotations

import itertools
import json
import time
from typing import TYPE_CHECKING, Any

from tests.faults.stage import EXACTLY_ONCE, Stage
from tests.kube.tools import ROOT
from worker.broker import admin

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from tests.faults.accounts import Account, Place
    from tests.kube.kubernetes import Kubernetes
    from tests.kube.report import Step
    from worker.broker import Broker

CHART = ROOT / "deploy" / "helm" / "winnow"
READY_SECONDS = 180.0
REPLICAS = 2
TOPIC_SECONDS = 20.0
SESSION_MS = 6_000
"""After which a group misses a member; the least that brokers allow by default."""


class Stream(Stage):
    """Topics, what is fed and what is read, over several steps: each is told what came in its own time."""

    def __init__(self, broker: Broker, folder: Path, step: Step, address: str, **settings: object) -> None:
        own: dict[str, object] = {"kafka__consumer_properties.session.timeout.ms": SESSION_MS}
        super().__init__(broker, folder, step, address=address, **own | settings)
        for name in ("serving__host", "serving__port", "batching__max_in_flight"):  # the chart's, and the defaults
            self._settings.pop(name, None)
        self._fed = self._doubled = self._first = 0
        self._began = time.monotonic()

    def begin(self, step: Step) -> None:
        """A step begins."""
        self.row = step
        self._fed, self._first = self.feeder.written, len(self.reader.records)

    def load(self, rate: float) -> None:
        """Feed at a rate from now on; returns when results come."""
        since = len(self.reader.records)
        self._began = time.monotonic()
        self.feeder.begin(rate)
        self.reader.until(lambda: len(self.reader.records) > since + rate)

    def unload(self) -> None:
        """Stop feeding, and wait until everything was seen."""
        self.feeder.end()
        took = time.monotonic() - self._began
        self.row.figures["fed"] = f"{(self.feeder.written - self._fed) / took:,.0f} messages/s"
        self.all_seen()
        self.row.figures["longest silence"] = f"{self._silence():.1f} s"

    def _silence(self) -> float:
        """The longest time without a result, as a reader of what is committed sees it."""
        moments = [record.at for record in self.reader.records[self._first :]]
        return max((later - earlier for earlier, later in itertools.pairwise(moments)), default=0.0)

    def settle(self, skipped: Collection[Place] = (), *, aborted_shows: bool = False) -> Account:
        """The account of all so far; into the row goes what is new."""
        final = super().settle(skipped, aborted_shows=aborted_shows)
        self.row.messages = self.feeder.written - self._fed
        self.row.doubled = final.doubled - self._doubled
        self._doubled = final.doubled
        return final

    def close(self) -> None:
        """End it, and take its topics from the brokers, which may be somebody else's."""
        super().close()
        client = admin.connect(self.broker.bootstrap_servers)
        for deleted in client.delete_topics([self.input, self.output, self.dead]).values():
            deleted.result(timeout=TOPIC_SECONDS)

    def _explained(self) -> str:
        return f"{self.feeder.written} were fed, {len(self.reader.records)} read"

    @property
    def config(self) -> dict[str, dict[str, Any]]:
        """The settings as the chart has them."""
        found: dict[str, dict[str, Any]] = {}
        for name, value in self._settings.items():
            section, _, setting = name.partition("__")
            table, _, prop = setting.partition(".")
            if prop:
                found.setdefault(section, {}).setdefault(table, {})[prop] = value
            else:
                found.setdefault(section, {})[table] = [value] if table == "input_topics" else value
        return found


def chart_values(cluster: Kubernetes, stream: Stream) -> dict[str, Any]:
    """Small enough for several on two cores with all the rest; everything optional is on, where its kind is known."""
    repository, _, tag = cluster.image.rpartition(":")
    return {
        "image": {"repository": repository, "tag": tag, "pullPolicy": cluster.pull_policy},
        "resources": {"profile": "burst", "cpu": 1, "memory": "512Mi", "burst": {"cpuRequest": "50m"}},
        "replicas": REPLICAS,
        "topics": {"partitions": stream.partitions},
        "config": stream.config,
        "workload": "StatefulSet" if stream.row.delivery == EXACTLY_ONCE else "Deployment",
        "monitoring": {
            "podMonitor": {"enabled": cluster.has("podmonitors.monitoring.coreos.com")},
            "rules": {"enabled": cluster.has("prometheusrules.monitoring.coreos.com")},
            "dashboard": {"enabled": True},
        },
    }


class Release:
    """An installed chart."""

    def __init__(self, kubernetes: Kubernetes, namespace: str, name: str, values: Mapping[str, Any]) -> None:
        self.kubernetes, self.namespace, self.name = kubernetes, namespace, name
        self.values = dict(values)

    def kubectl(self, *arguments: str, **options: Any) -> str:
        return self.kubernetes.kubectl("-n", self.namespace, *arguments, **options)

    def json(self, *arguments: str) -> Any:
        return self.kubernetes.json("-n", self.namespace, *arguments)

    def install(self, folder: Path) -> None:
        self._helm("install", self.name, str(CHART), "--values", str(self._written(folder)))

    def upgrade(self, folder: Path, **changed: Any) -> None:
        self.values |= changed
        self._helm("upgrade", self.name, str(CHART), "--values", str(self._written(folder)))

    def rollback(self) -> None:
        self._helm("rollback", self.name)

    def uninstall(self) -> None:
        self._helm("uninstall", self.name)

    def test(self) -> str:
        """What the tests of the chart say."""
        timeout = f"{READY_SECONDS:.0f}s"
        return self.kubernetes.helm("-n", self.namespace, "test", self.name, "--logs", "--timeout", timeout)

    def _helm(self, verb: str, *arguments: str) -> None:
        waiting = ("--wait", "--timeout", f"{READY_SECONDS:.0f}s")
        try:
            self.kubernetes.helm("-n", self.namespace, verb, *arguments, *waiting, seconds=READY_SECONDS + 30)
        except AssertionError as failed:
            raise AssertionError(f"{failed}\n{self.explained()}") from None

    def _written(self, folder: Path) -> Path:
        path = folder / "values.json"
        path.write_text(json.dumps(self.values), "utf-8")
        return path

    def pods(self) -> list[dict[str, Any]]:
        """Those that are not on their way out."""
        selector = f"app.kubernetes.io/instance={self.name},app.kubernetes.io/component=worker"
        found = self.json("get", "pods", "--selector", selector)["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def names(self) -> list[str]:
        return sorted(pod["metadata"]["name"] for pod in self.pods())

    def ready(self) -> int:
        return sum(_is_ready(pod) for pod in self.pods())

    def lives(self) -> set[tuple[str, int]]:
        """Of each pod its identity, and how often its worker was started again."""
        return {
            (pod["metadata"]["uid"], status["restartCount"])
            for pod in self.pods()
            for status in pod["status"].get("containerStatuses", [])
        }

    def wait_another(self, before: set[tuple[str, int]]) -> None:
        """Until the place of one that died is taken, and all are ready."""
        self.kubernetes.until(
            lambda: self.lives() != before and self.ready() == len(before), READY_SECONDS, f"all of {before} are back"
        )

    def served(self, pod: str, path: str) -> str:
        """What a pod's port answers, through the API server."""
        return self.kubectl("get", "--raw", f"/api/v1/namespaces/{self.namespace}/pods/{pod}:9464/proxy{path}")

    def explained(self) -> str:
        """What the cluster says of the pods, for a test that fails."""
        events = self.kubectl("get", "events", "--sort-by=.lastTimestamp").splitlines()[-15:]
        logs = [self.kubectl("logs", pod, "--all-containers", "--tail=15") for pod in self.names()]
        return "\n".join([self.kubectl("get", "pods", "-o", "wide"), *events, *logs])

    def objects(self) -> set[str]:
        """Everything in the namespace but what reports on it."""
        kinds = self.kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name").split()
        kinds = [kind for kind in kinds if not kind.startswith(("events", "pods.metrics"))]
        return set(self.kubectl("get", ",".join(kinds), "-o", "name", "--ignore-not-found").split())


def _is_ready(pod: Mapping[str, Any]) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", []))
