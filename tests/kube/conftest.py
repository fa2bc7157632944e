"""The steps on a real cluster run on their own, by `./dev kube`; each leaves a row of the table."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests import documents
from tests.kafka_fixtures import QUICK_TO_NOTICE, _already_running, apache_or_skip
from tests.kube import kubernetes, report
from tests.kube.kubernetes import NODE, Missing
from tests.kube.report import Step
from tests.kube.tools import ROOT, output
from tests.rows import pytest_runtest_makereport, rows_of
from worker.broker import artifacts
from worker.broker.ports import free_port
from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.broker import Broker

__all__ = ["pytest_runtest_makereport"]
_steps = pytest.StashKey[list[Step]]()
OFFERED = bool(os.environ.get("KUBECONFIG"))


@pytest.fixture
def step(request: pytest.FixtureRequest) -> Iterator[Callable[..., Step]]:
    """`step(3, "rolling update", "exactly-once")` makes the row of a step; it is kept however the test ends."""

    def keep(one: Step) -> None:
        report.keep(one, report.KEPT if os.environ.get("WINNOW_KUBE_KEEP") else report.LAST)
        request.config.stash.setdefault(_steps, []).append(one)

    with rows_of(request, keep) as made:

        def make(number: int, name: str, delivery: str = "") -> Step:
            made.append(Step(number, name, delivery))
            return made[-1]

        yield make


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if steps := config.stash.get(_steps, []):
        terminalreporter.write_sep("=", "kube")
        terminalreporter.write_line(report.described(steps))


@pytest.fixture(scope="session")
def image() -> str:
    """The name of the image of this code, built now; of somebody else's cluster the one it is told."""
    return obtained_image()


def obtained_image() -> str:
    try:
        if OFFERED:
            return kubernetes.offered_image()
        kubernetes.installed("images")
    except Missing as missing:
        pytest.skip(str(missing))
    (block,) = documents.run_by(__file__)
    output("sh", "-ec", block.script, cwd=ROOT, seconds=3_000)
    return kubernetes.IMAGE


@pytest.fixture(scope="package")
def cluster(image: str) -> Iterator[kubernetes.Kubernetes]:
    """A cluster: the offered one, or one of this package's own."""
    try:
        if not OFFERED:
            artifacts.obtain(lambda _: None)  # in the node's network there is nobody to fetch from
        with kubernetes.offered() if OFFERED else kubernetes.own() as found:
            yield found
    except (Missing, BrokerError) as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="package")
def broker(cluster: kubernetes.Kubernetes) -> Iterator[tuple[Broker, str]]:
    """A Kafka, and its address for pods."""
    if OFFERED:
        address = os.environ["WINNOW_KUBE_KAFKA"]
        yield _already_running(address), address
        return
    address = f"{NODE}:{free_port()}"
    controller = free_port()
    listeners = {
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PODS:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{(port := free_port())},PODS://{address}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},PODS://{address},CONTROLLER://127.0.0.1:{controller}",
    }
    with apache_or_skip(properties=QUICK_TO_NOTICE | listeners, port=port) as kafka:
        yield kafka, address


@contextmanager
def restricted(cluster: kubernetes.Kubernetes) -> Iterator[str]:
    """A namespace in which Pod Security "restricted" is enforced."""
    name = f"winnow-{uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    try:
        cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
        yield name
    finally:
        cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="package")
def namespace(cluster: kubernetes.Kubernetes) -> Iterator[str]:
    with restricted(cluster) as name:
        yield name
