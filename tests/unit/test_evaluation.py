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
from worker.model import random_bundle

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


IDS = "the texts' labels are numbers, which are taken for ids: 0 is ham, 1 is spam"


def relabelled(folder, labels, thresholds):
    """The default bundle with other names for its labels."""
    shutil.copytree(DEFAULT_BUNDLE, folder)
    loaded = bundles.load(folder)
    config = orjson.loads((folder / bundles.CONFIG).read_bytes()) | {"id2label": labels}
    files = {name: (folder / name).read_bytes() for name in loaded.manifest.files} | {
        bundles.CONFIG: orjson.dumps(config)
    }
    of_labels = {"files": True, "reference": True, "early_exit": {"thresholds"}}
    kept = loaded.manifest.model_dump(mode="json", exclude=of_labels)
    bundles.replace(folder, files, kept | {"thresholds": thresholds})
    return folder


def by_id(path, ids):
    rows = [{"text": text, "label": ids.index(label)} for text, label in TEXTS]
    path.write_bytes(b"\n".join(map(orjson.dumps, rows)))
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
    run("model", "reference", other, data, "--write")
    before = bundles.load(other).manifest
    assert before.evaluation
    assert before.reference
    arguments = ("threshold", other, data, "--label", "spam", "--recall", "1")
    assert "which compete: ham (0.9). --write takes them out." in " ".join(run(*arguments).split())
    found = orjson.loads(run(*arguments, "--write", "--json"))
    assert found["replaced"] == {"ham": 0.9}
    manifest = bundles.load(other).manifest
    assert manifest.thresholds == {"spam": found["labels"]["spam"]["threshold"]}
    assert manifest.evaluation == ()
    assert manifest.reference is None
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
            r"has labels that the bundle winnow-spam \(ham, spam\) does not know: 6, on 6 of 6 examples",
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


UNSURE = ("--set", "decision.min_score=0.9999", "--set", "decision.fallback_label=unclear")


def test_settings_decide_as_in_the_worker_and_are_told(data, tmp_path):
    """By `--set` or a file, in JSON, in the tables and in the report; without them nothing is said of settings."""
    found = orjson.loads(run("evaluate", "default", data, "--json", *UNSURE))
    assert found["settings"] == {"decision.min_score": 0.9999, "decision.fallback_label": "unclear"}
    assert found["coverage"] < 1
    (tmp_path / "winnow.toml").write_text('[decision]\nmin_score = 0.9999\nfallback_label = "unclear"\n', "utf-8")
    assert orjson.loads(run("evaluate", "default", data, "--json", "--config", tmp_path / "winnow.toml")) == found
    shown = " ".join(run("evaluate", "default", data, *UNSURE, "--report", tmp_path / "r.html").split())
    assert "As the worker decides with decision.min_score=0.9999, decision.fallback_label=unclear." in shown
    assert "coverage" in shown
    assert "decision.fallback_label=unclear" in (tmp_path / "r.html").read_text("utf-8")
    assert "unclear" in run("evaluate", "default", data, *UNSURE, "--compare", "default")
    plain = orjson.loads(run("evaluate", "default", data, "--json"))
    assert (plain["settings"], "coverage" in plain) == ({}, False)
    assert "As the worker decides" not in run("evaluate", "default", data)


def test_actions_are_counted(data):
    asked = ("--set", "decision.accept_score=0.9", "--set", "decision.unwanted_labels=spam")
    found = orjson.loads(run("evaluate", "default", data, "--json", *asked))
    assert sum(each["texts"] for each in found["actions"].values()) == 6
    assert "reject" in run("evaluate", "default", data, *asked)


def test_a_short_text_of_the_settings_is_all_that_is_read(data):
    found = orjson.loads(run("evaluate", "default", data, "--json", "--set", "input.max_characters=16"))
    assert found["truncated"] == 5
    assert "longer than what is read of them" in run("evaluate", "default", data, "--set", "input.max_characters=16")


def test_numbers_are_the_ids_of_labels(data, tmp_path):
    named = orjson.loads(run("evaluate", "default", data, "--json"))
    numbered = by_id(tmp_path / "ids.jsonl", ("ham", "spam"))
    found = orjson.loads(run("evaluate", "default", numbered, "--json"))
    assert found | {"notes": []} == named
    assert found["notes"] == [IDS]
    shown = run("threshold", "default", numbered, "--recall", "1")
    assert "threshold of spam" in shown
    assert f"note: {IDS}" in shown
    assert orjson.loads(run("threshold", "default", numbered, "--recall", "1", "--json"))["notes"] == [IDS]
    assert f"note: {IDS}" in run("evaluate", "default", numbered, "--report", tmp_path / "r.html")
    assert "Note: the texts&#x27; labels are numbers" in (tmp_path / "r.html").read_text("utf-8")
    assert "note:" not in run("evaluate", "default", data)


def test_ids_are_the_same_truth_for_both_bundles(tmp_path):
    """Those of the first one, even where the second has its labels in another order."""
    other = relabelled(tmp_path / "other", {"0": "spam", "1": "ham"}, {})
    texts = by_id(tmp_path / "ids.jsonl", ("ham", "spam"))
    found = orjson.loads(run("evaluate", "default", texts, "--compare", other, "--json"))
    assert found["first"]["accuracy"] == pytest.approx(5 / 6, abs=1e-4)
    assert found["second"]["accuracy"] == pytest.approx(1 / 6, abs=1e-4)
    assert found["first"]["labels"]["spam"]["support"] == found["second"]["labels"]["spam"]["support"] == 4
    assert found["first"]["notes"] == found["second"]["notes"] == [IDS]
    assert f"note: {IDS}" in run("evaluate", "default", texts, "--compare", other)


def test_ids_of_bundles_with_other_labels_are_refused_before_the_work(tmp_path, monkeypatch):
    other = relabelled(tmp_path / "other", {"0": "ham", "1": "junk"}, {})
    monkeypatch.setattr("worker.commands.evaluate.answered", None)
    texts = by_id(tmp_path / "ids.jsonl", ("ham", "spam"))
    with pytest.raises(ConfigError, match="know different labels: write the names instead"):
        run("evaluate", "default", texts, "--compare", other)


def test_numbers_within_the_names_of_labels_are_refused(tmp_path):
    other = relabelled(tmp_path / "other", {"0": "1 star", "1": "2 stars"}, {})
    texts = by_id(tmp_path / "ids.jsonl", ("ham", "spam"))
    for asked in (("evaluate", other, texts), ("threshold", other, texts, "--recall", "1")):
        with pytest.raises(
            ConfigError, match=r"which may be ids or .* the bundle winnow-spam knows \(1 star, 2 stars\)"
        ):
            run(*asked)


def test_figures_of_other_thresholds_are_not_kept(data, tmp_path):
    """The agreement with FP32 is of decisions, too; thresholds that stay what they are leave everything as it is."""
    other = tmp_path / "other"
    shutil.copytree(DEFAULT_BUNDLE, other)
    assert "against FP32" in run("model", "show", other)
    run("threshold", other, data, "--precision", "1", "--write")
    after = bundles.load(other)
    assert after.manifest.quantization.against_fp32 is None
    assert after.manifest.quantization.calibration_texts
    assert "against FP32" not in run("model", "show", other)
    measured = [{"channel": "x", "texts": 1, "per_label": {}, "quantized": {}}]
    bundles.amend(after, {"evaluation": measured})
    run("threshold", other, data, "--precision", "1", "--write")
    assert bundles.load(other).manifest.evaluation


def test_how_often_an_early_exit_changes_labels_is_unknown_with_other_thresholds(data, tmp_path, monkeypatch):
    """When a text leaves stays as it is; what that does to labels was measured with the thresholds of then."""
    monkeypatch.setitem(random_bundle.SIZES, "tiny", {"dim": 32, "hidden_dim": 64, "n_layers": 3, "n_heads": 2})
    made = random_bundle.write(tmp_path / "staged", "tiny", exit_layer=2)
    assert "had the same label" in " ".join(run("model", "show", made.path).split())
    run("threshold", made.path, data, "--label", made.labels[1], "--recall", "1", "--write")
    after = bundles.load(made.path).manifest
    assert after.thresholds
    assert made.manifest.early_exit is not None
    unmeasured = {"agreement": None, "left": None, "texts": 0}
    assert after.early_exit == made.manifest.early_exit.model_copy(update=unmeasured)
    assert "was not measured" in " ".join(run("model", "show", made.path).split())


def test_a_threshold_is_one_for_what_the_worker_reads(data):
    """Settings that say how much of a text is read count; those that decide on its scores have no say in a curve."""
    asked = ("threshold", "default", data, "--recall", "1")
    whole = orjson.loads(run(*asked, "--json"))
    assert whole["settings"] == {}
    assert orjson.loads(run(*asked, "--json", *UNSURE)) == whole
    cut = orjson.loads(run(*asked, "--json", "--set", "input.max_characters=16"))
    assert cut["settings"] == {"input.max_characters": 16}
    assert cut["labels"]["spam"]["curve"] != whole["labels"]["spam"]["curve"]
    assert "with input.max_characters=16." in run(*asked, "--set", "input.max_characters=16")


def test_labels_are_no_markup(data, tmp_path):
    """A label that looks like an instruction of the terminal's tables is shown as it is."""
    other = relabelled(tmp_path / "other", {"0": "ham", "1": "[/spam]"}, {"[/spam]": 0.5})
    rows = by_id(tmp_path / "rows.jsonl", ("ham", "spam"))
    assert "[/spam]" in run("evaluate", other, rows)
    assert "[/spam]" in run("threshold", other, rows, "--recall", "1")


def test_several_labels_are_parted_in_a_column_of_any_name(tmp_path, monkeypatch):
    """Because the bundle gives several; and what is not there is named with what is."""
    monkeypatch.setitem(random_bundle.SIZES, "tiny", {"dim": 32, "hidden_dim": 64, "n_layers": 1, "n_heads": 2})
    made = random_bundle.write(tmp_path / "several", "tiny")
    config = orjson.loads((made.path / bundles.CONFIG).read_bytes()) | {"id2label": {"0": "ham", "1": "spam"}}
    fields = made.manifest.model_dump(mode="json", exclude={"files"})
    files = {name: (made.path / name).read_bytes() for name in made.manifest.files}
    files[bundles.CONFIG] = orjson.dumps(config)
    bundle = bundles.replace(made.path, files, fields | {"task": "multi-label", "activation": "sigmoid"}).path
    table = tmp_path / "ml.csv"
    rows = ("a prize to claim,ham|spam", "see you at lunch,ham", "free prize now,spam", "ok,")
    table.write_text("\n".join(["title,tags", *rows]), "utf-8")
    named = ("--text-field", "title", "--label-field", "tags")
    found = orjson.loads(run("evaluate", bundle, table, "--json", *named))
    assert {label: each["support"] for label, each in found["labels"].items()} == {"ham": 2, "spam": 2}
    chosen = orjson.loads(run("threshold", bundle, table, "--recall", "1", "--json", *named))
    assert set(chosen["labels"]) == {"ham", "spam"}
    with pytest.raises(ConfigError, match=r'ml\.csv has no column "labels" \(it has title, tags\)'):
        run("evaluate", bundle, table, *named[:3], "labels")
