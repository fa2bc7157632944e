"""Probes, metrics and the page over a real socket on the loopback."""

from __future__ import annotations

import http.client
import json
import socket
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, Counter

from tests.kit import FakeClock
from worker.errors import ConfigError
from worker.health import STALLED_AFTER, Health, State
from worker.http import HttpServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message


class Site:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.health = Health(self.clock)
        self.registry = CollectorRegistry()
        Counter("winnow_things", "Things.", registry=self.registry).inc(3)
        self.server = HttpServer("127.0.0.1", 0, self.registry, self.health)
        self.server.start()

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
        status, answered, body = self.answer(path, method, **headers)
        return status, answered.get("Content-Type", ""), body

    def answer(self, path: str, method: str = "GET", **headers: str) -> tuple[int, Message, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode("utf-8", "replace")
        connection.close()
        return answer.status, answer.headers, body


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
    served.health.started = False
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


def test_started_is_what_stays_so(site: Site):
    """503 until the loop has begun to turn, 200 ever after, whatever becomes of it."""
    assert site.ask("/startupz")[0::2] == (503, "starting\n")
    site.health.beat()
    site.clock.advance(STALLED_AFTER + 1)
    assert site.ask("/startupz")[0::2] == (200, "started\n")


@pytest.mark.parametrize("path", ["/status/", "/page.js", "/metrics/", "/../etc/passwd", "/healthz/x", "/metric"])
def test_there_is_nothing_else(site: Site, path: str):
    """Any other path is 404 and says what there is."""
    status, _, body = site.ask(path)
    assert status == 404
    assert "/metrics" in body


PATHS = ("/", "/status", "/model", "/metrics", "/healthz", "/readyz", "/startupz", "/nothing")


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_is_strict(site: Site, path: str):
    """Kept by nobody, framed by nobody, guessed at by nobody; who serves it is not said in detail."""
    _, headers, _ = site.answer(path)
    strict(headers)


REFUSED = {
    "another method": (b"POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    "no version": (b"DELETE /<script>\r\n\r\n", 400),
    "another version": (b"GET / <script>\r\n\r\n", 400),
    "a version to come": (b"GET / HTTP/2.0\r\n\r\n", 505),
    "a long path": (b"GET /" + b"x" * 65_536, 414),
    "a long header": (b"GET / HTTP/1.1\r\nX: " + b"x" * 65_536 + b"\r\n\r\n", 431),
    "nothing but a path": (b"GET /nothing\r\n\r\n", 404),
}


@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_answered_as_strictly(site: Site, sent: bytes, status: int):
    """Where the server itself refuses, too: a plain sentence, without a word of what was asked."""
    with socket.create_connection(("127.0.0.1", site.server.port), timeout=10) as asking:
        asking.sendall(sent)
        with asking.makefile("rb") as answer:
            line = answer.readline().decode()
            headers = http.client.parse_headers(answer)
            body = answer.read().decode()
    assert line.split()[:2] == ["HTTP/1.0", str(status)]
    strict(headers)
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert int(headers["Content-Length"]) == len(body) > 0
    assert "script" not in line + body


def strict(headers: Message) -> None:
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Server"] == "winnow"
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("path", PATHS)
def test_head_is_get_without_a_body(site: Site, path: str):
    """The same status, and the length that the body would have."""
    status, headers, body = site.answer(path, "HEAD")
    assert (status, body) == (site.ask(path)[0], "")
    assert int(headers["Content-Length"]) > 0


def test_the_page_its_view_and_the_card_are_served(site: Site):
    """HTML and JSON; the view of a worker that has no metrics yet says that it starts."""
    status, kind, body = site.ask("/?from=bookmark")
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert "<title>Winnow</title>" in body
    status, kind, body = site.ask("/status")
    assert (status, kind, json.loads(body)["verdict"]["state"]) == (200, "application/json", "starting")
    assert site.ask("/model")[0::2] == (200, "null")


def test_the_page_can_be_switched_off(site: Site):
    """Then there are metrics and probes, and nothing is said of a page."""
    server = HttpServer("127.0.0.1", 0, CollectorRegistry(), site.health, page=False)
    server.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for path in ("/", "/status", "/model"):
        connection.request("GET", path)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (
            404, b"There are /metrics, /startupz, /healthz and /readyz.\n",
        )  # fmt: skip
        connection.close()
    server.close()


def test_what_fails_is_told_and_the_rest_goes_on(site: Site, monkeypatch: pytest.MonkeyPatch):
    """A metric that cannot be collected: a sentence without what it holds, and the probes answer."""

    def fails() -> None:
        raise KeyError("secret")

    monkeypatch.setattr(site.registry, "collect", fails)
    status, _, body = site.ask("/metrics")
    assert (status, body) == (500, "This failed with KeyError; the worker itself goes on.\n")
    assert site.ask("/healthz")[0] == 200


@pytest.mark.parametrize("sent", [b"", b"GET", b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET /status HTTP/1.0\r\n\r\n"])
def test_who_hangs_up_or_says_nothing_disturbs_nobody(site: Site, capfd: pytest.CaptureFixture[str], sent: bytes):
    """Half a request, a client that does not take its answer: others are answered at once, and nothing is logged."""
    with socket.create_connection(("127.0.0.1", site.server.port)) as slow:
        slow.sendall(sent)
        assert site.ask("/healthz")[0] == 200
    assert site.ask("/status")[0] == 200
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_writes_are_not_accepted(site: Site, method: str):
    """The port only reads, and says so."""
    status, headers, body = site.answer("/metrics", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert body == "Method Not Allowed. This port takes GET and HEAD alone.\n"


def test_a_port_in_use_is_a_sentence(site: Site):
    """An address that cannot be had is a mistake of the settings, named with its mend."""
    with pytest.raises(ConfigError, match=r"serving\.port"):
        HttpServer("127.0.0.1", site.server.port, CollectorRegistry(), site.health)


@pytest.mark.parametrize("host", ["256.1.1.1", "no such host", "a..b"])
def test_a_host_that_is_none_is_a_sentence(site: Site, host: str):
    """So is a host that cannot be resolved."""
    with pytest.raises(ConfigError, match="Cannot listen on"):
        HttpServer(host, 0, CollectorRegistry(), site.health)
