"""A real API server for the tests of what is deployed: no node, so nothing runs, but all is checked and stored."""

from __future__ import annotations

import json
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.kube.api import api_server
from tests.kube.kubernetes import Missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TOPICS = Path(__file__).with_name("kafkatopics.yaml")
NAMESPACE = "restricted"


class ApiServer:
    """`NAMESPACE` has Pod Security "restricted" enforced; KEDA's, Prometheus' and Strimzi's definitions are there.

    Args:
        environment: of helm and kubectl.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": levels}})
        self.kubectl("apply", "--filename", str(TOPICS))
        self.kubectl("wait", "--for=condition=established", "crd/kafkatopics.kafka.strimzi.io")

    def kubectl(self, *arguments: str, text: str = "") -> str:
        """What it says, warnings too; fails where it fails."""
        said, code = self.tried("kubectl", *arguments, text=text)
        assert code == 0, said
        return said

    def helm(self, *arguments: str) -> str:
        said, code = self.tried("helm", *arguments)
        assert code == 0, said
        return said

    def tried(self, program: str, *arguments: str, text: str = "") -> tuple[str, int]:
        """What a program says, and how it ends."""
        ran = subprocess.run(
            ["env", program, "--namespace", NAMESPACE, *arguments],
            env=dict(self.environment),
            input=text,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return ran.stdout + ran.stderr, ran.returncode

    def apply(self, *found: dict[str, Any]) -> str:
        """Stored for real."""
        return self.kubectl("apply", "--server-side", "--filename", "-", text=_stream(found))

    def check(self, *found: dict[str, Any]) -> tuple[str, int]:
        """As it would be stored: strictly, so that unknown fields are errors."""
        strict = ("--server-side", "--dry-run=server", "--validate=strict", "--filename", "-")
        return self.tried("kubectl", "apply", *strict, text=_stream(found))


@contextmanager
def started() -> Iterator[ApiServer]:
    """One that runs; skips the test where this machine cannot have it."""
    try:
        with api_server() as environment:
            yield ApiServer(environment)
    except Missing as reason:
        pytest.skip(f"needs a Kubernetes API server: {reason}")


def _stream(found: tuple[dict[str, Any], ...]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(found)})
