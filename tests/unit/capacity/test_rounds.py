"""What is measured in how much time, with a clock that the measuring moves."""

from __future__ import annotations

import pytest

from tests.kit import FakeClock
from worker.capacity.rounds import (
    BOUNDS,
    LENGTHS,
    ROUNDS,
    Budget,
    Shape,
    affordable,
    full,
    in_turns,
    lengths_up_to,
    shapes,
)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def budget(clock: FakeClock, seconds: float) -> Budget:
    return Budget(clock, clock() + seconds)


def test_a_full_batch_holds_as_many_texts_as_the_bound_allows():
    """Rows times length stay within the bound; a longer text is a batch of its own."""
    assert full(512, 16) == Shape(32, 16)
    assert full(512, 500) == Shape(1, 500)
    assert full(128, 512) == Shape(1, 512)


def test_a_shape_that_several_bounds_allow_is_measured_once():
    """A text of 512 tokens is the same batch for every bound up to 512."""
    assert shapes((128, 256, 512), (512,)) == [Shape(1, 512)]


@pytest.mark.parametrize(
    ("longest", "lengths"), [(512, LENGTHS), (256, LENGTHS[:-1]), (100, (16, 32, 64, 100)), (8, (8,)), (8192, LENGTHS)]
)
def test_lengths_end_where_the_model_does(longest: int, lengths: tuple[int, ...]):
    """No longer texts than the model reads, and those that fill it."""
    assert lengths_up_to(longest) == lengths


def test_a_fast_machine_measures_everything():
    """Where there is time, nothing is left out."""
    assert affordable(BOUNDS, LENGTHS, 1e6, 30.0) == (BOUNDS, LENGTHS)


@pytest.mark.parametrize("speed", [10_000, 3_000, 500, 50])
def test_a_slow_machine_leaves_out_what_does_not_fit(speed: float):
    """What stays can be run once to warm up and once a round; the largest bounds go first, then the longest texts."""
    bounds, lengths = affordable(BOUNDS, LENGTHS, speed, 20.0)
    assert bounds == BOUNDS[: len(bounds)]
    assert lengths == LENGTHS[: len(lengths)]
    assert len(lengths) == len(LENGTHS) or len(bounds) == 1
    tokens = sum(shape.tokens for shape in shapes(bounds, lengths))
    assert (ROUNDS + 1) * tokens <= speed * 20.0 or (len(bounds), len(lengths)) == (1, 1)


def test_something_is_measured_however_slow_the_machine():
    """One bound and one length always stay."""
    assert affordable(BOUNDS, LENGTHS, 0.001, 1.0) == (BOUNDS[:1], LENGTHS[:1])


def test_candidates_take_turns_and_every_other_round_goes_backwards(clock: FakeClock):
    """Nobody is measured twice before everybody was once."""
    order: list[str] = []

    def visit(name: str, seconds: float) -> float:
        order.append(name)
        clock.advance(seconds)
        return clock.now

    found = in_turns(["a", "b", "c"], visit, budget(clock, 9.0), rounds=3)
    assert order == ["a", "b", "c", "c", "b", "a", "a", "b", "c"]
    assert {len(visits) for visits in found.values()} == {3}


def test_the_time_is_shared_out_among_all_visits(clock: FakeClock):
    """Each visit is given its part of the budget."""
    given: list[float] = []
    in_turns(["a", "b"], lambda _, seconds: given.append(seconds), budget(clock, 10.0), rounds=5)
    assert given == [1.0] * 10


def test_no_round_is_begun_that_would_not_end_in_time(clock: FakeClock):
    """Where visits take longer than they should, there are fewer rounds, and the budget holds."""
    started = clock()

    def slow(_: str, __: float) -> None:
        clock.advance(2.0)

    found = in_turns(["a", "b"], slow, budget(clock, 11.0))
    assert len(found["a"]) == len(found["b"]) == 2
    assert clock() - started <= 11.0


def test_there_is_always_one_round(clock: FakeClock):
    """A budget that is spent before it begins gives one round, and not nothing."""
    found = in_turns(["a"], lambda _, __: clock.advance(60.0), budget(clock, 0.0))
    assert len(found["a"]) == 1


def test_a_share_is_of_what_is_left(clock: FakeClock):
    """Half of a budget half of which is spent is a quarter."""
    whole = budget(clock, 40.0)
    clock.advance(20.0)
    assert whole.share(0.5).left == 10.0
    clock.advance(60.0)
    assert whole.left == 0.0
