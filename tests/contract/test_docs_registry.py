"""The schema registry that docs/registry.md fetches and starts, for people without one."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests import docs_session, documents, maven
from tests.registry_fixture import API
from worker.broker import artifacts
from worker.broker.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 240.0
"""158 MB are fetched."""
JAVA_ENDED_BY_SIGTERM = 143


@pytest.mark.registry
@pytest.mark.timeout(SECONDS + 60)
def test_a_registry_of_ones_own(tmp_path: Path):
    """It comes up at the address that the page names, and takes a schema."""
    (block,) = documents.run_by(__file__)
    program = maven.obtained_or_skip(tmp_path / "maven")
    docs_session.commands(tmp_path)
    (tmp_path / "bin" / "mvn").symlink_to(program)
    (tmp_path / "bin" / "java").symlink_to(artifacts.java_runtime())
    port = free_port()
    # Its probes and metrics would take port 9000 of whoever runs these tests.
    environment = docs_session.environment(tmp_path) | maven.environment()
    environment |= {"QUARKUS_MANAGEMENT_PORT": str(free_port())}
    # What Maven fetches is kept, 158 MB of it.
    environment |= {"MAVEN_ARGS": f"-Dmaven.repo.local={artifacts.cache_folder() / 'maven'}"}
    session = docs_session.Session(tmp_path, environment, {"8081": str(port)}, SECONDS)
    with session.background(block, JAVA_ENDED_BY_SIGTERM):
        url = f"http://127.0.0.1:{port}/{API}/subjects/messages-value/versions"
        body = json.dumps({"schema": json.dumps({"type": "string"})}).encode()
        asked = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            assert json.load(answer)["id"] > 0
