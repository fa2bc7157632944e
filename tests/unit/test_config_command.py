"""`winnow config`: what is said of a configuration."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from worker.commands import configuration
from worker.errors import ConfigError


def test_lint_says_what_it_has_not_looked_at(capsys: pytest.CaptureFixture[str]):
    """Valid is what the worker and the client take; brokers, login and bundle are named as not checked."""
    configuration.lint(None, [])
    said = capsys.readouterr().out
    assert said.startswith("The configuration is valid: messages -> messages.labelled as 'winnow'.")
    assert "Not checked: the brokers, the login and the model's bundle" in said


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
    assert "Not checked: the brokers, the login, the schema registry and the model's bundle" in capsys.readouterr().out


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
