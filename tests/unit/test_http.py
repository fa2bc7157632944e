"""Probes and metrics over a real socket on the loopback."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, Counter

from tests.kit import FakeClock
from worker.errors import ConfigError
from worker.health import STALLED_AFTER, Health, State
from worker.http import HttpServer

if TYPE_CHECKING:
    from collections.abc import Iterator


class Site:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.health = Health(self.clock)
        registry = CollectorRegistry()
        Counter("winnow_things", "Things.", registry=registry).inc(3)
        self.server = HttpServer("127.0.0.1", 0, registry, self.health)
        self.server.start()

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode("utf-8", "replace")
        connection.close()
        return answer.status, answer.headers.get("Content-Type", ""), body


@pytest.fixture(scope="module")
def served() -> Iterator[Site]:
    made = Site()
    yield made
    made.server.close()


@pytest.fixture
def site(served: Site) -> Site:
    """A worker that is starting; the server is one for all tests, because closing one takes half a second."""
    served.health.state, served.health.partitions = State.STARTING, 0
    served.health.beat()
    return served


def test_brokers_that_are_away_are_told_by_readiness(site: Site):
    """The worker waits for them, so it lives; it is not ready."""
    site.health.state, site.health.connected = State.READY, False
    assert site.ask("/readyz")[0::2] == (503, "not ready: no broker is there\n")
    assert site.ask("/healthz")[0] == 200
    site.health.connected = True
    assert site.ask("/readyz")[0] == 200


def test_metrics_are_served_in_the_format_that_is_asked_for(site: Site):
    """Prometheus' text by default, OpenMetrics where the scraper prefers it; a query string is no matter."""
    status, kind, body = site.ask("/metrics?name[]=x")
    assert (status, kind.partition(";")[0]) == (200, "text/plain")
    assert "winnow_things_total 3.0" in body
    status, kind, body = site.ask("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert (status, kind.partition(";")[0]) == (200, "application/openmetrics-text")
    assert body.endswith("# EOF\n")


def test_ready_means_assigned_and_not_draining(site: Site):
    """Not ready while starting and while draining; ready in between, be it with no partitions."""
    assert site.ask("/readyz")[0] == 503
    site.health.assigned(0)
    assert site.ask("/readyz")[0::2] == (200, "ready, 0 partitions\n")
    site.health.draining()
    assert site.ask("/readyz")[0::2] == (503, "not ready: draining\n")
    assert site.ask("/healthz")[0] == 200


def test_alive_means_that_the_loop_turns(site: Site):
    """A loop that has not turned for long is dead, and not ready; one turn makes it alive again."""
    site.health.assigned(1)
    site.clock.advance(STALLED_AFTER - 1)
    assert site.ask("/healthz")[0] == 200
    site.clock.advance(1)
    assert site.ask("/healthz")[0] == 503
    assert site.ask("/readyz")[0] == 503
    site.health.beat()
    assert site.ask("/healthz")[0] == 200


@pytest.mark.parametrize("path", ["/", "/metrics/", "/../etc/passwd", "/healthz/x", "/metric"])
def test_there_is_nothing_else(site: Site, path: str):
    """Any other path is 404 and says what there is."""
    status, _, body = site.ask(path)
    assert status == 404
    assert "/metrics" in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_writes_are_not_accepted(site: Site, method: str):
    """The port only reads."""
    assert site.ask("/metrics", method)[0] == 501


def test_a_port_in_use_is_a_sentence(site: Site):
    """An address that cannot be had is a mistake of the settings, named with its mend."""
    with pytest.raises(ConfigError, match=r"serving\.port"):
        HttpServer("127.0.0.1", site.server.port, CollectorRegistry(), site.health)


@pytest.mark.parametrize("host", ["256.1.1.1", "no such host", "a..b"])
def test_a_host_that_is_none_is_a_sentence(site: Site, host: str):
    """So is a host that cannot be resolved."""
    with pytest.raises(ConfigError, match="Cannot listen on"):
        HttpServer(host, 0, CollectorRegistry(), site.health)
