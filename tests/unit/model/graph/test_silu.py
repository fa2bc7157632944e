"""Silu in Gelu's place: as near to it as the docs say, and everything else left as it was."""

from collections import Counter
from dataclasses import fields
from math import erf, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tests.unit.model import families
from tests.unit.model.families import KINDS, TASKS, network_of, session_of
from worker.model.graph.activations import GELUS
from worker.model.graph.builder import build
from worker.model.graph.names import pre_activations
from worker.model.graph.observe import Spread, observe
from worker.model.graph.silu import fitted, gelu, silu, with_silu
from worker.model.session import feeds, open_session, run_each

ROWS = families.rows([5, 60, 30, 12, 44])
ALL = np.linspace(-12, 12, 4801)


def spread_of(mean, deviation, low=None, high=None):
    reach = [mean - 3 * deviation if low is None else low, mean + 3 * deviation if high is None else high]
    return Spread(*(np.array([each], np.float32) for each in (*reach, mean, deviation)))


def said(fit, x):
    outer, inner, shift, offset = (each[:, None].astype(np.float64) for each in fit)
    return outer * silu(inner * x + shift) + offset


def rms(errors):
    return float(np.sqrt((errors**2).mean()))


@pytest.mark.parametrize(
    ("mean", "deviation", "allowed"),
    [(-1, 0.2, 0.002), (-1, 0.5, 0.005), (0, 0.3, 0.001), (-0.5, 1, 0.007), (0, 3, 0.009), (2, 0.2, 0.0015)],
)
def test_the_fit_is_near_where_the_values_are(mean, deviation, allowed):
    spread = spread_of(mean, deviation)
    x = np.random.default_rng(0).normal(mean, deviation, 20_000).clip(spread.low, spread.high)
    assert rms(said(fitted(spread), x) - gelu(x)) < allowed


@settings(max_examples=60)
@given(mean=st.floats(-4, 3), deviation=st.floats(0, 3), tail=st.floats(0, 6))
def test_no_fit_is_worse_than_one_for_all(mean, deviation, tail):
    """Over what it was fitted to: the quantiles of a normal distribution, and the extremes."""
    spread = spread_of(mean, deviation, mean - 3 * deviation, mean + 3 * deviation + tail)
    draws = np.random.default_rng(1).normal(mean, deviation, 20_000).clip(spread.low, spread.high)
    x = np.concatenate([draws, np.repeat([*spread.low, *spread.high], 400)])
    for_all = silu(1.702 * x) / 1.702
    assert rms(said(fitted(spread), x) - gelu(x)) <= rms(for_all - gelu(x)) * 1.05 + 1e-4


def test_values_beyond_the_extremes_are_not_far_off():
    """A text may go further than those of calibration did."""
    for mean in (-2, -1, 0, 1):
        off = np.abs(said(fitted(spread_of(mean, 0.6)), ALL) - gelu(ALL))[0]
        assert off[np.abs(ALL - mean) < 1.8].max() < 0.02
        assert off[np.abs(ALL - mean) < 2.4].max() < 0.06
        assert off[np.abs(ALL - mean) < 4].max() < 0.35


def test_a_channel_that_never_moves_keeps_its_value():
    fit = fitted(spread_of(0.3, 0.0))
    assert said(fit, np.array([0.3]))[0, 0] == pytest.approx(gelu(np.array([0.3]))[0], abs=1e-3)


def test_the_gelu_it_is_fitted_to_is_gelu():
    exact = np.array([0.5 * x * (1 + erf(x / sqrt(2))) for x in ALL])
    assert np.abs(gelu(ALL) - exact).max() < 5e-4


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_rewritten_network_says_nearly_the_same(kind, task):
    network = network_of(kind, task)
    other, _ = with_silu(network, observe(network, ROWS))
    assert other.activation == "silu"
    texts = families.rows([7, 33, 50], seed=5)
    right, found = (np.concatenate(run_each(session_of(each), texts), axis=None) for each in (network, other))
    assert rms(found - right) < 0.02 * rms(right)


def test_its_activations_reach_as_far_as_is_said():
    """In the first layer, which reads the same as before."""
    network = network_of("bert")
    other, found = with_silu(network, observe(network, ROWS))
    seen = observe(other, ROWS)
    name = "layer.0.activation"
    np.testing.assert_allclose(seen.high[name], found.high[name], atol=1e-4)
    assert (seen.low[name] >= found.low[name] - 1e-4).all()
    # Where a channel passes the lowest point between two values, it was not quite reached.
    np.testing.assert_allclose(seen.low[name], found.low[name], atol=0.02)


def test_only_the_feed_forward_and_its_ranges_change():
    network = network_of("bert")
    seen = observe(network, ROWS)
    other, found = with_silu(network, seen)
    changed = {
        field.name
        for ours, theirs in zip(other.layers, network.layers, strict=True)
        for field in fields(ours)
        if getattr(ours, field.name) is not getattr(theirs, field.name)
    }
    assert changed == {"fit"}
    assert {name for name in seen.low if found.low[name] is not seen.low[name]} == {
        f"layer.{i}.activation" for i in range(len(network.layers))
    }


@pytest.mark.parametrize("activation", ["relu", "silu", "quick_gelu", "tanh"])
def test_a_network_without_gelu_stays_as_it_is(activation):
    network = network_of("bert", hidden_act=activation)
    seen = observe(network, ROWS)
    assert with_silu(network, seen) == (network, seen)


def test_all_of_gelus_names_are_known():
    assert {"gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh"} <= GELUS
    assert not GELUS & {"relu", "silu", "swish", "quick_gelu", "tanh"}


def test_the_graph_has_silu_between_the_products():
    network = network_of("bert", "token")
    other, seen = with_silu(network, observe(network, ROWS))
    operators = Counter(node.op_type for node in build(other, seen.equalized()).graph.node)
    assert operators["QuickGelu"] == 3 * len(network.layers)
    assert not operators["Gelu"]


def test_spreads_are_those_of_the_values():
    network = network_of("bert", "token")
    seen = observe(network, ROWS, calibration=[0, 2])
    (name, *_) = pre_activations(network)
    model = build(network)
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = open_session(model.SerializeToString())
    texts = [session.run([name], feeds(session, [ROWS[i]]))[0][0] for i in (0, 2)]
    spread = seen.spreads[name]
    np.testing.assert_allclose(spread.low, np.concatenate(texts).min(0), atol=1e-5)
    np.testing.assert_allclose(spread.high, np.concatenate(texts).max(0), atol=1e-5)
    mean = np.mean([text.mean(0) for text in texts], axis=0)
    square = np.mean([(text**2).mean(0) for text in texts], axis=0)
    np.testing.assert_allclose(spread.mean, mean, atol=1e-5)
    np.testing.assert_allclose(spread.deviation, np.sqrt(square - mean**2), atol=1e-3)


@pytest.mark.parametrize("far", [-4000.0, 4000.0])
def test_values_may_be_far_away(far):
    """Nothing overflows, which numpy would warn of."""
    spread = spread_of(far, 1.0)
    x = np.linspace(far - 3, far + 3, 50)
    np.testing.assert_allclose(said(fitted(spread), x)[0], gelu(x), rtol=1e-6, atol=1e-3)
    low, high = fitted(spread).extremes(spread)
    assert np.isfinite([low, high]).all()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_in_int8_it_is_about_as_near_to_fp32_as_gelu(kind, task):
    network = network_of(kind, task)
    seen = observe(network, families.rows([3, 8, 20, 60, 130], seed=9))
    other, seen_other = with_silu(network, seen)
    texts = families.rows(range(1, 40), seed=2)
    right = np.concatenate(run_each(session_of(network), texts), axis=None)
    plain, ours = (session_of(*each) for each in ((network, seen.equalized()), (other, seen_other.equalized())))
    off = [rms(np.concatenate(run_each(each, texts), axis=None) - right) for each in (plain, ours)]
    assert off[1] < 1.5 * off[0]


def test_two_observations_are_the_same_to_the_bit():
    """However the threads take turns: a bundle can be made again."""
    network = network_of("distilbert")
    one, other = (observe(network, ROWS * 6).spreads for _ in range(2))
    for name in pre_activations(network):
        for ours, theirs in zip(one[name], other[name], strict=True):
            np.testing.assert_array_equal(ours, theirs)
