"""Readers of stored partitions take the worker's settings, whatever those say of its membership."""

from __future__ import annotations

import pytest

from worker.config import KafkaSettings
from worker.kafka.reading import Reading


@pytest.mark.parametrize(
    "membership", [{"max.poll.interval.ms": 5_000}, {"session.timeout.ms": 400_000, "max.poll.interval.ms": 500_000}]
)
def test_settings_of_a_membership_harm_no_reader(membership: dict[str, int]):
    """A reader joins no group: the client is made, though they would not fit its own defaults."""
    settings = KafkaSettings(
        bootstrap_servers="127.0.0.1:1", group_id="g", group_protocol="consumer", input_topics=("in",),
        output_topic="out", dead_letter_topic="dead", consumer_properties=membership,
    )  # fmt: skip
    Reading(settings).close()
