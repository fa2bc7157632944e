"""Every program of docs/python.md runs, each by itself."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text("utf-8"), re.M | re.S)


def test_there_are_programs():
    """The page has not lost them to another way of writing."""
    assert len(PROGRAMS) >= 6


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda text: text.split("\n", 1)[0][:30] or "program")
def test_a_program_runs(program: str, tmp_path: Path):
    """As a user would paste it, warnings being errors; what it asserts holds."""
    (tmp_path / "winnow.toml").write_text('[kafka]\ninput_topics = ["messages"]\n', "utf-8")
    (tmp_path / "program.py").write_text(program, "utf-8")
    ran = subprocess.run(
        [sys.executable, "-W", "error", "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env={"PYTHONPATH": str(ROOT), "PATH": ""}, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
