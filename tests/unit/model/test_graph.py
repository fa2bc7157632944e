"""The graphs: their operators, their rows' independence of each other, their refusals."""

from collections import Counter

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.model import networks
from worker.errors import BundleError
from worker.model import network
from worker.model.assemble import Encode
from worker.model.bundle import load
from worker.model.graph import build
from worker.model.quantize import REDUCED_WEIGHT_LIMIT, Range, by_column, by_row
from worker.model.random_bundle import random_checkpoint
from worker.model.session import open_session, run, session_options
from worker.model.spam_bundle import DEFAULT

LENGTHS = [*range(2, 36), 47, 48, 49, 63, 64, 65, 100, 127, 128, 129, 200, 255, 256, 257, 311, 400, 511, 512]


@pytest.fixture(scope="module")
def small():
    return networks.int8_session()


@pytest.fixture(scope="module")
def default():
    return open_session(str(load(DEFAULT).model_path))


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


def test_int8_graph_has_one_transpose_a_layer_and_no_float_product_outside_attention(tmp_path):
    """Six products a layer and one in the head are INT8; the classifier alone is FP32."""
    found = optimized_operators(networks.int8_model(), tmp_path)
    assert found["SkipLayerNormalization"] == 0
    assert found["MatMulIntegerToFloat"] == 6 * 3 + 1
    assert found["MatMul"] + found["Gemm"] == 1
    assert found["FusedMatMul"] == 2 * 3
    assert found["Transpose"] <= 3


def test_products_of_one_input_share_its_codes(tmp_path):
    """Q, K and V of a layer read one QuantizeLinear; the last layer's Q reads fewer rows, so it has its own."""
    assert optimized_operators(networks.int8_model(), tmp_path)["QuantizeLinear"] == 4 * 3 + 1 + 1


def test_weights_stay_inside_one_file():
    model = networks.int8_model()
    assert all(t.data_location == onnx.TensorProto.DEFAULT for t in model.graph.initializer)
    onnx.checker.check_model(build(networks.network()), full_check=False)


@pytest.mark.parametrize("batch", [2, 16, 32])
def test_small_model_rows_are_bit_equal_in_any_batch(small, batch):
    """Alone and unpadded, or beside others and padded to the longest: the same bits."""
    rows = networks.rows(LENGTHS)
    order = np.random.default_rng(batch).permutation(len(rows))
    alone = {i: run(small, [rows[i]])[0] for i in order}
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        np.testing.assert_array_equal(run(small, [rows[i] for i in part]), [alone[i] for i in part])


@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 130), min_size=1, max_size=12), extra=st.integers(0, 70), seed=st.integers(0, 99)
)
def test_small_model_rows_are_bit_equal_for_any_lengths_and_padding(small, lengths, extra, seed):
    rows = networks.rows(lengths, seed)
    together = run(small, rows, max(lengths) + extra)
    np.testing.assert_array_equal(together, np.concatenate([run(small, [row]) for row in rows]))


TEXTS = [
    "ok",
    "see you at 8 then :)",
    "Your code is 482 913, it expires in ten minutes.",
    "WIN a FREE phone!!! txt WIN to 80086 now, £1.50/msg, www.example.test",
    "nächste Woche wieder? 👍🏽 e\u0301 \u200b zero width",
    "",
    "Subject: minutes\n" + "we talked about the plan for the spring and who does what . " * 9,
    "the quick brown fox " * 70,
    "buy now " * 260,
]


@pytest.mark.parametrize("padded", [None, 256, 300])
def test_default_bundle_rows_are_bit_equal_in_any_batch(default, padded):
    """Texts as they come, of 2 to 256 tokens."""
    encode = Encode(load(DEFAULT).tokenizer_json.encode(), 256)
    rows = encode([text[cut:] for text in TEXTS for cut in (0, 1, 5)])
    alone = np.concatenate([run(default, [row]) for row in rows])
    np.testing.assert_array_equal(run(default, rows, padded), alone)
    np.testing.assert_array_equal(run(default, rows[::-1])[::-1], alone)


def test_default_bundle_rows_are_bit_equal_at_every_short_length(default):
    """Every remainder that a vector loop can leave."""
    rng = np.random.default_rng(5)
    rows = [[101, *rng.integers(1000, 30000, n).tolist(), 102] for n in range(67)]
    together = run(default, rows)
    np.testing.assert_array_equal(together, np.concatenate([run(default, [row]) for row in rows]))


def test_int8_stays_near_fp32(small):
    rows = networks.rows([5, 20, 60])
    fp32 = open_session(build(networks.network()).SerializeToString())
    np.testing.assert_allclose(run(small, rows), run(fp32, rows), atol=0.15)


def test_products_without_a_range_stay_fp32():
    """What the importer falls back to where quantizing hurts."""
    model = build(networks.network(), {"head.0": Range(-3.0, 3.0)})
    assert Counter(node.op_type for node in model.graph.node)["MatMulIntegerToFloat"] == 1


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


def test_embedding_rows_have_their_own_scale():
    table = np.array([[1.0, -2.0], [100.0, 50.0]], np.float32)
    codes, scale = by_row(table)
    np.testing.assert_allclose(codes * scale, table, rtol=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "only distilbert can be built"),
        ({"activation": "relu"}, "only gelu"),
        ({"n_heads": 5}, "do not divide"),
        ({"id2label": {"0": "a"}}, "into 3 labels, but config.json names 1"),
        ({"id2label": {"1": "a"}}, "without gaps"),
        ({"vocab_size": 9}, "wordpieces"),
        ({"n_layers": 4}, "no tensor 'distilbert.transformer.layer.3"),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused_by_name(change, message):
    tensors = random_checkpoint(networks.CONFIG, seed=3)
    with pytest.raises(BundleError, match=message):
        network.from_checkpoint(networks.CONFIG | change, tensors)
