"""Graphs of others from folder to bundle: what lies around them, and what they are held against."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.unit.model import checkpoints
from tests.unit.model.importing.making import imported, int8_graph, optimum
from worker.app import open_model
from worker.config import ModelSettings
from worker.errors import BundleError, ConfigError
from worker.model.graph.quantize import REDUCED_WEIGHT_LIMIT
from worker.model.importing import bounds, ready


@pytest.mark.parametrize("integer", [TensorProto.INT32, TensorProto.INT64])
@pytest.mark.parametrize("token_types", [True, False])
def test_exported_graph_is_served_as_it_is(tmp_path, integer, token_types):
    folder = optimum(tmp_path / "m", integer=integer, token_types=token_types)
    result = imported(folder, tmp_path / "out")
    assert result.bundle.model_path.read_bytes() == (folder / "model.onnx").read_bytes()
    assert result.bundle.manifest.quantization.weights == "as imported"
    assert result.comparison is None
    assert [note.partition(":")[0] for note in result.notes[1:]] == ["the texts to calibrate with were not used"]
    assert open_model(ModelSettings(bundle=str(result.bundle.path))).labels == ("ham", "spam", "eggs")


@pytest.fixture
def quantized(tmp_path):
    """A folder with an exact graph and a quantized one."""
    folder = optimum(tmp_path / "m")
    checkpoints.save_graph(folder / "model_quantized.onnx", int8_graph())
    return folder


def test_quantized_graph_is_held_against_the_exact_one_beside_it(quantized, tmp_path):
    result = imported(quantized, tmp_path / "out")
    assert result.comparison.agreement.texts == 40
    assert result.bundle.manifest.quantization.against_fp32.largest_logit_difference > 0
    assert not any("gate" in note for note in result.notes)
    with pytest.raises(bounds.GateRefused, match=r"Import model\.onnx with --onnx-file, or change the bound"):
        imported(quantized, tmp_path / "other", min_agreement=1.01)


def test_neutral_sentences_compare_and_do_not_calibrate_a_ready_graph(quantized, tmp_path):
    notes = imported(quantized, tmp_path / "out", calibration=()).notes
    assert any(note.startswith("compared on neutral sentences") for note in notes)


def test_quantized_graph_alone_says_that_nobody_compared_it(quantized, tmp_path):
    (quantized / "model.onnx").unlink()
    result = imported(quantized, tmp_path / "out")
    assert result.comparison is None
    (note,) = (note for note in result.notes if "gate" in note)
    assert note.startswith("model_quantized.onnx is quantized and has no FP32 graph (model.onnx or onnx/model.onnx)")
    assert "the quality gate did not run" in note


def test_quantized_graph_that_is_called_as_an_exact_one_says_so_too(tmp_path):
    folder = optimum(tmp_path / "m")
    checkpoints.save_graph(folder / "model.onnx", int8_graph())
    assert any(
        "model.onnx is quantized and has no FP32 graph" in note for note in imported(folder, tmp_path / "o").notes
    )


def write(path, content):
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        checkpoints.save_graph(path, content)


TWO_LABELS = checkpoints.CONFIG | {"id2label": {"0": "ham", "1": "spam"}}
SHORTER = checkpoints.CONFIG | {"max_position_embeddings": 8}


def damaged():
    model = checkpoints.foreign_graph()
    bias = next(tensor for tensor in model.graph.initializer if (*tensor.dims, tensor.data_type) == (3, 1))
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(3, np.nan, np.float32), bias.name))
    return model


@pytest.mark.parametrize(
    ("beside", "reason"),
    [
        (lambda: b"junk", "is no ONNX graph"),
        (lambda: checkpoints.foreign_graph(TWO_LABELS), "classifies into 2 labels, model_quantized.onnx into 3"),
        (lambda: checkpoints.foreign_graph(checkpoints.TOKEN_CONFIG), "gives logits for each token"),
        (lambda: checkpoints.foreign_graph(SHORTER), "cannot be run on the texts"),
        (int8_graph, r"is quantized, too (MatMulIntegerToFloat)"),
        (damaged, "not finite numbers"),
    ],
)
def test_exact_graph_that_is_of_no_use_is_noted_and_the_quantized_one_served(quantized, tmp_path, beside, reason):
    write(quantized / "model.onnx", beside())
    result = imported(quantized, tmp_path / "out")
    assert result.comparison is None
    assert result.bundle.manifest.quantization.against_fp32 is None
    (note,) = (note for note in result.notes if "gate" in note)
    assert "model_quantized.onnx was not held against an FP32 graph" in note
    assert reason in note
    assert open_model(ModelSettings(bundle=str(result.bundle.path)))


def test_options_that_change_nothing_in_a_ready_graph_are_noted(quantized, tmp_path):
    notes = imported(quantized, tmp_path / "out", weight_limit=REDUCED_WEIGHT_LIMIT, exact_gelu=True).notes
    for option in ("--reduce-range", "--exact-gelu"):
        assert any(f"{option} changes nothing" in note for note in notes)


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
    with pytest.raises(ConfigError, match=r"^--labels gives 2 names, but the model classifies into 3 labels: give"):
        imported(folder, tmp_path / "out", labels=("a", "b"))
    (folder / "config.json").unlink()
    with pytest.raises(BundleError, match="classifies into 3 labels, but 2 are named: give their names with --labels"):
        imported(folder, tmp_path / "out")


def test_repeated_or_empty_labels_are_refused(tmp_path):
    folder = optimum(tmp_path / "m")
    (folder / "config.json").unlink()
    for content in ("", "a\na\nb\n"):
        (folder / "labels.txt").write_text(content)
        with pytest.raises(BundleError, match=r"labels\.txt must name each label once"):
            imported(folder, tmp_path / "out")


def test_labels_that_are_no_utf8_are_no_traceback(tmp_path):
    folder = optimum(tmp_path / "m")
    (folder / "config.json").unlink()
    (folder / "labels.txt").write_bytes(b"caf\xe9\nspam\neggs\n")
    assert imported(folder, tmp_path / "out").bundle.labels == ("caf\ufffd", "spam", "eggs")


def test_graph_that_reads_fewer_tokens_says_so(tmp_path):
    folder = optimum(tmp_path / "m")
    for name in ("config.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(BundleError, match=r"cannot be run on two texts of up to 512 tokens, .* with --max-length"):
        imported(folder, tmp_path / "out", labels=("a", "b", "c"))


def test_what_the_runtime_says_of_a_graph_that_is_tried_is_not_on_the_terminal(tmp_path, capfd):
    """A graph that reads fewer tokens: the sentence says it, without what it quotes."""
    folder = optimum(tmp_path / "m")
    checkpoints.save_graph(folder / "model.onnx", checkpoints.foreign_graph(SHORTER))
    with pytest.raises(
        BundleError, match=r"cannot be run on two texts of up to 64 tokens, but on short ones: say with --max-length"
    ):
        imported(folder, tmp_path / "out")
    assert capfd.readouterr() == ("", "")


def test_what_the_runtime_says_is_quoted_in_whole_words():
    said = ready._first_line(RuntimeError("word " * 60 + "\nmore"))
    assert said.endswith("word …")
    assert len(said) <= 200


@pytest.mark.parametrize("length", [16, 64])
def test_tokenizer_of_another_graph_is_told_from_a_length(tmp_path, length):
    """Its ids lie beyond the embedding, however short a text is."""
    folder = optimum(tmp_path / "m")
    checkpoints.write_vocabulary(folder, vocabulary=[*checkpoints.VOCABULARY, "more"])
    largest = len(checkpoints.VOCABULARY)
    with pytest.raises(BundleError, match=f"The tokenizer gives ids up to {largest}, for which .* has no embedding"):
        imported(folder, tmp_path / "out", max_length=length)


def test_padding_without_an_embedding_is_told_from_a_length(tmp_path):
    folder = optimum(tmp_path / "m", checkpoints.CONFIG | {"pad_token_id": 5000})
    with pytest.raises(BundleError, match=r"no embedding for the pad_token_id 5000 .*: correct it in config\.json"):
        imported(folder, tmp_path / "out")


def test_graph_that_runs_on_nothing_says_so(tmp_path):
    folder = optimum(tmp_path / "m")
    model = checkpoints.foreign_graph()
    broken = onnx.helper.make_node("Reshape", ["logits.whole", "seven"], ["logits"])
    model.graph.node[-1].output[0] = "logits.whole"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([7, 3]), "seven"))
    model.graph.node.append(broken)
    checkpoints.save_graph(folder / "model.onnx", model)
    with pytest.raises(BundleError, match=r"cannot be run on a single short text .*: export it again"):
        imported(folder, tmp_path / "out")
