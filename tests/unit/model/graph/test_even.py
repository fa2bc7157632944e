"""Rescaling and reordering channels leaves a network what it was."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from onnx import numpy_helper

from tests.unit.model import families
from tests.unit.model.families import KINDS, network_of, session_of
from worker.model.graph.builder import build
from worker.model.graph.even import evened
from worker.model.graph.observe import observe
from worker.model.graph.quantize import Range
from worker.model.session import run

ROWS = families.rows([5, 60, 30, 12])


def all_evened(network, ranges):
    layers = []
    for i, layer in enumerate(network.layers):
        even, ranges = evened(layer, f"layer.{i}", ranges)
        layers.append(even)
    return replace(network, layers=tuple(layers)), ranges


@pytest.mark.parametrize("kind", KINDS)
def test_the_function_stays(kind):
    network = network_of(kind)
    even, _ = all_evened(network, observe(network, ROWS).equalized())
    np.testing.assert_allclose(run(session_of(even), ROWS), run(session_of(network), ROWS), atol=2e-5)


def test_no_context_is_divided_and_every_channel_of_it_reaches_as_far_as_after_the_division():
    network = network_of("bert")
    ranges = observe(network, ROWS).equalized()
    even, found = all_evened(network, ranges)
    seen = observe(even, ROWS)
    for i in range(len(network.layers)):
        name = f"layer.{i}.context"
        assert ranges[name].divisors is not None
        assert found[name].divisors is None
        assert seen.low[name].min() == pytest.approx(ranges[name].low, rel=1e-4)
        assert seen.high[name].max() == pytest.approx(ranges[name].high, rel=1e-4)


def test_channels_of_a_group_are_neighbours_and_their_scale_is_that_of_the_group():
    """A group's codes reach as far as its largest channel did, and each product of the group has its own scale."""
    network = network_of("bert")
    ranges = observe(network, ROWS).equalized()
    even, found = all_evened(network, ranges)
    seen = observe(even, ROWS)
    model = build(network, ranges)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    scales = [float(constants[n.input[1]]) for n in model.graph.node if n.op_type == "QuantizeLinear"]
    for i in range(len(network.layers)):
        name = f"layer.{i}.activation"
        steps = found[name].steps
        assert [channels.stop for channels, _ in steps] == [64, 124, 128]
        assert [channels.start for channels, _ in steps[1:]] == [channels.stop for channels, _ in steps[:-1]]
        for channels, divisor in steps:
            assert float(np.float32(found[name].scale * divisor)) in scales
            assert seen.low[name][channels].min() >= found[name].low * divisor * 1.0001
            assert seen.high[name][channels].max() <= found[name].high * divisor * 1.0001


def test_only_inputs_of_attention_and_feed_forward_are_divided_by_channel():
    """Three groups of codes side by side in each layer, and a `Mul` before none of them, nor before the context's."""
    network = network_of("bert", "token")
    model = build(network, observe(network, ROWS).equalized())
    made = {output: node for node in model.graph.node for output in node.output}
    quantized = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    layers = len(network.layers)
    assert len(quantized) == (2 + 1 + 3) * layers
    assert Counter(made[node.input[0]].op_type for node in quantized) == {
        "Mul": 2 * layers,
        "Gelu": 3 * layers,
        "Attention": layers,
    }
    joined = [node for node in model.graph.node if node.op_type == "Concat"]
    assert [len(node.input) for node in joined] == [3] * layers


def test_what_is_not_divided_stays_as_it_is():
    network = network_of("bert")
    ranges = observe(network, ROWS).ranges()
    even, found = all_evened(network, ranges)
    assert found == ranges
    assert all(each.divisors is None for each in found.values())
    assert all(ours is theirs for ours, theirs in zip(even.layers, network.layers, strict=True))


def test_steps_of_a_range():
    divisors = np.array([1, 1, 2, 2, 2, 7], np.float32)
    assert Range(0.0, 1.0).steps == []
    assert Range(0.0, 1.0, divisors).steps == [(slice(0, 2), 1), (slice(2, 5), 2), (slice(5, 6), 7)]
    assert Range(0.0, 1.0, np.ones(3, np.float32)).steps == [(slice(0, 3), 1)]
