"""The pages of `examples/`: their commands and settings are ones that there are."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from worker.cli import app
from worker.config import load

HERE = Path(__file__).parents[4] / "examples"
PAGES = {page.name: page.read_text("utf-8") for page in sorted(HERE.glob("*.md"))}


def blocks(kind):
    """(page, text) of all blocks of a kind."""
    pattern = re.compile(rf"^```{kind}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [(name, block) for name, page in PAGES.items() for block in pattern.findall(page)]


def commands():
    """Each with its page as the name of the case."""
    return [
        pytest.param(shlex.split(line), id=f"{page}: {' '.join(line.split()[:2])}")
        for page, block in blocks("sh")
        for line in block.replace("\\\n", " ").splitlines()
    ]


@pytest.mark.parametrize("words", commands())
def test_every_command_is_one_of_winnow(words):
    """With options that it has and values that these take."""
    program, *arguments = words[: words.index(">")] if ">" in words else words
    assert program == "winnow"
    group = get_command(app)
    with group.make_context("winnow", list(arguments)) as context:
        name, command, rest = group.resolve_command(context, arguments)
        with command.make_context(name, rest, parent=context):
            pass


@pytest.mark.parametrize(("page", "settings"), blocks("toml"))
def test_settings_are_valid(page, settings, tmp_path):
    (tmp_path / "winnow.toml").write_text(settings, "utf-8")
    load(tmp_path / "winnow.toml")


def test_every_page_is_listed_and_has_something_to_run():
    runnable = {name for name, _ in blocks("sh")}
    listed = set(re.findall(r"^\| \[[\w-]+\]\(([\w-]+\.md)\)", PAGES["README.md"], re.MULTILINE))
    assert runnable == listed == set(PAGES) - {"README.md"}


def runner():
    spec = importlib.util.spec_from_file_location("examples_run", HERE / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_task_has_a_row():
    texts = {"texts": {"train": 1000, "validation": 9, "test": 9}, "freeze_encoder": False, "seconds": 90}
    regression = {"task": "regression", "mean_absolute_error": 0.5}
    found = {**texts, "task": "regression", "same_decision": 1.0, "int8": regression, "fp32": regression}
    assert runner().row("stars", found) == (
        "| stars | regression | 1,000 / 9 / 9 | MAE 0.5000 | MAE 0.5000 | 1.0000 | – | 1.5 min |\n"
    )
