"""Faults 16 and 17: connections that are cut at the worst moment, and slow ones that break."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.proxy import END_TXN, Proxy, behind
from tests.faults.size import pick
from tests.faults.stage import EXACTLY_ONCE
from tests.kafka_fixtures import QUICK_TO_NOTICE
from worker.broker.ports import LOOPBACK, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.broker import Broker

pytestmark = [pytest.mark.faults, pytest.mark.kafka]

LATENCY = 0.2
RESETS = 0.01


@pytest.fixture
def proxied(own_kafka) -> Iterator[Callable[[], tuple[Broker, Proxy]]]:
    """A Kafka and the proxy before it."""
    made: list[Proxy] = []

    def make() -> tuple[Broker, Proxy]:
        port, inner = free_port(), free_port()
        proxy = Proxy(inner)
        made.append(proxy)
        properties = QUICK_TO_NOTICE | behind(proxy.port, port, inner, free_port())
        return own_kafka(port=port, properties=properties), proxy

    yield make
    for one in made:
        one.close()


class EveryNth:
    """Cuts each N-th response to EndTxn, until it was told to stop."""

    def __init__(self, nth: int) -> None:
        self._nth = nth
        self._seen = 0
        self.cuts = 0

    def __call__(self, api: int) -> bool:
        if api != END_TXN:
            return False
        self._seen += 1
        cut = self._seen % self._nth == 0
        self.cuts += cut
        return cut


def test_cut_on_the_end_of_a_transaction(row, stage, proxied):
    """The broker has committed, and the worker does not hear it: nothing is lost or doubled."""
    cuts = pick(reduced=5, full=50)
    figures = row(16, "connection cut on the response to EndTxn", delivery=EXACTLY_ONCE)
    kafka, proxy = proxied()
    play = stage(figures, kafka, address=f"{LOOPBACK}:{proxy.port}")
    worker = play.worker("--slow", "5")
    play.feeder.begin(rate=300)
    play.reader.until(lambda: len(play.reader.sources) > 100)
    proxy.cut = nth = EveryNth(5)
    worker.until(lambda: nth.cuts >= cuts, seconds=1_200)
    proxy.cut = lambda api: False
    cut = time.time()
    figures.runs = nth.cuts
    play.recovered(cut)
    play.feeder.end()
    play.all_seen()
    assert worker.terminate() == 0
    play.settle()


def test_slow_and_breaking_connections(row, stage, proxied):
    """With every response late and one in a hundred a broken connection, the worker gets on and stays in its group."""
    seconds = pick(reduced=20, full=300)
    figures = row(17, "200 ms latency and 1 % resets")
    kafka, proxy = proxied()
    # A heartbeat takes a connection that may break, and the next one the latency of a few round trips.
    play = stage(
        figures,
        kafka,
        address=f"{LOOPBACK}:{proxy.port}",
        **{"kafka__consumer_properties.session.timeout.ms": 10_000, "batching__max_in_flight": 2_048},
    )
    worker = play.worker("--slow", "5")
    worker.wait_assigned(play.partitions)
    proxy.delay, proxy.resets = LATENCY, RESETS
    play.feeder.begin(rate=200)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        seen = len(play.reader.sources)
        play.reader.until(lambda seen=seen: len(play.reader.sources) > seen, quiet=30.0)
    figures.runs, figures.note = 1, f"{seconds} s, {proxy.reset} resets"
    assert proxy.reset > 0
    play.feeder.end()
    play.all_seen()
    assert worker.metric('winnow_rebalances_total{kind="lost"}') == 0
    assert worker.metric('winnow_rebalances_total{kind="revoked"}') == 0
    proxy.delay = proxy.resets = 0.0
    assert worker.terminate() == 0
    play.settle()
