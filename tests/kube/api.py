"""A real API server on loopback, with the custom resource definitions, for dry runs."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.rendering import WORK
from tests.kube.kubernetes import installed
from tests.kube.tools import CLUSTER, output
from worker.broker.ports import free_port, is_free

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def api_server() -> Iterator[dict[str, str]]:
    """Start one and end it; the environment for `kubectl` and `helm`.

    Raises:
        Missing: this machine lacks something for it.
    """
    installed("core")
    with tempfile.TemporaryDirectory(prefix="winnow-kube-run-") as folder:
        environment = os.environ | {
            "KUBE_RUN": folder,
            "KUBE_PORT": str(_three_ports()),
            "KUBE_OWNER": str(os.getpid()),
        }
        try:
            output(CLUSTER, "api", env=environment, seconds=120)
            yield environment | {
                "KUBECONFIG": str(Path(folder) / "cluster" / "kubeconfig"),
                "PATH": f"{WORK / 'bin'}{os.pathsep}{os.environ['PATH']}",
            }
        finally:
            output(CLUSTER, "down", env=environment)


def _three_ports() -> int:
    """The first of three in a row that are free: the API server's, and two of etcd."""
    while True:
        port = free_port()
        if all(map(is_free, (port + 1, port + 2))):
            return port
