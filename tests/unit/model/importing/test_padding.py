"""The padding token's id: what the files say, or what the architecture means."""

import orjson
import pytest
from safetensors.numpy import save_file

from tests.unit.model import checkpoints
from tests.unit.model.families import config_of, tensors_of
from tests.unit.model.importing.making import imported
from worker.app import open_model
from worker.config import ModelSettings
from worker.model import bundle
from worker.model.graph.architectures.families import FAMILIES
from worker.model.importing import describing, padding, vocabulary


@pytest.fixture
def folder(tmp_path):
    checkpoints.write_vocabulary(tmp_path, None, [*checkpoints.VOCABULARY, "<pad>", "<fill>"])
    return tmp_path


def pad_id(folder, config):
    return padding.pad_id(config, vocabulary.tokenizer_json(folder), folder)


FILL = len(checkpoints.VOCABULARY) + 1


def test_padding_is_the_configs_or_the_tokenizers(folder):
    assert pad_id(folder, {"pad_token_id": 3}) == 3
    for config in ({}, {"pad_token_id": None}, {"pad_token_id": -1}):
        assert pad_id(folder, config) == checkpoints.VOCABULARY.index("[PAD]")
    (folder / "special_tokens_map.json").write_bytes(orjson.dumps({"pad_token": "<pad>"}))
    assert pad_id(folder, {}) == FILL - 1
    (folder / "tokenizer_config.json").write_bytes(orjson.dumps({"pad_token": {"content": "<fill>"}}))
    assert pad_id(folder, {}) == FILL


@pytest.mark.parametrize(("kind", "expected"), [("bert", 0), ("roberta", 1), ("mpnet", 1), (None, 0)])
def test_without_a_padding_token_it_is_the_architectures(tmp_path, kind, expected):
    checkpoints.write_vocabulary(tmp_path, None, ["[UNK]", "[CLS]", "[SEP]", "a"])
    assert pad_id(tmp_path, {"model_type": kind}) == expected


def test_only_an_id_that_is_said_to_be_none_is_filled_in(folder):
    """An absent one means the architecture's own, whatever the tokenizer has."""
    assert padding.settled({"model_type": "roberta"}, folder) == {"model_type": "roberta"}
    assert padding.settled({"pad_token_id": 7}, folder) == {"pad_token_id": 7}
    assert padding.settled({"pad_token_id": None}, folder) == {"pad_token_id": 0}


@pytest.mark.parametrize("kind", ["roberta", "mpnet"])
def test_checkpoint_that_counts_positions_and_says_no_padding(tmp_path, kind):
    """The same bundle as with the id; its positions decide how long a text may be."""
    words = ["<s>", "<pad>", "</s>", "[UNK]", *checkpoints.VOCABULARY[5:]]
    made = {}
    for said in (1, None):
        config = config_of(kind, pad_token_id=said)
        folder = tmp_path / str(said)
        checkpoints.write_vocabulary(folder, {}, words)
        (folder / "config.json").write_bytes(orjson.dumps(config))
        save_file(tensors_of(config), folder / "model.safetensors")
        made[said] = imported(folder, tmp_path / f"out{said}", min_agreement=0.0).bundle
    manifest = made[None].manifest
    assert (manifest.pad_id, manifest.max_length) == (1, 512)
    assert manifest.files["model.onnx"] == made[1].manifest.files["model.onnx"]
    assert orjson.loads((made[None].path / bundle.CONFIG).read_bytes())["pad_token_id"] == 1
    assert open_model(ModelSettings(bundle=str(made[None].path)))


def test_positions_of_mpnet_are_counted_from_its_own_id():
    """Whatever is padded with, as its network and ours do."""
    assert padding.positions({"model_type": "mpnet", "pad_token_id": 0}, 66) == 64
    assert padding.positions({"model_type": "roberta", "pad_token_id": 0}, 66) == 65
    assert padding.positions({"model_type": "bert", "pad_token_id": 0}, 66) == 66


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_positions_are_counted_as_our_own_graph_counts_them(kind):
    assert (padding.position_padding({"model_type": kind}) is not None) == FAMILIES[kind].counts_positions


def test_graph_whose_config_says_no_padding_reads_as_many_tokens(tmp_path):
    """Two rows of the table are before the first token's."""
    checkpoints.write_vocabulary(tmp_path, None, ["<s>", "<pad>", "</s>", "[UNK]", "a"])
    said = {"model_type": "roberta", "pad_token_id": None, "max_position_embeddings": 66}
    (tmp_path / "config.json").write_bytes(orjson.dumps(said))
    described = describing.describe(tmp_path, "sequence")
    assert (described.max_length, described.pad_id) == (64, 1)
