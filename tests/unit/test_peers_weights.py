"""Weights read back from a bundle's graphs are those that went in, as far as INT8 keeps them."""

from types import SimpleNamespace

import numpy as np
import orjson
import pytest

pytest.importorskip("onnx", reason="the benchmarks need the extra [import]")

from bench.peers.weights import tensors
from tests.unit.model import families
from tests.unit.model.families import session_of
from worker.model import bundle as bundles
from worker.model.assemble import graphs
from worker.model.graph.network import from_checkpoint
from worker.model.session import run

ROWS = families.rows([5, 30, 12, 60, 9])


@pytest.mark.parametrize("early", [{}, {"early_exit_layer": 1}, {"early_exit_layer": 2}])
def test_the_network_of_the_weights_read_back_says_nearly_the_same(tmp_path, early):
    config = families.config_of("distilbert")
    held = families.tensors_of(config | early)
    files = graphs(config | early, held, ROWS).files() | {bundles.CONFIG: orjson.dumps(config | early)}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    paths = [tmp_path / name for name in files if name.endswith(".onnx")]
    bundle = SimpleNamespace(path=tmp_path, graph_paths=paths)
    found = tensors(bundle)
    names = {name: each.shape for name, each in held.items() if not name.startswith("early_exit")}
    assert {name: each.shape for name, each in found.items()} == names
    served = config | {"activation": "silu"}
    there, back = (run(session_of(from_checkpoint(*each)), ROWS) for each in ((config, held), (served, found)))
    assert 0 < np.abs(there - back).max() < 0.1
    assert np.abs(there).mean() > 0.5
    more = {name: each for name, each in tensors(bundle, early=True).items() if name not in found}
    assert {name: each.shape for name, each in more.items()} == {
        name: each.shape for name, each in held.items() if name.startswith("early_exit")
    }
    for name, each in more.items():
        assert np.linalg.norm(each - held[name]) < 0.03 * np.linalg.norm(held[name])
