"""`winnow model`: import, show and verify, as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.unit.model import checkpoints
from worker import cli
from worker.model.bundle import load
from worker.model.spam.making import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from worker.broker import MockCluster


@pytest.fixture
def winnow(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`winnow("model", "show")` gives exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["winnow", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return checkpoints.write(tmp_path / "source")


def labelled(path: Path) -> Path:
    """A file of calibration texts."""
    lines = [{"text": text, "label": ("ham", "spam", "eggs")[i % 3]} for i, text in enumerate(checkpoints.texts())]
    path.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    return path


def test_import_shows_what_int8_changed_and_the_bundle_verifies(winnow, folder: Path, tmp_path: Path):
    """The table goes to stderr, one line about the bundle to stdout."""
    texts, out = labelled(tmp_path / "texts.jsonl"), tmp_path / "bundle"
    bounds = ["--min-agreement", "0.5", "--max-metric-drop", "1"]
    code, said, shown = winnow("model", "import", folder, "--out", out, "--calibrate", texts, *bounds)
    assert code == 0, shown
    assert said.startswith(f"{out}: source (")
    assert "single-label, 3 labels" in said
    assert "INT8 against FP32 on 40 texts" in shown
    for row in ("same decision", "logits, largest", "accuracy", "F1 of eggs"):
        assert row in shown
    code, said, _ = winnow("model", "verify", out)
    assert code == 0
    assert "is whole, and this machine computes what it should" in said


def test_import_as_json(winnow, folder: Path, tmp_path: Path):
    """For programs: digest, task, quantization and notes."""
    out = tmp_path / "bundle"
    code, said, _ = winnow(
        "model",
        "import",
        folder,
        "--out",
        out,
        "--min-agreement",
        "0",
        "--json",
        "--name",
        "Mine!",
        "--labels",
        "x, y,z",
    )
    document = json.loads(said)
    assert code == 0
    assert (document["name"], document["task"], document["labels"]) == ("mine", "single-label", ["x", "y", "z"])
    assert "neutral sentences" in document["notes"][0]
    assert document["quantization"]["activations"] == "static uint8"
    assert len(document["digest"]) == 12


def test_gate_that_refuses_shows_its_table(winnow, folder: Path, tmp_path: Path, monkeypatch):
    """Exit code 3, what was measured, and nothing written."""
    from worker.model.importing import bounds

    monkeypatch.setattr(bounds.Bounds, "passes", lambda *_: False)
    code, said, shown = winnow("model", "import", folder, "--out", tmp_path / "bundle")
    assert (code, said) == (3, "")
    assert "same decision" in shown
    assert "nothing was written" in shown
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("package", ["onnx", "safetensors"])
def test_missing_extra_is_a_sentence(folder: Path, tmp_path: Path, package: str):
    """Whoever installed the worker alone is told what to install."""
    script = "import sys; sys.modules[sys.argv.pop(1)] = None; from worker.cli import main; main()"
    arguments = [package, "model", "import", str(folder), "--out", str(tmp_path / "bundle")]
    ran = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2
    assert ran.stderr == (
        f"winnow: `winnow model import` needs the package {package}: install it with "
        "`pip install 'winnow-worker[import]'`.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere/at/all", "--out", "x"], 2, "is neither a folder nor the name of a model"),
        (["SOURCE", "--out", "x", "--calibrate", "missing.jsonl"], 2, "missing.jsonl cannot be read"),
        (["SOURCE", "--out", "x", "--onnx-file", "a.onnx"], 3, "a.onnx is missing"),
        (["SOURCE", "--out", "x", "--min-agreement", "2"], 2, "min-agreement"),
        (["SOURCE"], 2, "--out"),
    ],
)
def test_wrong_usage_ends_with_a_sentence(winnow, folder: Path, tmp_path: Path, monkeypatch, arguments, code, message):
    """And never with a traceback."""
    monkeypatch.chdir(tmp_path)
    found, _, said = winnow("model", "import", *(str(folder) if a == "SOURCE" else a for a in arguments))
    assert found == code
    assert message in said
    assert "Traceback" not in said


def test_calibration_by_a_topic(winnow, folder: Path, tmp_path: Path, mock_cluster: MockCluster):
    """The newest messages, decoded as the worker would; what it would refuse is left out."""
    from worker.kafka.tools import Feeder

    mock_cluster.create_topics({"calibration": 2, "calibration-empty": 1})
    feeder = Feeder(mock_cluster.bootstrap_servers, "calibration")
    for text in checkpoints.texts(50):
        feeder.send(json.dumps({"body": text}).encode())
    feeder.send(b"no json")
    feeder.flush()
    settings = [f"kafka.bootstrap_servers={mock_cluster.bootstrap_servers}", "input.text_pointer=/body"]
    flags = [flag for setting in settings for flag in ("--set", setting)]
    out = tmp_path / "bundle"
    arguments = ["model", "import", folder, "--out", out, "--min-agreement", "0", "--json", *flags]
    code, said, shown = winnow(*arguments, "--calibrate", "kafka:calibration")
    assert code == 0, shown
    quantization = json.loads(said)["quantization"]
    assert "recent messages of the topic calibration" in quantization["calibration"]
    assert quantization["calibration_texts"] + quantization["against_fp32"]["texts"] == 50
    code, _, shown = winnow(*arguments, "--calibrate", "kafka:calibration-empty")
    assert code == 2
    assert "no message that can be decoded" in shown


def test_show_is_a_page_or_json(winnow, folder: Path, tmp_path: Path):
    """All that the manifest says, except for the probes' numbers; labels are never taken for markup."""
    out = tmp_path / "bundle"
    texts = labelled(tmp_path / "texts.jsonl")
    bounds = ["--min-agreement", "0", "--max-metric-drop", "1", "--labels", "ham,[/spam],eggs"]
    winnow("model", "import", folder, "--out", out, "--calibrate", texts, *bounds)
    code, said, _ = winnow("model", "show", out)
    assert code == 0
    for words in ("source", "softmax", "[/spam]", "same decision", "SHA-256", "64 tokens", "probes", "fitted silu"):
        assert words in said
    code, said, _ = winnow("model", "show", out, "--json")
    document = json.loads(said)
    assert document["labels"] == ["ham", "[/spam]", "eggs"]
    assert document["sha256"].startswith(document["digest"])
    assert "probes" not in document


def test_show_has_a_table_for_each_set_of_texts(winnow):
    """The default bundle, with its figures by channel."""
    code, said, _ = winnow("model", "show")
    assert code == 0
    manifest = load(DEFAULT).manifest
    accuracy, threshold = manifest.evaluation[0].quantized.accuracy, manifest.thresholds["spam"]
    for words in ("sms: 1000 texts", "calibration error", f"{accuracy:.4f}", f"spam {threshold:g}"):
        assert words in said
