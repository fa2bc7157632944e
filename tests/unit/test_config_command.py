"""`winnow config`: what is said of a configuration."""

from __future__ import annotations

import re
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from worker.commands import configuration
from worker.config import load
from worker.errors import BundleError, ConfigError
from worker.forms import topics
from worker.opening import DEFAULT_BUNDLE, open_model

if TYPE_CHECKING:
    from pathlib import Path


def test_lint_says_what_it_has_not_looked_at(capsys: pytest.CaptureFixture[str]):
    """Valid is what worker, client and bundle take; brokers, login, digests and graph are named as not checked."""
    configuration.lint(None, [])
    first, second = capsys.readouterr().out.splitlines()
    assert (
        first == "The configuration is valid: messages -> messages.labelled as 'winnow', with the bundle winnow-spam."
    )
    assert second.startswith("Not checked: the brokers, the login and the bundle's digests and graph;")


def test_lint_goes_without_a_bundle_that_is_elsewhere(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """A configuration is often checked where the bundle is not: that is said, and nothing is refused."""
    configuration.lint(None, [f"model.bundle={tmp_path / 'away'}", "routing.topics.anything=elsewhere"])
    said = capsys.readouterr().out
    assert said.startswith("The configuration is valid: messages -> messages.labelled, elsewhere as 'winnow'.")
    assert f"and the bundle, because there is no folder {tmp_path / 'away'} here;" in said


@pytest.mark.parametrize(
    ("assignments", "said"),
    [
        (["routing.topics.egg=x"], "routing.topics has 'egg', which is no label of the bundle winnow-spam"),
        (["decision.accept_score=2"], "decision.accept_score is 2.0, and scores of the bundle winnow-spam"),
        (
            ["decision.accept_score=0.9", "decision.unwanted_labels=egg"],
            "decision.unwanted_labels has 'egg', which the bundle winnow-spam does not",
        ),
        (["model.max_length=5000"], "model.max_length = 5000 is more than the 256 tokens"),
        (["model.long_texts=windows", "model.window_stride=200"], "model.window_stride = 200 is more than half"),
        (["entities.min_score=0.5"], "The settings under entities have no meaning for the bundle winnow-spam"),
    ],
)
def test_lint_names_what_the_bundle_cannot_do(capsys: pytest.CaptureFixture[str], assignments: list[str], said: str):
    """In the sentence with which a worker would refuse to start."""
    with pytest.raises(ConfigError, match=re.escape(said)) as linted:
        configuration.lint(None, assignments)
    assert capsys.readouterr().out == ""
    settings = load(None, assignments)
    with pytest.raises(ConfigError) as refused:
        topics(settings, open_model(settings.model, settings.entities, settings.decision))
    assert str(linted.value) == str(refused.value)


def test_lint_reads_the_manifest_and_no_graph(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """A graph that is another one than the manifest says is not noticed; a manifest that says nothing is."""
    folder = tmp_path / "bundle"
    shutil.copytree(DEFAULT_BUNDLE, folder)
    for graph in folder.glob("*.onnx"):
        graph.write_bytes(b"")
    configuration.lint(None, [f"model.bundle={folder}"])
    assert "with the bundle winnow-spam" in capsys.readouterr().out
    (folder / "bundle.json").write_text("{}", "utf-8")
    with pytest.raises(BundleError, match=r"bundle\.json cannot be used"):
        configuration.lint(None, [f"model.bundle={folder}"])


def test_lint_names_every_topic_of_results(capsys: pytest.CaptureFixture[str]):
    """Those of routes, too."""
    configuration.lint(None, ["routing.topics.spam=quarantine"])
    assert "messages -> messages.labelled, quarantine as 'winnow'" in capsys.readouterr().out


def test_lint_makes_the_registrys_client_where_there_is_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Wrong properties are refused, secrets fetched from where they stand; nobody is asked, which is said."""
    made = []

    def registry(url: str, properties: dict[str, object], **_: object) -> SimpleNamespace:
        made.append((url, properties))
        return SimpleNamespace(close=lambda: made.append("closed"))

    monkeypatch.setattr("worker.forms.Registry", registry)
    monkeypatch.setenv("LOGIN", "me:hunter2")
    login = "registry.properties.basic.auth.user.info=${env:LOGIN}"
    configuration.lint(None, [])
    assert made == []
    configuration.lint(None, ["registry.url=http://r", "output.format=avro", login])
    assert made == [("http://r", {"basic.auth.user.info": "me:hunter2"}), "closed"]
    assert (
        "Not checked: the brokers, the login, the schema registry and the bundle's digests" in capsys.readouterr().out
    )


def test_lint_refuses_what_the_client_refuses(capsys: pytest.CaptureFixture[str]):
    """And does not call it valid."""
    with pytest.raises(ConfigError, match="No such configuration property"):
        configuration.lint(None, ["kafka.properties.nope=1"])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("delivery", "holds"), [("at-least-once", 1000), ("exactly-once", 100)])
def test_show_tells_the_commit_interval_that_holds(capsys: pytest.CaptureFixture[str], delivery: str, holds: int):
    """It is another one exactly once, so that it is not set says too little."""
    configuration.show(None, [f"kafka.delivery={delivery}"], as_json=False)
    line = f"# commit_interval_ms is not set, {holds} holds (WINNOW_KAFKA__COMMIT_INTERVAL_MS)"
    assert line in capsys.readouterr().out.splitlines()
