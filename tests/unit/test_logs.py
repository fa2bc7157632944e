"""Logs, as another process shows them on stderr."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = """
import logging, structlog
from worker import logs
from worker.config import LoggingSettings
logs.configure(LoggingSettings(level="info", format="{kind}"))
log = structlog.get_logger("winnow")
log.debug("unseen")
log.info("started", lanes=2)
logging.getLogger("librdkafka").warning("from %s", "the client")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
"""


def lines(kind: str) -> list[str]:
    ran = subprocess.run(
        [sys.executable, "-c", CODE.format(kind=kind)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stdout) == (0, "")
    return ran.stderr.splitlines()


def test_without_a_terminal_each_line_is_json():
    """`auto` into a pipe: one JSON document a line with time, level and logger; below the level nothing."""
    started, client, failed = map(json.loads, lines("auto"))
    assert (started["event"], started["lanes"], started["level"], started["logger"]) == ("started", 2, "info", "winnow")
    assert started["timestamp"].endswith("Z")
    assert (client["event"], client["logger"]) == ("from the client", "librdkafka")
    assert "ZeroDivisionError" in failed["exception"]


def test_the_console_format_is_for_people():
    """`console`: lines that are no JSON, with the same content."""
    shown = lines("console")
    assert "started" in shown[0]
    assert not shown[0].startswith("{")
