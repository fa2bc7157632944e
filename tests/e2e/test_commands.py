"""The commands that need no broker of the user's, as a user types them."""

from __future__ import annotations

import orjson
import pytest
from jsonschema import Draft202012Validator

import worker
from tests.e2e.process import winnow
from worker.config import reference

SPAM = "WINNER!! Claim your free prize of 1000 pounds now, text WIN to 80011, only 150p a message"
HAM = "Are we still meeting for lunch tomorrow? I can pick you up at noon."


def test_version():
    """`--version` names the version."""
    assert winnow("--version").stdout.decode() == f"winnow {worker.__version__}\n"


def test_classify_arguments():
    """Texts given as arguments come out with their labels, in order."""
    lines = winnow("classify", SPAM, HAM).stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == ["spam", "ham"]


def test_classify_stdin_as_json():
    """JSONL in, JSONL out: ids, scores, model; plain lines are texts."""
    lines = orjson.dumps({"id": "a", "text": SPAM}) + b"\n" + HAM.encode() + b"\n"
    first, second = (orjson.loads(line) for line in winnow("classify", "--json", stdin=lines).stdout.splitlines())
    assert (first["id"], first["label"]) == ("a", "spam")
    assert (second["id"], second["label"]) == ("1", "ham")
    assert first["scores"]["spam"] == first["score"]
    assert first["model"]["digest"]


def test_classify_file(tmp_path):
    """A file's lines are classified, in order."""
    path = tmp_path / "texts.txt"
    path.write_text(f"{HAM}\n\n{SPAM}\n")
    labels = [orjson.loads(line)["label"] for line in winnow("classify", "--json", "-f", str(path)).stdout.splitlines()]
    assert labels == ["ham", "spam"]


def test_classify_bad_line():
    """A line that cannot be classified says why in its place; the others come through; exit code 2."""
    done = winnow("classify", "--json", stdin=b'{"nope": 1}\n' + HAM.encode())
    first, second = (orjson.loads(line) for line in done.stdout.splitlines())
    assert first["error"] == "missing-field"
    assert second["label"] == "ham"
    assert done.returncode == 2


def test_classify_bad_line_for_people():
    """The line that could not be classified is told from the others."""
    first, second = winnow("classify", stdin=HAM.encode() + b'\n{"nope": 1}\n').stdout.decode().splitlines()
    assert first.split()[0] == "ham"
    assert second.split()[:3] == ["error", "id", "1:"]


def test_classify_a_name_of_a_file(tmp_path):
    """It is a text, as it was given; whoever meant the file is told how to say so."""
    path = tmp_path / "texts.txt"
    path.write_text(SPAM)
    done = winnow("classify", "--json", str(path), "no such file", "long" * 5000)
    assert len(done.stdout.splitlines()) == 3
    assert done.stderr.decode().splitlines() == [
        f"{path} is classified as a text; to read the file of that name, write `-f {path}`."
    ]


def test_config_schema_accepts_what_config_show_prints():
    """The schema is JSON Schema, and describes the values in force."""
    schema = orjson.loads(winnow("config", "schema").stdout)
    values = orjson.loads(winnow("config", "show", "--json").stdout)
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(values)
    assert {f"{s}.{n}" for s, section in values.items() for n in section} == {name for name, _ in reference()}


def test_config_show_masks_secrets():
    """Passwords are not shown."""
    done = winnow("config", "show", "--set", "kafka.properties.sasl.password=hunter2")
    assert b"hunter2" not in done.stdout
    assert b"sasl.password" in done.stdout


def test_config_show_is_toml(tmp_path):
    """What `config show` prints is a configuration file again."""
    path = tmp_path / "winnow.toml"
    path.write_bytes(winnow("config", "show").stdout)
    assert winnow("config", "lint", "--config", str(path)).returncode == 0


def test_model_show_and_verify():
    """The default bundle is whole and computes here what it should."""
    shown = orjson.loads(winnow("model", "show", "--json").stdout)
    assert shown["digest"]
    assert set(shown["labels"]) == {"ham", "spam"}
    assert winnow("model", "verify").returncode == 0


@pytest.mark.kafka
def test_demo(kafka):
    """The demo runs to its end on a real Kafka and accounts for every message."""
    done = winnow("demo", "--messages", "120", "--plain", "--json", "--rate", "0", "--broker", "apache", timeout=110)
    assert done.returncode == 0, done.stderr.decode()
    summary = orjson.loads(done.stdout)
    assert summary["consumed"] == 120
    assert summary["results"] + summary["dead_letters"] == 120
    assert summary["p99_ms"] >= summary["p50_ms"] > 0


def test_demo_on_the_in_process_cluster(tmp_path):
    """Without Java the demo runs on librdkafka's cluster, says so, and streams the user's own texts."""
    path = tmp_path / "mine.txt"
    path.write_text(f"{HAM}\n{SPAM}\n")
    done = winnow("demo", "--input", str(path), "--plain", "--broker", "mock", timeout=110)
    assert done.returncode == 0, done.stderr.decode()
    assert "librdkafka" in done.stderr.decode()
    assert "1 ham, 1 spam" in done.stderr.decode()
