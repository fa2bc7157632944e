"""`winnow bench`, as a user types it, with the default bundle and a budget of a second."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from worker import cli, logs
from worker.config import load

if TYPE_CHECKING:
    from collections.abc import Callable


ROOT = Path(__file__).parents[2]


@pytest.fixture
def winnow() -> Callable[..., tuple[int, str, str]]:
    """`winnow("bench")` gives exit code, stdout and stderr of a process of its own: it sets up the logs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WINNOW_")}

    def call(*arguments: object) -> tuple[int, str, str]:
        ran = subprocess.run(
            [sys.executable, "-m", "worker", *map(str, arguments)],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        return ran.returncode, ran.stdout, ran.stderr

    return call


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """`refused("--texts", path)` gives exit code and stderr, in this process: nothing gets as far as to log."""
    monkeypatch.setattr(logs, "configure", lambda settings: None)
    for name in [name for name in os.environ if name.startswith("WINNOW_")]:
        monkeypatch.delenv(name)

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["winnow", "bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return call


def test_it_measures_recommends_and_writes(winnow, tmp_path: Path):
    """The document holds the capacity by length and the settings; the files get them and keep what they had."""
    texts, file, values = tmp_path / "texts.txt", tmp_path / "winnow.toml", tmp_path / "values.yaml"
    texts.write_text("win a prize now\nlunch at noon?\n" * 20, "utf-8")
    file.write_text('[kafka]\ngroup_id = "spam" # ours\n', "utf-8")
    code, out, said = winnow(
        "bench", "--seconds", 1, "--texts", texts, "--json", "--write", file, "--write-keda", values
    )
    assert code == 0, said
    document = json.loads(out)
    assert {row["length"] for row in document["capacity"]} <= {16, 32, 64, 128, 256, 512}
    assert all(row["rate"] > 0 and row["p99"] > 0 and row["runs"] > 0 for row in document["capacity"])
    assert document["worker"]["rate"] > 0
    assert document["texts"]["demo"] is False
    settings = load(file)
    assert settings.kafka.group_id == "spam"
    assert settings.batching.max_tokens == document["settings"]["batching"]["max_tokens"]
    assert settings.batching.max_messages == document["settings"]["batching"]["max_messages"]
    assert settings.model.allocation == document["settings"]["model"]["allocation"]
    assert all(rate > 0 for way in ("patterns", "arena", "system") for rate in document["allocation"][way])
    assert f'lagThreshold: "{document["lag_threshold"]}"' in values.read_text("utf-8")
    assert "win a prize" not in out + said


def test_people_get_a_table_and_the_settings(winnow):
    """What was measured, and lines that can be copied into a settings file."""
    code, out, said = winnow("bench", "--seconds", 1)
    assert code == 0, said
    for expected in (
        "messages/s",
        "[batching]",
        "max_tokens = ",
        "[model]",
        "lanes = ",
        "allocation = ",
        "autoscaling.lagThreshold",
    ):
        assert expected in out
    assert [line for line in out.splitlines() if line.endswith(" ")] == []


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["--texts", "nowhere.jsonl"], 2, "nowhere.jsonl cannot be read"),
        (["--write", "nowhere/winnow.toml"], 2, "there is no folder nowhere"),
        (["--bundle", "nowhere"], 3, "nowhere is not a folder"),
        (["--set", "batching.max_tokns=3"], 2, "There is no setting 'batching.max_tokns'"),
    ],
)
def test_mistakes_are_sentences(refused, arguments: list[str], code: int, expected: str):
    """A file, a bundle or a setting that is wrong is named; there is no traceback."""
    ended, said = refused("--seconds", 1, *arguments)
    assert ended == code
    assert expected in said
    assert "Traceback" not in said


def test_files_that_cannot_be_written_are_refused_before_anything_is_measured(refused, tmp_path: Path):
    """Nobody waits for figures that then have no place; the files stay as they are."""
    inline, values = tmp_path / "winnow.toml", tmp_path / "values.yaml"
    inline.write_text("batching = { max_tokens = 512 }\n", "utf-8")
    values.write_text("replicas: 3\n", "utf-8")
    code, said = refused("--write", inline)
    assert (code, "cannot be changed safely" in said, "Measuring" in said) == (2, True, False)
    code, said = refused("--write-keda", values)
    assert (code, "was not written by winnow bench" in said, "Measuring" in said) == (2, True, False)
    assert inline.read_text("utf-8") == "batching = { max_tokens = 512 }\n"
    assert values.read_text("utf-8") == "replicas: 3\n"
