"""From checkpoints to networks: every architecture, every name they may have, every refusal."""

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.model import families
from tests.unit.model.families import KINDS, config_of, network_of, rows, session_of, tensors_of
from worker.errors import BundleError
from worker.model.graph.architectures.bias import buckets
from worker.model.graph.network import from_checkpoint, labels_of
from worker.model.session import run

ROWS = rows((3, 40, 17, 5, 130, 28))


def logits(network):
    return run(session_of(network), ROWS)


def assert_same_network(config, tensors, kind, task="sequence"):
    np.testing.assert_array_equal(logits(from_checkpoint(config, tensors)), logits(network_of(kind, task, seed=0)))


def variants(network):
    """The network with one detail wrong each: what a test against transformers must be able to see."""
    yield "epsilon", replace(network, epsilon=1e-6 if network.epsilon > 1e-6 else 1e-5)
    yield "activation", replace(network, activation="gelu_new")
    yield "positions", replace(network, positions=np.roll(network.positions, 1, axis=0))
    if network.position_padding is not None:
        yield "position offset", replace(network, position_padding=network.position_padding + 1)
    if network.relative_bias is not None:
        yield "bias mirrored", replace(network, relative_bias=network.relative_bias[:, ::-1].copy())
        yield "bias moved", replace(network, relative_bias=np.roll(network.relative_bias, 1, axis=1))
    if len(network.head) > 1:
        (inner, activation), last = network.head
        for other in {"relu", "tanh", "gelu"} - {activation}:
            yield f"head with {other}", replace(network, head=((inner, other), last))


@pytest.mark.parametrize("task", ["sequence", "token"])
@pytest.mark.parametrize("kind", KINDS)
def test_random_weights_leave_no_detail_without_effect(kind, task):
    """Ten times what the comparison with transformers allows, at least."""
    network = network_of(kind, task)
    right = logits(network)
    for name, wrong in variants(network):
        assert np.abs(logits(wrong) - right).max() > 2e-4, name


def test_token_types_count():
    config = config_of("bert")
    tensors = tensors_of(config)
    tensors["bert.embeddings.token_type_embeddings.weight"][0] = 0
    assert np.abs(logits(from_checkpoint(config, tensors)) - logits(network_of("bert", seed=0))).max() > 2e-4


@pytest.mark.parametrize("task", ["sequence", "token"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_encoder_may_lack_its_prefix(kind, task):
    config = config_of(kind, task)
    prefix = f"{families.base_of(config)}."
    assert_same_network(config, {k.removeprefix(prefix): v for k, v in tensors_of(config).items()}, kind, task)


@pytest.mark.parametrize("kind", ["bert", "electra", "roberta"])
def test_norms_may_have_their_old_names(kind):
    config = config_of(kind)
    old = {
        k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
        for k, v in tensors_of(config).items()
    }
    assert any(name.endswith("LayerNorm.gamma") for name in old)
    assert_same_network(config, old, kind)


def test_buffers_and_other_heads_are_left_alone():
    config = config_of("bert", "token")
    more = {
        "bert.embeddings.position_ids": np.arange(512)[None],
        "bert.pooler.dense.weight": np.zeros((64, 64), np.float32),
        "cls.predictions.bias": np.zeros(400, np.float32),
    }
    assert_same_network(config, tensors_of(config) | more, "bert", "token")


def test_half_precision_weights_are_read():
    config = config_of("bert")
    half = {k: v.astype(np.float16) for k, v in tensors_of(config).items()}
    single = {k: v.astype(np.float32) for k, v in half.items()}
    np.testing.assert_array_equal(logits(from_checkpoint(config, half)), logits(from_checkpoint(config, single)))


def test_the_class_tells_the_task_and_the_kind():
    """Configurations of 2019 name no model_type; those made by hand name no class."""
    assert network_of("bert", "token").task == "token"
    token = config_of("electra", "token")
    del token["model_type"]
    assert from_checkpoint(token, tensors_of(config_of("electra", "token"))).task == "token"
    plain = config_of("bert")
    del plain["architectures"]
    assert from_checkpoint(plain, tensors_of(config_of("bert"))).task == "sequence"


@pytest.mark.parametrize("kind", KINDS)
def test_positions_end_where_the_table_ends(kind):
    network = network_of(kind)
    assert network.max_tokens == 512
    assert run(session_of(network), rows([512])).shape == (1, 3)


def test_an_electra_of_one_width_has_no_projection():
    assert network_of("electra").projection is not None
    assert network_of("electra", embedding_size=64).projection is None


def test_buckets_are_those_of_mpnet():
    """One each up to 7 on both sides, then ranges that grow by a factor, 128 and more in the last."""
    found = buckets(np.arange(-200, 201), 32)
    assert found[200 - 7 : 200 + 8].tolist() == [7, 6, 5, 4, 3, 2, 1, 0, 17, 18, 19, 20, 21, 22, 23]
    assert found[200 - 11 : 200 - 7].tolist() == [8, 8, 8, 8]
    assert found[200 - 12] == 9
    assert (found[:73] == 15).all()
    assert (found[-73:] == 31).all()


@pytest.mark.parametrize(
    ("config", "labels"),
    [
        ({"id2label": {"1": "b", "0": "a"}}, ("a", "b")),
        ({"id2label": {0: "a"}}, ("a",)),
        ({}, ("LABEL_0", "LABEL_1")),
        ({"num_labels": 3}, ("LABEL_0", "LABEL_1", "LABEL_2")),
    ],
)
def test_labels(config, labels):
    assert labels_of(config) == labels


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("bert", {"model_type": "gpt2"}, r"architecture 'gpt2': only bert, .* can be built .* ONNX"),
        ("bert", {"model_type": None, "architectures": None}, r"architecture None: only bert"),
        ("bert", {"architectures": ["BertForMaskedLM"]}, r"'BertForMaskedLM', but of bert only BertForSequenceClass"),
        ("bert", {"architectures": ["DistilBertForTokenClassification"]}, r"use a checkpoint that was fine-tuned"),
        ("bert", {"hidden_act": "mish"}, r"activation 'mish' \(hidden_act\): only gelu, gelu_accurate, "),
        ("distilbert", {"activation": "selu"}, r"activation 'selu' \(activation\)"),
        ("bert", {"num_attention_heads": 5}, r"5 attention heads, .* 64: correct num_attention_heads"),
        ("bert", {"hidden_size": 258, "num_attention_heads": 2}, r"heads of 129 channels, .* more num_attention_heads"),
        ("distilbert", {"n_heads": 5}, r"do not divide the hidden size 64: correct n_heads"),
        ("bert", {"num_attention_heads": 0}, r"num_attention_heads 0: it must be a positive whole number"),
        ("bert", {"hidden_size": "64"}, r"hidden_size '64': it must be a positive whole number"),
        ("bert", {"intermediate_size": None}, r"has no intermediate_size: add it"),
        ("bert", {"position_embedding_type": "relative_key"}, r"'relative_key': only 'absolute'"),
        ("bert", {"is_decoder": True}, r"has is_decoder: only encoders"),
        ("bert", {"add_cross_attention": True}, r"has add_cross_attention: only encoders"),
        ("bert", {"pruned_heads": {"0": [1]}}, r"has pruned_heads: only networks with all"),
        ("bert", {"quantization_config": {"bits": 4}}, r"quantized already: import the checkpoint"),
        ("mpnet", {"relative_attention_num_buckets": 16}, r"buckets 16: MPNet itself uses 32"),
        ("bert", {"layer_norm_eps": "small"}, r"layer_norm_eps 'small': it must be a small positive number"),
        ("roberta", {"pad_token_id": None}, r"pad_token_id None, from which Roberta counts its positions"),
        ("bert", {"problem_type": "ranking"}, r"problem_type 'ranking': it must be one of regression, "),
        ("bert", {"problem_type": "regression"}, r"'regression' for a network with 3 labels, .* correct problem_type"),
        (
            "bert",
            {"problem_type": "single_label_classification", "id2label": {"0": "a"}},
            r"'single_label_classification' for a network with one label",
        ),
        ("bert", {"id2label": {"0": "a"}}, r"into 3 labels, but config.json names 1: correct id2label"),
        ("bert", {"id2label": {"1": "a"}}, r"without gaps: correct it"),
        ("bert", {"id2label": ["a"]}, r"without gaps: correct it"),
        ("bert", {"id2label": {"0": "a", "1": "b", "2": "a"}}, r"two classes the label 'a': make the labels"),
        ("bert", {"vocab_size": 9}, r"word_embeddings.weight' with a length of 400, .* says 9: correct vocab_size"),
        ("bert", {"max_position_embeddings": 9}, r"length of 512, .* 9: correct max_position_embeddings"),
        ("bert", {"hidden_size": 32}, r"length of 64, .* 32: correct hidden_size, or use the config.json"),
        ("bert", {"intermediate_size": 32}, r"length of 128, .* 32: correct intermediate_size"),
        ("electra", {"embedding_size": 16}, r"length of 32, .* 16: correct embedding_size"),
        ("bert", {"num_hidden_layers": 2}, r"has 3 encoder layers, but config.json says 2: correct num_hidden_layers"),
        ("distilbert", {"n_layers": 4}, r"has 3 encoder layers, but config.json says 4: correct n_layers"),
    ],
)
def test_configurations_that_do_not_fit_are_refused_by_name(kind, change, message):
    tensors = tensors_of(config_of(kind))
    with pytest.raises(BundleError, match=message):
        from_checkpoint(config_of(kind) | change, tensors)


def test_tokens_have_one_label_each():
    config = config_of("bert", "token", problem_type="multi_label_classification")
    with pytest.raises(BundleError, match="for a network that classifies tokens"):
        from_checkpoint(config, tensors_of(config))


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("classifier.weight", r"no tensor 'classifier.weight', which belongs to the head of BertForSequenceClass"),
        ("bert.pooler.dense.weight", r"'bert.pooler.dense.weight', which belongs to the head .* fine-tuned as that"),
        ("classifier.bias", r"no tensor 'classifier.bias'"),
        (
            "bert.encoder.layer.1.output.dense.weight",
            r"no tensor 'bert.encoder.layer.1.output.dense.weight': it does not hold the BertForSequenceClassification",
        ),
        ("bert.embeddings.LayerNorm.weight", r"no tensor 'bert.embeddings.LayerNorm.weight'"),
    ],
)
def test_missing_tensors_are_named(missing, message):
    config = config_of("bert")
    tensors = tensors_of(config)
    del tensors[missing]
    with pytest.raises(BundleError, match=message):
        from_checkpoint(config, tensors)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((3, 64), np.int8), r"'classifier.weight' as int8, so it is quantized already: import"),
        (np.full((3, 64), np.nan, np.float32), r"'classifier.weight' with values that are not finite: download"),
        (np.zeros((3, 64, 1), np.float32), r"'classifier.weight' in 3 dimensions where 2 are needed: use"),
    ],
)
def test_tensors_that_are_no_weights_are_named(value, message):
    config = config_of("bert")
    with pytest.raises(BundleError, match=message):
        from_checkpoint(config, tensors_of(config) | {"classifier.weight": value})
