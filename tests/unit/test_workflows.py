"""The workflow files: what they run exists, and nobody else can change what they run."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.documents import ROOT

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
HOOKS = ROOT / ".pre-commit-config.yaml"


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def text(request: pytest.FixtureRequest) -> str:
    return request.param.read_text("utf-8")


def test_actions_are_pinned_by_commit(text: str):
    """A tag can be moved, a commit cannot; the version stands behind it for people."""
    used = re.findall(r"uses: (.*)", text)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def test_nothing_is_permitted_but_by_name(text: str):
    """The workflow has no rights; each job names its own."""
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {}
    assert all(job["permissions"] for job in workflow["jobs"].values())
    assert all(job["timeout-minutes"] for job in workflow["jobs"].values())


def test_what_is_run_of_the_repository_exists(text: str):
    """Scripts, lock files, and commands of ./dev."""
    dev = (ROOT / "dev").read_text("utf-8")
    for path in re.findall(r"(?<![\w/])((?:requirements|worker|\.ci)/[\w./]+)", text):
        assert (ROOT / path).exists(), path
    for command in re.findall(r"\./dev (\w+)", text):
        assert f"\n{command})\n" in dev, command


def test_ci_runs_what_ci_runs():
    """One place says what that is."""
    assert "- run: .ci/run\n" in (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")


def test_hooks_are_those_of_the_checks():
    """Before a commit the same tools run as in `./dev check`, from its environment."""
    dev = (ROOT / "dev").read_text("utf-8")
    (repository,) = yaml.safe_load(HOOKS.read_text("utf-8"))["repos"]
    tools = {hook["entry"].split()[0].rpartition("/")[2] for hook in repository["hooks"]}
    assert tools == {"ruff", "mypy", "hadolint", "python", "pytest"}
    assert all(f'"$venv/bin/{tool}"' in dev for tool in tools - {"python"})
