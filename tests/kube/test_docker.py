"""The documentation's commands for Docker, as they stand, where an engine answers; without one see test_image.py."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests import documents
from tests.documents import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.documents import Block

SECONDS = 900
BLOCKS = documents.run_by(__file__)
pytestmark = [pytest.mark.kube, pytest.mark.timeout(2 * SECONDS)]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone, because commands write beside themselves."""
    try:
        answered = subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        answered = False
    if not answered:
        pytest.skip("no Docker engine answers")
    folder = tmp_path_factory.mktemp("docker") / "winnow"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True, timeout=60)
    return folder


@pytest.mark.parametrize("block", BLOCKS, ids=[block.name for block in BLOCKS])
def test_its_commands_run(block: Block, checkout: Path):
    """Each to its end, in the order of the page."""
    command = ["bash", "-eo", "pipefail", "-c", block.script]
    ran = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert ran.returncode == 0, f"{block.name} ended with {ran.returncode}:\n{ran.stdout}\n{ran.stderr}"
