"""The arithmetic from measurements to settings."""

from __future__ import annotations

import pytest

from worker.capacity import plan
from worker.capacity.plan import Visit
from worker.capacity.rounds import full

LENGTHS = (16, 32, 64)
BOUNDS = (128, 256, 512)


def visits(*rates: float) -> list[Visit]:
    return [Visit(rate, (1 / rate,)) for rate in rates]


def measured(rate_of, rounds: int = 3):
    """Messages a second by `rate_of(bound, length)`; a shape is that of the first bound that gives it."""
    found = {}
    for bound in BOUNDS:
        for length in LENGTHS:
            found.setdefault(full(bound, length), visits(*[rate_of(bound, length)] * rounds))
    return found


def test_the_best_bound_is_that_with_the_highest_rate():
    """Where a larger batch is worth more than two parts in a hundred, it is taken."""
    rates = {128: 800.0, 256: 1000.0, 512: 900.0}
    found = measured(lambda bound, length: rates[bound] / length)
    assert plan.best_bound(found, BOUNDS, LENGTHS, [20, 30]) == 256


def test_a_smaller_bound_is_preferred_where_it_is_as_good():
    """Smaller batches take less time, so a hundredth more is not worth waiting for."""
    rates = {128: 900.0, 256: 990.0, 512: 1000.0}
    found = measured(lambda bound, length: rates[bound] / length)
    assert plan.best_bound(found, BOUNDS, LENGTHS, [20]) == 256


def test_the_best_bound_is_that_for_the_texts_at_hand():
    """Long texts may ask for another bound than short ones."""
    found = measured(lambda bound, length: bound if length == 16 else 1000.0 / bound)
    assert plan.best_bound(found, BOUNDS, LENGTHS, [16] * 10) == 512
    assert plan.best_bound(found, BOUNDS, LENGTHS, [64] * 10) == 128


def test_bounds_are_compared_round_by_round():
    """A round in which everything was slow does not decide."""
    found = measured(lambda bound, length: 1.0)
    for bound, factor in ((128, 1.0), (256, 1.1), (512, 1.0)):
        for length in LENGTHS:
            found[full(bound, length)] = visits(100 * factor, 10 * factor, 90 * factor)
    assert plan.best_bound(found, BOUNDS, LENGTHS, [20]) == 256


def test_between_two_lengths_the_cost_is_on_a_line():
    """24 tokens cost what lies halfway between 16 and 32; below 16 as 16; twice the longest costs twice as much."""
    costs = {16: 1.0, 32: 3.0, 64: 7.0}
    found = measured(lambda bound, length: 1 / costs[length])
    for tokens, cost in ((24, 2.0), (3, 1.0), (128, 14.0)):
        assert plan.mixed_rates(found, 128, LENGTHS, [tokens]) == pytest.approx([1 / cost] * 3)
    assert plan.mixed_rates(found, 128, LENGTHS, [16, 32]) == pytest.approx([0.5] * 3)


def test_no_more_lanes_than_help():
    """Four lanes that do what two do are two too many."""
    assert plan.best_lanes({1: visits(100, 110), 2: visits(195, 205), 4: visits(197, 206)}) == 2
    assert plan.best_lanes({1: visits(100), 2: visits(190)}) == 2
    assert plan.best_lanes({1: visits(100)}) == 1


def test_another_way_to_get_memory_must_be_worth_it():
    """What comes by chance changes no setting."""
    found = {"patterns": visits(100, 90), "arena": visits(104, 94), "system": visits(80, 70)}
    assert plan.best_allocation(found) == "patterns"
    assert plan.best_allocation(found | {"system": visits(112, 101)}) == "system"


@pytest.mark.parametrize(("most", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_lanes_double_up_to_what_there_is(most: int, counts: list[int]):
    """Powers of two, and all cores."""
    assert plan.lane_counts(most) == counts


def test_the_table_has_medians_and_the_99th_percentile():
    """A row's rate is the median of the rounds; p99 is over all runs of all rounds."""
    seconds = tuple(n / 1000 for n in range(1, 101))
    row = plan.row(full(512, 32), [Visit(10, seconds), Visit(30, ()), Visit(20, ())])
    assert (row.rate, row.least, row.most, row.runs) == (20, 10, 30, 100)
    assert row.p99 == 0.099
    assert plan.quantile([3.0, 1.0, 2.0], 0.99) == 3.0


@pytest.mark.parametrize(("tokens", "messages"), [(128, 8), (512, 32), (2048, 128), (8, 1), (65_536, 1024)])
def test_the_bound_on_messages_leaves_the_bound_on_tokens_to_decide(tokens: int, messages: int):
    """Texts of 16 tokens fill both at once; the setting's own limits hold."""
    assert plan.max_messages(tokens) == messages


def test_the_lag_threshold_is_what_a_replica_works_off_in_time():
    """Rate, less the headroom, times the target; never 0, which KEDA refuses."""
    assert plan.lag_threshold(1000.0, 10.0, 0.3) == 7000
    assert plan.lag_threshold(0.01, 1.0, 0.0) == 1


def test_settings_are_by_section():
    """As a settings file has them."""
    chosen = plan.Recommendation(512, 32, 0, "arena", 7000)
    assert chosen.settings == {
        "batching": {"max_messages": 32, "max_tokens": 512},
        "model": {"lanes": 0, "allocation": "arena"},
    }
