"""The search for the most INT8 that passes: all of it, else as few parts in FP32 as the judge allows."""

import numpy as np
import pytest

from tests.unit.model import checkpoints
from worker.model.graph.network import from_checkpoint
from worker.model.graph.observe import observe
from worker.model.importing import fallback
from worker.model.importing.gate import Meaning, compare

ROWS = [[2, *range(5, 9 + i), 3] for i in range(20)]


@pytest.fixture(scope="module")
def tried():
    network = from_checkpoint(checkpoints.CONFIG, checkpoints.tensors())
    seen = observe(network, ROWS)
    return fallback.Quantizer(network, seen.ranges(range(len(ROWS))), 127), seen


def search(tried, passes):
    """The chosen candidate, and the numbers of FP32 parts in the order in which they were judged."""
    quantizer, seen = tried
    counts = []
    meaning = Meaning("single-label", ("a", "b", "c"))

    class Counting(fallback.Quantizer):
        def without(self, fp32_parts):
            counts.append(len(fp32_parts))
            return quantizer.without(fp32_parts)

        def only(self, part):
            return quantizer.only(part)

    counting = Counting(quantizer._network, quantizer._ranges, 127)
    judge = fallback.Judge(ROWS, lambda int8: compare(meaning, seen.logits, int8), lambda _: passes(counts[-1]))
    sample = fallback.Sample(ROWS[:4], seen.logits[:4])
    return fallback.quantize(counting, judge, sample, lambda _: None), counts


def test_everything_is_int8_where_that_passes(tried):
    chosen, counts = search(tried, lambda _: True)
    assert chosen.fp32_parts == ()
    assert counts == [0]


def test_the_fewest_parts_that_pass_are_kept(tried):
    chosen, counts = search(tried, lambda count: count >= 3)
    assert len(chosen.fp32_parts) == 3
    assert counts == [0, 1, 2, 4, 3]


def test_at_most_half_of_the_parts_are_kept(tried):
    """Beyond that there is little left to win; the best of what was tried is handed back."""
    chosen, counts = search(tried, lambda count: False)
    assert counts == [0, 1, 2, 4]
    assert chosen.comparison.agreement.texts == len(ROWS)


def test_the_part_that_hurts_most_is_first(tried):
    quantizer, seen = tried
    ranked = fallback.sensitivities(quantizer, fallback.Sample(ROWS, seen.logits), lambda _: None)
    assert sorted(ranked) == sorted([*seen.names, fallback.WORDS])
    network = from_checkpoint(checkpoints.CONFIG, checkpoints.tensors())
    ranges = seen.ranges(range(len(ROWS)))
    wide = ranges["layer.1.context"]
    ranges["layer.1.context"] = type(wide)(wide.low * 500, wide.high * 500)
    ruined = fallback.Quantizer(network, ranges, 127)
    assert fallback.sensitivities(ruined, fallback.Sample(ROWS, seen.logits), lambda _: None)[0] == "layer.1.context"


def test_ranges_are_those_of_the_chosen_texts(tried):
    _, seen = tried
    one, all_of_them = seen.ranges([3]), seen.ranges(range(len(ROWS)))
    assert all(all_of_them[n].low <= one[n].low <= one[n].high <= all_of_them[n].high for n in seen.names)
    assert any(one[n] != all_of_them[n] for n in seen.names)
    np.testing.assert_array_equal([len(each) for each in seen.logits], [3] * len(ROWS))


def test_observation_needs_texts():
    network = from_checkpoint(checkpoints.CONFIG, checkpoints.tensors())
    with pytest.raises(ValueError, match="at least one text"):
        observe(network, [])
