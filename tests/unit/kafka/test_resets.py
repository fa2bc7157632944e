"""Positions that the brokers no longer have, counted from the client's log."""

from __future__ import annotations

import logging

import pytest

from worker.kafka.resets import Resets

GONE = (
    "offset reset (at offset 3 (leader epoch 0), broker 1) to offset BEGINNING (leader epoch -1): "
    "fetch failed due to requested offset not available on the broker: Broker: Offset out of range"
)


@pytest.mark.parametrize(
    ("facility", "said", "counted"),
    [
        ("OFFSET", GONE, 1),
        ("OFFSET", GONE.replace("offset 3", "offset INVALID"), 0),
        ("FETCH", GONE, 0),
        ("OFFSET", "offset commit failed", 0),
    ],
)
def test_a_deleted_position_is_counted_and_every_line_passed_on(caplog, facility, said, counted):
    """The client's own way of calling: the facility, its name, and the line as arguments."""
    resets = Resets()
    with caplog.at_level(logging.WARNING, "librdkafka"):
        resets.log(logging.WARNING, "%s [%s] %s", facility, "winnow#consumer-1", f"[thrd:main]: in [0]: {said}")
    assert resets.count == counted
    assert caplog.messages == [f"{facility} [winnow#consumer-1] [thrd:main]: in [0]: {said}"]
