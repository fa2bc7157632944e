"""What `winnow model import` reads of a topic, and what it says of it."""

import json
import sys

import orjson
import pytest

from tests.unit.model import checkpoints
from tests.unit.model.importing.making import int8_graph, optimum
from worker import cli
from worker.kafka import tools
from worker.model import bundle as bundles
from worker.model.importing import bounds
from worker.pipeline.messages import Record


def record(offset, value):
    return Record("calibration", 0, offset, None, value, (), 0)


@pytest.fixture
def topic(monkeypatch):
    """A topic of which `recent` gives these records, as many as are asked for."""
    held = []
    monkeypatch.setattr(tools, "recent", lambda _, topic, count: held[:count])
    return held


@pytest.fixture
def winnow(monkeypatch, capsys, tmp_path):
    """`winnow model import` of a small checkpoint: exit code, stdout and stderr."""
    folder = checkpoints.write(tmp_path / "source")

    def call(*arguments, source=folder):
        said = ["model", "import", source, "--out", tmp_path / "out", "--min-agreement", "0", *arguments]
        monkeypatch.setattr(sys, "argv", ["winnow", *map(str, said)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, " ".join(shown.err.split())

    return call


def messages(count):
    return [record(i, orjson.dumps({"text": text})) for i, text in enumerate(checkpoints.texts(count))]


@pytest.mark.parametrize(
    ("bad", "asked", "note"),
    [
        (0, 1300, "the topic calibration gave 50 texts of the 1300 that were asked for (--texts)"),
        (2, 1300, "gave 50 texts of the 1300 that were asked for (--texts); 2 more cannot be decoded"),
        (0, 50, None),
        (0, 20, None),
    ],
)
def test_fewer_texts_than_asked_for_are_noted(winnow, topic, bad, asked, note):
    topic += [*messages(50), *(record(100 + i, b"no json") for i in range(bad))]
    code, said, shown = winnow("--calibrate", "kafka:calibration", "--texts", asked, "--json")
    notes = json.loads(said)["notes"]
    assert code == 0, shown
    assert any(note in each for each in notes) if note else not any("asked for" in each for each in notes)
    assert note is None or note in shown


def test_fewer_texts_are_noted_where_the_gate_refuses_too(winnow, topic, monkeypatch):
    topic += messages(50)
    monkeypatch.setattr(bounds.Bounds, "passes", lambda *_: False)
    code, _, shown = winnow("--calibrate", "kafka:calibration")
    assert code == 3
    assert "note: the topic calibration gave 50 texts of the 1300" in shown


def test_topic_without_messages_is_refused_by_name(winnow, topic):
    code, _, shown = winnow("--calibrate", "kafka:calibration")
    assert code == 2
    assert "The topic calibration is empty, or its brokers were too slow" in shown
    assert "name a topic that has messages, or a file of texts" in shown


def test_topic_of_other_messages_is_refused_with_their_number(winnow, topic):
    topic += [record(0, b"no json"), record(1, None), record(2, b'{"body": "secret"}')]
    code, _, shown = winnow("--calibrate", "kafka:calibration")
    assert code == 2
    assert "The topic calibration has no message that can be decoded among its newest 3" in shown
    assert "set input.text_pointer and input.format as for the worker" in shown
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--calibrate", "kafka:"], 2, "--calibrate kafka: names no topic: give kafka:TOPIC."),
        (["--labels", "a,,b"], 2, "--labels must give each label a name of its own"),
        (["--labels", "a,a,b"], 2, "--labels must give each label a name of its own"),
        (["--labels", "a,b"], 2, "--labels gives 2 names, but the model classifies into 3 labels"),
        (["--rebuild"], 2, "--rebuild takes the weights of an ONNX graph"),
        (["--onnx-file", "a" * 300], 3, "cannot be used (File name too long)"),
    ],
)
def test_wrong_usage_is_a_sentence(winnow, tmp_path, arguments, code, message):
    found, _, shown = winnow(*arguments)
    assert found == code
    assert message in shown
    assert not (tmp_path / "out").exists()


def test_a_bundle_is_no_source(winnow, tmp_path):
    """Neither its folder nor its graph, which would be taken for a foreign one."""
    assert winnow()[0] == 0
    bundle = (tmp_path / "out").rename(tmp_path / "made")
    for source in (bundle, bundle / "model.onnx"):
        code, _, shown = winnow(source=source)
        assert code == 2
        assert f"{bundle} is a bundle already, with nothing to import: serve it with `--set model.bundle=" in shown
    assert not (tmp_path / "out").exists()


def test_labels_in_one_field_are_parted_for_a_model_of_several(winnow, tmp_path):
    rows = [f'"{text}",{("ham|spam", "eggs")[i % 2]}' for i, text in enumerate(checkpoints.texts(50))]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *rows]), "utf-8")
    said = ("--task", "multi-label", "--max-metric-drop", "1", "--calibrate", tmp_path / "texts.csv", "--json")
    code, document, shown = winnow(*said)
    assert code == 0, shown
    (found,) = bundles.load(tmp_path / "out").manifest.evaluation
    assert found.per_label["ham"] == found.per_label["spam"] > 0
    assert not any("labels" in note for note in json.loads(document)["notes"])


def test_one_label_is_one_label(winnow, tmp_path):
    one = checkpoints.write(tmp_path / "one", checkpoints.CONFIG | {"id2label": {"0": "spam"}})
    code, said, _ = winnow(source=one)
    assert (code, ", 1 label, " in said) == (0, True)


def test_the_place_is_looked_at_before_anything_is_fetched(winnow, tmp_path, monkeypatch):
    from worker.model.importing import sources

    monkeypatch.setattr(sources, "locate", lambda *_: pytest.fail("fetched"))
    (tmp_path / "out").write_text("mine")
    code, _, shown = winnow(source="someone/some-model")
    assert code == 3
    assert "out is a file: name a folder for the bundle" in shown


def test_gate_that_did_not_run_is_told(winnow, tmp_path):
    folder = optimum(tmp_path / "graph")
    checkpoints.save_graph(folder / "model_quantized.onnx", int8_graph())
    (folder / "model.onnx").write_bytes(b"junk")
    code, _, shown = winnow(source=folder)
    assert code == 0
    assert "note: model_quantized.onnx was not held against an FP32 graph, so the quality gate did not run" in shown
