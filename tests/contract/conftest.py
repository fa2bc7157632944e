"""The worlds in which sources and sinks must behave alike: memory, and Kafka in both group protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.worlds import KafkaWorld, MemoryWorld, World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(
    params=["memory", *(pytest.param(f"kafka-{p}", marks=pytest.mark.kafka) for p in ("classic", "consumer"))]
)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    kind, _, protocol = request.param.partition("-")
    if kind == "memory":
        made: World = MemoryWorld()
    else:
        made = KafkaWorld(request.getfixturevalue("kafka"), request.getfixturevalue("topics"), protocol)
    yield made
    made.end()
