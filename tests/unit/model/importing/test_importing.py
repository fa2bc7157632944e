"""From somebody's folder to a bundle that the worker serves, or to a sentence that says why not."""

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import orjson
import pytest
from onnx import TensorProto
from safetensors.numpy import save_file

from tests.unit.model import checkpoints
from tests.unit.model.importing.making import LENIENT, given, imported
from worker.app import open_model
from worker.config import ModelSettings
from worker.errors import BundleError, ConfigError
from worker.model import bundle
from worker.model.data import Example
from worker.model.evaluation import answers
from worker.model.graph.network import from_checkpoint
from worker.model.graph.observe import observe
from worker.model.graph.quantize import REDUCED_WEIGHT_LIMIT, WEIGHT_LIMIT
from worker.model.importing import bounds, checkpoint, describing, quantizing
from worker.model.importing.fallback import Judge
from worker.model.importing.importer import ImportOptions, import_folder
from worker.model.importing.probing import neutral_texts, probe_texts
from worker.model.manifest import Source


def test_checkpoint_becomes_a_bundle_that_the_worker_opens(tmp_path):
    """The one check that everything fits: digests, probes, labels, lengths."""
    folder = checkpoints.write(tmp_path / "My Model")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    result = imported(folder, tmp_path / "out")
    made = result.bundle
    manifest = made.manifest
    assert (manifest.name, manifest.task, manifest.activation) == ("my-model", "single-label", "softmax")
    assert made.labels == ("ham", "spam", "eggs")
    assert (manifest.max_length, manifest.pad_id, manifest.licence) == (64, 0, "mit")
    assert manifest.quantization.activations == "static uint8"
    assert manifest.quantization.calibration_texts == 40
    assert manifest.quantization.against_fp32.texts == 40
    assert result.comparison.agreement == manifest.quantization.against_fp32
    assert result.notes == ()
    assert open_model(ModelSettings(bundle=str(made.path))).labels == made.labels
    written = orjson.loads((made.path / "config.json").read_bytes())
    assert written["problem_type"] == "single_label_classification"
    assert "_name_or_path" not in written


def test_the_function_that_training_calls(tmp_path):
    source = Source(name="an encoder", licence="MIT")
    options = ImportOptions(
        name="mine",
        calibration=given(),
        licence="Apache-2.0",
        base_model=source,
        data=(source,),
        thresholds={"spam": 0.7},
        temperature=1.5,
        max_length=32,
        **LENIENT,
    )
    made = import_folder(checkpoints.write(tmp_path / "m"), tmp_path / "out", options).manifest
    assert (made.name, made.licence, made.temperature, made.max_length) == ("mine", "Apache-2.0", 1.5, 32)
    assert (made.base_model, made.data, made.thresholds) == (source, (source,), {"spam": 0.7})


def test_probes_are_winnows_own_texts(tmp_path):
    """A bundle carries nothing of the texts that it was calibrated with."""
    made = imported(checkpoints.write(tmp_path / "m"), tmp_path / "out").bundle
    assert [probe.text for probe in made.manifest.probes] == probe_texts()
    held = (made.path / "bundle.json").read_text("utf-8")
    assert not any(example.text in held for example in given())


def test_without_texts_the_built_in_ones_serve_with_a_note(tmp_path):
    result = imported(checkpoints.write(tmp_path / "m"), tmp_path / "out", calibration=())
    assert "neutral sentences" in result.notes[0]
    assert "neutral sentences" in result.bundle.manifest.quantization.calibration
    assert 150 <= len(neutral_texts()) == len(set(neutral_texts()))


def test_labelled_texts_give_figures_by_label(tmp_path):
    labelled = [
        Example(str(i), text, (("ham", "spam", "eggs")[i % 3],), form="single-label")
        for i, text in enumerate(checkpoints.texts(90))
    ]
    result = imported(checkpoints.write(tmp_path / "m"), tmp_path / "out", calibration=labelled, max_metric_drop=1.0)
    (found,) = result.bundle.manifest.evaluation
    assert found.texts == 45
    assert sum(found.per_label.values()) == 45
    assert set(found.quantized.f1) == {"ham", "spam", "eggs"}
    assert found.fp32.accuracy is not None
    assert found.note == "texts that calibration did not see"


@pytest.mark.parametrize("labels", [("physics",), ("0", "ham")])
def test_labels_of_another_task_are_noted_and_left_out(tmp_path, labels):
    """The texts' own labels are in no message."""
    labelled = [Example(str(i), "the train", (label,), form="single-label") for i, label in enumerate(labels)]
    result = imported(checkpoints.write(tmp_path / "m"), tmp_path / "out", calibration=labelled, min_agreement=0.0)
    assert result.bundle.manifest.evaluation == ()
    assert "the texts' labels are not the model's (single-label: ham, spam, eggs)" in result.notes[0]
    assert "physics" not in result.notes[0]


@pytest.mark.parametrize("names", [None, {"0": "1", "1": "2", "2": "0"}])
def test_ids_count_as_labels_where_evaluate_takes_them_for_labels(tmp_path, names):
    """Unless they are the names of labels, whatever part of them the gate sees."""
    config = {key: value for key, value in checkpoints.CONFIG.items() if key != "id2label"}
    config |= {"id2label": names} if names else {"num_labels": 3}
    folder = checkpoints.write(tmp_path / "m", config, checkpoints.tensors())
    texts = checkpoints.texts(90)
    labelled = [Example(str(i), text, (str(i % 3),), form="single-label") for i, text in enumerate(texts)]
    result = imported(folder, tmp_path / "out", calibration=labelled, max_metric_drop=1.0)
    (found,) = result.bundle.manifest.evaluation
    named, note = answers.by_name("single-label", result.bundle.labels, labelled, "the file", "the model")
    assert (note in result.notes) is (names is None)
    assert any("taken for ids: 0 is LABEL_0, 1 is LABEL_1" in each for each in result.notes) is (names is None)
    answers.check("single-label", result.bundle.labels, named, "the file", "the model")
    assert set(found.per_label) == {label for each in named for label in each.labels}
    assert sum(found.per_label.values()) == 45


def test_numbers_within_the_names_of_labels_are_refused(tmp_path):
    folder = checkpoints.write(
        tmp_path / "m", checkpoints.CONFIG | {"id2label": {"0": "1 star", "1": "2 stars", "2": "3 stars"}}
    )
    labelled = [Example("1", "the train", ("1",), form="single-label")]
    with pytest.raises(ConfigError, match=r"^--calibrate has numbers for labels, which may be ids .*write the names"):
        imported(folder, tmp_path / "out", calibration=labelled)


@pytest.mark.parametrize(
    ("change", "label"),
    [
        ({}, "ham"),
        ({"problem_type": "multi_label_classification"}, "ham"),
        ({"problem_type": "regression", "id2label": {"0": "stars"}}, "3.5"),
        ({"problem_type": "regression", "id2label": {"0": "stars"}}, None),
    ],
)
def test_a_single_text_is_enough(tmp_path, change, label):
    """No warning, no division by a spread of nothing."""
    folder = checkpoints.write(tmp_path / "m", checkpoints.CONFIG | change)
    form = "plain" if label is None else "single-label"
    text = Example("1", "the train is late", (label,) if label else (), form=form)
    result = imported(folder, tmp_path / "out", calibration=[text], min_agreement=0.0, max_metric_drop=1.0)
    assert result.comparison.agreement.texts == 1
    assert "INT8 is compared on the same texts that calibration saw: give at least 40" in result.notes[-1]
    assert np.isfinite([result.comparison.drop, result.comparison.agreement.mean_logit_difference]).all()
    assert any("all the same one" in note for note in result.notes) is (label == "3.5")


def test_a_single_word_with_a_tag_is_enough(tmp_path):
    text = Example("1", "late", (), ("B-PER",), ((0, 4),), "token")
    folder = checkpoints.write(tmp_path / "m", checkpoints.TOKEN_CONFIG)
    result = imported(folder, tmp_path / "out", calibration=[text], min_agreement=0.0, max_metric_drop=1.0)
    assert result.comparison.decisions >= 1


def test_token_classifier(tmp_path):
    words = ("the", "train", "late")
    tagged = [
        Example(str(i), "the train late", (), ("O", "B-PER", "I-PER"), ((0, 3), (4, 9), (10, 14)), "token")
        for i in range(8)
    ]
    assert tagged[0].tokens == words
    folder = checkpoints.write(tmp_path / "m", checkpoints.TOKEN_CONFIG)
    result = imported(folder, tmp_path / "out", calibration=tagged, max_metric_drop=1.0)
    manifest = result.bundle.manifest
    assert (manifest.task, manifest.activation) == ("token", "softmax")
    assert all(len(probe.logits) % 3 == 0 for probe in manifest.probes)
    assert set(manifest.evaluation[0].quantized.metrics) == {"span_f1"}
    assert open_model(ModelSettings(bundle=str(result.bundle.path)))


@pytest.mark.parametrize(
    ("change", "task", "activation"),
    [
        ({"problem_type": "multi_label_classification"}, "multi-label", "sigmoid"),
        ({"problem_type": "regression", "id2label": {"0": "stars"}}, "regression", "none"),
        ({"id2label": {"0": "toxic"}}, "multi-label", "sigmoid"),
    ],
)
def test_task_is_what_the_config_says(tmp_path, change, task, activation):
    folder = checkpoints.write(tmp_path / "m", checkpoints.CONFIG | change)
    made = imported(folder, tmp_path / "out").bundle
    assert (made.manifest.task, made.manifest.activation) == (task, activation)
    assert open_model(ModelSettings(bundle=str(made.path)))


def test_shards_and_half_precision(tmp_path):
    held = {name: tensor.astype(np.float16) for name, tensor in checkpoints.tensors().items()}
    folder = checkpoints.write(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    names = sorted(held)
    for number, part in enumerate((names[::2], names[1::2])):
        save_file({name: held[name] for name in part}, folder / f"{number}.safetensors")
    weight_map = {name: f"{i % 2}.safetensors" for i, name in enumerate(names)}
    (folder / checkpoint.INDEX).write_bytes(orjson.dumps({"weight_map": weight_map}))
    assert imported(folder, tmp_path / "out").bundle.labels == ("ham", "spam", "eggs")


def test_reduced_range(tmp_path):
    folder = checkpoints.write(tmp_path / "m")
    for limit in (WEIGHT_LIMIT, REDUCED_WEIGHT_LIMIT):
        made = imported(folder, tmp_path / f"out{limit}", weight_limit=limit).bundle
        codes = [
            onnx.numpy_helper.to_array(tensor)
            for tensor in onnx.load(made.model_path).graph.initializer
            if tensor.data_type == TensorProto.INT8 and tensor.dims[0] != len(checkpoints.VOCABULARY)
        ]
        assert max(int(np.abs(each).max()) for each in codes) == limit


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n", "apache-2.0"),
        ("---\nlicense: 'mit'\n---\n", "mit"),
        ("---\nlicense:\n- cc-by-4.0\n- mit\n---\n", "cc-by-4.0"),
        ("---\nlanguage: en\n---\nIts\nlicense: ours\n", "unknown"),
        ("license: ours\n", "unknown"),
    ],
)
def test_the_licence_is_that_of_the_model_card(tmp_path, card, licence):
    (tmp_path / "README.md").write_text(card)
    assert describing.licence(tmp_path) == licence


def outlier():
    """A unit of the first layer that is always huge, and all but ignored by the product that reads it.

    The classifier's bias is moved so that each label is the answer to some texts.
    """
    held = checkpoints.tensors()
    held["bert.encoder.layer.0.output.dense.weight"][:] *= 5
    held["bert.encoder.layer.0.intermediate.dense.bias"][5] = 4000.0
    held["bert.encoder.layer.0.output.dense.weight"][:, 5] = 1e-4
    rows = [[2, *range(5 + i, 10 + 2 * i), 3] for i in range(30)]
    seen = observe(from_checkpoint(checkpoints.CONFIG, held), rows).logits
    held["classifier.bias"] -= np.mean(seen, axis=0)
    return held


def test_parts_that_int8_ruins_stay_fp32(tmp_path):
    """The outlier leaves no codes for the other units of its part; that part alone is kept."""
    folder = checkpoints.write(tmp_path / "m", held=outlier())
    result = imported(folder, tmp_path / "out", min_agreement=0.95)
    quantization = result.bundle.manifest.quantization
    assert quantization.fp32_parts == ("layer.0.activation",)
    assert quantization.against_fp32.same_label >= 0.95
    assert any("layer.0.activation" in note for note in result.notes)
    assert quantization.embeddings == "int8 by row"


def operators(made):
    return {node.op_type for node in onnx.load(made.model_path).graph.node}


def test_gelu_is_served_as_the_silu_that_is_fitted_to_it(tmp_path):
    made = imported(checkpoints.write(tmp_path / "m"), tmp_path / "out").bundle
    assert made.manifest.quantization.gelu == "fitted silu"
    assert "QuickGelu" in operators(made)
    assert "Gelu" not in operators(made)


def test_exact_gelu_stays_gelu(tmp_path):
    made = imported(checkpoints.write(tmp_path / "m"), tmp_path / "out", exact_gelu=True).bundle
    assert made.manifest.quantization.gelu == "as trained"
    assert "Gelu" in operators(made)
    assert "QuickGelu" not in operators(made)


def test_a_fit_that_the_gate_refuses_is_not_taken(tmp_path, monkeypatch):
    def ruined(network, seen):
        (inner, activation), (classifier, _) = network.head
        upside_down = replace(classifier, weight=-classifier.weight)
        return replace(network, head=((inner, activation), (upside_down, None))), seen

    folder = checkpoints.write(tmp_path / "m", held=outlier())
    exact = imported(folder, tmp_path / "exact", exact_gelu=True, min_agreement=0.7)
    monkeypatch.setattr(quantizing, "with_silu", ruined)
    result = imported(folder, tmp_path / "out", min_agreement=0.7)
    assert result.bundle.manifest.quantization == exact.bundle.manifest.quantization
    assert result.bundle.digest == exact.bundle.digest
    assert any("Gelu stayed as it is" in note for note in result.notes)


def test_exact_gelu_without_gelu_is_noted(tmp_path):
    folder = checkpoints.write(tmp_path / "m", config=checkpoints.CONFIG | {"hidden_act": "relu"})
    (note,) = imported(folder, tmp_path / "out", exact_gelu=True).notes
    assert note == "--exact-gelu changes nothing: the model has no Gelu"


def test_the_gate_refuses_what_no_recipe_mends(tmp_path):
    folder = checkpoints.write(tmp_path / "m")
    with pytest.raises(bounds.GateRefused, match=r"less than --min-agreement 1\.01: nothing was written") as refused:
        imported(folder, tmp_path / "out", min_agreement=1.01)
    assert refused.value.comparison.agreement.texts == 40
    assert refused.value.exit_code == 3
    assert not (tmp_path / "out").exists()


def test_the_gate_refuses_a_drop_of_the_metric(tmp_path):
    labelled = [Example(str(i), t, ("ham",), form="single-label") for i, t in enumerate(checkpoints.texts())]
    folder = checkpoints.write(tmp_path / "m")
    with pytest.raises(bounds.GateRefused, match=r"loses .* of accuracy.*more than --max-metric-drop -2"):
        imported(folder, tmp_path / "out", calibration=labelled, max_metric_drop=-2.0)


def test_a_bundle_is_replaced_and_nothing_else_is(tmp_path):
    folder, out = checkpoints.write(tmp_path / "m"), tmp_path / "out"
    first = imported(folder, out, name="first").bundle
    assert imported(folder, out, name="second").bundle.digest == first.digest
    assert bundle.load(out).manifest.name == "second"
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"holds thesis\.txt, which is no part of a bundle"):
        imported(folder, other)
    assert [path.name for path in other.iterdir()] == ["thesis.txt"]
    with pytest.raises(BundleError, match=r"m/config\.json is a file: name a folder"):
        imported(folder, folder / "config.json")


def test_importing_needs_no_torch(tmp_path):
    folder = checkpoints.write(tmp_path / "m")
    script = (
        "import sys; from pathlib import Path; from worker.model.importing.importer import *;"
        "import_folder(Path(sys.argv[1]), Path(sys.argv[2]), ImportOptions(min_agreement=0.0));"
        "print(sorted({'torch', 'transformers', 'sklearn'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, folder, tmp_path / "out"], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("silu", "gelu", "taken", "built"),
    [
        ((True, 0.99), None, "fitted silu", True),
        ((False, 0.994), (True, 0.993), "as trained", True),
        ((False, 0.90), (False, 0.95), "as trained", True),
        ((False, 0.95), (False, 0.90), "fitted silu", False),
        ((False, 0.95), (False, 0.95), "fitted silu", False),
    ],
)
def test_gelu_is_taken_where_it_passes_alone_or_is_nearer(silu, gelu, taken, built):
    """Each: whether it passes, and how close it is; what does not pass is not kept while others are built."""
    network = from_checkpoint(checkpoints.CONFIG, checkpoints.tensors())
    rows = [[2, *range(5 + i, 10 + 2 * i), 3] for i in range(6)]
    answers = [SimpleNamespace(ok=each[0], closeness=each[1]) for each in (silu, gelu) if each is not None]
    judge = Judge(rows, lambda _: answers.pop(0), lambda comparison: comparison.ok)
    work = quantizing.Quantizing(network, None, None, None, 127, lambda _: None)
    chosen, _, model, comparison = work._whole(observe(network, rows), judge)
    assert ("as trained" if chosen is network else "fitted silu") == taken
    assert comparison.closeness == (gelu if taken == "as trained" else silu)[1]
    assert (model is not None) == built
    assert answers == []
