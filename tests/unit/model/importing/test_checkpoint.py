"""Checkpoints are read as tables of numbers, or refused with a sentence that names what is wrong."""

import io
import os
import pickle

import numpy as np
import orjson
import pytest
from safetensors.numpy import save_file

from tests.unit.model import checkpoints
from worker.errors import BundleError
from worker.model.importing import checkpoint, foreign


def sharded(folder):
    """The tensors of a checkpoint in two files and their index."""
    held = checkpoints.tensors()
    names = sorted(held)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    folder.mkdir(exist_ok=True)
    for file, part in parts.items():
        save_file({name: held[name] for name in part}, folder / file)
    weight_map = {name: file for file, part in parts.items() for name in part}
    (folder / checkpoint.INDEX).write_bytes(orjson.dumps({"metadata": {}, "weight_map": weight_map}))
    return held, weight_map


def test_shards_are_read_as_one(tmp_path):
    held, _ = sharded(tmp_path)
    with checkpoint.open_tensors(tmp_path) as tensors:
        assert sorted(tensors) == sorted(held)
        assert len(tensors) == len(held)
        for name, expected in held.items():
            np.testing.assert_array_equal(tensors[name], expected)
        assert tensors.unread == set()


def test_missing_shard_is_named(tmp_path):
    sharded(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(BundleError, match=r"model-00002-of-00002\.safetensors is missing, which .*index\.json names"):
        checkpoint.open_tensors(tmp_path)


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", ".hidden"])
def test_shard_outside_of_the_folder_is_not_read(tmp_path, name):
    (tmp_path / checkpoint.INDEX).write_bytes(orjson.dumps({"weight_map": {"a": name}}))
    with pytest.raises(BundleError, match="outside of the folder: it is not read"):
        checkpoint.open_tensors(tmp_path)


def test_tensor_that_the_index_promises_must_be_there(tmp_path):
    _, weight_map = sharded(tmp_path)
    index = {"weight_map": weight_map | {"extra.weight": "model-00001-of-00002.safetensors"}}
    (tmp_path / checkpoint.INDEX).write_bytes(orjson.dumps(index))
    with pytest.raises(BundleError, match=r"promises the tensor 'extra\.weight', which no shard has"):
        checkpoint.open_tensors(tmp_path)
    (tmp_path / checkpoint.INDEX).write_bytes(b"{}")
    with pytest.raises(BundleError, match="no weight_map"):
        checkpoint.open_tensors(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x80\x02}q\x00.", b"\xff" * 100])
def test_damaged_file_is_named(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.safetensors is no complete safetensors file"):
        checkpoint.open_tensors(tmp_path)


def test_half_a_file_is_named(tmp_path):
    checkpoints.write(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BundleError, match="no complete safetensors file"):
        checkpoint.open_tensors(tmp_path)


def test_tensors_tell_what_nobody_read(tmp_path):
    save_file({"a": np.ones(2, np.float16), "b": np.ones((2, 3), np.float32)}, tmp_path / "model.safetensors")
    with checkpoint.open_tensors(tmp_path) as tensors:
        assert tensors.shape("b") == (2, 3)
        assert tensors["a"].dtype == np.float16
        assert tensors.unread == {"b"}


def test_weights_left_over_are_another_model():
    checkpoint.check_all_used(["bert.embeddings.position_ids", "cls.predictions.bias", "bert.pooler.dense.weight"])
    with pytest.raises(
        BundleError, match=r"has 1 tensors .* 'bert\.encoder\.layer\.2\.output\.dense\.bias' among them"
    ):
        checkpoint.check_all_used(["bert.encoder.layer.2.output.dense.bias", "lm_head.bias"])


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "last.ckpt", "weights.pth", "model.pkl"])
def test_pickle_is_refused_with_the_reason_and_the_conversion(tmp_path, name):
    """And what is in it never runs."""

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "it-ran"), "w"))

    (tmp_path / name).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(BundleError) as refused:
        checkpoint.refuse_other_formats(tmp_path.iterdir())
    said = str(refused.value)
    assert f"{name} is a pickle, a program that runs when it is read" in said
    assert "AutoModelForSequenceClassification" in said
    assert f"f='{tmp_path}'" in said
    assert "\n" not in said
    assert not (tmp_path / "it-ran").exists()


def test_the_conversion_is_for_the_class_that_the_config_names(tmp_path):
    checkpoints.write(tmp_path, checkpoints.TOKEN_CONFIG)
    assert "AutoModelForTokenClassification" in checkpoint.conversion(tmp_path)


def test_other_frameworks_are_refused(tmp_path):
    with pytest.raises(BundleError, match=r"tf_model\.h5 holds the weights of another framework"):
        checkpoint.refuse_other_formats([tmp_path / "tf_model.h5"])
    checkpoint.refuse_other_formats([tmp_path / "training_args.bin", tmp_path / "README.md"])


def test_json_that_is_none_is_named(tmp_path):
    with pytest.raises(BundleError, match=r"config\.json is missing"):
        checkpoint.read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_bytes(b"{")
    with pytest.raises(BundleError, match=r"config\.json is not JSON \(line 1\)"):
        checkpoint.read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_bytes(b"[]")
    with pytest.raises(BundleError, match=r"config\.json holds no JSON object"):
        checkpoint.read_json(tmp_path / "config.json")
    assert checkpoint.optional_json(tmp_path / "nothing.json") == {}


@pytest.fixture
def forbidden(monkeypatch):
    """Files of these names may not be read; whoever runs the tests as root may read any other."""
    names = set()
    read = io.open

    def opened(file, *arguments, **options):
        if os.path.basename(file) in names:
            raise PermissionError(13, "Permission denied", file)
        return read(file, *arguments, **options)

    monkeypatch.setattr(io, "open", opened)
    return names


@pytest.mark.parametrize(
    "read",
    [
        lambda folder: checkpoint.read_json(folder / "config.json"),
        checkpoint.open_tensors,
        lambda folder: foreign.load(folder / "model.onnx", folder),
    ],
)
def test_file_that_may_not_be_read_is_not_taken_for_a_missing_or_damaged_one(tmp_path, forbidden, read):
    checkpoints.write(tmp_path)
    checkpoints.save_graph(tmp_path / "model.onnx", checkpoints.foreign_graph())
    read(tmp_path)
    forbidden |= {"config.json", "model.safetensors", "model.onnx"}
    with pytest.raises(BundleError, match=r"cannot be read \(Permission denied\): change its permissions"):
        read(tmp_path)
