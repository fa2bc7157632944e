"""The workflow files: what they run exists, and nobody else can change what they run."""

from __future__ import annotations

import re
import tomllib

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


def test_what_is_installed_is_locked_by_hash(text: str):
    """Whoever takes a package over could else do what the job may."""
    for line in re.findall(r".*\bpip install\b.*", text):
        assert " --require-hashes -r requirements/" in line, line


def test_who_may_sign_runs_nobody_elses_code(text: str):
    """Jobs with the workflow's identity have pinned actions and no commands, so no package that is fetched is run."""
    for name, job in yaml.safe_load(text)["jobs"].items():
        if job["permissions"].get("id-token") == "write":
            assert all("uses" in step and "run" not in step for step in job["steps"]), name


def test_the_image_may_have_what_a_registry_needs():
    """By a lock file with hashes, which is the default one and what the extra adds; CI builds both."""
    text = (ROOT / "Dockerfile").read_text("utf-8")
    assert re.search(r"--require-hashes[\s\\]+-r \"requirements/\$\{REQUIREMENTS\}\.txt\"", text)
    (default,) = re.findall(r"^ARG REQUIREMENTS=(\w+)$", text, re.M)
    named = re.findall(
        r"--build-arg REQUIREMENTS=(\w+)", (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    )
    assert (default, named) == ("runtime", ["registry"])
    pins = {name: locked(name) for name in (default, *named)}
    assert pins["runtime"].items() <= pins["registry"].items()
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]["registry"]
    assert {re.split("[>=<]", one)[0] for one in extra} <= pins["registry"].keys()


def locked(name: str) -> dict[str, str]:
    """The versions of a lock file, by package."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements" / f"{name}.txt").read_text("utf-8"), re.M))


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
