"""KEDA on real lag: from no pod to several and back to none."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.stage import EXACTLY_ONCE
from tests.kube.release import Release, Stream, chart_values

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kube.kubernetes import Kubernetes
    from tests.kube.report import Step
    from worker.broker import Broker

pytestmark = [pytest.mark.kube, pytest.mark.timeout(3_600)]

POLLING = 5
"""Seconds between two looks of KEDA's."""
START = 10.0
"""Seconds that a pod may take from nothing to its first result."""
COOLDOWN = 15
SCALED_SECONDS = 240.0
BACKLOG = 60_000
SCALING = {
    "enabled": True,
    "minReplicas": 0,
    "maxReplicas": 3,
    "lagThreshold": "500",
    "activationLagThreshold": "0",
    "pollingInterval": POLLING,
    "cooldownPeriod": COOLDOWN,
    "scaleUp": {"periodSeconds": 15},
    "scaleDown": {"stabilizationSeconds": 15, "pods": 4, "periodSeconds": 15},
}


@pytest.fixture
def scaled(cluster: Kubernetes, broker: tuple[Broker, str], namespace: str, tmp_path: Path):
    """`scaled(step)` installs a release that KEDA has brought to no pod at all, and its stream."""
    if not cluster.has("scaledobjects.keda.sh"):
        pytest.skip("KEDA is not installed in the cluster of KUBECONFIG")
    made: list[tuple[Stream, Release]] = []

    def make(step: Step) -> tuple[Stream, Release]:
        running, address = broker
        stream = Stream(running, tmp_path, step, address)
        values = chart_values(cluster, stream) | {"autoscaling": SCALING}
        release = Release(cluster, namespace, f"scaled-{step.delivery.split('-')[0]}", values)
        made.append((stream, release))
        release.install(tmp_path)
        cluster.until(lambda: release.pods() == [], SCALED_SECONDS, "KEDA scales to nothing where there is no lag")
        return made[-1]

    yield make
    for stream, release in made:
        release.uninstall()
        stream.close()


@pytest.mark.parametrize("delivery", ["at-least-once", EXACTLY_ONCE])
def test_from_nothing_to_several_and_back(scaled: Callable[..., Any], step: Callable[..., Step], delivery: str):
    """The first message wakes a pod in time, a backlog brings more, its end brings none; nothing is lost meanwhile."""
    made = step(20, "KEDA 0 → n → 0", delivery)
    stream, release = scaled(made)
    stream.begin(made)
    first_message(stream, made)
    stream.feeder.feed(BACKLOG)
    most = most_pods(stream, release)
    assert most > 1, f"KEDA made no more than {most} pods of a lag of {BACKLOG}"
    made.figures["pods at most"] = str(most)
    drained = time.monotonic()
    release.kubernetes.until(lambda: release.pods() == [], SCALED_SECONDS, "the last pod goes without lag")
    made.figures["no pod after"] = f"{time.monotonic() - drained:.0f} s without lag"
    stream.settle()


def first_message(stream: Stream, made: Step) -> None:
    stream.feeder.feed(1)
    began = time.monotonic()
    stream.all_seen()
    took = time.monotonic() - began
    made.figures["first result, from no pod"] = f"{took:.1f} s (polling every {POLLING} s)"
    assert took <= POLLING + START


def most_pods(stream: Stream, release: Release) -> int:
    """How many were ready at once while the backlog was worked off."""
    most = 0

    def done() -> bool:
        nonlocal most
        most = max(most, release.ready())
        return len(stream.reader.sources) >= stream.feeder.written

    release.kubernetes.until(done, SCALED_SECONDS, "the backlog is worked off", every=1.0)
    return most
