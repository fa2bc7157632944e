"""What is kept of earlier looks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.watching.history import HORIZON, POINTS, SPACING, History
from worker.watching.snapshot import Snapshot

STEPS = st.lists(st.floats(1.0, 30.0), min_size=1, max_size=300)


def at(seconds: float, delivered: float = 0.0, started: float | None = None) -> Snapshot:
    samples = {"winnow_consumed_total": {(): delivered}, "winnow_delivered_total": {(): delivered}}
    if started is not None:
        samples["process_start_time_seconds"] = {(): started}
    return Snapshot(seconds, samples)


def kept(steps: list[float]) -> tuple[History, list[float]]:
    """A history that was told of moments so far apart, and these moments."""
    history, now, moments = History(), 1_000.0, []
    for step in steps:
        now += step
        moments.append(now)
        history.add(at(now, now - 1_000))
    return history, moments


@given(STEPS)
def test_it_is_bounded_and_near_to_what_is_asked_for(steps: list[float]):
    """However long one looks, few are kept, and each time within reach is met to its spacing, or a step."""
    history, moments = kept(steps)
    assert len(history) <= 40
    assert len(history.points) <= POINTS
    now = moments[-1]
    for seconds in (10.0, 60.0, 300.0, 900.0):
        between = history.over(seconds)
        if now - moments[0] >= seconds and len(moments) > 1:
            assert between.seconds is not None
            assert abs(between.seconds - seconds) <= SPACING * seconds + 30.0


@given(STEPS)
def test_nothing_is_older_than_the_horizon(steps: list[float]):
    """What was looked at long ago is forgotten, but for the one look that there is."""
    history, _ = kept(steps)
    assert history.watched <= HORIZON


def test_one_look_knows_only_the_start():
    """The first shows figures since the start; later ones of the time between."""
    history = History()
    history.add(at(1_000.0, 50, started=500.0))
    assert history.over(60.0).seconds == 500.0
    assert history.points == []
    history.add(at(1_002.0, 60, started=500.0))
    assert history.over(60.0).seconds == 2.0
    assert [(point.at, point.rate) for point in history.points] == [(1_002.0, 5.0)]


def test_a_young_process_is_shown_from_its_start():
    """The last minute of one that began 30 seconds ago is all of it."""
    history = History()
    for moment in (1_010.0, 1_020.0, 1_030.0):
        history.add(at(moment, 1, started=1_000.0))
    assert history.over(60.0).earlier is None
    assert history.over(10.0).seconds == 10.0


@pytest.mark.parametrize(
    "newer", [at(1_010.0, 3, started=500.0), at(1_010.0, 70, started=1_005.0), at(990.0, 70, started=500.0)]
)
def test_another_process_begins_anew(newer: Snapshot):
    """Counters that fell, another start, a clock that was set back: nothing is reckoned across that."""
    history = History()
    history.add(at(1_000.0, 50, started=500.0))
    history.add(at(1_002.0, 60, started=500.0))
    history.add(newer)
    assert (len(history), history.points, history.watched) == (1, [], 0.0)


def test_an_empty_worker_is_no_beginning():
    """While the model is being loaded there are no counters, from which a rate would be wrong."""
    history = History()
    history.add(Snapshot(1_000.0, {}))
    history.add(at(1_002.0, 60, started=900.0))
    assert len(history) == 1
