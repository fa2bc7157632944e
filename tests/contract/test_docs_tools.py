"""Every command of docs/tools.md runs, on a Kafka that holds some messages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from worker import errors
from worker.cli import NOBODY_READS
from worker.errors import Fatal
from worker.kafka.tools import Feeder

if TYPE_CHECKING:
    from worker.broker import Broker

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tools.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.M | re.S)
COMMANDS = [
    *(line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines()),
    *(line.removeprefix("$ ") for kind, block in BLOCKS if not kind for line in block.splitlines()[:1]),
]
SETTINGS = next(block for kind, block in BLOCKS if kind == "toml")
SECONDS = 60.0


@pytest.fixture(scope="module")
def folder(kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's winnow.toml, with topics and a broker of the tests' own; a mail; and a command `winnow`."""
    made = tmp_path_factory.mktemp("tools")
    names = {name: f"{name}-of-docs" for name in ("messages", "messages.labelled", "messages.dead")}
    kafka.create_topics(dict.fromkeys(names.values(), 6))
    feeder = Feeder(kafka.bootstrap_servers, names["messages"])
    for number in range(20):
        feeder.send(b'{"text": "call now for your prize %d"}' % number, b"k%d" % number)
    feeder.send(b"{nope")
    feeder.flush()
    text = SETTINGS.replace("localhost:9092", kafka.bootstrap_servers)
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(f'"{name}"', f'"{names[name]}"')
    (made / "winnow.toml").write_text(text + "\n[serving]\nenabled = false\n", "utf-8")
    (made / "mail.txt").write_text("Dear customer,\n\nclaim your prize now.\n" * 40, "utf-8")
    (made / "winnow").write_text(f'#!/bin/sh\nexec {sys.executable} -m worker "$@"\n', "utf-8")
    (made / "winnow").chmod(0o755)
    return made


def test_the_page_has_commands():
    """They have not been lost to another way of writing, and all are winnow's."""
    assert len(COMMANDS) >= 17
    assert all(command.startswith("winnow ") for command in COMMANDS)


@pytest.mark.kafka
@pytest.mark.parametrize("command", [c for c in COMMANDS if "completion" not in c])
def test_a_command_runs(folder: Path, command: str):
    """As it stands there; a warning about this machine is no failure."""
    ran = subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout
    assert "Traceback" not in ran.stderr


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


@pytest.mark.parametrize("page", ["README.md", "docs/tools.md"])
def test_every_exit_code_is_in_the_table(page: str):
    """Those of the errors, and no others but success, a bug, a signal and output that nobody reads."""
    rows = re.findall(r"^\| (\d+) \| ", (ROOT / page).read_text("utf-8"), re.M)
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Fatal)]
    assert sorted(map(int, rows)) == sorted({0, 130, NOBODY_READS, *(kind.exit_code for kind in kinds)})
