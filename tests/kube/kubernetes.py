"""The cluster that the tests have: the one of KUBECONFIG, or one of their own that `cluster` builds and runs.

A cluster of somebody else's needs WINNOW_KUBE_IMAGE, an image of this code that its nodes can pull or have, and
WINNOW_KUBE_KAFKA, brokers that its pods and this machine reach under the same addresses. What needs KEDA is skipped by
name where it is not installed. The user must be allowed to make namespaces.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.rendering import tool
from tests.kube.tools import CLUSTER, output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLONE_NEWNET = 0x40000000
NODE = "10.99.0.1"
"""The address of the own cluster's node, which its pods reach."""
IMAGE = "winnow:test"


class Missing(Exception):
    """What cannot be had on this machine, in a sentence."""


class Kubernetes:
    """What a person does with a cluster: `kubectl` and `helm`, with the errors they give."""

    def __init__(self, image: str, pull_policy: str) -> None:
        self.image, self.pull_policy = image, pull_policy

    def kubectl(self, *arguments: str, document: str | None = None, seconds: float = 120.0) -> str:
        return output(_program("kubectl"), *arguments, input=document, seconds=seconds)

    def helm(self, *arguments: str, seconds: float = 300.0) -> str:
        return output(_program("helm"), *arguments, seconds=seconds)

    def json(self, *arguments: str) -> Any:
        return json.loads(self.kubectl(*arguments, "-o", "json"))

    def has(self, *kinds: str) -> bool:
        """Whether these definitions are installed, by their full names."""
        known = self.kubectl("get", "crd", "-o", "name")
        return all(f"customresourcedefinition.apiextensions.k8s.io/{kind}" in known.splitlines() for kind in kinds)

    def kill(self, namespace: str, pod: str) -> str:
        """End a pod's worker without a warning; what was done, in words."""
        self.kubectl("-n", namespace, "delete", "pod", pod, "--force", "--grace-period=0", "--wait=false")
        return "delete --force --grace-period=0"

    @staticmethod
    def until(done: Callable[[], object], seconds: float, what: str, every: float = 0.25) -> float:
        """Wait for it; how many seconds it took."""
        began = time.monotonic()
        while not done():
            assert time.monotonic() - began < seconds, f"not within {seconds:g} s: {what}"
            time.sleep(every)
        return time.monotonic() - began


class OwnKubernetes(Kubernetes):
    """The one that `cluster` runs, whose processes are this machine's."""

    def kill(self, namespace: str, pod: str) -> str:
        """SIGKILL to the worker itself: its container is started again, in the same pod."""
        status = self.json("-n", namespace, "get", "pod", pod)["status"]
        container = status["containerStatuses"][0]["containerID"].removeprefix("containerd://")
        for group in Path("/proc").glob("[0-9]*/cgroup"):
            try:
                belongs = container in group.read_text()
            except OSError:  # it ended meanwhile
                continue
            if belongs:
                os.kill(int(group.parent.name), signal.SIGKILL)
                return "SIGKILL"
        raise AssertionError(f"the pod {pod} has no process")


def offered_image() -> str:
    """The image for the cluster of KUBECONFIG.

    Raises:
        Missing: not all is said that is needed to use that cluster.
    """
    image = os.environ.get("WINNOW_KUBE_IMAGE")
    if not image or not os.environ.get("WINNOW_KUBE_KAFKA"):
        raise Missing("KUBECONFIG names a cluster; WINNOW_KUBE_IMAGE and WINNOW_KUBE_KAFKA are needed, too")
    return image


@contextmanager
def offered() -> Iterator[Kubernetes]:
    """The cluster of KUBECONFIG."""
    yield Kubernetes(offered_image(), os.environ.get("WINNOW_KUBE_PULL_POLICY", "IfNotPresent"))


@contextmanager
def own(*, keda: bool = True) -> Iterator[OwnKubernetes]:
    """A cluster of this run's own, inside of whose network this thread is, with all that it starts; gone afterwards."""
    installed()
    with tempfile.TemporaryDirectory(prefix="winnow-kube-run-") as folder:
        environment = {"KUBE_RUN": folder, "KUBE_OWNER": str(os.getpid())}
        kubeconfig = Path(folder) / "cluster" / "kubeconfig"
        try:
            output(CLUSTER, "node", env=os.environ | environment, seconds=300)
            if keda:
                output(CLUSTER, "keda", env=os.environ | environment, seconds=180)
            with _environment(KUBECONFIG=str(kubeconfig)), _network(folder):
                yield OwnKubernetes(IMAGE, "Never")
        finally:
            output(CLUSTER, "down", env=os.environ | environment)


def installed(what: str = "all") -> None:
    """Build what the own cluster is made of, where it is not there; minutes the first time.

    Raises:
        Missing: this machine lacks something for it.
    """
    try:
        output(CLUSTER, "check", what)
    except AssertionError as lacking:
        raise Missing(f"this machine cannot make images and clusters: {lacking}") from lacking
    try:
        output(CLUSTER, "install", what, seconds=3_600)
    except AssertionError as failed:
        raise Missing(f"the cluster could not be built: {failed}") from failed


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _network(folder: str) -> Iterator[None]:
    """Be in the node's network: a namespace belongs to a thread, and what it starts inherits it."""
    outer = (Path(folder) / "node" / "unshare.pid").read_text().strip()
    first = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0]
    with open("/proc/self/ns/net") as ours, open(f"/proc/{first}/ns/net") as theirs:
        _enter(theirs.fileno())
        try:
            yield
        finally:
            _enter(ours.fileno())


def _enter(namespace: int) -> None:
    # os.setns came with Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _program(name: str) -> str:
    path = tool(name)
    if path is None:
        raise Missing(f"{name} is neither on the PATH nor built")
    return str(path)
