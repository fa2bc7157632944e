"""A network with every channel twice says the same, with its early head, too."""

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the benchmarks need the extra [import]")

from bench.peers import widened
from tests.unit.model import families
from tests.unit.model.families import session_of
from worker.model.graph.builder import STAGES, build
from worker.model.graph.network import from_checkpoint
from worker.model.session import Stages, run

ROWS = families.rows([5, 30, 12])


def test_twice_the_width_says_the_same():
    config = families.config_of("distilbert") | {"early_exit_layer": 1}
    held = families.tensors_of(config)
    wide = from_checkpoint(widened.config(config), widened.tensors(held))
    narrow = from_checkpoint(config, held)
    assert wide.hidden == 2 * narrow.hidden
    assert wide.heads == narrow.heads
    np.testing.assert_allclose(run(session_of(wide), ROWS), run(session_of(narrow), ROWS), atol=1e-5)


def test_the_early_head_says_the_same():
    config = families.config_of("distilbert") | {"early_exit_layer": 1}
    held = families.tensors_of(config)
    sizes = (config, held), (widened.config(config), widened.tensors(held))
    narrow, wide = (_stages(*each)(ROWS) for each in sizes)
    for there, back in zip(narrow, wide, strict=True):
        np.testing.assert_allclose(back, there, atol=1e-5)


def _stages(config, tensors):
    network = from_checkpoint(config, tensors)
    return Stages(*(build(network, stage=stage).SerializeToString() for stage in STAGES))
