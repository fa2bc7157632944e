"""docs/kubernetes.md: its values are the chart's, and its commands run, against a real API server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy.rendering import CHART, template
from tests import documents
from tests.deploy.api_server import started
from tests.deploy.rendered import needs_helm
from worker.capacity.writing import write_keda

PAGE = documents.ROOT / "docs" / "kubernetes.md"
VALUES = [block for block in documents.blocks(PAGE) if block.kind == "yaml"]

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(1_800)]


@needs_helm
@pytest.mark.parametrize("block", VALUES, ids=lambda block: block.name)
def test_values_are_taken(block: documents.Block):
    """Each block by itself, and with those of the first one."""
    first, values = (yaml.safe_load(each.text) for each in (VALUES[0], block))
    assert template(values=values)
    assert template(values={**first, **values})


def test_commands_run(tmp_path: Path):
    """All of them in order, in a folder with the files that the page speaks of."""
    (tmp_path / "deploy").symlink_to(CHART.parents[1])
    (tmp_path / "my-values.yaml").write_text(VALUES[0].text, "utf-8")
    (tmp_path / "password.txt").write_text("secret", "utf-8")
    write_keda(tmp_path / "values-lag.yaml", 8_400, "1,200 messages/s a replica")
    with started() as server:
        # `winnow` is beside the Python that runs this.
        path = f"{Path(sys.executable).parent}{os.pathsep}{server.environment['PATH']}"
        for block in documents.run_by(__file__):
            ran = subprocess.run(
                ["sh", "-euc", block.script],
                cwd=tmp_path,
                env={**server.environment, "PATH": path},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert ran.returncode == 0, f"{block.name}: {ran.stdout}{ran.stderr}"
        scaled = server.kubectl("get", "scaledobjects", "--namespace", "mail", "--output", "yaml")
    assert 'lagThreshold: "8400"' in scaled
