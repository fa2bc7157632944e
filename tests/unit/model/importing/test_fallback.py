"""The search for the most INT8 that passes: as few parts in FP32 as the judge allows."""

import numpy as np
import pytest

from tests.unit.model import checkpoints
from worker.model.graph.builder import build
from worker.model.graph.network import from_checkpoint
from worker.model.graph.observe import observe
from worker.model.graph.switched import WORDS, Switched
from worker.model.importing import fallback
from worker.model.importing.gate import Meaning, compare
from worker.model.session import open_session, run_each

ROWS = [[2, *range(5, 9 + i), 3] for i in range(20)]
MEANING = Meaning("single-label", ("a", "b", "c"))


@pytest.fixture(scope="module")
def tried():
    network = from_checkpoint(checkpoints.CONFIG, checkpoints.tensors())
    seen = observe(network, ROWS)
    return Switched(network, seen.equalized()), seen, network


def search(tried, passes):
    """The chosen candidate, and the numbers of FP32 parts in the order in which they were judged."""
    switched, seen, _ = tried
    counts = []

    class Counting:
        parts = switched.parts

        def __call__(self, rows, int8, batch=1):
            if rows is ROWS:
                counts.append(len(self.parts) - len(int8))
            return switched(rows, int8, batch)

    def judged(int8):
        return compare(MEANING, seen.logits, int8)

    judge = fallback.Judge(ROWS, judged, lambda _: passes(counts[-1]))
    everything = judged(switched(ROWS, switched.parts))
    few = fallback.sample(ROWS[:4], seen.logits[:4])
    return fallback.search(Counting(), judge, few, everything, lambda _: None), counts


def test_the_fewest_parts_that_pass_are_kept(tried):
    chosen, counts = search(tried, lambda count: count >= 3)
    assert len(chosen.fp32_parts) == 3
    assert counts == [1, 2, 4, 3]


def test_at_most_half_of_the_parts_are_kept(tried):
    """Beyond that there is little left to win; the best of what was tried is handed back."""
    chosen, counts = search(tried, lambda count: False)
    assert counts == [1, 2, 4]
    assert chosen.most == 4
    assert chosen.comparison.agreement.texts == len(ROWS)


def test_the_part_that_hurts_most_is_first(tried):
    switched, seen, network = tried
    few = fallback.sample(ROWS, seen.logits)
    assert sorted(fallback.sensitivities(switched, few, lambda _: None)) == sorted([*seen.low, WORDS])
    ranges = seen.ranges()
    wide = ranges["layer.1.context"]
    ranges["layer.1.context"] = type(wide)(wide.low * 500, wide.high * 500)
    ruined = Switched(network, ranges)
    assert fallback.sensitivities(ruined, few, lambda _: None)[0] == "layer.1.context"


@pytest.mark.parametrize("fp32", [(), ("layer.0.activation", "layer.1.input"), (WORDS, "head.0"), "all"])
def test_a_switched_graph_computes_what_the_graph_with_these_parts_computes(tried, fp32):
    switched, seen, network = tried
    fp32 = switched.parts if fp32 == "all" else fp32
    ranges = {name: found for name, found in seen.equalized().items() if name not in fp32}
    alone = run_each(open_session(build(network, ranges, int8_words=WORDS not in fp32).SerializeToString()), ROWS)
    both = switched(ROWS, set(switched.parts) - set(fp32))
    np.testing.assert_allclose(np.stack(both), np.stack(alone), atol=1e-5)


def test_a_switched_graph_of_tokens():
    network = from_checkpoint(checkpoints.TOKEN_CONFIG, checkpoints.tensors(checkpoints.TOKEN_CONFIG))
    seen = observe(network, ROWS)
    switched = Switched(network, seen.equalized())
    for found, expected in zip(switched(ROWS, ()), seen.logits, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_sample_is_short():
    """Sixteen texts, fewer long ones, at least one."""
    assert len(fallback.sample([[1] * 9] * 40, [np.zeros(2)] * 40).rows) == 16
    assert len(fallback.sample([[1] * 300] * 40, [np.zeros(2)] * 40).rows) == 3
    assert len(fallback.sample([[1] * 3000] * 40, [np.zeros(2)] * 40).fp32) == 1


def test_ranges_are_those_of_the_chosen_texts(tried):
    _, seen, network = tried
    one, everything = observe(network, ROWS, [3]).ranges(), seen.ranges()
    assert all(everything[n].low <= one[n].low <= one[n].high <= everything[n].high for n in one)
    assert any(one[n] != everything[n] for n in one)
    np.testing.assert_array_equal([len(each) for each in seen.logits], [3] * len(ROWS))


def test_observation_needs_texts():
    network = from_checkpoint(checkpoints.CONFIG, checkpoints.tensors())
    with pytest.raises(ValueError, match="at least one text"):
        observe(network, [])
