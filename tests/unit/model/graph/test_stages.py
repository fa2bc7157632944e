"""Two stages of a network are the network, bit for bit, and each gives a row the same bits in any company."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.model import families
from tests.unit.model.families import KINDS, network_of, ranges_of, session_of, stages_of
from worker.errors import BundleError
from worker.model.graph.builder import build
from worker.model.graph.names import product_inputs
from worker.model.graph.observe import observe
from worker.model.session import Stages, feeds, open_session, run

LENGTHS = [*range(1, 20), 31, 32, 33, 47, 64, 65, 100, 128, 200]
QUANTIZED = ["int8", "fp32"]


def staged(kind, layer=1, **changes):
    return network_of(kind, early_exit_layer=layer, **changes)


def ranges(network, quantized):
    return ranges_of(network) if quantized == "int8" else None


def run_early(session, rows, length=None):
    """Logits of the early head, and the states [batch, sequence, hidden]."""
    return session.run(["logits", "hidden"], feeds(session, rows, length))


def run_rest(session, hidden, lengths):
    """Logits of states that are padded to the longest of `lengths`."""
    mask = np.array([[1] * n + [0] * (hidden.shape[1] - n) for n in lengths], np.int32)
    return session.run(["logits"], {"hidden": hidden, "attention_mask": mask})[0]


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("quantized", QUANTIZED)
@pytest.mark.parametrize("kind", KINDS)
def test_both_stages_are_the_whole_bit_for_bit(kind, quantized, layer):
    network = staged(kind, layer)
    found = ranges(network, quantized)
    whole, (early, rest) = session_of(network, found), stages_of(network, found)
    for batch in (families.rows([17]), families.rows([1, 5, 40, 33]), families.rows([64] * 8)):
        _, hidden = run_early(early, batch)
        assert hidden.shape == (len(batch), max(map(len, batch)), network.hidden)
        np.testing.assert_array_equal(run_rest(rest, hidden, map(len, batch)), run(whole, batch))


@pytest.mark.parametrize("kind", KINDS)
def test_one_observation_serves_the_whole_and_both_stages(kind):
    """An early head adds what itself reads, and changes no other range."""
    network = staged(kind)
    plain = replace(network, early=None)
    assert [*product_inputs(plain), "early.0"] == product_inputs(network)
    rows = families.rows([5, 60])
    found = observe(network, rows).ranges()
    assert found.pop("early.0").high < found["layer.1.input"].high
    assert found == observe(plain, rows).ranges()


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_bit_equal_in_any_company_through_both_stages(kind, layer):
    """Together or alone, padded or not; the states are gathered anew between the stages, as the worker does."""
    network = staged(kind, layer)
    early, rest = stages_of(network, observe(network, families.rows([5, 60, 130])).equalized())
    rows = families.rows(LENGTHS)
    alone = [run_early(early, [row]) for row in rows]
    last = np.concatenate([run_rest(rest, hidden, [len(row)]) for row, (_, hidden) in zip(rows, alone, strict=True)])
    order = np.random.default_rng(layer).permutation(len(rows))
    for start in range(0, len(order), 7):
        chosen = order[start : start + 7]
        logits, hidden = run_early(early, [rows[i] for i in chosen], 210)
        for at, i in enumerate(chosen):
            np.testing.assert_array_equal(logits[at], alone[i][0][0])
            np.testing.assert_array_equal(hidden[at, : len(rows[i])], alone[i][1][0])
    for start in range(0, len(order), 5):
        chosen = order[start : start + 5]
        states = gathered([alone[i][1][0] for i in chosen])
        np.testing.assert_array_equal(run_rest(rest, states, [len(rows[i]) for i in chosen]), last[chosen])


def gathered(states):
    """Ragged states [tokens, hidden] as the second stage takes them, zeros for padding."""
    out = np.zeros((len(states), max(map(len, states)), states[0].shape[1]), np.float32)
    for i, each in enumerate(states):
        out[i, : len(each)] = each
    return out


@pytest.fixture(scope="module")
def small():
    network = staged("distilbert")
    return stages_of(network, ranges_of(network))


@settings(max_examples=15)
@given(lengths=st.lists(st.integers(1, 90), min_size=1, max_size=10), extra=st.integers(0, 40), seed=st.integers(0, 99))
def test_rows_are_bit_equal_for_any_lengths_and_padding(small, lengths, extra, seed):
    early, rest = small
    rows = families.rows(lengths, seed)
    logits, hidden = run_early(early, rows, max(lengths) + extra)
    together = run_rest(rest, hidden, lengths)
    for at, row in enumerate(rows):
        one, states = run_early(early, [row])
        np.testing.assert_array_equal(logits[at], one[0])
        np.testing.assert_array_equal(together[at], run_rest(rest, states, [len(row)])[0])


@pytest.mark.parametrize("without", ["input", "early.0", "context", "e"])
def test_rows_are_bit_equal_with_products_left_in_fp32(without):
    network = staged("bert")
    left = {name: found for name, found in ranges_of(network).items() if without not in name}
    early, _ = stages_of(network, left, int8_words=without != "e")
    rows = families.rows(range(1, 40))
    logits, _ = run_early(early, rows, 64)
    np.testing.assert_array_equal(logits, np.concatenate([run_early(early, [row])[0] for row in rows]))


def test_inputs_and_outputs_of_the_stages():
    early, rest = stages_of(staged("distilbert"))
    sizes = {"hidden": ["batch", "sequence", 64], "logits": ["batch", 3]}
    assert [(i.name, i.type, i.shape) for i in early.get_inputs()] == [
        ("input_ids", "tensor(int32)", ["batch", "sequence"]),
        ("attention_mask", "tensor(int32)", ["batch", "sequence"]),
    ]
    assert {o.name: o.shape for o in early.get_outputs()} == sizes
    assert [(i.name, i.type, i.shape) for i in rest.get_inputs()] == [
        ("hidden", "tensor(float)", ["batch", "sequence", 64]),
        ("attention_mask", "tensor(int32)", ["batch", "sequence"]),
    ]
    assert [o.name for o in rest.get_outputs()] == ["logits"]


def test_stages_share_nothing_but_what_both_need():
    """Both together are as large as the whole and the early head: no layer and no table is stored twice."""
    network = staged("distilbert")
    found = ranges_of(network)
    whole, early, rest = (len(build(network, found, stage=s).SerializeToString()) for s in ("whole", "early", "rest"))
    head = network.hidden * (8 * network.hidden + 4 * 8 + 4 * len(network.labels))
    assert early + rest - whole - head < 0.05 * whole


def test_the_early_head_reads_means_that_its_queries_weigh():
    """Of its own text alone, in whatever company; its products are computed for one row a text."""
    network = staged("bert")
    model = build(network, stage="early")
    model.graph.output.append(onnx.helper.make_tensor_value_info("early.0", onnx.TensorProto.FLOAT, None))
    session = open_session(model.SerializeToString())
    rows = families.rows([9, 4])
    means, hidden = session.run(["early.0", "hidden"], feeds(session, rows, 12))
    assert means.shape == (2, 1, 8 * 64)
    for at, row in enumerate(rows):
        states = hidden[at, : len(row)]
        weights = np.exp(states @ network.early.queries)
        right = (weights / weights.sum(0)).T @ states
        np.testing.assert_allclose(means[at, 0], right.reshape(-1), atol=1e-5)


def test_a_network_without_an_early_head_has_no_stages():
    with pytest.raises(ValueError, match="a network without an early head has no stages"):
        build(network_of("bert"), stage="early")


@pytest.mark.parametrize("layer", [0, 3, -1, True, "1"])
def test_a_layer_that_is_none_before_the_last_is_refused(layer):
    with pytest.raises(BundleError, match=r"config\.json has the early_exit_layer .* a layer before the last of 3"):
        staged("bert", layer)


def test_a_network_that_classifies_tokens_has_no_early_head():
    with pytest.raises(BundleError, match="early_exit_layer for a network that classifies tokens: remove it"):
        network_of("bert", "token", early_exit_layer=1)


@pytest.mark.parametrize("part", ["queries", "pre_classifier", "classifier"])
def test_a_missing_early_head_is_named(part):
    config = families.config_of("bert", early_exit_layer=1)
    tensors = {name: each for name, each in families.tensors_of(config).items() if f"early_exit.{part}" not in name}
    with pytest.raises(BundleError, match=rf"has no tensor 'early_exit\.{part}\.weight'"):
        families.from_checkpoint(config, tensors)


def test_stages_answer_in_the_order_of_the_rows():
    network = staged("distilbert")
    found = ranges_of(network)
    both = Stages(*(build(network, found, stage=stage).SerializeToString() for stage in ("early", "rest")))
    rows = families.rows([9, 3, 30, 4])
    early, last = both(rows, batch=2)
    np.testing.assert_array_equal(last, run(session_of(network, found), rows))
    np.testing.assert_array_equal(early[1], both(rows[1:2])[0][0])
