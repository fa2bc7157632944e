"""Shell completion, as docs/tools.md has it, in three shells."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.documents import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 60.0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_what_typer_has(shell: str, tmp_path: Path):
    """Shown, installed where the shell looks for it, and it completes commands and options."""

    def winnow(*arguments: str, **variables: str) -> str:
        code = "import sys; from worker.cli import app; app(prog_name='winnow')"
        environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **variables}
        ran = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS,
            check=True, env=environment,
        )  # fmt: skip
        return ran.stdout

    told = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    assert "winnow" in winnow("--show-completion", shell, **told)
    assert "completion installed" in winnow("--install-completion", shell, **told)
    assert any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(("line", "completed"), [("winnow do", "doctor"), ("winnow dry-run --fr", "--from")])
def test_completion_completes(line: str, completed: str):
    """Commands and options."""
    code = "from worker.cli import app; app(prog_name='winnow')"
    words = line.split()
    asked = {"_WINNOW_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False,
        env={**os.environ, **asked},
    )  # fmt: skip
    assert ran.stdout.split() == [completed]
