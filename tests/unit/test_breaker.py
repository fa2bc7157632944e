"""The stop where too many messages are refused."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from worker.errors import TopicError
from worker.pipeline.breaker import Breaker

REASONS = ("invalid-json", "missing-field", "model-error")
outcomes = st.lists(st.none() | st.sampled_from(REASONS), max_size=200)
shares = st.floats(0, 1, exclude_max=True)


def after(breaker: Breaker, noted: list[str | None]) -> Breaker:
    for reason in noted:
        breaker.note(reason)
    return breaker


def exceeds(noted: list[str | None], window: int, share: float, least: int) -> bool:
    latest = noted[-window:]
    return len(latest) >= least and sum(reason is not None for reason in latest) > share * len(latest)


@given(outcomes, st.integers(1, 50), shares, st.integers(1, 50))
def test_it_judges_the_share_of_the_latest_messages_alone(noted, window: int, share: float, least: int):
    """It has tripped exactly if ever more than the share of what were then the last `window` were refused."""
    breaker = after(Breaker(window, share, least), noted)
    assert breaker.tripped == any(exceeds(noted[:n], window, share, least) for n in range(1, len(noted) + 1))


@given(outcomes, st.integers(1, 50))
def test_without_a_share_it_never_trips(noted, window: int):
    """Left alone, the worker writes dead letters for ever."""
    breaker = after(Breaker(window, None), noted)
    assert not breaker.tripped
    breaker.check()


@given(outcomes, st.integers(1, 50), shares, outcomes)
def test_once_tripped_it_stays_so(noted, window: int, share: float, more):
    """While the worker finishes what is in flight nothing heals it, and what is said stays the same."""
    breaker = after(Breaker(window, share), [*noted, *["invalid-json"] * window])
    with pytest.raises(TopicError) as first:
        breaker.check()
    with pytest.raises(TopicError) as later:
        after(breaker, more).check()
    assert str(first.value) == str(later.value)


@given(st.integers(1, 100), shares)
def test_nothing_but_refusals_trips_as_soon_as_it_judges(least: int, share: float):
    """It trips with the message that makes the number complete, and not before."""
    breaker = after(Breaker(100, share, least), ["invalid-json"] * (least - 1))
    assert not breaker.tripped
    breaker.note("invalid-json")
    assert breaker.tripped


def test_exactly_the_share_is_let_pass():
    """The share is what is let pass, not what is too much."""
    half: list[str | None] = [None, "invalid-json"] * 5
    assert not after(Breaker(10, 0.5), half).tripped
    assert after(Breaker(10, 0.5), [*half, "invalid-json", "invalid-json"]).tripped


def test_what_is_said_names_share_window_reason_and_mend():
    """Who reads the log knows how many of how many, why most of them, and which settings to look at."""
    noted = [None] * 4 + ["missing-field"] * 4 + ["invalid-json"] * 2
    with pytest.raises(TopicError) as caught:
        after(Breaker(10, 0.5, 10), noted).check()
    assert str(caught.value) == (
        "6 of the last 10 messages became dead letters, 4 of them as 'missing-field': more than dead_letters.max_share "
        "= 0.5. Mend what writes them, or [input] if it is read in a wrong way; what was not acknowledged is not "
        "committed and is read again."
    )
    assert caught.value.exit_code == 5


def test_the_most_frequent_reason_is_of_the_window():
    """What has left the window is no longer counted."""
    earlier: list[str | None] = ["model-error", "model-error", None, None]
    breaker = after(Breaker(4, 0.5, 4), [*earlier * 3, *["invalid-json"] * 3])
    with pytest.raises(TopicError, match="3 of the last 4 messages became dead letters, 3 of them as 'invalid-json'"):
        breaker.check()
