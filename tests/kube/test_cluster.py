"""The script `cluster` with what lies about on a machine: nothing is built or run here."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from deploy import rendering
from tests.kube import conftest, kubernetes
from tests.kube.tools import CLUSTER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")

NOBODY = 65_534
BY = {"apiserver": "--cert-dir={}/cluster/certs", "etcd": "--data-dir {}/cluster/etcd"}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder for KUBE_WORK, with one for what runs."""
    folder = tmp_path / "work"
    (folder / "run" / "cluster").mkdir(parents=True)
    return folder


@pytest.fixture
def other(work: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is none of the cluster's."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def cluster(work: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"KUBE_WORK": str(work), "KUBE_RUN": str(work / "run")} | environment
    return subprocess.run([CLUSTER, *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["cluster/apiserver", "cluster/etcd", "node/unshare"])
def test_a_number_that_another_process_has_now_is_left_alone(work: Path, other: subprocess.Popen[bytes], name: str):
    """After a crash or a restart of the machine: the file alone goes."""
    file = work / "run" / f"{name}.pid"
    file.parent.mkdir(exist_ok=True)
    file.write_text(str(other.pid))
    done = cluster(work, "down")
    assert (done.returncode, file.exists()) == (0, False), done.stderr
    assert other.poll() is None


@pytest.mark.parametrize("name", BY)
def test_what_was_started_for_the_same_folder_is_ended(work: Path, name: str):
    """It is known by its arguments."""
    arguments = BY[name].format(work / "run").split()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", *arguments]) as process:
        (work / "run" / "cluster" / f"{name}.pid").write_text(str(process.pid))
        with ThreadPoolExecutor(1) as aside:  # `down` waits until it is gone, and whoever started it has to look
            down = aside.submit(cluster, work, "down")
            assert process.wait(10) == -9
            assert down.result().returncode == 0


def test_what_somebody_else_laid_there_is_not_run(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Neither in a folder of another user nor behind a link."""
    program = work / "bin" / "winnow-odd-program"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(rendering, "WORK", work)
    assert rendering.tool(program.name) == program
    link = tmp_path / "link"
    link.symlink_to(work)
    places = [link]
    if os.geteuid() == 0:
        os.chown(work, NOBODY, NOBODY)
        places.append(work)
    for place in places:
        monkeypatch.setattr(rendering, "WORK", place)
        assert rendering.tool(program.name) is None
        done = cluster(place, "env")
        assert (done.returncode, done.stdout) == (1, "")
        assert f"{place} is a link or somebody else's" in done.stderr
        assert "KUBE_WORK" in done.stderr


@pytest.mark.parametrize(("what", "lacking"), [("core", False), ("keda", False), ("images", True), ("node", True)])
def test_an_api_server_needs_no_root(work: Path, tmp_path: Path, what: str, lacking: bool):
    """So that the server-side dry run is there for the users of a CI; images and nodes need it."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("apt-get", "python3", "go", "openssl", "mount", "ip", "unshare", "nsenter", "id"):
        (programs / name).write_text("#!/bin/sh\necho 1000\n")
        (programs / name).chmod(0o755)
    done = cluster(work, "check", what, PATH=f"{programs}:{os.environ['PATH']}")
    assert (done.returncode, "root" in done.stderr) == (int(lacking), lacking)


def test_an_offered_cluster_is_asked_for_all_before_anything_is_installed(monkeypatch: pytest.MonkeyPatch):
    """KUBECONFIG alone, as operators have it, builds no image."""

    def installed(what: str) -> None:
        raise AssertionError(f"{what} would be installed")

    monkeypatch.setattr(conftest, "OFFERED", True)
    monkeypatch.setattr(kubernetes, "installed", installed)
    monkeypatch.delenv("WINNOW_KUBE_IMAGE", raising=False)
    monkeypatch.delenv("WINNOW_KUBE_KAFKA", raising=False)
    with pytest.raises(pytest.skip.Exception, match="WINNOW_KUBE_IMAGE and WINNOW_KUBE_KAFKA are needed"):
        conftest.obtained_image()
    monkeypatch.setenv("WINNOW_KUBE_IMAGE", "registry/winnow:1")
    monkeypatch.setenv("WINNOW_KUBE_KAFKA", "kafka:9092")
    assert conftest.obtained_image() == "registry/winnow:1"
