"""What is refused before anything is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from worker.demo import command
from worker.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("content", "said"), [(None, "cannot be read"), ("\n \n", "holds no messages")])
def test_a_file_without_messages_is_refused_before_a_broker_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, said: str
):
    """It would be said after seconds of starting else."""
    monkeypatch.setattr(command, "open_broker", lambda *_, **__: pytest.fail("started"))
    monkeypatch.setattr(command.Stop, "install", lambda _: None)
    path = tmp_path / "texts.txt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=said):
        command.demo(command.Options(None, path, 0, "auto", "default", 0, True, True, None))


def test_a_broker_that_takes_its_time_is_told_with_json_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The first start fetches Kafka: on stderr, where no program reads JSON."""

    def slow(_: str, say) -> None:
        say("Fetching Apache Kafka.")
        raise ConfigError("enough")

    monkeypatch.setattr(command, "open_broker", slow)
    monkeypatch.setattr(command.Stop, "install", lambda _: None)
    with pytest.raises(ConfigError, match="enough"):
        command.demo(command.Options(1, None, 0, "auto", "default", 0, True, True, None))
    assert capsys.readouterr() == ("", "Fetching Apache Kafka.\n")
