"""The first command of the README, as somebody who has just cloned it would type it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests import documents
from tests.docs_session import until

if TYPE_CHECKING:
    from pathlib import Path

    from worker.broker import Broker

SECONDS = 240.0
"""It makes an environment first."""
READY = "Ready after"
SUMMARY = re.compile(r"^([\d,]+) messages: .* dead letters", re.M)
STOPPED_BY_CTRL_C = 130


@pytest.mark.docs
@pytest.mark.kafka
@pytest.mark.timeout(SECONDS + 60)
def test_the_demo_sets_itself_up_and_ends_by_ctrl_c(kafka: Broker, tmp_path: Path):
    """In a fresh environment: a real Kafka comes up, messages flow, and at Ctrl-C their sum is told."""
    (block,) = documents.run_by(__file__)
    said = tmp_path / "said.log"
    with said.open("wb") as log:
        demo = subprocess.Popen(
            ["bash", "-ec", block.script], cwd=documents.ROOT, start_new_session=True,
            env=os.environ | {"WINNOW_DEV_VENV": str(tmp_path / "venv")},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        until(lambda: READY in said.read_text("utf-8") or demo.poll() is not None, SECONDS)
        assert demo.poll() is None, said.read_text("utf-8")
        # SIGINT goes to all programs of the terminal, as Ctrl-C does.
        with pytest.raises(subprocess.TimeoutExpired):
            demo.wait(5)
        os.killpg(demo.pid, signal.SIGINT)
        ended = demo.wait(60)
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)
            demo.wait()
    text = said.read_text("utf-8")
    assert ended in (0, STOPPED_BY_CTRL_C), text
    assert "Apache Kafka" in text
    (messages,) = SUMMARY.findall(text)
    assert int(messages.replace(",", "")) > 0
    assert "Traceback" not in text
