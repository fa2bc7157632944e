"""The graphs: their operators, their inputs and outputs, what is quantized and what is not."""

from collections import Counter

import numpy as np
import onnx
import pytest

from tests.unit.model import checkpoints, families, networks
from tests.unit.model.families import KINDS, TASKS, network_of, ranges_of, session_of
from worker.model.bundle import load
from worker.model.graph.activations import OPERATORS
from worker.model.graph.builder import STAGES, build
from worker.model.graph.emitter import Emitter
from worker.model.graph.names import product_inputs
from worker.model.graph.network import from_checkpoint
from worker.model.graph.observe import observe
from worker.model.graph.quantize import (
    REDUCED_WEIGHT_LIMIT,
    Range,
    by_column,
    by_row,
    equalized,
)
from worker.model.graph.silu import with_silu
from worker.model.session import open_session, run, session_options
from worker.model.spam.making import DEFAULT


def optimized_operators(model, tmp_path):
    options = session_options()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    open_session(model.SerializeToString(), options)
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def test_no_optimizer_fuses_the_norms_again(tmp_path):
    """SkipLayerNormalization costs several times what Add and LayerNormalization cost on the CPU."""
    found = optimized_operators(build(networks.network()), tmp_path)
    assert found["SkipLayerNormalization"] == 0
    assert found["LayerNormalization"] == 1 + 2 * 3


def test_int8_graph_has_one_attention_a_layer_and_no_float_product_outside_it(tmp_path):
    """Six products a layer and one in the head are INT8, but for keys and values of the last, which are not made.

    There four small ones ask for the first token, in place of attention.
    """
    found = optimized_operators(networks.int8_model(), tmp_path)
    assert found["SkipLayerNormalization"] == 0
    assert found["MatMulIntegerToFloat"] == 6 * 3 - 2 + 1
    assert found["Attention"] == 3 - 1
    assert found["FusedMatMul"] + found["MatMul"] + found["Gemm"] == 4 + 1
    assert found["Transpose"] == 3


def test_products_of_one_input_share_its_codes(tmp_path):
    """Q, K and V of a layer read one QuantizeLinear."""
    assert optimized_operators(networks.int8_model(), tmp_path)["QuantizeLinear"] == 4 * 3 + 1


def test_weights_stay_inside_one_file():
    model = networks.int8_model()
    assert all(t.data_location == onnx.TensorProto.DEFAULT for t in model.graph.initializer)
    onnx.checker.check_model(build(networks.network()), full_check=False)


def structure(model):
    """Every node with its attributes and what it reads, constants all alike."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        (
            node.op_type,
            node.domain,
            tuple("constant" if name in constants else name for name in node.input),
            tuple(node.output),
            tuple(attribute.SerializeToString() for attribute in node.attribute),
        )
        for node in model.graph.node
    ]


def test_the_default_bundle_is_what_is_built_today():
    """Heads of 32, as it has them; everything else about the sizes is in the constants."""
    default = load(DEFAULT)
    stages = ("whole",) if default.manifest.early_exit is None else STAGES
    config = networks.CONFIG | {"n_layers": 6, "dim": 384, "n_heads": 12, "hidden_dim": 64}
    config |= {"id2label": {"0": "ham", "1": "spam"}, "early_exit_layer": 2}
    network = from_checkpoint(config, networks.random_checkpoint(config))
    network, seen = with_silu(network, observe(network, [[2, *range(5, 12), 3]]))
    ranges = seen.equalized()
    for stage, path in zip(stages, default.graph_paths, strict=True):
        built, shipped = build(network, ranges, stage=stage), onnx.load(str(path))
        assert structure(built) == structure(shipped)
        for ours, theirs in ((built.graph.input, shipped.graph.input), (built.graph.output, shipped.graph.output)):
            assert [value.SerializeToString() for value in ours] == [value.SerializeToString() for value in theirs]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_inputs_and_output_are_the_same_for_all(kind, task):
    session = session_of(network_of(kind, task))
    assert [(i.name, i.type, i.shape) for i in session.get_inputs()] == [
        ("input_ids", "tensor(int32)", ["batch", "sequence"]),
        ("attention_mask", "tensor(int32)", ["batch", "sequence"]),
    ]
    (output,) = session.get_outputs()
    assert (output.name, output.type) == ("logits", "tensor(float)")
    assert output.shape == (["batch", "sequence", 3] if task == "token" else ["batch", 3])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_product_but_attention_and_classifier_is_int8(kind, task, tmp_path):
    network = network_of(kind, task)
    found = optimized_operators(build(network, ranges_of(network)), tmp_path)
    assert found["SkipLayerNormalization"] == 0
    assert found["MatMulIntegerToFloat"] == 6 * 3 - (task == "sequence") + (kind == "electra")
    assert found["Attention"] == 3 - (task == "sequence")
    assert found["FusedMatMul"] + found["MatMul"] + found["Gemm"] == 1 + 4 * (task == "sequence")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_int8_stays_near_fp32(kind, task):
    """Random weights forgive less than trained ones: the logits here spread over about 1."""
    network = network_of(kind, task)
    exact, quantized = session_of(network), session_of(network, ranges_of(network))
    off = [np.abs(run(quantized, [row]) - run(exact, [row])).mean() for row in families.rows([5, 20, 60])]
    assert np.mean(off) < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_layer_for_the_first_token_is_that_of_all_tokens(kind):
    """Without keys and values it adds up in another order, no more."""
    network = network_of(kind)
    rows = families.rows([1, 2, 20, 60, 130])
    plain = run(open_session(checkpoints.plain_graph(network).SerializeToString()), rows)
    np.testing.assert_allclose(run(session_of(network), rows), plain, atol=1e-5)


@pytest.mark.parametrize("activation", sorted(OPERATORS))
def test_int8_stays_near_fp32_with_every_activation(activation):
    network = network_of("bert", hidden_act=activation)
    rows = families.rows([20, 20])
    exact, quantized = session_of(network), session_of(network, ranges_of(network))
    assert np.abs(run(quantized, rows) - run(exact, rows)).mean() < 0.15


# Products that read each part of a layer. The last layer reads its input with the query alone, for the first token.
PRODUCTS = {"embeddings": 1, "input": 3, "query": 1, "context": 1, "intermediate": 1, "activation": 1, "head.0": 1}


@pytest.mark.parametrize(("kind", "task"), [("distilbert", "sequence"), ("electra", "sequence"), ("bert", "token")])
def test_any_product_may_stay_fp32(kind, task):
    """What the importer falls back to where quantizing hurts: one part less, or all of them."""
    network = network_of(kind, task)
    ranges = ranges_of(network)
    assert list(ranges) == product_inputs(network)
    quantized = int8_products(build(network, ranges))
    for name in ranges:
        part = name.rpartition(".")[2] if name.startswith("layer") else name
        part = "query" if task == "sequence" and name == "layer.2.input" else part
        rest = {other: found for other, found in ranges.items() if other != name}
        assert int8_products(build(network, rest)) == quantized - PRODUCTS[part], name
        only = build(network, {name: ranges[name]})
        assert int8_products(only) == PRODUCTS[part], name
    assert int8_products(build(network, {})) == 0


def test_without_any_int8_product_only_the_words_are_int8():
    """And those may be FP32, too: then nothing is lost."""
    network = network_of("bert")
    rows = families.rows([5, 20, 60])
    exact = run(session_of(network), rows)
    words = np.abs(run(session_of(network, {}), rows) - exact).max()
    assert 0 < words < 0.1
    np.testing.assert_array_equal(run(session_of(network, {}, int8_words=False), rows), exact)


def test_each_part_that_stays_fp32_brings_the_logits_nearer():
    """On the mean over many texts; the ranges of what is left stay as they are."""
    network = network_of("bert", "token")
    ranges = ranges_of(network)
    rows = families.rows([30] * 20)
    exact = run(session_of(network), rows)
    half = {name: found for name, found in ranges.items() if not name.startswith("layer.0")}
    off = [np.abs(run(session_of(network, r, int8_words=False), rows) - exact).mean() for r in (ranges, half, {})]
    assert off == sorted(off, reverse=True)
    assert off[-1] == 0


def int8_products(model):
    return Counter(node.op_type for node in model.graph.node)["MatMulIntegerToFloat"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_reduced_range_is_used_by_every_product(kind):
    network = network_of(kind, "token")
    model = build(network, ranges_of(network), weight_limit=REDUCED_WEIGHT_LIMIT)
    codes = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "MatMulIntegerToFloat":
            assert np.abs(codes[node.input[1]]).max() == REDUCED_WEIGHT_LIMIT


def test_equal_constants_are_stored_once_and_others_apart():
    """Equal bytes of another type or shape are another constant."""
    emit = Emitter()
    one = emit.constant(np.float32(1))
    assert emit.constant(np.array(1, np.float32)) == one
    others = [np.array([1], np.float32), np.array(1, np.float64), np.array(0x3F800000, np.int32)]
    assert len({one, *(emit.constant(other) for other in others)}) == 4


def test_a_constant_may_be_any_view_of_an_array():
    emit, table = Emitter(), np.arange(6, dtype=np.float32).reshape(2, 3)
    assert emit.constant(table.T) == emit.constant(np.ascontiguousarray(table.T))


def test_reduced_range_keeps_weights_within_seven_bits():
    codes, scale = by_column(np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32), REDUCED_WEIGHT_LIMIT)
    assert np.abs(codes).max() == 63
    assert scale.shape == (4,)


def test_zero_is_exact_in_every_range():
    """Padding and Relu give zeros, which must not become anything else."""
    for low, high in [(-1.0, 3.0), (0.5, 2.0), (-4.0, -1.0), (0.0, 0.0)]:
        found = Range(low, high)
        assert 0 <= int(found.zero_point) <= 255
        assert found.scale > 0


def test_channels_of_a_group_share_the_divisor_of_the_largest():
    high = np.array([8, 1, 2, 1, 9, 2, 3, 3], np.float32)
    divisors = equalized(-high, high, (1 / 2, 1 / 4, 1 / 4)).divisors
    grouped = np.array([9, 2, 2, 2, 9, 2, 3, 3], np.float32)
    np.testing.assert_array_equal(divisors, equalized(-grouped, grouped).divisors)
    assert len(set(equalized(-high, high).divisors.tolist())) == 5


def test_embedding_rows_have_their_own_scale():
    table = np.array([[1.0, -2.0], [100.0, 50.0]], np.float32)
    codes, scale = by_row(table)
    np.testing.assert_allclose(codes * scale, table, rtol=0.01)
