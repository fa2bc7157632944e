"""Clients that have forgotten all brokers are told by their statistics."""

from __future__ import annotations

import pytest

from worker.errors import BrokerError
from worker.kafka.lost import LOOKS, Lost

# As librdkafka 2.16 gives them after metadata without a broker, and on its way back after other outages.
FORGOTTEN = {"brokers": {"GroupCoordinator": {"state": "TRY_CONNECT", "source": "logical"}}}
NONE_AT_ALL: dict[str, dict[str, dict[str, str]]] = {"brokers": {}}
LOOKING = {"brokers": {"b:9092/bootstrap": {"state": "TRY_CONNECT", "source": "configured"}}}
FOUND = {"brokers": {"b:9092/1": {"state": "UP", "source": "learned"}, **FORGOTTEN["brokers"]}}


@pytest.mark.parametrize("forgotten", [FORGOTTEN, NONE_AT_ALL])
def test_a_client_that_knows_no_broker_for_a_while_is_given_up(forgotten):
    """Not at once: while it bootstraps anew it may know none for a moment."""
    lost = Lost()
    for _ in range(LOOKS - 1):
        lost.look(forgotten)
    with pytest.raises(BrokerError, match="has forgotten all brokers"):
        lost.look(forgotten)


@pytest.mark.parametrize("seen", [LOOKING, FOUND])
def test_a_client_that_looks_for_one_is_waited_for(seen):
    """However long it takes."""
    lost = Lost()
    for _ in range(5 * LOOKS):
        lost.look(FORGOTTEN)
        lost.look(seen)
