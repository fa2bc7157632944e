"""Members of a group that are told of everything and do nothing, and waiting for what they come to see."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from worker.kafka.source import KafkaSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.config import KafkaSettings

SECONDS = 30.0


class Member:
    """Reads; commits nothing by itself."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.owned: set[tuple[str, int]] = set()
        self.told = 0
        """How often partitions were assigned, none included."""
        self.read: list[int] = []
        """The partition of each record."""
        self.source = KafkaSource(settings)
        self.source.start(self)

    def turn(self) -> None:
        self.read += [record.partition for record in self.source.poll(100, 0.02)]

    def assigned(self, partitions) -> None:
        self.told += 1
        self.owned |= set(partitions)

    def revoked(self, partitions) -> None:
        self.owned -= set(partitions)

    lost = revoked

    def refused(self) -> None:
        """Nothing was committed."""

    def committed(self, offsets) -> None:
        """Likewise."""


def until(done: Callable[[], object], *members: Member) -> None:
    """Wait for a condition, while these members poll."""
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline
        for member in members:
            member.turn()
