"""`winnow train` with a tiny random encoder: tasks, freezing, early stopping, resuming; needs the extra `train`."""

import random
import shutil
import time

import numpy as np
import orjson
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [train]")
transformers = pytest.importorskip("transformers", reason="needs the extra [train]")

from typer.testing import CliRunner  # noqa: E402

from tests.unit.model.training.tiny import FAMILIES, WORDS, Watch, lines, options, written  # noqa: E402
from worker.cli import app  # noqa: E402
from worker.errors import BundleError, ConfigError  # noqa: E402
from worker.model.data import Fields, tokens_example  # noqa: E402
from worker.model.training import bases, frozen  # noqa: E402
from worker.model.training import fine_tuning as train  # noqa: E402
from worker.model.training.corpus import IGNORED, label_weights, load, targets  # noqa: E402
from worker.model.training.fitting import Stopped  # noqa: E402
from worker.model.training.measuring import best_aggregation  # noqa: E402
from worker.model.training.objectives import Sigmoid, Softmax, Tags  # noqa: E402
from worker.model.training.run import Options  # noqa: E402
from worker.model.training.run import train as train_all  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def test_a_training_goes_on_where_it_stopped(tmp_path, encoders):
    """Stopped within two epochs and resumed: bit for bit the weights of a training that was never stopped.

    The time is that of all sessions, each of which is told that it began 100 s ago.
    """
    (tmp_path / "whole").mkdir()
    whole, parts = tmp_path / "whole/out", tmp_path / "out"
    train_all(options(tmp_path, encoders, "single-label", out=whole, epochs=3), Watch())
    for steps in (20, 10):
        given = options(tmp_path, encoders, "single-label", epochs=3, resume=steps == 10)
        with pytest.raises(Stopped):
            train_all(given, Watch(steps), time.monotonic() - 100)
    train_all(options(tmp_path, encoders, "single-label", epochs=3, resume=True), Watch(), time.monotonic() - 100)
    assert (parts / "hf/model.safetensors").read_bytes() == (whole / "hf/model.safetensors").read_bytes()
    summary = orjson.loads((parts / "training.json").read_bytes())
    assert 300 < summary["seconds"] < 360
    assert set(summary["phases"]) == {"preparing", "training", "quantizing", "measuring"}
    assert sum(summary["phases"].values()) == pytest.approx(summary["seconds"], abs=0.1)


def test_more_patience_goes_on_with_a_training_that_had_ended(tmp_path, encoders):
    """Where it would be had it had that patience from the beginning; less of it ends at once."""
    rng = random.Random(0)
    rows = [{**row, "label": rng.choice("ab")} for row in lines("single-label", 240)]

    def trained(out, patience, **more):
        (tmp_path / out).mkdir(exist_ok=True)
        given = options(tmp_path, encoders, "single-label", out=tmp_path / out, epochs=8, patience=patience, **more)
        written(given.data, rows)
        watch = Watch()
        train_all(given, watch)
        return len(watch.entries), (tmp_path / out / "hf/model.safetensors").read_bytes()

    short, _ = trained("parts", 1)
    whole, weights = trained("whole", 3)
    assert short < whole
    assert trained("parts", 3, resume=True) == (whole - short, weights)
    assert trained("parts", 1, resume=True) == (0, weights)


def test_an_encoder_that_says_no_padding_is_trained(tmp_path, encoders):
    """`null`, as models that are never padded may say; positions are counted from the tokenizer's own padding token."""
    folder = tmp_path / "encoder"
    shutil.copytree(encoders["roberta"], folder)
    config = orjson.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_bytes(orjson.dumps(config | {"pad_token_id": None}))
    said = bases.load(encoders["roberta"], "single-label", ("a", "b"), 1)
    base = bases.load(str(folder), "single-label", ("a", "b"), 1)
    assert (base.pad_id, base.longest) == (said.pad_id, said.longest) == (1, 62)
    rows = [[2, 5, 6, 7, 3], [2, 3]]
    for one, other in zip(*(train.outputs(each.model, rows, train.padded) for each in (said, base)), strict=True):
        assert (one == other).all()
    given = options(tmp_path, encoders | {"null": str(folder)}, "single-label", base="null", epochs=1)
    assert train_all(given, Watch()).bundle.manifest.pad_id == 1


def test_only_the_same_training_goes_on(tmp_path, encoders):
    with pytest.raises(ConfigError, match="so there is nothing to go on from"):
        train_all(options(tmp_path, encoders, "single-label", resume=True), Watch())
    with pytest.raises(Stopped):
        train_all(options(tmp_path, encoders, "single-label"), Watch(2))
    with pytest.raises(ConfigError, match="is of a training with other texts or settings"):
        train_all(options(tmp_path, encoders, "single-label", resume=True, rate=1e-3), Watch())
    with pytest.raises(ConfigError, match="holds a training already: go on with --resume"):
        train_all(options(tmp_path, encoders, "single-label"), Watch())


def test_a_damaged_checkpoint_is_a_sentence(tmp_path, encoders):
    for content in (b"", b"no checkpoint", b"PK\x03\x04"):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out/checkpoint.pt").write_bytes(content)
        with pytest.raises(ConfigError, match=r"checkpoint\.pt is damaged or not Winnow's: start anew"):
            train_all(options(tmp_path, encoders, "single-label", resume=True), Watch())


def test_a_place_that_cannot_be_written_is_found_out_before_the_work(tmp_path, encoders, monkeypatch):
    monkeypatch.setattr(bases, "load", None)
    (tmp_path / "file").write_text("x", "utf-8")
    with pytest.raises(ConfigError, match=r"^--out .*file is a file: name a folder"):
        train_all(options(tmp_path, encoders, "single-label", out=tmp_path / "file"), Watch())
    (tmp_path / "out/bundle").mkdir(parents=True)
    (tmp_path / "out/bundle/notes.txt").write_text("x", "utf-8")
    with pytest.raises(BundleError, match=r"holds notes\.txt, which is no part of a bundle"):
        train_all(options(tmp_path, encoders, "single-label"), Watch())
    (tmp_path / "out/bundle/notes.txt").rename(tmp_path / "out/bundle/model.onnx")
    with pytest.raises(BundleError, match=r"holds model\.onnx, but no bundle\.json, so it is no bundle that may be"):
        train_all(options(tmp_path, encoders, "single-label"), Watch())
    for out, why in (("a" * 300, "File name too long"), ("file/below", "Not a directory")):
        with pytest.raises(BundleError, match=rf"\({why}\): name another folder"):
            train_all(options(tmp_path, encoders, "single-label", out=tmp_path / out), Watch())


def test_a_full_disk_is_a_sentence(tmp_path, encoders, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(ConfigError, match=r"checkpoint\.pt cannot be written \(.*No space left on device\): make room"):
        train_all(options(tmp_path, encoders, "single-label", epochs=1), Watch())


def test_training_ends_when_validation_stops_rising(tmp_path, encoders):
    """Labels by chance: nothing to learn, so it ends after the patience; the best epoch's weights stay."""
    rng = random.Random(0)
    rows = [{**row, "label": rng.choice("ab")} for row in lines("single-label", 240)]
    given = options(tmp_path, encoders, "single-label", epochs=40, patience=2)
    written(given.data, rows)
    watch = Watch()
    train_all(given, watch)
    values = [entry["macro F1"] for entry in watch.entries]
    assert len(values) < 40
    assert values.index(max(values)) == len(values) - 3


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("task", ["single-label", "token"])
def test_a_frozen_encoder_says_what_the_whole_forward_says(encoders, family, task):
    """The head on what was kept gives the logits of the whole model."""
    base = bases.load(encoders[family], task, ("O", "b", "c"), seed=1)
    rng = np.random.default_rng(0)
    rows = [[2, *rng.integers(4, len(WORDS), n).tolist(), 3] for n in (3, 9, 1, 14)]
    expected = train.outputs(base.model, rows, train.padded)
    kept = frozen.encoded(base.model, rows, train.padded, "float32", task == "token")
    with frozen.replaced(base.model):
        found = train.outputs(base.model, kept, frozen.collate)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other[: len(one)], abs=1e-5)
    again = train.outputs(base.model, rows, train.padded)
    assert all((one == other).all() for one, other in zip(again, expected, strict=True))


def test_a_head_alone_leaves_the_encoder_as_it_was(tmp_path, encoders):
    trained = train_all(options(tmp_path, encoders, "single-label", freeze_encoder=True, epochs=30, rate=1e-2), Watch())
    before = transformers.AutoModel.from_pretrained(encoders["distilbert"]).state_dict()
    after = transformers.AutoModel.from_pretrained(tmp_path / "out/hf").state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert trained.history[-1]["loss"] < trained.history[0]["loss"]


def test_the_command_ends_with_a_report(tmp_path, encoders):
    """Pictures in it, ids of mistakes, and no message text."""
    data = written(tmp_path / "train.jsonl", lines("single-label", 120))
    done = CliRunner().invoke(
        app,
        ["train", "--base", encoders["bert"], "--data", str(data), "--out", str(tmp_path / "out"), "--epochs", "1",
         "--precision", "float32", "--min-agreement", "0", "--max-metric-drop", "1"],
        catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "epoch 1" in done.output
    assert done.stderr.startswith("loading torch and transformers …\nreading the texts …\nloading the encoder …\n")
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert page.count("<svg") == 4
    assert "<td>m" in page
    assert not any(row["text"] in page for row in lines("single-label", 120))


@pytest.mark.parametrize(
    ("rows", "more", "said"),
    [
        (
            [{"text": "a", "label": "x y"}] * 9,
            {},
            r'd\.jsonl has the same label in all of its 9 examples \(in "label", from id 1 on\), so there is nothing',
        ),
        ([{"text": "a", "labels": []}] * 9, {}, r'no label in any of its 9 examples \(in "labels", from id 1 on\)'),
        ([{"text": "a"}], {}, "texts without labels"),
        (list(lines("single-label", 60)), {"task": "token"}, "--task token does not fit"),
        (list(lines("single-label", 60)), {"max_length": 9999}, "--max-length 9999 is more than the 64 tokens"),
        (list(lines("single-label", 60)), {"base": "/nowhere/at-all"}, "--base /nowhere/at-all cannot be read"),
    ],
)
def test_mistakes_are_sentences(tmp_path, encoders, rows, more, said):
    given = {"base": encoders["distilbert"], "precision": "float32"} | more
    with pytest.raises(ConfigError, match=said):
        train_all(Options(data=written(tmp_path / "d.jsonl", rows), out=tmp_path / "out", **given), Watch())


def test_pickles_are_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match="pickles are not read, because they are programs"):
        bases.load(str(tmp_path), "single-label", ("a", "b"), 1)


def test_several_labels_are_learnt_from_a_column_of_any_name(tmp_path):
    """In every file of a training; where the task is not given, a `|` in a label asks for it."""
    data = tmp_path / "ml.csv"
    data.write_text("title,tags\n" + "".join(f"t {i},{('cs.LG|stat.ML', 'cs.LG', '')[i % 3]}\n" for i in range(60)))
    fields = Fields("title", "tags")
    texts = load(data, None, data, task="multi-label", fields=fields)
    assert (texts.task, texts.labels) == ("multi-label", ("cs.LG", "stat.ML"))
    assert {each.labels for each in texts.test} == {("cs.LG", "stat.ML"), ("cs.LG",), ()}
    bars = written(tmp_path / "bars.jsonl", [{"text": f"t {i}", "label": "ab|c"[i % 2 :]} for i in range(60)])
    with pytest.raises(ConfigError, match=r"has `\|` in the labels of 60 of 60 examples: say whether it"):
        load(bars, None, None)
    assert load(bars, None, None, task="single-label").labels == ("ab|c", "b|c")
    assert load(bars, None, None, task="multi-label").labels == ("ab", "b", "c")


def test_int8_is_judged_on_validation_texts_alone(tmp_path, encoders):
    """However few they are; what is kept of it says which texts they were."""
    manifest = train_all(options(tmp_path, encoders, "single-label", epochs=2), Watch()).bundle.manifest
    count = orjson.loads((tmp_path / "out/training.json").read_bytes())["texts"]["validation"]
    assert manifest.quantization.against_fp32.texts == manifest.evaluation[0].texts == count == 24
    assert manifest.evaluation[0].note == "validation texts, which neither training nor calibration saw"
    assert manifest.reference.texts == count
    assert sum(manifest.reference.labels.values()) == pytest.approx(1)


def test_thresholds_of_labels_with_few_texts_are_left_and_told(tmp_path, encoders):
    rows = list(lines("multi-label", 300))
    for row in rows[::10]:
        row["labels"].append("rare")
    held = written(tmp_path / "held.jsonl", rows[:80])
    given = options(tmp_path, encoders, "multi-label", epochs=6, validation=held)
    written(given.data, rows[80:])
    trained = train_all(given, Watch())
    assert trained.bundle.manifest.thresholds["rare"] == 0.5
    note = "1 of 4 labels kept the threshold 0.5, because fewer than 20 validation texts have them"
    assert trained.answers.notes == (note,)
    assert orjson.loads((tmp_path / "out/training.json").read_bytes())["notes"] == [note]
    assert note in (tmp_path / "out/report.html").read_text("utf-8")


def test_the_aggregation_that_does_best_is_told_beside_the_default(tmp_path, encoders):
    watch = Watch()
    (note,) = train_all(options(tmp_path, encoders, "token", epochs=2), watch).answers.notes
    assert note.startswith("entities as served have an F1 of ")
    assert "on validation with entities.aggregation=" in note
    assert note in (tmp_path / "out/report.html").read_text("utf-8")
    assert watch.phases[:3] == ["reading the texts", "loading the encoder", "looking at lengths and speed"]


@pytest.mark.parametrize(
    ("f1", "said"),
    [
        ({"simple": 0.5, "first": 0.75, "max": 0.5}, "of 0.5000 on validation with entities.aggregation=simple, the "
         "default, and 0.7500 with first, which does best"),
        ({"first": 0.75, "simple": 0.75}, "=simple, the default, and no other aggregation does better"),
    ],
)  # fmt: skip
def test_the_default_stays_unless_another_one_is_better(f1, said):
    assert best_aggregation(f1).endswith(said)


def test_a_validation_file_with_other_labels_is_refused(tmp_path):
    data = written(tmp_path / "a.jsonl", lines("single-label", 30))
    other = written(tmp_path / "b.jsonl", [{"text": "a", "label": "eggs"}])
    with pytest.raises(ConfigError, match=r"b\.jsonl has labels that .*a\.jsonl does not know: 1, on 1 of 1"):
        load(data, other, None)


def test_numbers_are_names(tmp_path):
    """3 is the label `3`, in every file of a training, in the order of the numbers."""
    data = written(tmp_path / "a.jsonl", [{"text": f"t {i}", "label": (10, 3, "2")[i % 3]} for i in range(60)])
    texts = load(data, None, written(tmp_path / "b.jsonl", [{"text": "t", "label": 3}]))
    assert texts.labels == ("2", "3", "10")
    assert texts.test[0].labels == ("3",)
    with pytest.raises(ConfigError, match="does not know: 1, on 1 of 1"):
        load(data, None, written(tmp_path / "c.jsonl", [{"text": "t", "label": 0}]))


def test_pieces_of_a_word_continue_its_tag():
    example = tokens_example("1", ["Ulmer", "in"], ["B-x", "O"])
    pieces = [(0, 0), (0, 2), (2, 5), (6, 8), (0, 0)]
    assert targets("token", ("O", "B-x", "I-x"), [example], [pieces]) == [[IGNORED, 1, 2, 0, IGNORED]]
    other = example._replace(tags=("U-x", "O"))
    assert targets("token", ("O", "U-x"), [other], [pieces]) == [[IGNORED, 1, IGNORED, 0, IGNORED]]


def test_rare_labels_weigh_more(tmp_path):
    rows = [{"text": f"{label} {i}", "label": label} for label, n in (("a", 90), ("b", 10)) for i in range(n)]
    texts = load(written(tmp_path / "a.jsonl", rows), None, None)
    balanced, root = label_weights(texts, "balanced"), label_weights(texts, "root")
    assert balanced[1] / balanced[0] == pytest.approx(9, rel=0.05)
    assert root[1] / root[0] == pytest.approx(3, rel=0.05)
    assert label_weights(texts, "none") is None


def test_a_loss_in_parts_is_the_loss_of_the_whole():
    """And without smoothing and weights the mean that torch computes."""
    torch.manual_seed(0)
    scores = torch.randn(6, 3)
    for objective, targets_ in (
        (Softmax(0.1, [1.0, 2.0, 0.5]), [[1.0, 0, 0], [0, 1, 0]] * 3),
        (Sigmoid(0.1, [1.0, 2.0, 0.5]), [[1.0, 0, 1], [0, 1, 0]] * 3),
    ):
        whole = objective.loss(scores, targets_)
        parts = objective.loss(scores[:2], targets_[:2]) + objective.loss(scores[2:], targets_[2:])
        assert float(whole) == pytest.approx(float(parts), rel=1e-5)
    tags = Tags(0.0)
    found = tags.loss(scores[None], [[0, 1, IGNORED, 2]]) / tags.weight([[0, 1, IGNORED, 2]])
    expected = torch.nn.functional.cross_entropy(scores[[0, 1, 3]], torch.tensor([0, 1, 2]))
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_batches_hold_each_text_once_and_little_padding():
    lengths = [random.Random(i).randrange(3, 200) for i in range(1000)]
    found = train.batches(lengths, 32, random.Random(0))
    assert sorted(i for batch in found for i in batch) == list(range(1000))
    assert len(found) == 32
    padded = sum(max(lengths[i] for i in batch) * len(batch) for batch in found)
    assert padded < 1.15 * sum(lengths)
