"""`winnow evaluate` and `winnow threshold` as a user runs them, on the default bundle; no torch."""

import shutil
from dataclasses import replace

import orjson
import pytest
from typer.testing import CliRunner

from worker.app import DEFAULT_BUNDLE
from worker.cli import app
from worker.errors import ConfigError
from worker.model import bundle as bundles

TEXTS = (
    ("WINNER! Claim your free prize now, call 09061 555 000", "spam"),
    ("Free entry in a weekly draw, text WIN to 80086 now", "spam"),
    ("See you at lunch tomorrow", "ham"),
    ("can you send me the notes from tuesday", "ham"),
    ("ok, on my way", "spam"),
    ("URGENT! You have won a 1000 pound voucher, reply now", "spam"),
)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "test.jsonl"
    lines = [{"id": f"m{i}", "text": text, "label": label} for i, (text, label) in enumerate(TEXTS)]
    path.write_bytes(b"\n".join(orjson.dumps(line) for line in lines))
    return path


def run(*arguments):
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_figures_as_json_and_as_a_table(data):
    found = orjson.loads(run("evaluate", "default", data, "--json"))
    assert found["texts"] == 6
    assert found["accuracy"] == pytest.approx(5 / 6, abs=1e-4)
    assert found["labels"]["spam"]["support"] == 4
    shown = run("evaluate", "default", data)
    assert "0.8333" in shown
    assert "spam" in shown


def test_a_report_holds_its_pictures_and_no_text(data, tmp_path):
    run("evaluate", "default", data, "--report", tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text("utf-8")
    assert page.count("<svg") == 3
    assert "m4" in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("https://www.w3.org", "")
    assert not any(text[:12] in page for text, _ in TEXTS)


def test_two_bundles_are_compared(data, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(DEFAULT_BUNDLE, other)
    bundles.amend(bundles.load(other), {"thresholds": {"spam": 0.0}})
    found = orjson.loads(run("evaluate", "default", data, "--compare", other, "--json"))
    assert found["comparison"]["only_first"] == 2
    assert found["comparison"]["only_second"] == 1
    assert [each["id"] for each in found["comparison"]["disagreements"]] == ["m2", "m3", "m4"]
    assert "m2" in run("evaluate", "default", data, "--compare", other)


def test_a_threshold_is_chosen_and_stored(data, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(DEFAULT_BUNDLE, other)
    before = bundles.load(other)
    found = orjson.loads(run("threshold", other, data, "--precision", "1", "--write", "--json"))
    after = bundles.load(other)
    assert after.manifest.thresholds == {"spam": found["labels"]["spam"]["threshold"]}
    assert found["labels"]["spam"]["precision"] == 1.0
    assert after.digest != before.digest
    assert after.manifest.probes == before.manifest.probes
    shown = run("threshold", other, data, "--cost", "fp=5,fn=1")
    assert "threshold of spam" in shown
    assert "Not written" in shown


def test_figures_of_a_chosen_threshold_are_those_that_evaluate_gives(data, tmp_path):
    """Other thresholds are replaced, for they would compete; figures of the old ones are gone."""
    other = tmp_path / "other"
    shutil.copytree(DEFAULT_BUNDLE, other)
    bundles.amend(bundles.load(other), {"thresholds": {"ham": 0.9, "spam": 0.9}})
    assert bundles.load(other).manifest.evaluation
    arguments = ("threshold", other, data, "--label", "spam", "--recall", "1")
    assert "which compete: ham (0.9). --write takes them out." in " ".join(run(*arguments).split())
    found = orjson.loads(run(*arguments, "--write", "--json"))
    assert found["replaced"] == {"ham": 0.9}
    manifest = bundles.load(other).manifest
    assert manifest.thresholds == {"spam": found["labels"]["spam"]["threshold"]}
    assert manifest.evaluation == ()
    assert "none; winnow evaluate measures them" in run("model", "show", other)
    chosen, then = found["labels"]["spam"], orjson.loads(run("evaluate", other, data, "--json"))["labels"]["spam"]
    assert then["decided"] == chosen["given"]
    for name in ("precision", "recall", "f1"):
        assert then[name] == pytest.approx(chosen[name], abs=1e-4)


def test_what_cannot_be_compared_is_refused_before_the_work(data, tmp_path, monkeypatch):
    monkeypatch.setattr("worker.commands.evaluate.answered", None)
    load = bundles.load

    def of_values(path):
        found = load(path)
        return replace(found, manifest=found.manifest.model_copy(update={"task": "regression"}))

    monkeypatch.setattr(bundles, "load", of_values)
    with pytest.raises(ConfigError, match="a value is neither right nor wrong"):
        run("evaluate", "default", data, "--compare", "default")


@pytest.mark.parametrize("where", ["folder", "missing/r.html", "r" * 300])
def test_a_report_that_cannot_be_written_is_refused_before_the_work(data, tmp_path, monkeypatch, where):
    monkeypatch.setattr("worker.commands.evaluate.answered", None)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=r"^--report .* cannot be written"):
        run("evaluate", "default", data, "--report", tmp_path / where)


def test_a_disk_that_fills_up_meanwhile_is_a_sentence(data, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(ConfigError, match=r"cannot be written \(No space left on device\)"):
        run("evaluate", "default", data, "--report", tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["threshold", "default", "DATA"], "Give one of --precision, --recall and --cost"),
        (["threshold", "default", "DATA", "--precision", "0.5", "--recall", "0.5"], "Give one of"),
        (["threshold", "default", "DATA", "--cost", "fp=1"], "is not of the form fp=5,fn=1"),
        (["threshold", "default", "DATA", "--cost", "fp=0,fn=0"], "where no mistake costs anything"),
        (
            ["threshold", "default", "DATA", "--recall", "1", "--label", "ham", "--label", "spam"],
            "thresholds of several compete: give one --label",
        ),
        (
            ["threshold", "default", "DATA", "--recall", "1", "--label", "eggs"],
            "--label eggs: the bundle winnow-spam knows",
        ),
        (
            ["threshold", "default", "DATA", "--recall", "1", "--write"],
            "The default bundle belongs to the installation",
        ),
        (
            ["evaluate", "default", "DATA", "--label-field", "id"],
            "has labels that the bundle winnow-spam does not know",
        ),
        (["evaluate", "default", "nowhere.jsonl"], "nowhere.jsonl cannot be read"),
    ],
)
def test_mistakes_are_sentences(data, arguments, said):
    with pytest.raises(ConfigError, match=said):
        run(*(str(data) if each == "DATA" else each for each in arguments))


def test_a_missing_extra_says_how_to_get_it(data, monkeypatch):
    from worker.commands import extras

    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "sklearn" else object())
    with pytest.raises(ConfigError, match=r"needs the extra \[evaluate\], of which sklearn is missing: pip install"):
        run("evaluate", "default", data)
