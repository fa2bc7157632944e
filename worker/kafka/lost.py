"""Clients that have forgotten all brokers.

A broker that is shutting down as the last one of its cluster may name none in its metadata. Then librdkafka (2.13 to
2.16; its issue 5301) drops all that it knows, those of `bootstrap.servers` too, and looks for none ever again; none of
its properties is known to help. Its statistics show it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Mapping

INTERVAL_MS = 2_000
"""How often clients give statistics."""
LOOKS = 3
"""Statistics in a row without a broker: while it bootstraps anew there may be none for a moment."""


class Lost:
    """Looks at the statistics of one client."""

    def __init__(self) -> None:
        self._without = 0

    def look(self, statistics: Mapping[str, Any]) -> None:
        """Raises BrokerError where the client will never find a broker again."""
        known = any(broker["source"] != "logical" for broker in statistics["brokers"].values())
        self._without = 0 if known else self._without + 1
        if self._without >= LOOKS:
            raise BrokerError(
                "The Kafka client has forgotten all brokers, because the last one of them named none while it was shut "
                "down (librdkafka's issue 5301), and does not look for them any more. Nothing unfinished was "
                "committed; start the worker again."
            )
