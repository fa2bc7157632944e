"""The chart on a real cluster, step by step: installed, fed, watched, rolled, killed, upgraded, rolled back, gone."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.stage import EXACTLY_ONCE
from tests.kube.release import REPLICAS, Release, Stream, chart_values
from tests.kube.report import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.kube, pytest.mark.timeout(3_600)]

RATE = 500
"""Messages a second, under which things happen."""
AT_LEAST_ONCE = "at-least-once"
MODES = [pytest.param(AT_LEAST_ONCE, id="deployment"), pytest.param(EXACTLY_ONCE, id="statefulset")]


class Play:
    """One delivery mode's release, and its stream; installed by its first step."""

    def __init__(self, stream: Stream, release: Release) -> None:
        self.stream, self.release = stream, release
        self.before: set[str] = set()


@pytest.fixture(scope="module", params=MODES)
def play(request, cluster, broker, namespace, tmp_path_factory) -> Iterator[Play]:
    running, address = broker
    folder = tmp_path_factory.mktemp("release")
    stream = Stream(running, folder, Step(0, "", request.param), address)
    name = "orders" if request.param == AT_LEAST_ONCE else "orders-once"
    made = Play(stream, Release(cluster, namespace, name, chart_values(cluster, stream)))
    yield made
    stream.close()


@pytest.fixture
def row(play: Play, step: Callable[..., Step]) -> Callable[[int, str], Step]:
    """The step's row; the stream counts for it from now on."""

    def make(number: int, name: str) -> Step:
        made = step(number, name, play.stream.row.delivery)
        play.stream.begin(made)
        return made

    return make


def test_pod_security_is_enforced(cluster, namespace, step):
    """A pod that asks for more than "restricted" allows is refused in the namespace of these tests."""
    made = step(2, 'Pod Security "restricted" refuses a pod as root')
    with pytest.raises(AssertionError, match="violates PodSecurity") as refused:
        cluster.kubectl("-n", namespace, "run", "root", "--image=winnow:test", "--restart=Never")
    (made.figures["it says"],) = re.findall(r'violates PodSecurity "[^"]*"', str(refused.value))


def test_install(play, row, tmp_path):
    """`helm install --wait` ends with every pod ready, under "restricted"."""
    made = row(3, "helm install, 2 replicas ready")
    play.before = play.release.objects()
    began = time.monotonic()
    play.release.install(tmp_path)
    made.figures["ready after"] = f"{time.monotonic() - began:.1f} s"
    assert play.release.ready() == REPLICAS
    assert len(play.release.objects() - play.before) > 5


def test_messages_in_labels_out(play, row):
    """Every message has its label, once, and it is bit by bit what the bundle says of it here."""
    row(4, "messages in, labels out")
    play.stream.feeder.feed(1_000)
    play.stream.all_seen()
    play.stream.settle()
    audited = winnow_audit(play.stream)
    assert audited.returncode == 0, audited.stdout + audited.stderr


def winnow_audit(stream: Stream) -> subprocess.CompletedProcess[str]:
    """As a user runs it, with every answer compared with what the bundle gives."""
    settings = stream._settings | {"kafka__bootstrap_servers": stream.broker.bootstrap_servers}
    sets = [part for name, value in settings.items() for part in ("--set", f"{name.replace('__', '.', 1)}={value}")]
    return subprocess.run(
        [sys.executable, "-m", "worker", "audit", "--no-group", *sets],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_metrics(play, row):
    """What the pods' ports say adds up to what was fed."""
    made = row(5, "metrics, scraped from every pod")
    counted = samples = 0
    for pod in play.release.names():
        assert play.release.served(pod, "/readyz")
        for family in text_string_to_metric_families(play.release.served(pod, "/metrics")):
            samples += len(family.samples)
            counted += sum(sample.value for sample in family.samples if sample.name == "winnow_results_total")
    assert counted == play.stream.feeder.written
    made.figures["samples"] = f"{samples:,}"
    made.figures["results counted"] = f"{counted:,.0f}"


def test_doctor(play, row):
    """`helm test` runs `winnow doctor` in a pod of its own, which finds nothing wrong."""
    made = row(6, "helm test: winnow doctor")
    said = play.release.test()
    (made.figures["it says"],) = re.findall(r"^\d+ ok.*$", said, re.MULTILINE)
    assert "problem" not in said


def test_rolling_update(play, row, tmp_path):
    """`helm upgrade` with a changed setting replaces every pod under load; nothing is lost, or doubled exactly once."""
    made = row(7, "helm upgrade under load: rolling update")
    before = play.release.pods()
    play.stream.load(RATE)
    config = play.release.values["config"] | {"batching": {"max_delay_ms": 25}}
    began = time.monotonic()
    play.release.upgrade(tmp_path, config=config)
    made.figures["rolled in"] = f"{time.monotonic() - began:.1f} s"
    play.stream.unload()
    assert uids(before).isdisjoint(uids(play.release.pods()))
    assert "max_delay_ms = 25" in settings(play.release)
    play.stream.settle()


def test_rollback(play, row):
    """`helm rollback` under load brings the settings of before back; nothing is lost, exactly once nothing doubled."""
    made = row(8, "helm rollback under load")
    before = play.release.pods()
    play.stream.load(RATE)
    began = time.monotonic()
    play.release.rollback()
    made.figures["rolled in"] = f"{time.monotonic() - began:.1f} s"
    play.stream.unload()
    assert uids(before).isdisjoint(uids(play.release.pods()))
    assert "max_delay_ms = 25" not in settings(play.release)
    play.stream.settle()


def test_killed(cluster, play, row):
    """A worker that dies without a word under load loses nothing, and exactly once doubles nothing."""
    made = row(9, "pod killed under load")
    play.stream.load(RATE)
    before = play.release.lives()
    made.figures["killed by"] = cluster.kill(play.release.namespace, play.release.names()[0])
    died = time.time()
    play.release.wait_another(before)
    play.stream.recovered(died)
    play.stream.unload()
    play.stream.settle()


def test_deleted_by_force(play, row):
    """The same for a pod that is deleted by force, which leaves it a second."""
    row(10, "pod deleted by force under load")
    play.stream.load(RATE)
    before = play.release.lives()
    play.release.kubectl("delete", "pod", play.release.names()[0], "--force", "--grace-period=0")
    died = time.time()
    play.release.wait_another(before)
    play.stream.recovered(died)
    play.stream.unload()
    play.stream.settle()


def test_uninstall(play, row):
    """`helm uninstall` leaves nothing of what `helm install` brought."""
    made = row(11, "helm uninstall leaves nothing")
    began = time.monotonic()
    play.release.uninstall()
    play.release.kubernetes.until(lambda: play.release.objects() <= play.before, 60, "every object has gone")
    made.figures["gone after"] = f"{time.monotonic() - began:.1f} s"
    assert play.release.objects() - play.before == set()


def uids(pods: list[dict[str, Any]]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods}


def settings(release: Release) -> str:
    """The worker's file, as a pod has it."""
    script = "print(open('/etc/winnow/winnow.toml').read())"
    return release.kubectl("exec", release.names()[0], "--", "python", "-c", script)
