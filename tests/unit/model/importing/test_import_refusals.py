"""What cannot be imported is refused with a sentence that says why not."""

import numpy as np
import orjson
import pytest

from tests.unit.model import checkpoints
from tests.unit.model.importing.making import imported, optimum
from worker.errors import BundleError, ConfigError


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
    (folder / "config.json").write_bytes(orjson.dumps(checkpoints.CONFIG | change))
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
    (folder / "pytorch_model.bin").write_bytes(b"\x80")
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
        ({"labels": ("a", "b", "a")}, "--labels must give each label a name of its own"),
        ({"labels": ("a", "", "b")}, "--labels must give each label a name of its own"),
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
    with pytest.raises(ConfigError, match=r"^--labels gives 2 names, but the model classifies into 3 labels"):
        imported(folder, tmp_path / "out", labels=("x", "y"))
    checkpoints.write(folder, checkpoints.CONFIG | {"id2label": {"0": "x", "1": "y"}}, checkpoints.tensors())
    with pytest.raises(BundleError, match=r"into 3 labels, but config\.json names 2"):
        imported(folder, tmp_path / "out")


def test_damaged_weights_are_refused(tmp_path):
    held = checkpoints.tensors()
    held["classifier.weight"][0, 0] = np.nan
    with pytest.raises(BundleError, match="not finite"):
        imported(checkpoints.write(tmp_path / "m", held=held), tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", checkpoints.CONFIG | {"max_position_embeddings": 4}, "says max_position_embeddings 4, too few"),
        ("tokenizer_config.json", {"model_max_length": -1}, "says model_max_length -1, too few tokens to read a text"),
    ],
)
def test_lengths_that_read_no_text_are_refused(tmp_path, name, change, message):
    folder = optimum(tmp_path / "m")
    (folder / name).write_bytes(orjson.dumps(change))
    with pytest.raises(BundleError, match=message):
        imported(folder, tmp_path / "out")
