"""From somebody's folder to a bundle that the worker serves, or to a sentence that says why not."""

import subprocess
import sys

import numpy as np
import onnx
import orjson
import pytest
from onnx import TensorProto
from safetensors.numpy import save_file

from tests.unit.model import checkpoints
from worker.app import open_model
from worker.config import ModelSettings
from worker.errors import BundleError, ConfigError
from worker.model import bundle
from worker.model.data import Example
from worker.model.graph.builder import build
from worker.model.graph.network import from_checkpoint
from worker.model.graph.observe import observe
from worker.model.graph.quantize import REDUCED_WEIGHT_LIMIT, WEIGHT_LIMIT
from worker.model.importing import bounds, checkpoint
from worker.model.importing.importer import Importer, ImportOptions, import_folder
from worker.model.importing.probing import neutral_texts, probe_texts
from worker.model.manifest import Source

LENIENT = {"min_agreement": 0.5}


def given(count=80):
    return [Example(str(i), text) for i, text in enumerate(checkpoints.texts(count))]


def imported(folder, out, **options):
    return Importer(folder, ImportOptions(**{"calibration": given(), **LENIENT, **options})).run(out)


def test_checkpoint_becomes_a_bundle_that_the_worker_opens(tmp_path):
    """The one check that everything fits: digests, probes, labels, lengths."""
    result = imported(checkpoints.write(tmp_path / "My Model"), tmp_path / "out")
    made = result.bundle
    manifest = made.manifest
    assert (manifest.name, manifest.task, manifest.activation) == ("my-model", "single-label", "softmax")
    assert made.labels == ("ham", "spam", "eggs")
    assert (manifest.max_length, manifest.pad_id) == (64, 0)
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


def test_labels_of_another_task_are_noted_and_left_out(tmp_path):
    labelled = [Example("1", "the train", ("physics",), form="single-label")]
    result = imported(checkpoints.write(tmp_path / "m"), tmp_path / "out", calibration=labelled, min_agreement=0.0)
    assert result.bundle.manifest.evaluation == ()
    assert "the texts' labels are not the model's" in result.notes[0]


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


def test_the_licence_is_that_of_the_model_card(tmp_path):
    folder = checkpoints.write(tmp_path / "m")
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n")
    assert imported(folder, tmp_path / "out").bundle.manifest.licence == "apache-2.0"


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
    assert "layer.0.activation" in result.notes[0]
    assert quantization.embeddings == "int8 by row"


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


def damage(folder, name, content):
    (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2", "architectures": ["GPT2ForSequenceClassification"]}, "the architecture 'gpt2'"),
        ({"num_hidden_layers": 1}, "has 2 encoder layers, but config.json says 1"),
        ({"num_hidden_layers": 3}, "has 2 encoder layers, but config.json says 3"),
        ({"hidden_size": 64}, "config.json says 64"),
        ({"vocab_size": 10}, "config.json says 10"),
        ({"id2label": {"0": "a", "1": "b"}}, "into 3 labels, but config.json names 2"),
        ({"architectures": ["BertForMaskedLM"]}, "the class 'BertForMaskedLM'"),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused_by_name(tmp_path, change, message):
    folder = checkpoints.write(tmp_path / "m", held=checkpoints.tensors())
    damage(folder, "config.json", orjson.dumps(checkpoints.CONFIG | change))
    with pytest.raises(BundleError, match=message):
        imported(folder, tmp_path / "out")


def test_weights_beyond_the_network_are_refused(tmp_path):
    held = checkpoints.tensors() | {"bert.adapter.weight": np.ones(3, np.float32)}
    with pytest.raises(BundleError, match=r"'bert\.adapter\.weight' among them"):
        imported(checkpoints.write(tmp_path / "m", held=held), tmp_path / "out")


def test_files_that_are_missing_are_named(tmp_path):
    folder = checkpoints.write(tmp_path / "m")
    (folder / "vocab.txt").unlink()
    with pytest.raises(BundleError, match="has no tokenizer"):
        imported(folder, tmp_path / "out")
    (folder / "config.json").unlink()
    with pytest.raises(BundleError, match=r"config\.json is missing"):
        imported(folder, tmp_path / "out")
    (folder / "model.safetensors").unlink()
    with pytest.raises(BundleError, match=r"has no model: neither model\.safetensors nor an ONNX graph"):
        imported(folder, tmp_path / "out")
    damage(folder, "pytorch_model.bin", b"\x80")
    with pytest.raises(BundleError, match="is a pickle"):
        imported(folder, tmp_path / "out")


def test_tokenizer_of_another_model_is_refused(tmp_path):
    folder = checkpoints.write(tmp_path / "m", vocabulary=[*checkpoints.VOCABULARY, "more"])
    with pytest.raises(BundleError, match="The tokenizer gives ids up to"):
        imported(folder, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 65}, "--max-length 65 is more than the 64 tokens"),
        ({"task": "token"}, "--task token does not fit a model that gives logits for each text"),
        ({"name": "???"}, "makes no name for a bundle"),
    ],
)
def test_options_that_contradict_the_model_are_refused(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        imported(checkpoints.write(tmp_path / "m"), tmp_path / "out", **options)


@pytest.mark.parametrize(
    ("labels", "task", "message"), [(3, "regression", "one value"), (1, "single-label", "one label")]
)
def test_tasks_that_the_labels_contradict_are_refused(tmp_path, labels, task, message):
    config = checkpoints.CONFIG | {"id2label": {str(i): f"label{i}" for i in range(labels)}}
    with pytest.raises(BundleError, match=message):
        imported(checkpoints.write(tmp_path / "m", config), tmp_path / "out", task=task)


def test_labels_can_be_named_anew(tmp_path):
    folder = checkpoints.write(tmp_path / "m")
    assert imported(folder, tmp_path / "out", labels=("x", "y", "z")).bundle.labels == ("x", "y", "z")
    with pytest.raises(BundleError, match=r"into 3 labels, but config\.json names 2"):
        imported(folder, tmp_path / "out", labels=("x", "y"))


def test_damaged_weights_are_refused(tmp_path):
    held = checkpoints.tensors()
    held["classifier.weight"][0, 0] = np.nan
    with pytest.raises(BundleError, match="not finite"):
        imported(checkpoints.write(tmp_path / "m", held=held), tmp_path / "out")


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


def optimum(folder, config=checkpoints.CONFIG, **options):
    """What Optimum writes: graph, config and tokenizer, no weights."""
    checkpoints.save_graph(folder / "model.onnx", checkpoints.foreign_graph(config, **options))
    (folder / "config.json").write_bytes(orjson.dumps(config))
    checkpoints.write_vocabulary(folder)
    return folder


@pytest.mark.parametrize("integer", [TensorProto.INT32, TensorProto.INT64])
@pytest.mark.parametrize("token_types", [True, False])
def test_exported_graph_is_served_as_it_is(tmp_path, integer, token_types):
    folder = optimum(tmp_path / "m", integer=integer, token_types=token_types)
    result = imported(folder, tmp_path / "out")
    assert result.bundle.model_path.read_bytes() == (folder / "model.onnx").read_bytes()
    assert result.bundle.manifest.quantization.weights == "as imported"
    assert result.comparison is None
    assert open_model(ModelSettings(bundle=str(result.bundle.path))).labels == ("ham", "spam", "eggs")


def int8_graph():
    network = from_checkpoint(checkpoints.CONFIG, checkpoints.tensors())
    from worker.model.graph.calibrate import calibrate

    return build(network, calibrate(network, [[2, *range(5, 40), 3]]))


def test_quantized_graph_is_held_against_the_exact_one_beside_it(tmp_path):
    folder = optimum(tmp_path / "m")
    checkpoints.save_graph(folder / "model_quantized.onnx", int8_graph())
    result = imported(folder, tmp_path / "out")
    assert result.comparison.agreement.texts == 40
    assert result.bundle.manifest.quantization.against_fp32.largest_logit_difference > 0
    with pytest.raises(bounds.GateRefused):
        imported(folder, tmp_path / "other", min_agreement=1.01)


def test_hub_layout_and_a_named_graph(tmp_path):
    folder = optimum(tmp_path / "m")
    (folder / "onnx").mkdir()
    (folder / "model.onnx").rename(folder / "onnx" / "model.onnx")
    (folder / "export.json").write_bytes(b"{}")
    made = imported(folder, tmp_path / "out", onnx_file="onnx/model.onnx").bundle
    assert made.labels == ("ham", "spam", "eggs")


@pytest.mark.parametrize("name", ["model.onnx", "bert_classification_onnx"])
def test_spark_nlp_folder(tmp_path, name):
    """No config.json: labels and words lie in assets, the task is what the graph gives."""
    folder = tmp_path / "m"
    checkpoints.save_graph(folder / name, checkpoints.foreign_graph())
    checkpoints.write_vocabulary(folder / "assets", None)
    (folder / "assets" / "labels.txt").write_text("ham\nspam\neggs\n")
    made = imported(folder, tmp_path / "out", max_length=64).bundle
    assert (made.labels, made.manifest.task) == (("ham", "spam", "eggs"), "single-label")
    assert open_model(ModelSettings(bundle=str(made.path)))


def test_spark_nlp_token_classifier_takes_its_task_from_the_graph(tmp_path):
    folder = tmp_path / "m"
    checkpoints.save_graph(folder / "model.onnx", checkpoints.foreign_graph(checkpoints.TOKEN_CONFIG))
    checkpoints.write_vocabulary(folder / "assets", None)
    (folder / "assets" / "labels.txt").write_text("O\nB-PER\nI-PER\n")
    made = imported(folder, tmp_path / "out", max_length=64).bundle
    assert made.manifest.task == "token"


def test_label_count_is_held_against_the_output(tmp_path):
    folder = optimum(tmp_path / "m")
    with pytest.raises(BundleError, match="classifies into 3 labels, but 2 are named: give their names with --labels"):
        imported(folder, tmp_path / "out", labels=("a", "b"))
    (folder / "config.json").unlink()
    with pytest.raises(BundleError, match="classifies into 3 labels, but 2 are named"):
        imported(folder, tmp_path / "out")


def test_repeated_or_empty_labels_are_refused(tmp_path):
    folder = optimum(tmp_path / "m")
    (folder / "config.json").unlink()
    for content in ("", "a\na\nb\n"):
        (folder / "labels.txt").write_text(content)
        with pytest.raises(BundleError, match=r"labels\.txt must name each label once"):
            imported(folder, tmp_path / "out")


def test_graph_that_reads_fewer_tokens_says_so(tmp_path):
    folder = optimum(tmp_path / "m")
    for name in ("config.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(BundleError, match=r"cannot be run on two texts of up to 512 tokens .* with --max-length"):
        imported(folder, tmp_path / "out", labels=("a", "b", "c"))


def as_torch_names_it(held):
    """The graph of the checkpoint as torch exports it: weights of products transposed and nameless."""
    model = checkpoints.foreign_graph(held=held)
    by_content = {
        (tensor.shape, tensor.tobytes()): name
        for name, each in held.items()
        for tensor in ([each] if each.ndim == 1 else [each, np.ascontiguousarray(each.T)])
    }
    names = {}
    for i, tensor in enumerate(model.graph.initializer):
        array = onnx.numpy_helper.to_array(tensor)
        name = by_content.get((array.shape, array.tobytes()), f"constant_{i}")
        transposed = name in held and array.ndim == 2 and not np.array_equal(array, held[name])
        names[tensor.name] = f"onnx::MatMul_{i}" if transposed else name
        tensor.name = names[tensor.name]
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)
    return model


def test_rebuild_makes_our_graph_of_the_weights_of_another(tmp_path):
    """The position table of our own graph already holds the token types, so it is exact with these at zero."""
    held = checkpoints.tensors()
    held["bert.embeddings.token_type_embeddings.weight"][:] = 0
    folder = optimum(tmp_path / "m")
    model = as_torch_names_it(held)
    for name in ("position", "token_type"):
        tensor = held[f"bert.embeddings.{name}_embeddings.weight"]
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(tensor, f"bert.embeddings.{name}_embeddings.weight")
        )
    checkpoints.save_graph(folder / "model.onnx", model)
    result = imported(folder, tmp_path / "out", rebuild=True)
    assert result.bundle.manifest.quantization.activations == "static uint8"
    assert result.bundle.model_path.stat().st_size < (folder / "model.onnx").stat().st_size

    held["classifier.bias"][:] += 1
    for tensor in model.graph.initializer:
        if tensor.name == "classifier.bias":
            tensor.CopyFrom(onnx.numpy_helper.from_array(held["classifier.bias"], tensor.name))
            tensor.name = "elsewhere"
    checkpoints.save_graph(folder / "model.onnx", model)
    with pytest.raises(BundleError):
        imported(folder, tmp_path / "other", rebuild=True)


def test_rebuild_of_a_graph_that_computes_something_else_is_refused(tmp_path):
    """The names fit and the sizes fit, but the epsilon is another."""
    held = checkpoints.tensors()
    held["bert.embeddings.token_type_embeddings.weight"][:] = 0
    folder = optimum(tmp_path / "m")
    model = as_torch_names_it(held)
    for name in ("position", "token_type"):
        tensor = held[f"bert.embeddings.{name}_embeddings.weight"]
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(tensor, f"bert.embeddings.{name}_embeddings.weight")
        )
    checkpoints.save_graph(folder / "model.onnx", model)
    (folder / "config.json").write_bytes(orjson.dumps(checkpoints.CONFIG | {"layer_norm_eps": 0.5}))
    with pytest.raises(BundleError, match=r"does not compute what that graph computes.*Import it without --rebuild"):
        imported(folder, tmp_path / "out", rebuild=True)


def test_rebuild_of_what_is_not_recognised_is_refused(tmp_path):
    folder = optimum(tmp_path / "m")
    with pytest.raises(BundleError, match="does not say which weight is which"):
        imported(folder, tmp_path / "out", rebuild=True)
    checkpoints.save_graph(folder / "model.onnx", int8_graph())
    with pytest.raises(
        BundleError, match=r"quantized already \(MatMulIntegerToFloat\): --rebuild needs the FP32 graph"
    ):
        imported(folder, tmp_path / "out", rebuild=True)


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
