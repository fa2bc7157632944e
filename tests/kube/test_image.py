"""The image: built for real, and run as a pod runs it: no root, read-only, no capabilities, no network."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import worker
from deploy.rendering import WORK
from tests import documents
from tests.kube.containers import Container, unpacked
from tests.kube.kubernetes import IMAGE
from tests.kube.report import IMAGE_STEP
from tests.kube.tools import CLUSTER, ROOT, output
from worker.commands.run import AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kube.report import Step

pytestmark = [pytest.mark.kube, pytest.mark.timeout(3_600)]

MB = 1_000_000
MOST_MB = 450
SPAM = "WINNER! Claim your prize now, text WIN to 80011"
TERMINATED = 128 + signal.SIGTERM
PACKAGES = ("onnxruntime", "numpy", "confluent_kafka", "tokenizers")
PROMPT = 5.0
"""Seconds to an end by a signal, on a machine that does other things; the grace period is 35."""
BUNDLE = ROOT / "worker" / "model" / "default"


@pytest.fixture(scope="module")
def container(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    if image != IMAGE:
        pytest.skip("the image of WINNOW_KUBE_IMAGE is not built here")
    with unpacked(image, tmp_path_factory.mktemp("image")) as made:
        yield made


def size(folder: Path) -> int:
    """Bytes of the files below, each counted once."""
    seen = {(found.st_dev, found.st_ino): found.st_size for path in folder.rglob("*") if (found := path.lstat())}
    return sum(seen.values())


def test_size(container: Container, step: Callable[..., Step]):
    """It stays below 450 MB, and what is in it is known by name."""
    made = step(0, IMAGE_STEP)
    site = next((container.root / "opt/winnow/lib").glob("python3*/site-packages"))
    whole = size(container.root)
    own, bundle = size(container.root / "opt" / "winnow"), size(site / "worker" / "model" / "default")
    packages = {name: size(site / name) + size(site / f"{name}.libs") for name in PACKAGES}
    parts = {"base image, with Python": whole - own, "the default bundle": bundle} | packages
    parts["the worker itself"] = size(site / "worker") - bundle
    parts["other packages"] = whole - sum(parts.values())
    parts["all"] = whole
    made.figures |= {name: f"{count / MB:.0f} MB" for name, count in parts.items()}
    assert whole < MOST_MB * MB


def test_dockerfile_has_no_findings():
    """hadolint finds nothing."""
    if (hadolint := shutil.which("hadolint", path=str(Path(sys.executable).parent))) is None:
        pytest.skip("needs hadolint")
    assert output(hadolint, str(ROOT / "Dockerfile")) == ""


def test_labels(container: Container):
    """It says which version of what it is, by the names of the OCI."""
    labels = {
        name.removeprefix("org.opencontainers.image."): value for name, value in container.config["Labels"].items()
    }
    assert labels["version"] == worker.__version__
    assert labels["revision"] == output("git", "rev-parse", "HEAD", cwd=ROOT)
    assert labels["licenses"] == "Apache-2.0"
    assert {"title", "description", "source", "base.name"} <= labels.keys()


def test_it_classifies_without_anything(container: Container):
    """As uid 10001, on a read-only root, without capabilities, network and temporary folder, it classifies; quietly."""
    done = container.run("classify", SPAM)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == b"spam"
    assert done.stderr == b""
    status = container.run("/proc/self/status", entrypoint=["cat"]).stdout.decode()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    assert fields["Uid"].split() == ["10001"] * 4
    assert {int(fields[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")} == {0}
    assert b"Read-only" in container.run("/x", entrypoint=["touch"]).stderr


def test_a_mounted_bundle(container: Container):
    """A bundle of one's own is a folder that is mounted."""
    done = container.run("model", "verify", "/bundle", mounts={BUNDLE: "/bundle"})
    assert (done.returncode, b"is whole" in done.stdout) == (0, True), done.stderr


def test_a_bundle_baked_in(image: str, container: Container, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory):
    """Or a layer on top, as the documentation has it."""
    (block,) = documents.run_by(__file__)
    shutil.copytree(BUNDLE, tmp_path / "my-bundle")
    (tmp_path / "Dockerfile").write_text(block.text.replace("winnow:0.1.0", f"docker.io/library/{image}"))
    policy = ["--signature-policy", str(WORK / "policy.json")]
    output(CLUSTER, "buildah", "bud", "--pull-never", *policy, "-t", "docker.io/library/baked:test", str(tmp_path))
    try:
        with unpacked("baked:test", tmp_path_factory.mktemp("baked")) as baked:
            shown = baked.run("config", "show", "--json")
            assert json.loads(shown.stdout)["model"]["bundle"] == "/bundle"
            assert baked.run("model", "verify", "/bundle").returncode == 0
    finally:
        output(CLUSTER, "buildah", "rmi", "docker.io/library/baked:test")


def test_sigterm_as_the_first_process(container: Container, step: Callable[..., Step]):
    """Whenever SIGTERM comes after `env` has begun, the process ends at once, or the worker takes it and stops."""
    made = step(1, "SIGTERM to PID 1, every 5 ms from its start")
    moments = [*range(0, 100, 5), *range(100, 2_000, 100)]
    took = [ended_by_sigterm(container, after / 1000) for after in moments]
    at_once = [seconds for seconds in took if seconds is not None]
    made.figures["starts"] = str(len(moments))
    made.figures["ended at once"] = f"{len(at_once)}, the slowest after {max(at_once):.2f} s"
    made.figures["stopped by the worker"] = str(len(moments) - len(at_once))
    assert len(at_once) > len(moments) / 3


def ended_by_sigterm(container: Container, after: float) -> float | None:
    """Start a worker whose brokers do not answer, and end it.

    Returns:
        Seconds from the signal to its end; None where the worker had taken over: it noted the signal, and ends at once
        by a second one. Had the first been dropped, the second would be its first.
    """
    name, process = container.start("run", "--set", "kafka.connect_timeout_ms=60000", "--set", "serving.enabled=false")
    with process:
        try:
            first = wait_heard(container, name)
            time.sleep(after)  # the moment is what is tried
            os.kill(first, signal.SIGTERM)
            sent = time.monotonic()
            if (code := wait_ended(process, 1.0)) is not None:
                assert code == TERMINATED
                return time.monotonic() - sent
            os.kill(first, signal.SIGTERM)
            assert wait_ended(process, PROMPT) == AT_ONCE
            return None
        finally:
            container.remove(name)


def wait_ended(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def wait_heard(container: Container, name: str) -> int:
    """The first process as soon as a SIGTERM to it would not be dropped."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        first = container.pid(name)
        if first is not None and heard(first):
            return first
    raise AssertionError("it does not block SIGTERM")


def heard(pid: int) -> bool:
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    masks = int(lines["SigBlk"], 16) | int(lines["SigCgt"], 16)
    return lines["Name"].strip() in ("env", "winnow", "python", "python3") and bool(masks >> (signal.SIGTERM - 1) & 1)


def test_the_list_of_what_it_holds(container: Container):
    """The CycloneDX document in it names every Python package that is installed, and every Debian package."""
    document = json.loads(container.run("/opt/winnow/sbom.cdx.json", entrypoint=["cat"]).stdout)
    assert (document["bomFormat"], document["specVersion"][:2]) == ("CycloneDX", "1.")
    listed = {component["purl"].partition("?")[0] for component in document["components"] if "purl" in component}
    script = "import importlib.metadata as m; print(*(f'{d.name.lower()}@{d.version}' for d in m.distributions()))"
    installed = set(container.run("-c", script, entrypoint=["python"]).stdout.decode().replace("_", "-").split())
    own = f"winnow-worker@{worker.__version__}"
    assert {f"pkg:pypi/{one}" for one in installed - {own}} <= listed
    assert document["metadata"]["component"]["name"] == "winnow-worker"
    status = (container.root / "var/lib/dpkg/status").read_text()
    debian = sum(one.startswith("pkg:deb/debian/") for one in listed)
    assert debian == status.count("\nStatus: install ok installed")
