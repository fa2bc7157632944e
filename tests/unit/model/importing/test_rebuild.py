"""Our own graph of the weights of another one, proven to compute the same."""

import orjson
import pytest

from tests.unit.model import checkpoints
from tests.unit.model.importing import making
from tests.unit.model.importing.making import imported, int8_graph, optimum
from worker.errors import BundleError, ConfigError


@pytest.fixture
def traced(tmp_path):
    """A folder with a graph as torch traces it, and the graph."""
    return making.traced(tmp_path / "m")


def test_rebuild_makes_our_graph_of_the_weights_of_another(traced, tmp_path):
    folder, _ = traced
    result = imported(folder, tmp_path / "out", rebuild=True)
    assert result.bundle.manifest.quantization.activations == "static uint8"
    assert result.bundle.model_path.stat().st_size < (folder / "model.onnx").stat().st_size


def test_rebuild_takes_the_exact_graph_where_a_quantized_one_lies_beside_it(traced, tmp_path):
    folder, _ = traced
    checkpoints.save_graph(folder / "model_quantized.onnx", int8_graph())
    assert imported(folder, tmp_path / "out", rebuild=True).bundle.manifest.quantization.activations == "static uint8"


def test_rebuild_without_a_graph_is_refused(tmp_path):
    folder = checkpoints.write(tmp_path / "m")
    with pytest.raises(
        ConfigError, match=r"^--rebuild takes the weights of an ONNX graph, and .*m has safetensors with"
    ):
        imported(folder, tmp_path / "out", rebuild=True)
    assert not (tmp_path / "out").exists()


def another_epsilon(folder, model):
    (folder / "config.json").write_bytes(orjson.dumps(checkpoints.CONFIG | {"layer_norm_eps": 0.5}))


def a_weight_under_another_name(folder, model):
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == "classifier.bias")
    bias.name = "elsewhere"
    checkpoints.save_graph(folder / "model.onnx", model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (another_epsilon, r"does not compute what that graph computes.*Import it without --rebuild"),
        (a_weight_under_another_name, r"m/model\.onnx for a model\.safetensors: .* no tensor 'classifier\.bias'"),
    ],
)
def test_rebuild_of_another_network_is_refused(traced, tmp_path, change, message):
    """Names and sizes alone do not tell."""
    change(*traced)
    with pytest.raises(BundleError, match=message):
        imported(traced[0], tmp_path / "out", rebuild=True)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (checkpoints.foreign_graph, "does not say which weight is which"),
        (int8_graph, r"quantized already \(MatMulIntegerToFloat\): --rebuild needs the FP32 graph"),
    ],
)
def test_rebuild_of_what_is_not_recognised_is_refused(tmp_path, graph, message):
    folder = optimum(tmp_path / "m")
    checkpoints.save_graph(folder / "model.onnx", graph())
    with pytest.raises(BundleError, match=message):
        imported(folder, tmp_path / "out", rebuild=True)
