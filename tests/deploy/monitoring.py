"""What tests of alerts and dashboard share: where they are, which metrics they name, and tools of others."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ROOT / "deploy" / "helm" / "winnow" / "files"
ALERTS = FILES / "alerts.yaml"
DASHBOARD = FILES / "dashboard.json"
_METRIC = re.compile(r"\b(?:[a-z_]+:)?(?:winnow|process)_[a-z_]+(?::\w+)?")


def tool_or_skip(name: str) -> str:
    """The path of a program of others."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"needs {name} (Debian: prometheus)")
    return path


def run_tool(name: str, *arguments: str) -> str:
    """Run it to its end; fails with what it said."""
    ran = subprocess.run([tool_or_skip(name), *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def metrics_of(text: str) -> set[str]:
    """The metrics that expressions or series name; those of a histogram by the histogram's name."""
    return {re.sub(r"(?<!_info)_(bucket|count|sum)$", "", name) for name in _METRIC.findall(text)}


@cache
def documented_metrics() -> frozenset[str]:
    """Those of docs/metrics.md."""
    return frozenset(
        re.findall(
            r"^\| `(\w+)` \| (?:counter|gauge|histogram) \|", (ROOT / "docs" / "metrics.md").read_text("utf-8"), re.M
        )
    )
