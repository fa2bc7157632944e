"""What quantizing shifts is taken back by the norms' biases, and by nothing else."""

from dataclasses import fields

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.unit.model import families
from worker.model.graph.builder import build
from worker.model.graph.correct import corrected
from worker.model.graph.network import from_checkpoint
from worker.model.graph.observe import observe
from worker.model.graph.quantize import REDUCED_WEIGHT_LIMIT, WEIGHT_LIMIT
from worker.model.graph.silu import with_silu
from worker.model.session import feeds, open_session

ROWS = families.rows([5, 30, 12, 3, 60, 21, 9, 44])


def network_of(kind):
    config = families.config_of(kind)
    return from_checkpoint(config, families.tensors_of(config))


def mean_of(model, name):
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = open_session(model.SerializeToString())
    found = [session.run([name], feeds(session, [row]))[0] for row in ROWS]
    return np.concatenate([each.reshape(-1, each.shape[-1]) for each in found]).mean(0)


@pytest.mark.parametrize("limit", [WEIGHT_LIMIT, REDUCED_WEIGHT_LIMIT])
@pytest.mark.parametrize("kind", families.KINDS)
def test_the_means_of_all_norms_are_those_of_fp32(kind, limit):
    network = network_of(kind)
    ranges = observe(network, ROWS).ranges()
    better = corrected(network, ranges, ROWS, limit)
    for name in ("layer.0.intermediate", "layer.1.input", "layer.1.intermediate", "layer.2.input", "head.0"):
        right = mean_of(build(network), name)
        before, after = (
            np.abs(mean_of(build(each, ranges, weight_limit=limit), name) - right).max() for each in (network, better)
        )
        assert after < before / 3, name
        assert after < 1e-3, name


def test_nothing_but_biases_of_norms_changes():
    network = network_of("distilbert")
    better = corrected(network, observe(network, ROWS).ranges(), ROWS)
    assert not np.array_equal(better.embedding_norm.bias, network.embedding_norm.bias)
    np.testing.assert_array_equal(better.words, network.words)
    for ours, theirs in zip(better.layers, network.layers, strict=True):
        for part in (field.name for field in fields(ours) if field.name != "fit"):
            one, other = getattr(ours, part), getattr(theirs, part)
            np.testing.assert_array_equal(one.weight, other.weight)
            assert np.array_equal(one.bias, other.bias) != part.endswith("norm"), part


def test_a_network_whose_embeddings_are_projected_keeps_their_norm():
    network = network_of("electra")
    assert network.projection is not None
    better = corrected(network, observe(network, ROWS).ranges(), ROWS)
    np.testing.assert_array_equal(better.embedding_norm.bias, network.embedding_norm.bias)


def test_a_network_with_silu_gets_the_means_of_the_one_with_gelu():
    network = network_of("bert")
    other, seen = with_silu(network, observe(network, ROWS))
    ranges = seen.ranges()
    better = corrected(other, ranges, ROWS, trained=network)
    for name in ("layer.0.intermediate", "layer.1.input", "layer.2.input", "head.0"):
        right = mean_of(build(network), name)
        before, after = (np.abs(mean_of(build(each, ranges), name) - right).max() for each in (other, better))
        assert after < before / 3, name
