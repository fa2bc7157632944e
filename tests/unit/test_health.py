"""What probes are told."""

from __future__ import annotations

from tests.kit import FakeClock
from worker.health import STALLED_AFTER, Health


def test_started_means_that_the_loop_has_turned_once():
    """However long the bundle takes to load, and however long ago the last turn is."""
    clock = FakeClock()
    health = Health(clock)
    clock.advance(2 * STALLED_AFTER)
    assert not health.started
    health.beat()
    clock.advance(2 * STALLED_AFTER)
    assert health.started
    assert not health.alive
